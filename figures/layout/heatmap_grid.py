"""The page of a heatmap: stacked blocks of cells, slim columns at their right, labels, the colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layerprobe.analysis.formatting import shown_name
from layerprobe.figures.layout.cells import LEAST_UPRIGHT, SMALLEST, TextStyle, inches, text_style
from layerprobe.figures.layout.layer_axis import cell_width, common_span, is_rotated, overhang, span
from layerprobe.figures.layout.style import (
    StyledFigure,
    line_height,
    place,
    sheet_size,
    size_in_inches,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import check_panel, font_size, is_narrow, panel_height
from layerprobe.probe.layer_names import is_stack

HEADING = 0.75  # rows that the name of a group of controls takes, above the group
CELL_HEIGHT = 0.27  # inches, at labels of 8 points
UPRIGHT_HEIGHT = 0.36  # inches of a row whose values are rotated by 90 degrees, with a dot above them
CELL_WIDTH = (0.29, 0.62)  # inches of a cell at natural width: with many layers (space for "−.03"), with a few
FEATURE_WIDTH = 0.42  # inches of the cell of a feature without depth
LEAST_WIDTH = 1.7  # inches of all cells together at natural width, which headings need
NARROWEST = 0.9  # inches of all cells together at a requested width
SLIM = {0: "−.05", 90: "."}  # widest text of a slim column, by the rotation of the values
SLIM_CELL = 0.86  # width of a cell over that of its slim column
EDGE, PAD, BAR, GAP = 0.05, 0.08, 0.1, 0.1  # inches
BAR_LENGTH = 2.2  # inches


@dataclass(frozen=True)
class Scale:
    """Quantity, colour map and limits of a colour bar, and whether values lie below the first colour."""

    label: str
    colours: str  # name of a map
    limits: tuple[float, float]
    is_clipped: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes of one encoder: cells of its layers, and the slim columns at their right."""

    cells: Axes
    slim: Axes | None


@dataclass(frozen=True)
class _Across:
    """Horizontal positions and widths in inches."""

    left: float  # of the cells
    cells: float  # of the widest panel
    limits: tuple[float, float]  # of the axes of all encoders whose layers have a depth
    cell: dict[str, float]  # width of one cell by encoder
    slim_left: float
    slim: float  # width of one slim column
    all_width: float
    rotations: set[int]  # of the values


def cell_page(
    n_rows: dict[str, float],
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    texts: list[str],
    columns: Sequence[str],
    caption: Sequence[str],
    scale: Scale,
    width: float | None,
) -> tuple[Figure, dict[str, Panel]]:
    """Return a figure with empty panels for the cells of each encoder, and everything around the panels.

    Encoders whose layers have a depth are aligned on it. Features without depth have a smaller block of their own.

    Args:
        n_rows: rows of each encoder's panel, gaps included
        layers: layers of each encoder, in order
        targets: in order
        texts: values of the cells as text, which decide how wide a cell and how high a row is
        columns: headings of the slim columns
        caption: meanings of columns and marks, below the last panel
        scale: of the colour bar, which is above the first panel
        width: inches, or None for the natural width

    Raises:
        InputError: if ``width`` leaves too little for the cells
    """
    size = font_size(width)
    names = [wrapped(shown_name(t), (0.9 if is_narrow(width) else 1.1) * size / 8, size) for t in targets]
    across = _across(layers, names, texts, n_slim=len(columns), width=width)
    titles = {e: wrapped(e, across.cells, size + 1, bold=True) for e in layers}
    space = 0.96 * (across.all_width - across.left - EDGE)  # on a screen letters are a little wider than in print
    label = wrapped(scale.label, 0.96 * across.cells, size)
    caption_text = "\n".join(wrapped(text, space, size) for text in caption)
    heading = max((text_width(c, size - 1) for c in columns), default=0.0)
    bar_top = EDGE + line_height(size, 1 + label.count("\n")) + 0.03
    below_bar = bar_top + BAR + 0.06 + line_height(size)
    title = {e: line_height(size + 1, 1 + titles[e].count("\n")) + 0.05 for e in layers}
    first = next(iter(layers))
    around = {e: 0.12 + title[e] + _below(layers[e], across.cell[e], size) for e in layers}
    around[first] = max(below_bar + around[first], EDGE + heading + 0.05 + around[first] - title[first])
    foot = line_height(size, 1 + caption_text.count("\n")) + 0.06 + EDGE
    headed = line_height(size) / HEADING if max(n_rows.values()) > len(targets) else 0.0
    row = panel_height(
        max(_row_height(across, names, size=size), headed),
        least=max(_row_height(across, names, size=size, least=True), headed),
        n_rows=sum(n_rows.values()),
        others=sum(around.values()) + foot,
    )
    height = sum(around.values()) + row * sum(n_rows.values()) + foot
    figure, panels, top = StyledFigure(figsize=(across.all_width, height)), {}, 0.0
    for encoder in layers:
        below = _below(layers[encoder], across.cell[encoder], size)
        top += around[encoder] - below
        has_depth = is_stack(layers[encoder])
        block = across.cells if has_depth else across.cell[encoder] * len(layers[encoder])
        ax = place(figure, across.left, top, block, n_rows[encoder] * row)
        low, high = ax_limits = across.limits if has_depth else span(layers[encoder])
        ax.set_title(titles[encoder], x=(span(layers[encoder])[0] - low) / (high - low))
        ax.set_xlim(ax_limits)
        slim = None
        if columns:
            slim = place(figure, across.slim_left, top, across.slim * len(columns), n_rows[encoder] * row)
            _head_columns(slim, columns if encoder == first else [""] * len(columns), size=size - 1)
        panels[encoder] = Panel(ax, slim)
        top += n_rows[encoder] * row + below
    figure.text(across.left / across.all_width, (foot - 0.06) / height, caption_text, va="top", fontsize=size)
    bar_width = min(across.cells, BAR_LENGTH * size / 8)
    bar = place(figure, across.left, bar_top, bar_width, BAR)
    bar.set_title(label, fontsize=size, weight="normal", pad=2)
    colour_bar(figure, bar, scale=Scale("", scale.colours, scale.limits, scale.is_clipped), size=size)
    return figure, panels


