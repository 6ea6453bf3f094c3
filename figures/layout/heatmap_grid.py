"""The page of a heatmap: stacked panels of cells, labels, the colour bar, the correlations of the ratings."""

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

from layerprobe.analysis.formatting import shown_name
from layerprobe.figures.layout.cells import UPRIGHT_HEIGHT, inches, text_style
from layerprobe.figures.layout.correlations import plot_correlations
from layerprobe.figures.layout.layer_axis import cell_width, common_span, is_rotated, span
from layerprobe.figures.layout.style import (
    StyledFigure,
    line_height,
    place,
    sheet_size,
    size_in_inches,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import check_panel, font_size, is_narrow
from layerprobe.probe.layer_names import FINAL

CELL_HEIGHT = 0.27  # inches
CELL_WIDTH = (0.29, 0.62)  # inches of a cell at natural width: with many layers (space for "−.03"), with a few
LEAST_WIDTH = 1.7  # inches of all cells together at natural width, which headings need
NARROWEST = 1.3  # inches of all cells together at a requested width
EDGE, PAD, BAR, SPACE = 0.05, 0.08, 0.11, 0.2  # inches
CORRELATIONS = "r between ratings"


@dataclass(frozen=True)
class Scale:
    """Quantity, colour map and limits of a colour bar."""

    label: str
    colours: str  # name of a map
    limits: tuple[float, float]


@dataclass(frozen=True)
class Caption:
    """Texts below the last panel, in one line, or in two where that is too long."""

    columns: str  # meaning of a column
    marks: str  # meaning of frames and dots


@dataclass(frozen=True)
class _Across:
    """Horizontal positions and widths in inches."""

    left: float  # of the cells
    cells: float  # of the widest panel
    right: float  # space right of the cells, for the colour bar
    limits: tuple[float, float]  # of all panels' axes
    all_width: float
    cell: dict[str, float]  # width of one cell by encoder
    correlations_right: bool  # whether the correlations are right of the cells; else below


@dataclass(frozen=True)
class _Down:
    """Vertical positions in inches from the top."""

    tops: dict[str, float]  # upper edge of the cells by encoder
    bottom: float  # lower edge of the last panel's cells
    below: float  # lower edge of the caption


def cell_page(
    n_rows: dict[str, float],
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    texts: list[str],
    caption: Caption,
    scale: Scale,
    correlations: pd.DataFrame | None,
    width: float | None,
) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with empty panels for the cells of each encoder, and everything around the panels.

    Args:
        n_rows: rows of each encoder's panel, gaps included
        layers: layers of each encoder, in order
        targets: in order
        texts: values of the cells as text, which decide how high a row is
        caption: below the last panel
        scale: of the colour bar, which is right of the cells, or below them in a narrow figure
        correlations: r between the targets' ratings; right of the cells if there is space, else below
        width: inches, or None for the natural width

    Raises:
        InputError: if ``width`` leaves too little for the cells
    """
    size, narrow = font_size(width), is_narrow(width)
    names = [wrapped(shown_name(t), 0.9 if narrow else 1.5, size) for t in targets]
    row = max(CELL_HEIGHT, line_height(size, 1 + max(name.count("\n") for name in names)) + 0.02)
    square = 0.0 if correlations is None else len(targets) * row
    across = _across(layers, names, scale, square=square, width=width)
    styles = [text_style(texts, cell) for cell in across.cell.values()]
    if any(style is not None and style.rotation for style in styles):
        row = max(row, UPRIGHT_HEIGHT)
    titles = {e: wrapped(e, across.cells + across.right - EDGE, size + 1, bold=True) for e in layers}
    space = across.cells + 2 * min(across.left, across.right) - 2 * EDGE
    caption_text = f"{caption.columns}; {caption.marks}"
    if text_width(caption_text, size) > space:
        caption_text = "\n".join(wrapped(text, space, size) for text in (caption.columns, caption.marks))
    down = _down(n_rows, layers, titles, caption_text, across.cell, row=row, size=size)
    bar, top = _bar(across, down, scale, narrow=narrow, size=size)
    corner = (0.0, 0.0)
    if square:
        corner = (across.left + across.cells + across.right + SPACE + across.left - EDGE, min(down.tops.values()))
        if not across.correlations_right:
            corner = (across.left, top + SPACE / 2 + (line_height(size + 1) + 0.05))
        top = max(top, corner[1] + square + max(text_width(name, size) for name in names) + 0.08)
    figure = StyledFigure(figsize=(across.all_width, top + EDGE))
    panels = {e: place(figure, across.left, down.tops[e], across.cells, n_rows[e] * row) for e in layers}
    low, high = across.limits
    for encoder, ax in panels.items():
        ax.set_title(titles[encoder], x=(span(layers[encoder])[0] - low) / (high - low))
        ax.set_xlim(low, high)
    list(panels.values())[-1].set_xlabel(caption_text)
    colour_bar(figure, place(figure, *bar), scale=scale, size=size)
    if correlations is not None:
        ax = place(figure, *corner, square, square)
        plot_correlations(correlations, ax, targets=targets, names=names, size=size)
        ax.set_title(CORRELATIONS, loc="right" if across.correlations_right else "left", fontsize=size)
    return figure, panels


def _across(
    layers: dict[str, list[str]], names: list[str], scale: Scale, *, square: float, width: float | None
) -> _Across:
    """Return the horizontal layout: cells of their natural width, or of what a requested width leaves.

    Args:
        layers: layers of each encoder, in order
        names: labels of the targets, broken into lines
        scale: of the colour bar
        square: inches of the correlations, 0 without them
        width: inches, or None for the natural width
    """
    size, narrow = font_size(width), is_narrow(width)
    left = EDGE + max(text_width(name, size) for name in names) + PAD
    low, high = common_span(list(layers.values()))
    n_columns = (high - low) * max(1 / cell_width(names) for names in layers.values())  # of the narrowest cells
    bar_label_lines = 1 if narrow else 1 + wrapped(scale.label, 0.9, size).count("\n")
    right = EDGE if narrow else 0.12 + BAR + text_width("−0.05", size) + line_height(size, bar_label_lines) + 0.12
    if narrow and any(names[-1] == FINAL for names in layers.values()):
        right += text_width(FINAL, size) / 2
    aside = SPACE + max(left + square, text_width(CORRELATIONS, size, bold=True)) if square else 0.0
    if width is None:
        cells = max(n_columns * float(np.interp(n_columns, (3, 16), CELL_WIDTH[::-1])), LEAST_WIDTH)
        correlations_right, all_width = aside > 0, left + cells + right + aside
    else:
        all_width = width
        correlations_right = 0 < aside <= 0.3 * all_width
        cells = all_width - left - right - (aside if correlations_right else 0)
        check_panel(cells, least=max(NARROWEST, square), width=width)
    cell = {e: cells * cell_width(names) / (high - low) for e, names in layers.items()}
    return _Across(left, cells, right, (low, high), all_width, cell, correlations_right)


def _down(
    n_rows: dict[str, float],
    layers: dict[str, list[str]],
    titles: dict[str, str],
    caption: str,
    cell: dict[str, float],
    *,
    row: float,
    size: float,
) -> _Down:
    """Return the vertical layout: panels below each other, each between its title and its layers, then the caption."""
    top, tops = 0.0, {}
    for encoder, names in layers.items():
        top += EDGE + line_height(size + 1, 1 + titles[encoder].count("\n")) + 0.05
        tops[encoder] = top
        rotated = is_rotated(names, cell[encoder], size)
        top += n_rows[encoder] * row + 0.06
        top += max(text_width(shown_name(n), size) for n in names) if rotated else line_height(size)
    bottom = tops[encoder] + n_rows[encoder] * row
    top += line_height(size, 1 + caption.count("\n")) + 0.05
    return _Down(tops, bottom, top)


def _bar(
    across: _Across, down: _Down, scale: Scale, *, narrow: bool, size: float
) -> tuple[tuple[float, float, float, float], float]:
    """Return left, top, width and height of the colour bar, and the lower edge of everything so far."""
    if narrow:
        label = line_height(size, 2 + wrapped(scale.label, across.cells, size).count("\n")) + 0.12
        bar = (across.left, down.below + PAD, across.cells, 0.1)
        return bar, bar[1] + bar[3] + label
    first = min(down.tops.values())
    bar = (across.left + across.cells + 0.12, first, BAR, float(np.clip(down.bottom - first, 0.9, 2.6)))
    return bar, max(down.below, bar[1] + bar[3] + 0.08)


def colour_bar(figure: Figure, ax: Axes, *, scale: Scale, size: float) -> None:
    """Draw a colour bar into its own axes, along their longer side."""
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
    space = ax.get_position().x0 * sheet_size(ax)[0]
    ax.set_yticks(places, [wrapped(shown_name(t), space, size) for t in targets])
    ax.tick_params(axis="y", length=0, labelsize=size, pad=3.5 - 72 * before)
    for tick in ax.get_yticklabels()[n_real:]:
        tick.set_color("0.4")
    ax.spines[:].set_visible(False)
