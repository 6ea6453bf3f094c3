"""The page of a figure over time: a block per encoder, in it a panel per target, a heading and a note around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from layerprobe.figures.layout.panels import EDGE, Panels, panels_across, titles, titles_height
from layerprobe.figures.layout.style import line_height, wrapped
from layerprobe.figures.layout.width import font_size, panel_height

MOST, WIDE = 4, 15.0  # panels in a row, and inches of them in a figure of natural width
GAP = 0.12  # inches above the heading of an encoder


@dataclass(frozen=True)
class Margins:
    """Inches around panels."""

    left: float  # of the first panel of a row
    right: float  # of the last panel of a row
    between: float  # two panels of a row
    above: float  # a panel, below its title
    below: float  # a panel, for the labels of ticks
    axis_title: float  # further below the last panel of a column
    head: float  # above the first block
    foot: float  # below the last block


@dataclass(frozen=True)
class TimeGrid:
    """Sizes and positions in inches from the left and upper edge of the figure."""

    across: Panels
    targets: tuple[str, ...]
    titles: dict[str, str]
    headings: dict[str, str]  # of each encoder; empty with one
    title: float  # height of the titles of a row
    heading: float  # height of the headings, the same for all
    panel: float  # height of a panel
    margins: Margins
    n_rows: int  # of a block

    @property
    def all_width(self) -> float:
        """Return the width of the figure."""
        return self.across.all_width

    @property
    def row(self) -> float:
        """Return the height of a row of panels with its titles."""
        return self.title + self.margins.above + self.panel + self.margins.below

    @property
    def block(self) -> float:
        """Return the height of the block of an encoder."""
        return self.heading + self.n_rows * self.row

    @property
    def height(self) -> float:
        """Return the height of the figure."""
        blocks = len(self.headings) * self.block
        return EDGE + self.margins.head + blocks + self.margins.axis_title + self.margins.foot + EDGE

    def heading_top(self, block: int) -> float:
        """Return the upper edge of the heading of an encoder."""
        return EDGE + self.margins.head + block * self.block

    def position(self, block: int, k: int) -> tuple[float, float, float, float]:
        """Return left, top, width and height of the panel of target ``k`` of an encoder."""
        row, column = divmod(k, self.across.n_columns)
        top = self.heading_top(block) + self.heading + row * self.row + self.title + self.margins.above
        return self.across.at(column), top, self.across.panel, self.panel

    def is_first(self, k: int) -> bool:
        """Return whether a panel is the first one of its row."""
        return k % self.across.n_columns == 0

    def is_last(self, k: int) -> bool:
        """Return whether a panel is the last one of its row."""
        return (k + 1) % self.across.n_columns == 0 or k == len(self.targets) - 1

    def is_lowest(self, block: int, k: int) -> bool:
        """Return whether no panel lies below a panel."""
        return block == len(self.headings) - 1 and k + self.across.n_columns >= len(self.targets)


def across_of(n: int, *, margins: Margins, width: float | None, natural: float, least: float) -> Panels:
    """Return the horizontal layout of ``n`` targets; arguments as of `panels_across`."""
    most = MOST if width is not None else max(1, min(MOST, int(WIDE / natural)))
    return panels_across(
        n, width=width, left=margins.left, right=margins.right, gap=margins.between, natural=natural, least=least,
        most=most,
    )  # fmt: skip


def time_grid(
    encoders: Sequence[str],
    targets: Sequence[str],
    *,
    across: Panels,
    margins: Margins,
    width: float | None,
    panel: tuple[float, float],
    lines: int = 1,
) -> TimeGrid:
    """Return the grid of panels, no taller than a page where panels can be that low.

    Args:
        encoders: in order, a block each
        targets: in order, a panel each
        across: of `across_of`
        margins: around panels
        width: inches, or None for the natural width
        panel: least and natural height of a panel in inches
        lines: that a panel's title has in addition to the target's name
    """
    size = font_size(width)
    names = titles(targets, across.panel, size + 1)
    one = len(encoders) == 1
    space = across.all_width - 2 * EDGE
    headings = {e: "" if one else wrapped(e, space, size + 1, bold=True) for e in encoders}
    heading = 0.0 if one else line_height(size + 1, max(1 + h.count("\n") for h in headings.values())) + GAP
    n_rows = math.ceil(len(targets) / across.n_columns)
    title = titles_height(names, size + 1) + line_height(size, lines - 1)
    around = title + margins.above + margins.below
    others = len(encoders) * (heading + n_rows * around) + margins.head + margins.axis_title + margins.foot
    height = panel_height(panel[1], least=panel[0], n_rows=len(encoders) * n_rows, others=others)
    return TimeGrid(across, tuple(targets), names, headings, title, heading, height, margins, n_rows)


def head_block(figure: Figure, grid: TimeGrid, block: int, encoder: str, size: float) -> None:
    """Write the name of an encoder above its panels, where there are several.

    Args:
        figure: of the grid
        grid: of the figure
        block: number of the encoder
        encoder: its name
        size: of the labels in points
    """
    if grid.headings[encoder]:
        y = 1 - (grid.heading_top(block) + GAP) / grid.height
        x = EDGE / grid.all_width
        figure.text(x, y, grid.headings[encoder], va="top", fontsize=size + 1, weight="bold")
