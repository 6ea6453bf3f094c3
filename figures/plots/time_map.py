"""The heatmap over time: a panel per encoder and target, layers upwards, a column per bin of time."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.figures.layout.cells import (
    Cell,
    TextStyle,
    fill_cell,
    frame,
    inches,
    text_style,
    value_text,
)
from layerprobe.figures.layout.heatmap_grid import BAR, BAR_LENGTH, Scale, colour_bar
from layerprobe.figures.layout.layer_axis import cell_width, centres, named_layers, span
from layerprobe.figures.layout.mark_ids import Mark, mark_id
from layerprobe.figures.layout.panels import EDGE
from layerprobe.figures.layout.style import (
    SCORE_COLOURS,
    StyledFigure,
    lay_out,
    line_height,
    place,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.time_axis import (
    axis_title,
    bin_edges,
    label_bins,
    natural_panel,
    tick_overhang,
    ticks_height,
    time_limits,
)
from layerprobe.figures.layout.time_grid import Margins, TimeGrid, across_of, head_block, time_grid
from layerprobe.figures.layout.width import font_size, is_narrow
from layerprobe.figures.plots.heatmap import HATCHED, score_scale
from layerprobe.figures.plots.references import is_chance

BEST = "frame: bins of the highest-scoring layer that are not significantly worse than its best (95 % set); dot: best"
COUNTS = "bars: number of utterances with a span in the bin, where bins differ"
UNEQUAL = 1.25  # the most over the fewest utterances of a bin, from which the numbers are shown
ROW, LOWEST = 0.17, 0.045  # inches of a layer's row: natural and least
PANEL = (0.75, 3.4)  # inches of a panel: least and natural at most
STRIP = 0.2  # inches of the bars of counts, with the gap below them
NATURAL = {1: 3.6, 2: 2.6}  # inches of a panel in a figure of natural width, by the number of targets; else 2.3


def plot_time_map(
    table: pd.DataFrame,
    ax: Axes,
    *,
    bins: TimeBins,
    layers: list[str],
    metric: str,
    limits: tuple[float, float],
    first_cell: int = 0,
) -> Axes:
    """Draw a row of cells per layer, the first at the bottom, with a column per bin.

    Cells that are not above chance are hatched. In the row of the highest-scoring cell, which has a dot, the bins of
    the 95 % set are framed, unless that cell is not above chance.

    Args:
        table: tidy rows ``encoder, target, layer, bin, value`` of one encoder and target, with or without
            ``chance, in_best_set``
        ax: axes to draw into, with their final position and size, which decide whether cells show their values
        bins: in order
        layers: in order
        metric: a key of `METRIC_NAMES`, which decides which cell is best
        limits: of the colours, the same for panels that are to be compared
        first_cell: number in the first cell's gid (`mark_id`)
    """
    edges = dict(zip(bins.names, bin_edges(bins), strict=True))
    y = dict(zip(layers, row_places(layers), strict=True))
    low, high = (value / cell_width(layers) for value in span(layers))
    ax.set(xlim=time_limits(bins), ylim=(low, high))
    cells = table[table["bin"].isin(bins.names) & table["layer"].isin(layers)].reset_index(drop=True)
    cells = cells[np.isfinite(cells["value"].astype(float))].reset_index(drop=True)
    hatched = is_chance(cells.assign(control="none"), metric=metric)
    style = _style(cells, ax, widths=np.array([right - left for left, right in edges.values()]))
    shades = matplotlib.colormaps[SCORE_COLOURS](Normalize(*limits)(cells["value"].to_numpy(dtype=float)))
    for k, (row, shade, chance) in enumerate(zip(cells.to_dict("records"), shades, hatched, strict=True)):
        left, right = edges[row["bin"]]
        gid = mark_id("cell", k + first_cell, Mark(row["encoder"], "none", row["target"], row["layer"]))
        cell = Cell(tuple(shade), value_text(row["value"]), gid, bool(chance))
        fill_cell(ax, (left + right) / 2, y[row["layer"]], right - left, cell=cell, style=style)
    if len(cells) and not hatched.all():
        _mark_best(cells, ax, edges=edges, y=y, metric=metric, style=style)
    ax.spines[:].set_visible(False)
    return ax


def row_places(layers: list[str]) -> np.ndarray:
    """Return the y of each layer's row of height 1, ``(n_layers,)``, with a gap before the final layer."""
    return centres(layers) / cell_width(layers)


def _style(cells: pd.DataFrame, ax: Axes, *, widths: np.ndarray) -> TextStyle | None:
    """Return the text style of the values; None where they do not fit into the narrowest and lowest cell."""
    inch = inches(ax)
    style = text_style(map(value_text, cells["value"]), float(widths.min()) / inch[0], matplotlib.rcParams["font.size"])
    fits = style is not None and not style.rotation and 1 / inch[1] >= line_height(style.size) + 0.02
    return style if fits else None