def _across(
    layers: dict[str, list[str]], names: list[str], texts: list[str], *, n_slim: int, width: float | None
) -> _Across:
    """Return the horizontal layout: cells of their natural width, or of what a requested width leaves.

    Values in cells are horizontal if that fits all of them; slim columns get narrower where it does not.

    Args:
        layers: layers of each encoder, in order
        names: labels of the targets, broken into lines
        texts: values of the cells
        n_slim: number of slim columns
        width: inches, or None for the natural width
    """
    size = font_size(width)
    left = EDGE + max(text_width(name, size) for name in names) + PAD
    stacks = [names for names in layers.values() if is_stack(names)]
    low, high = common_span(stacks or list(layers.values()))
    n_columns = (high - low) * max(1 / cell_width(names) for names in stacks or layers.values())  # of narrowest cells
    final = overhang(stacks, size)
    for rotation, widest in SLIM.items():
        value = max(text_width(widest, max(size - 1.5, SMALLEST)), SMALLEST / 72)
        slim = max((value + 0.03) / SLIM_CELL, line_height(size - 1))  # which its rotated heading needs, too
        right = (GAP + final + n_slim * slim if n_slim else final) + EDGE
        cells = max(n_columns * float(np.interp(n_columns, (3, 16), CELL_WIDTH[::-1])) * size / 8, LEAST_WIDTH)
        if width is not None:
            cells = width - left - right
            check_panel(cells, least=NARROWEST, width=width)
        cell = {
            e: cells * cell_width(names) / (high - low)
            if is_stack(names)
            else min(cells / len(names), FEATURE_WIDTH * size / 8)
            for e, names in layers.items()
        }
        styles = [text_style(texts, w, size) for w in cell.values()]
        rotations = {style.rotation for style in styles if style is not None} | ({rotation} if n_slim else set())
        if all(style is not None and not style.rotation for style in styles):
            break
    slim_left = left + cells + GAP + final
    all_width = left + cells + right if width is None else width
    return _Across(left, cells, (low, high), cell, slim_left, slim, all_width, rotations)


def _below(layers: list[str], cell: float, size: float) -> float:
    """Return the height in inches of the labels of layers below a panel."""
    rotated = is_rotated(layers, cell, size)
    return 0.06 + (max(text_width(shown_name(n), size) for n in layers) if rotated else line_height(size))


def _row_height(across: _Across, names: list[str], *, size: float, least: bool = False) -> float:
    """Return the height of a row in inches: with space around its value, or the least that holds labels and value."""
    lines = line_height(size, 1 + max(name.count("\n") for name in names)) + 0.02
    if 90 in across.rotations:
        return max(lines, LEAST_UPRIGHT if least else UPRIGHT_HEIGHT)
    return max(lines, 0.0 if least else CELL_HEIGHT * size / 8)


def _head_columns(ax: Axes, columns: Sequence[str], *, size: float) -> None:
    """Label slim columns above them, rotated by 90 degrees."""
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_xticks(range(len(columns)), columns, rotation=90)
    ax.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False, labelsize=size, length=0, pad=3)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def colour_bar(figure: Figure, ax: Axes, *, scale: Scale, size: float) -> None:
    """Draw a colour bar into its own axes, along their longer side; a clipped one points to the values below it."""
    across, down = size_in_inches(ax)
    length = max(across, down)
    bar = figure.colorbar(
        ScalarMappable(Normalize(*scale.limits), scale.colours),
        cax=ax,
        orientation="horizontal" if across > down else "vertical",
        ticks=MaxNLocator(nbins=max(1, int(length / 0.35 * 8 / size)), steps=[1, 2, 5, 10]),
        extend="min" if scale.is_clipped else "neither",
    )
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")  # else thin lines between the colours in some readers of PDF
    if scale.label:
        bar.set_label(wrapped(scale.label, length if across > down else max(length, 0.9), size), size=size)
    ax.tick_params(labelsize=size, length=2)
    bar.outline.set_visible(False)


def name_rows(ax: Axes, places: list[float], targets: list[str], *, layers: list[str], n_real: int) -> None:
    """Label rows with their targets, close to the first cell; labels of controls are grey.

    Args:
        ax: axes of the cells
        places: y of each row
        targets: of each row
        layers: in order
        n_real: number of rows, from the top, that are not controls
    """
    size = matplotlib.rcParams["font.size"]
    before = (span(layers)[0] - ax.get_xlim()[0]) / inches(ax)[0]  # inches of axes without cells
    space = ax.get_position().x0 * sheet_size(ax)[0] - EDGE - PAD + 1e-6
    ax.set_yticks(places, [wrapped(shown_name(t), space, size) for t in targets])
    ax.tick_params(axis="y", length=0, labelsize=size, pad=3.5 - 72 * before)
    for tick in ax.get_yticklabels()[n_real:]:
        tick.set_color("0.4")
    ax.spines[:].set_visible(False)


def slim_style(texts: Sequence[str], ax: Axes) -> TextStyle | None:
    """Return the text style of the values in slim columns of these axes."""
    return text_style(texts, SLIM_CELL / inches(ax)[0], matplotlib.rcParams["font.size"])
