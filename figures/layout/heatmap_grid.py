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


@dataclass(frozen=True)
class Wording:
    """What is said below the last panel."""

    columns: str  # what a column is
    marks: str  # what frames and dots are; behind it, or in a second line


@dataclass(frozen=True)
class _Across:
    """Where things stand from left to right, in inches."""

    left: float  # of the cells
    cells: float  # of the widest panel
    right: float  # of the cells, for the colour bar
    limits: tuple[float, float]  # of all panels' axes
    all_width: float
    each: dict[str, float]  # for each encoder, of one cell
    covariate: bool  # whether correlations stand there, and not below


@dataclass(frozen=True)
class _Down:
    """Where things stand from top to bottom, in inches."""

    tops: dict[str, float]  # for each encoder, of its cells
    bottom: float  # of the last panel's cells
    below: float  # the lower edge of what is said below it


def cell_sheet(
    n_rows: dict[str, float],
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    texts: list[str],
    wording: Wording,
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
        wording: below the last panel
        scale: of the colour bar, at the right, or below in a column
        correlations: of the targets' ratings; drawn beside if they leave room, else below
        width: a key of `WIDTHS`, or None for the natural one
    """
    size, column = font_size(width), width == "column"
    names = [wrapped(shown_name(t), 0.9 if column else 1.5, size) for t in targets]
    row = max(CELL_HEIGHT, line_height(size, 1 + max(name.count("\n") for name in names)) + 0.02)
    square = 0.0 if correlations is None else len(targets) * row
    across = _across(layers, names, scale, square=square, width=width)
    ways = [writing(texts, cell) for cell in across.each.values()]
    if any(way is not None and way.rotation for way in ways):
        row = max(row, UPRIGHT_HEIGHT)
    titles = {e: wrapped(e, across.cells + across.right - EDGE, size + 1, bold=True) for e in layers}
    room = across.cells + 2 * min(across.left, across.right) - 2 * EDGE
    said = f"{wording.columns}; {wording.marks}"
    if text_width(said, size) > room:
        said = "\n".join(wrapped(text, room, size) for text in (wording.columns, wording.marks))
    down = _down(n_rows, layers, titles, said, across.each, row=row, size=size)
    bar, top = _bar(across, down, scale, column=column, size=size)
    corner = (0.0, 0.0)
    if square:
        corner = (across.left + across.cells + across.right + SPACE + across.left - EDGE, min(down.tops.values()))
        if not across.covariate:
            corner = (across.left, top + SPACE / 2 + (line_height(size + 1) + 0.05))
        top = max(top, corner[1] + square + max(text_width(name, size) for name in names) + 0.08)
    figure = Figure(figsize=(across.all_width, top + EDGE))
    panels = {e: place(figure, across.left, down.tops[e], across.cells, n_rows[e] * row) for e in layers}
    low, high = across.limits
    for encoder, ax in panels.items():
        ax.set_title(titles[encoder], x=(span(layers[encoder])[0] - low) / (high - low))
        ax.set_xlim(low, high)
    list(panels.values())[-1].set_xlabel(said)
    colour_bar(figure, place(figure, *bar), scale=scale, size=size)
    if correlations is not None:
        ax = place(figure, *corner, square, square)
        plot_correlations(correlations, ax, targets=targets, names=names, size=size)
        ax.set_title(CORRELATIONS, loc="right" if across.covariate else "left", fontsize=size)
    return figure, panels


def _across(
    layers: dict[str, list[str]], names: list[str], scale: Scale, *, square: float, width: str | None
) -> _Across:
    """Cells of their natural width, or of what a given width leaves.

    Args:
        layers: for each encoder its layers in order
        names: of the targets, in lines
        scale: of the colour bar
        square: inches of the correlations, 0 without them
        width: a key of `WIDTHS`, or None for the natural one
    """
    size, column = font_size(width), width == "column"
    left = EDGE + max(text_width(name, size) for name in names) + PAD
    low, high = common_span(list(layers.values()))
    n_columns = (high - low) * max(1 / cell_width(own) for own in layers.values())  # of the narrowest cells
    bar_label_lines = 1 if column else 1 + wrapped(scale.label, 0.9, size).count("\n")
    right = EDGE if column else 0.12 + BAR + text_width("−0.05", size) + line_height(size, bar_label_lines) + 0.12
    if column and any(own[-1] == FINAL for own in layers.values()):
        right += text_width(FINAL, size) / 2
    aside = SPACE + max(left + square, text_width(CORRELATIONS, size, bold=True)) if square else 0.0
    if width is None:
        cells = max(n_columns * float(np.interp(n_columns, (3, 16), CELL_WIDTH[::-1])), LEAST_WIDTH)
        covariate, all_width = aside > 0, left + cells + right + aside
    else:
        all_width = WIDTHS[width]
        covariate = 0 < aside <= 0.3 * all_width
        cells = all_width - left - right - (aside if covariate else 0)
    each = {e: cells * cell_width(own) / (high - low) for e, own in layers.items()}
    return _Across(left, cells, right, (low, high), all_width, each, covariate)


def _down(
    n_rows: dict[str, float],
    layers: dict[str, list[str]],
    titles: dict[str, str],
    said: str,
    each: dict[str, float],
    *,
    row: float,
    size: float,
) -> _Down:
    """Panels one below the other, each between its title and its layers' names; and what is said below the last."""
    top, tops = 0.0, {}
    for encoder, own in layers.items():
        top += EDGE + line_height(size + 1, 1 + titles[encoder].count("\n")) + 0.05
        tops[encoder] = top
        upright = stands_upright(own, each[encoder], size)
        top += n_rows[encoder] * row + 0.06
        top += max(text_width(shown_name(n), size) for n in own) if upright else line_height(size)
    bottom = tops[encoder] + n_rows[encoder] * row
    top += line_height(size, 1 + said.count("\n")) + 0.05
    return _Down(tops, bottom, top)


def _bar(
    across: _Across, down: _Down, scale: Scale, *, column: bool, size: float
) -> tuple[tuple[float, float, float, float], float]:
    """Left, top, width and height of the colour bar, and the lower edge of all that stands so far."""
    if column:
        label = line_height(size, 2 + wrapped(scale.label, across.cells, size).count("\n")) + 0.12
        bar = (across.left, down.below + PAD, across.cells, 0.1)
        return bar, bar[1] + bar[3] + label
    first = min(down.tops.values())
    bar = (across.left + across.cells + 0.12, first, BAR, float(np.clip(down.bottom - first, 0.9, 2.6)))
    return bar, max(down.below, bar[1] + bar[3] + 0.08)


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
