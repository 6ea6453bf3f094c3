"""The figure of similarity: maps of similarity between layers, within and between encoders, and with the ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.similarity.table import RATINGS
from layerprobe.figures.layout.heatmap_grid import Scale, colour_bar
from layerprobe.figures.layout.layer_axis import cell_width, centres, name_layers, span
from layerprobe.figures.layout.style import (
    SIMILARITY_COLOURS,
    StyledFigure,
    lay_out,
    line_height,
    place,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import check_panel, font_size, is_narrow
from layerprobe.probe.layer_names import FINAL

MEASURE_NAMES = {"cka": "CKA, debiased", "cca": "CCA, held out", "rsa": "RSA"}
EDGE, GAP, BAR = 0.06, 0.12, 0.1  # inches
NARROWEST = 0.4  # inches of a map
NATURAL = {1: 2.8, 2: 2.2}  # inches of a map, by the number of encoders; 1.8 of more


def plot_similarity(
    table: pd.DataFrame, ax: Axes, *, layers_a: list[str], layers_b: list[str], limits: tuple[float, float]
) -> Axes:
    """Draw the similarity of each layer of one encoder with each layer of another, on axes of relative depth.

    Layers of the first encoder run upwards, of the second to the right. Values beyond the limits have the colour of the
    limit.

    Args:
        table: rows ``layer_a, layer_b, value`` of one measure and one pair of encoders
        ax: axes to draw into
        layers_a: in order, from the bottom
        layers_b: in order, from the left
        limits: of the colours, the same for panels that are to be compared
    """
    x, columns = _edges(layers_b)
    y, rows = _edges(layers_a)
    _mesh(table, ax, x, y, rows=rows, columns=columns, limits=limits)
    ax.set(xlim=span(layers_b), ylim=span(layers_a))
    return ax


def plot_ratings_strip(
    table: pd.DataFrame, ax: Axes, *, layers: list[str], targets: Sequence[str], limits: tuple[float, float]
) -> Axes:
    """Draw the similarity of each layer with each target's ratings: layers upwards, a column per target.

    Args:
        table: rows ``layer_a, layer_b, value`` whose ``layer_b`` is a target
        ax: axes to draw into
        layers: in order, from the bottom
        targets: in order, from the left
        limits: of the colours
    """
    y, rows = _edges(layers)
    _mesh(table, ax, np.arange(len(targets) + 1) - 0.5, y, rows=rows, columns=list(targets), limits=limits)
    ax.set(xlim=(-0.5, len(targets) - 0.5), ylim=span(layers))
    return ax


def similarity_figure(
    table: pd.DataFrame,
    *,
    layers: dict[str, list[str]],
    measure: str,
    targets: Sequence[str] | None = None,
    width: float | None = None,
) -> Figure:
    """Return a figure with a map for each pair of encoders, and at the right a strip for the ratings.

    Maps lie on or above the diagonal and have one scale, from 0 to 1. Values of the strips are of another order of
    magnitude and have a scale from 0 to the highest of them.

    Args:
        table: rows ``measure, encoder_a, layer_a, encoder_b, layer_b, value`` with all layers of every pair; the layers
            of encoder ``ratings`` are targets
        layers: layers of each encoder, of speech or text, in order
        measure: a key of `MEASURE_NAMES`
        targets: of the strips, in order; those of the table if None
        width: inches, or None for the natural width
    """
    layers = {e: names for e, names in layers.items() if e != RATINGS}
    rows = table[table["measure"] == measure]
    rated = rows[(rows["encoder_b"] == RATINGS) & rows["encoder_a"].isin(list(layers))]
    targets = list(dict.fromkeys(rated["layer_b"])) if targets is None else [t for t in targets if not rated.empty]
    scales = [Scale(MEASURE_NAMES[measure], SIMILARITY_COLOURS, (0.0, 1.0))]
    if targets:
        highest = max(float(rated["value"].max()), 0.05)
        scales.append(Scale(f"{MEASURE_NAMES[measure]}, with ratings", SIMILARITY_COLOURS, (0.0, highest)))
    grid = _grid(layers, targets, width=width)
    with styled(width):
        figure = StyledFigure(figsize=(grid.all_width, grid.height))
        _draw_maps(figure, grid, rows, layers=layers, limits=scales[0].limits)
        if targets:
            _draw_strips(figure, grid, rows, layers=layers, targets=targets, limits=scales[1].limits)
        for k, scale in enumerate(scales):
            colour_bar(figure, place(figure, *grid.bar(k)), scale=scale, size=grid.size)
        return lay_out(figure)


@dataclass(frozen=True)
class _Grid:
    """Positions of maps, strips and colour bars, in inches from the figure's left and upper edge."""

    size: float  # points of the font
    narrow: bool  # whether the colour bars are below the maps; else right of them
    left: float  # of the maps
    head: float  # above them
    panel: float  # a map's side
    down_gap: float  # between two rows of maps
    strip_left: float
    strip: float  # a strip's width
    right: float  # of everything, for the bars
    bar_step: float  # from one bar to the next
    bar_top: float  # of the first bar that lies below
    all_width: float
    height: float

    def top(self, row: int) -> float:
        """Return the upper edge of a row of maps."""
        return self.head + row * (self.panel + self.down_gap)

    def bar(self, k: int) -> tuple[float, float, float, float]:
        """Return left, top, width and height of colour bar ``k``."""
        if self.narrow:
            return self.left, self.bar_top + k * self.bar_step, self.all_width - self.left - self.right - 0.1, BAR
        return self.all_width - self.right + 0.15 + k * self.bar_step, self.head, BAR, min(self.panel, 2.2)