def _mark_best(
    cells: pd.DataFrame, ax: Axes, *, edges: dict[str, np.ndarray], y: dict[str, float], metric: str,
    style: TextStyle | None,
) -> None:  # fmt: skip
    """Mark the best cell by a dot, and frame the bins of its layer that are not significantly worse."""
    best = int(best_layer(cells["value"].astype(float), metric=metric))
    layer, bin_name = str(cells["layer"].loc[best]), str(cells["bin"].loc[best])
    row = cells[cells["layer"] == layer]
    inside = row["in_best_set"].eq(True).fillna(False) if "in_best_set" in row else row["bin"] == bin_name
    framed = [edges[name] for name in edges if name in set(row.loc[inside.astype(bool), "bin"])]
    joined: list[list[float]] = []
    for left, right in framed:
        if joined and abs(joined[-1][1] - left) < 1e-9:
            joined[-1][1] = float(right)
        else:
            joined.append([float(left), float(right)])
    for k, (left, right) in enumerate(joined):
        frame(ax, left, right, y[layer], cell=inches(ax), gid=f"best-{k}")
    left, right = edges[bin_name]
    x, row_y = (left + right) / 2, y[layer]
    if style is not None:  # in the upper right corner, where no value is
        x, row_y = right - 0.07 * inches(ax)[0], row_y + 0.5 - 0.055 * inches(ax)[1]
    (mark,) = ax.plot(x, row_y, marker="o", markersize=2.2, color="white", markeredgecolor="black", markeredgewidth=0.5)
    mark.set(zorder=4, gid="dot-0", clip_on=False)


def plot_counts(counts: pd.DataFrame, ax: Axes, *, bins: TimeBins, highest: float) -> Axes:
    """Draw a grey bar per bin as high as its number of utterances, and label the upper end of the axis.

    Args:
        counts: rows ``bin, n_utterances``, one of each bin
        ax: axes to draw into
        bins: in order
        highest: number at the upper end of the axis
    """
    n_of = counts.set_index("bin")["n_utterances"].astype(float)
    for name, (left, right) in zip(bins.names, bin_edges(bins), strict=True):
        if name in n_of:
            bar = Rectangle((left, 0), right - left, n_of[name], facecolor="0.72", edgecolor="white", linewidth=0.3)
            bar.set_gid("count")
            ax.add_patch(bar)
    ax.set(xlim=time_limits(bins), ylim=(0, highest), xticks=[], yticks=[highest])
    ax.set_yticklabels([f"n = {highest:,.0f}"])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def time_map_figure(
    table: pd.DataFrame,
    *,
    bins: TimeBins,
    layers: dict[str, list[str]],
    targets: Sequence[str],
    metric: str,
    width: float | None = None,
) -> Figure:
    """Return the heatmap over time: a block for each encoder with a panel for each target, all in the same colours.

    Args:
        table: rows as `plot_time_map` takes them, of all encoders and targets, with ``n_utterances``
        bins: in order
        layers: layers of each encoder, in order
        targets: in order
        metric: a key of `METRIC_NAMES`
        width: inches, or None for the natural width
    """
    bins = bins.kept(list(table["bin"]))
    scale = score_scale(table["value"].astype(float).dropna(), metric=metric)
    is_hatched = is_chance(table.assign(control="none"), metric=metric)
    has_counts = unequal(table)
    notes = [BEST] if not is_hatched.all() else []
    notes += ([HATCHED] if is_hatched.any() else []) + ([COUNTS] if has_counts else [])
    size = font_size(width)
    grid, texts = _grid(table, bins, layers, targets, scale=scale, notes=notes, has_counts=has_counts, width=width)
    with styled(width):
        figure, n_cells = StyledFigure(figsize=(grid.all_width, grid.height)), 0
        for block, (encoder, names) in enumerate(layers.items()):
            head_block(figure, grid, block, encoder, size)
            for k, target in enumerate(targets):
                rows = table[(table["encoder"] == encoder) & (table["target"] == target)]
                ax = place(figure, *grid.position(block, k))
                plot_time_map(rows, ax, bins=bins, layers=names, metric=metric, limits=scale.limits, first_cell=n_cells)
                n_cells += len(rows)
                _label(ax, grid, block, k, bins=bins, layers=names, size=size)
                top = ax
                if has_counts and len(rows):
                    left, above, across, _ = grid.position(block, k)
                    top = place(figure, left, above - STRIP, across, STRIP - 0.04)
                    highest = float(table["n_utterances"].max())
                    plot_counts(rows.drop_duplicates("bin"), top, bins=bins, highest=highest)
                    top.tick_params(labelsize=size - 1, labelleft=grid.is_first(k))
                top.set_title(grid.titles[target])
        left, bottom = grid.across.left / grid.all_width, (EDGE + grid.margins.foot - 0.06) / grid.height
        figure.text(left, bottom, texts[1], va="top", fontsize=size)
        bar_top = EDGE + line_height(size, 1 + texts[0].count("\n")) + 0.03
        length = min(grid.all_width - grid.across.left - 2 * EDGE, BAR_LENGTH * size / 8)
        bar = place(figure, grid.across.left, bar_top, length, BAR)
        figure.text(left, 1 - EDGE / grid.height, texts[0], va="top", fontsize=size)
        colour_bar(figure, bar, scale=Scale("", scale.colours, scale.limits, scale.is_clipped), size=size)
        return lay_out(figure)


