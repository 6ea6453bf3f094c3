"""Panels of one size in rows, each titled with its target, and the legend below them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from layerprobe.analysis.formatting import shown_name
from layerprobe.figures.layout.style import line_height, text_width, wrapped
from layerprobe.figures.layout.width import check_panel

HANDLE, BETWEEN = 2.9, 1.5  # font sizes: a legend's handle with its margin, and the gap between two columns
EDGE = 0.06  # inches
NARROWEST = 0.9  # inches of a panel


@dataclass(frozen=True)
class Panels:
    """Number of panels in a row, and their horizontal positions and widths in inches."""

    n_columns: int
    panel: float
    left: float
    gap: float
    all_width: float

    def at(self, k: int) -> float:
        """Return the left edge of panel ``k`` of a row."""
        return self.left + k * (self.panel + self.gap)


def panels_across(
    n: int,
    *,
    width: float | None,
    left: float,
    natural: float,
    right: float = 0.0,
    gap: float = 0.14,
    least: float = 1.0,
    most: int = 4,
) -> Panels:
    """Divide a figure's width into panels: at most ``most`` a row, rows as even as possible.

    Args:
        n: number of panels
        width: inches, or None for panels of their natural width
        left: inches before the first panel
        natural: inches of a panel in a figure of natural width
        right: inches after the last panel, for labels
        gap: inches between two panels
        least: inches that a panel needs where several stand in a row
        most: largest number of panels in a row

    Raises:
        InputError: if ``width`` leaves even one panel a row less than `NARROWEST`
    """
    if width is not None:
        most = max(1, min(most, int((width - left - right - EDGE + gap) / (least + gap))))
    n_columns = math.ceil(n / math.ceil(n / most))
    if width is None:
        return Panels(n_columns, natural, left, gap, left + n_columns * (natural + gap) - gap + right + 2 * EDGE)
    space = width - left - right - 2 * EDGE
    panel = (space + gap) / n_columns - gap
    check_panel(panel, least=NARROWEST, width=width)
    return Panels(n_columns, panel, left, gap, width)


def titles(targets: Sequence[str], space: float, size: float) -> dict[str, str]:
    """Return the titles of panels by target, broken into lines of at most ``space`` inches."""
    return {target: wrapped(shown_name(target), space, size, bold=True) for target in targets}


def titles_height(names: dict[str, str], size: float) -> float:
    """Return the height in inches of the highest of several titles."""
    return line_height(size, max(1 + name.count("\n") for name in names.values())) + 0.08


def unify_limits(panels: Sequence[Axes]) -> None:
    """Give all panels the same y limits, which hold the data of each."""
    limits = [ax.get_ylim() for ax in panels]
    for ax in panels:
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


@dataclass(frozen=True)
class LegendPlan:
    """Labels, columns and height of a legend, planned before the figure exists."""

    labels: list[str]
    n_columns: int
    height: float  # inches
    size: float


def plan_legend(labels: Sequence[str], *, space: float, size: float) -> LegendPlan:
    """Plan a legend of as many columns as fit into ``space`` inches; labels that are longer are broken into lines."""
    if not labels:
        return LegendPlan([], 1, 0.0, size)
    em = size / 72
    broken = [wrapped(label, space - HANDLE * em, size) for label in labels]
    widest = max(text_width(label, size) for label in broken) + HANDLE * em
    n_columns = max(1, min(len(labels), int((space + BETWEEN * em) / (widest + BETWEEN * em))))
    n_rows = math.ceil(len(labels) / n_columns)
    column = [broken[k : k + n_rows] for k in range(0, len(broken), n_rows)]
    n_lines = max(sum(1 + label.count("\n") for label in part) for part in column)
    return LegendPlan(broken, n_columns, (1.25 * n_lines + 0.5 * n_rows) * em + EDGE, size)


def legend_below(figure: Figure, handles: Sequence[Any], plan: LegendPlan) -> Legend | None:
    """Draw a planned legend at the figure's lower edge; None if it has no labels."""
    if not plan.labels:
        return None
    bottom = EDGE / float(figure.get_size_inches()[1])
    return figure.legend(
        handles, plan.labels, loc="lower center", bbox_to_anchor=(0.5, bottom), borderaxespad=0, borderpad=0,
        ncols=plan.n_columns, fontsize=plan.size, handlelength=2, columnspacing=BETWEEN,
    )  # fmt: skip
