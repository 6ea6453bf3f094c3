"""The sheet of a heatmap: panels of cells one above the other, names, the colour bar, the ratings' correlations."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layerprobe.analysis.findings.formatting import shown_name
from layerprobe.figures.layout.cells import UPRIGHT_HEIGHT, inches, writing
from layerprobe.figures.layout.correlations import plot_correlations
from layerprobe.figures.layout.layer_axis import cell_width, common_span, span, stands_upright
from layerprobe.figures.layout.style import (
    WIDTHS,
    font_size,
    line_height,
    place,
    sheet_size,
    size_in_inches,
    text_width,
    wrapped,
)
from layerprobe.probe.layer_names import FINAL

CELL_HEIGHT = 0.27  # inches
CELL_WIDTH = (0.29, 0.62)  # inches of a natural cell: the least that "−.03" needs, and that of a few layers
LEAST_WIDTH = 1.7  # inches of all cells together, which headings need
EDGE, PAD, BAR, SPACE = 0.05, 0.08, 0.11, 0.2  # inches
CORRELATIONS = "r between ratings"


@dataclass(frozen=True)
class Scale:
    """What the colours say."""

    label: str
    colours: str  # name of a map
    limits: tuple[float, float]


def cell_sheet(
    n_rows: dict[str, float],
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    texts: list[str],
    columns_are: str,
    marks_are: str,
    scale: Scale,
    correlations: pd.DataFrame | None,
    width: str | None,
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with empty panels where cells will be drawn, and everything around them.

    Args:
        n_rows: for each encoder the rows of its panel, gaps included
        layers: for each encoder its layers in order
        targets: in order
        texts: the values that will be written, which say how wide a cell must be
        columns_are: the label below the last panel
        marks_are: said behind it, or in a second line
        scale: of the colour bar, at the right, or below in a column
        correlations: of the targets' ratings; drawn beside if they leave room, else below
        width: a key of `WIDTHS`, or None for the natural one
    """
    size, column = font_size(width), width == "column"
    names = [wrapped(shown_name(t), 0.9 if column else 1.5, size) for t in targets]
    left = EDGE + max(text_width(name, size) for name in names) + PAD
    low, high = common_span(list(layers.values()))
    n_columns = (high - low) * max(1 / cell_width(names) for names in layers.values())  # of the narrowest cells
    row = max(CELL_HEIGHT, line_height(size, 1 + max(name.count("\n") for name in names)) + 0.02)
    # across
    bar_label_lines = 1 if column else 1 + wrapped(scale.label, 0.9, size).count("\n")
    right = EDGE if column else 0.12 + BAR + text_width("−0.05", size) + line_height(size, bar_label_lines) + 0.12
    if column and any(names[-1] == FINAL for names in layers.values()):
        right += text_width(FINAL, size) / 2
    square = 0.0 if correlations is None else len(targets) * row
    aside = 0.0 if correlations is None else SPACE + max(left + square, text_width(CORRELATIONS, size, bold=True))
    if width is None:
        cells = max(n_columns * float(np.interp(n_columns, (3, 16), CELL_WIDTH[::-1])), LEAST_WIDTH)
        beside, all_width = aside > 0, left + cells + right + aside
    else:
        all_width = WIDTHS[width]
        beside = 0 < aside <= 0.3 * all_width
        cells = all_width - left - right - (aside if beside else 0)
    each = {e: cells * cell_width(names) / (high - low) for e, names in layers.items()}
    ways = [writing(texts, cell) for cell in each.values()]
    if any(way is not None and way.rotation for way in ways):
        row = max(row, UPRIGHT_HEIGHT)
    # down
    titles = {e: wrapped(e, cells + right - EDGE, size + 1, bold=True) for e in layers}
    heading = line_height(size + 1) + 0.05
    top, tops = 0.0, {}
    for encoder, layer_names in layers.items():
        top += EDGE + line_height(size + 1, 1 + titles[encoder].count("\n")) + 0.05
        tops[encoder] = top
        upright = stands_upright(layer_names, each[encoder], size)
        top += n_rows[encoder] * row + 0.06
        top += max(text_width(shown_name(n), size) for n in layer_names) if upright else line_height(size)
    first, last = tops[next(iter(layers))], tops[encoder] + n_rows[encoder] * row
    room = cells + 2 * min(left, right) - 2 * EDGE
    columns_text = f"{columns_are}; {marks_are}"
    if text_width(columns_text, size) > room:
        columns_text = "\n".join(wrapped(text, room, size) for text in (columns_are, marks_are))
    top += line_height(size, 1 + columns_text.count("\n")) + 0.05
    length = cells if column else float(np.clip(last - first, 0.9, 2.6))
    bar = (left, top + PAD, length, 0.1) if column else (left + cells + 0.12, first, BAR, length)
    top = max(
        top,
        bar[1]
        + bar[3]
        + (line_height(size, 2 + wrapped(scale.label, cells, size).count("\n")) + 0.12 if column else 0.08),
    )
    corner = (0.0, 0.0)
    if square:
        row_names = max(text_width(name, size) for name in names)
        corner = (left + cells + right + SPACE + left - EDGE, first) if beside else (left, top + SPACE / 2 + heading)
        top = max(top, corner[1] + square + row_names + 0.08)
    figure = Figure(figsize=(all_width, top + EDGE))
    panels = {e: place(figure, left, tops[e], cells, n_rows[e] * row) for e in layers}
    for encoder, ax in panels.items():
        ax.set_title(titles[encoder], x=(span(layers[encoder])[0] - low) / (high - low))
        ax.set_xlim(low, high)
    panels[encoder].set_xlabel(columns_text)
    colour_bar(figure, place(figure, *bar), scale=scale, size=size)
    if correlations is not None:
        ax = place(figure, *corner, square, square)
        plot_correlations(correlations, ax, targets=targets, names=names, size=size)
        ax.set_title(CORRELATIONS, loc="right" if beside else "left", fontsize=size)
    return figure, panels


def colour_bar(figure: Figure, ax: Axes, *, scale: Scale, size: float) -> None:
    """A colour bar in axes that are made for it, along their longer side."""
    across, down = size_in_inches(ax)
    length = max(across, down)
    bar = figure.colorbar(
        ScalarMappable(Normalize(*scale.limits), scale.colours),
        cax=ax,
        orientation="horizontal" if across > down else "vertical",
        ticks=MaxNLocator(nbins=max(1, int(length / 0.35)), steps=[1, 2, 5, 10]),
    )
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")  # else thin lines between the colours in some readers of PDF
    bar.set_label(wrapped(scale.label, length if across > down else max(length, 0.9), size), size=size)
    ax.tick_params(labelsize=size, length=2)
    bar.outline.set_visible(False)


def name_rows(ax: Axes, places: list[float], targets: list[str], *, layers: list[str], n_real: int) -> None:
    """Targets beside their rows, close to the first cell; those of controls are grey."""
    size = matplotlib.rcParams["font.size"]
    before = (span(layers)[0] - ax.get_xlim()[0]) / inches(ax)[0]  # inches of axes without cells
    room = ax.get_position().x0 * sheet_size(ax)[0]
    ax.set_yticks(places, [wrapped(shown_name(t), room, size) for t in targets])
    ax.tick_params(axis="y", length=0, labelsize=size, pad=3.5 - 72 * before)
    for tick in ax.get_yticklabels()[n_real:]:
        tick.set_color("0.4")
    ax.spines[:].set_visible(False)