def unequal(table: pd.DataFrame) -> bool:
    """Return whether bins of an encoder and target differ much in their numbers of utterances."""
    if "n_utterances" not in table or not table["n_utterances"].notna().any():
        return False
    counts = table.groupby(["encoder", "target"])["n_utterances"]
    return bool((counts.max() > UNEQUAL * counts.min()).any())


def _grid(
    table: pd.DataFrame, bins: TimeBins, layers: dict[str, list[str]], targets: Sequence[str], *, scale: Scale,
    notes: list[str], has_counts: bool, width: float | None,
) -> tuple[TimeGrid, tuple[str, str]]:  # fmt: skip
    """Return the grid, and the texts above and below it: the label of the colours, and the meaning of marks."""
    size = font_size(width)
    names = max(text_width(shown_name(name), size) for of_encoder in layers.values() for name in of_encoder)
    count = text_width(f"n = {table['n_utterances'].max():,.0f}", size - 1) if has_counts else 0.0
    left = EDGE + max(line_height(size) + names, count) + 0.12
    between, right = 2 * tick_overhang(bins, size) + 0.08, EDGE + tick_overhang(bins, size)
    empty = Margins(left, right, between, 0, 0, 0, 0, 0)
    least = 0.95 if is_narrow(width) else 1.2 * size / 8
    natural = natural_panel(bins, NATURAL.get(len(targets), 2.3) * size / 8, size)
    across = across_of(len(targets), margins=empty, width=width, natural=natural, least=least)
    space = 0.92 * (across.all_width - left - EDGE)  # letters of other fonts may be wider
    label, text = wrapped(scale.label, space, size), "\n".join(wrapped(note, space, size) for note in notes)
    title = axis_title(bins, across.panel, across.panel + 0.6 * between, size)
    margins = Margins(
        left, right, between,
        above=STRIP if has_counts else 0.0,
        below=ticks_height(bins, across.panel, size) + 0.02,
        axis_title=line_height(size, 1 + title.count("\n")) + 0.03,
        head=line_height(size, 1 + label.count("\n")) + 0.03 + BAR + 0.06 + line_height(size) + 0.06,
        foot=line_height(size, 1 + text.count("\n")) + 0.06 if text else 0.0,
    )  # fmt: skip
    n = max(map(len, layers.values()))
    panel = (max(PANEL[0], LOWEST * n), float(np.clip(ROW * size / 8 * n, 1.2, PANEL[1])))
    grid = time_grid(list(layers), targets, across=across, margins=margins, width=width, panel=panel)
    return grid, (label, text)


def _label(
    ax: Axes, grid: TimeGrid, block: int, k: int, *, bins: TimeBins, layers: list[str], size: float
) -> None:  # fmt: skip
    """Label the bins below a panel, and the layers of the first one of a row."""
    label_bins(ax, bins, panel=grid.across.panel, size=size)
    ax.tick_params(axis="x", length=2 if bins.has_edges else 0)
    if grid.is_lowest(block, k):
        ax.set_xlabel(axis_title(bins, grid.across.panel, grid.across.panel + 0.6 * grid.margins.between, size))
    ax.tick_params(axis="y", length=0, labelsize=size)
    label_rows(ax, layers, height=grid.panel, size=size)
    if grid.is_first(k):
        ax.set_ylabel("layer")
    else:
        ax.tick_params(labelleft=False)


def label_rows(ax: Axes, layers: list[str], *, height: float, size: float) -> Axes:
    """Label the rows of layers, every one or every 2nd, 4th and so on, and return the axes.

    Args:
        ax: axes of `plot_time_map`
        layers: in order
        height: of the axes in inches
        size: of the font in points
    """
    places = row_places(layers)
    low, high = (value / cell_width(layers) for value in span(layers))
    shown = named_layers(layers, 1.5 * height / (high - low), size)  # a line of digits is lower than it is wide
    ax.set_yticks(places[shown], [shown_name(layers[k]) for k in shown])
    return ax