def _grid(layers: dict[str, list[str]], targets: Sequence[str], *, width: float | None) -> _Grid:
    size, narrow, names, n = font_size(width), is_narrow(width), list(layers), len(layers)
    every = [name for layer_names in layers.values() for name in layer_names]
    n_bars = 2 if targets else 1
    strip, strip_gap = (0.14 if narrow else 0.2) * len(targets), GAP if targets else 0.0
    y_names = max(text_width(shown_name(name), size - 1) for name in every)
    if narrow:
        bar_step = 0.1 + BAR + line_height(size, 2) + 0.14
        right = EDGE + (text_width(FINAL, size) / 2 if FINAL in every and not targets else 0.0)
    else:
        bar_step = 0.15 + BAR + text_width("0.05", size) + line_height(size, 2) + 0.12
        right = bar_step * n_bars
    panel, n_lines = NATURAL.get(n, 1.8), 1
    for _ in range(3):  # the first encoder's name needs more lines next to a smaller map
        left = EDGE + line_height(size, n_lines) + y_names + 0.12
        around = left + (n - 1) * GAP + strip_gap + strip + right
        if width is not None:
            panel = (width - around) / n
            check_panel(n * panel, least=max(n * NARROWEST, 0.9), width=width)
        n_lines = max(n_lines, 1 + wrapped("layer" if n == 1 else names[0], panel, size).count("\n"))
    title_lines = max(1 + _title(e, panel, size).count("\n") for e in names)
    head = EDGE + line_height(size, title_lines) + 0.08
    down_gap = GAP if n == 1 else line_height(size - 1) + 0.12  # names of layers stand between rows
    are_numbers = all(name.isdecimal() or name == FINAL for name in every)
    x_names = (line_height(size - 1) if are_numbers else y_names) + 0.06 + line_height(size)
    below = max(x_names, 0.06 + max((text_width(shown_name(t), size - 1) for t in targets), default=0.0))
    bottom = head + n * panel + (n - 1) * down_gap
    return _Grid(
        size, narrow, left, head, panel, down_gap, left + n * (panel + GAP) - GAP + strip_gap, strip, right, bar_step,
        bottom + below + 0.1, around + n * panel if width is None else width,
        bottom + below + (bar_step * n_bars if narrow else 0) + EDGE,
    )  # fmt: skip


def _draw_maps(
    figure: Figure, grid: _Grid, rows: pd.DataFrame, *, layers: dict[str, list[str]], limits: tuple[float, float]
) -> None:
    """Draw every pair on or above the diagonal; only maps on the diagonal have labels of layers."""
    names, size = list(layers), grid.size
    for i, first in enumerate(names):
        of_first = rows[rows["encoder_a"] == first]
        for j, second in enumerate(names[i:], start=i):
            ax = place(figure, grid.left + j * (grid.panel + GAP), grid.top(i), grid.panel, grid.panel)
            pair = of_first[of_first["encoder_b"] == second]
            plot_similarity(pair, ax, layers_a=layers[first], layers_b=layers[second], limits=limits)
            _bare(ax)
            if i == 0:
                ax.set_title(_title(second, grid.panel, size), fontsize=size)
            if i == j:
                name_layers(ax, layers[second], size=size - 1)
                name_layers(ax, layers[first], size=size - 1, axis="y")
                ax.set_ylabel(wrapped("layer" if len(names) == 1 else first, grid.panel, size))
        ax.set_xlabel("layer" if first == names[-1] else "")


def _draw_strips(
    figure: Figure, grid: _Grid, rows: pd.DataFrame, *, layers: dict[str, list[str]], targets: Sequence[str],
    limits: tuple[float, float],
) -> None:  # fmt: skip
    """Draw the strip of the ratings after the last map of each row; targets are labelled below the last strip."""
    to_ratings = rows[rows["encoder_b"] == RATINGS]
    for i, (encoder, names) in enumerate(layers.items()):
        ax = place(figure, grid.strip_left, grid.top(i), grid.strip, grid.panel)
        encoder_rows = to_ratings[to_ratings["encoder_a"] == encoder]
        plot_ratings_strip(encoder_rows, ax, layers=names, targets=targets, limits=limits)
        _bare(ax)
        if i == len(layers) - 1:
            ax.set_xticks(range(len(targets)), [shown_name(t) for t in targets], rotation=90)
            ax.tick_params(labelsize=grid.size - 1, length=0)


def _title(encoder: str, panel: float, size: float) -> str:
    return wrapped(encoder, panel, size, bold=True)


def _edges(layers: list[str]) -> tuple[np.ndarray, list[str | None]]:
    """Return the edges of the cells and the layer of each cell, None for the gap before ``final``."""
    middle, half = centres(layers), cell_width(layers) / 2
    if layers[-1] != FINAL:
        return np.append(middle - half, middle[-1] + half), list(layers)
    edges = np.concatenate([middle[:-1] - half, [middle[-2] + half, middle[-1] - half, middle[-1] + half]])
    return edges, [*layers[:-1], None, FINAL]


def _mesh(
    table: pd.DataFrame,
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    *,
    rows: Sequence[str | None],
    columns: Sequence[str | None],
    limits: tuple[float, float],
) -> None:
    square = table.pivot(index="layer_a", columns="layer_b", values="value")
    values = square.reindex(index=list(rows), columns=list(columns)).to_numpy(dtype=float)
    mesh = ax.pcolormesh(
        x, y, np.ma.masked_invalid(values), cmap=SIMILARITY_COLOURS, vmin=limits[0], vmax=limits[1], edgecolors="face",
        linewidth=0.1,
    )  # fmt: skip
    mesh.set_gid("map")


def _bare(ax: Axes) -> None:
    ax.spines[:].set_visible(False)
    ax.set(xticks=[], yticks=[])
