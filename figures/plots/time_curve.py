"""The figure of curves over time: scores by bin of the first, the highest-scoring and the last layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.estimates import INTERVAL_NAMES
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.figures.layout.mark_ids import Mark, mark_id
from layerprobe.figures.layout.panels import EDGE, LegendPlan, legend_below, plan_legend
from layerprobe.figures.layout.style import StyledFigure, lay_out, line_height, place, styled, text_width, wrapped
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
from layerprobe.probe.layer_names import is_stack
from layerprobe.probe.metrics import LOWER_IS_BETTER, METRIC_NAMES

COLOURS = seaborn.color_palette("colorblind", 3)
BEST, FIRST, LAST = "highest-scoring layer", "first layer", "last layer"
LOOKS: dict[str, tuple[Any, Any, str]] = {  # colour, line and marker of each layer that is shown
    BEST: (COLOURS[1], "-", "o"),
    FIRST: (COLOURS[0], (0, (4, 2)), "s"),
    LAST: (COLOURS[2], (0, (1, 1.2)), "^"),
}
CHANCE = "not above chance, highest-scoring layer"
PANEL = (0.7, 1.9)  # inches of a panel: least and natural height
FAR = 1e3  # beyond every score


def plot_time_curve(table: pd.DataFrame, ax: Axes, *, bins: TimeBins, layers: list[str], metric: str) -> dict[str, str]:
    """Draw a line over time for the highest-scoring, the first and the last layer, with their intervals as ribbons.

    Labels have no order in time, so that their points are not joined, and intervals are bars. Grey is what is not above
    chance in the highest-scoring layer.

    Args:
        table: tidy rows ``encoder, target, layer, bin, value, ci_low, ci_high`` of one encoder and target, with or
            without ``chance``
        ax: axes to draw into
        bins: in order
        layers: in order
        metric: a key of `METRIC_NAMES`, which decides which layer scores best

    Returns:
        the layers that are shown, by their names in `LOOKS`
    """
    cells = _known(table)
    shown = shown_layers(cells, layers, metric=metric)
    encoder, target = (str(cells[name].iloc[0]) if len(cells) else "" for name in ("encoder", "target"))
    edges = bin_edges(bins)
    middle = edges.mean(axis=1)
    step = 0.18 if not bins.has_edges else 0.0
    for k, (name, layer) in enumerate(reversed(shown.items())):  # the best one above the others
        colour, line, marker = LOOKS[name]
        rows = cells[cells["layer"] == layer].set_index("bin").reindex(list(bins.names))
        x = middle + step * (k - (len(shown) - 1) / 2)
        value, low, high = (rows[c].to_numpy(dtype=float) for c in ("value", "ci_low", "ci_high"))
        if bins.has_edges:
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        else:
            ax.vlines(x, low, high, color=colour, lw=1.0)
        ax.plot(
            x, value, color=colour, ls=line if bins.has_edges else "", marker=marker, markersize=3, lw=1.3, label=name,
            gid=mark_id("curve", k, Mark(encoder, "none", target, layer)),
        )  # fmt: skip
    ax.axhline(0, color="0.85", lw=0.6, zorder=0)
    ax.set_xlim(time_limits(bins))
    limits = ax.get_ylim()
    _chance(cells, ax, edges=edges, bins=bins, layer=shown.get(BEST, ""), metric=metric)
    ax.set_ylim(limits)
    return shown


def shown_layers(cells: pd.DataFrame, layers: list[str], *, metric: str) -> dict[str, str]:
    """Return the layers of one encoder and target that are plotted, each once, by their names in `LOOKS`.

    Features without depth have no first or last layer.
    """
    if cells.empty:
        return {}
    best = str(cells["layer"].loc[int(best_layer(cells["value"].astype(float), metric=metric))])
    found = {BEST: best}
    if is_stack(layers):
        present = [name for name in layers if name in set(cells["layer"])]
        found |= {name: k for name, k in ((FIRST, present[0]), (LAST, present[-1])) if k != best}
    return found


def _chance(
    cells: pd.DataFrame, ax: Axes, *, edges: np.ndarray, bins: TimeBins, layer: str, metric: str
) -> None:  # fmt: skip
    """Shade the scores that are not above chance in each bin."""
    if "chance" not in cells or not cells["chance"].notna().any():
        return
    levels = cells[cells["layer"] == layer].set_index("bin")["chance"].astype(float)
    beyond = FAR if metric in LOWER_IS_BETTER else -FAR
    for name, (left, right) in zip(bins.names, edges, strict=True):
        if np.isfinite(level := float(levels.get(name, np.nan))):
            ax.fill_between([left, right], level, beyond, color="0.75", alpha=0.5, linewidth=0, zorder=0, gid="chance")


def time_curve_figure(
    table: pd.DataFrame,
    *,
    bins: TimeBins,
    layers: dict[str, list[str]],
    targets: Sequence[str],
    metric: str,
    width: float | None = None,
) -> Figure:
    """Return curves over time: a block for each encoder with a panel for each target, all on one scale.

    Args:
        table: rows as `plot_time_curve` takes them, of all encoders and targets
        bins: in order
        layers: layers of each encoder, in order
        targets: in order
        metric: a key of `METRIC_NAMES`
        width: inches, or None for the natural width
    """
    bins, size = bins.kept(list(table["bin"])), font_size(width)
    labels = _legend_labels(table, layers, metric=metric)
    grid, legend, n_lines = _grid(bins, layers, targets, labels=labels, metric=metric, width=width)
    with styled(width):
        figure = StyledFigure(figsize=(grid.all_width, grid.height))
        panels: list[Axes] = []
        for block, (encoder, names) in enumerate(layers.items()):
            head_block(figure, grid, block, encoder, size)
            for k, target in enumerate(targets):
                rows = table[(table["encoder"] == encoder) & (table["target"] == target)]
                ax = place(figure, *grid.position(block, k))
                shown = plot_time_curve(rows, ax, bins=bins, layers=names, metric=metric)
                panels.append(ax)
                _label(ax, grid, block, k, bins=bins, metric=metric, size=size)
                best = note_text(shown[BEST]) if shown else ""
                ax.set_title(grid.titles[target], pad=5 + 72 * line_height(size, n_lines))
                ax.text(
                    0, 1 + 0.04 / grid.panel, wrapped(best, grid.across.panel, size), transform=ax.transAxes,
                    va="bottom", fontsize=size, color="0.3",
                )  # fmt: skip
        low, high = (function(ax.get_ylim()[k] for ax in panels) for k, function in ((0, min), (1, max)))
        for ax in panels:
            ax.set_ylim(low, high)
        handles = [_handle(name, is_joined=bins.has_edges) for name in labels]
        legend_below(figure, handles, legend)
        return lay_out(figure)


def note_text(layer: str) -> str:
    """Return the note above a panel, which names its highest-scoring layer, or features without depth."""
    return f"highest: layer {layer}" if is_stack([layer]) else f"highest: {shown_name(layer)}"


def _legend_labels(table: pd.DataFrame, layers: dict[str, list[str]], *, metric: str) -> list[str]:
    """Return what the legend explains: the layers, how intervals were made, and chance."""
    parts = table.groupby(["encoder", "target"], sort=False)
    shown = {name for (e, _), rows in parts for name in shown_layers(_known(rows), layers[str(e)], metric=metric)}
    intervals = list(table["interval"].dropna()) if "interval" in table else []
    interval = next((INTERVAL_NAMES[str(k)] for k in intervals if k), "")
    chance = [CHANCE] if "chance" in table and table["chance"].notna().any() else []
    return [*(name for name in LOOKS if name in shown), *([interval] if interval else []), *chance]


def _known(table: pd.DataFrame) -> pd.DataFrame:
    return table[np.isfinite(table["value"].astype(float))].reset_index(drop=True)


def _handle(name: str, *, is_joined: bool) -> Any:
    """Return what the legend shows of a layer, of chance or of intervals, which are ribbons where points are joined."""
    if name in LOOKS:
        colour, line, marker = LOOKS[name]
        return Line2D([], [], color=colour, ls=line if is_joined else "", marker=marker, markersize=3, lw=1.3)
    if name == CHANCE:
        return Patch(color="0.75", alpha=0.5, lw=0)
    return Line2D([], [], color=COLOURS[1], lw=5, alpha=0.25) if is_joined else Line2D([], [], color=COLOURS[1], lw=1)


def _grid(
    bins: TimeBins, layers: dict[str, list[str]], targets: Sequence[str], *, labels: list[str], metric: str,
    width: float | None,
) -> tuple[TimeGrid, LegendPlan, int]:  # fmt: skip
    """Return the grid, the plan of the legend below it, and the lines of the note above each panel."""
    size, n_lines = font_size(width), 1
    between, right = 2 * tick_overhang(bins, size) + 0.08, EDGE + tick_overhang(bins, size)
    least = max(0.95, 0.12 * size) if is_narrow(width) else 1.2 * size / 8
    for _ in range(2):  # the name of the metric needs more lines next to a lower panel
        left = EDGE + line_height(size, n_lines) + text_width("−0.25", size) + 0.12
        empty = Margins(left, right, between, 0, 0, 0, 0, 0)
        wide = natural_panel(bins, 2.1 * size / 8, size)
        across = across_of(len(targets), margins=empty, width=width, natural=wide, least=least)
        natural = float(np.clip(0.9 * across.panel, 1.2, PANEL[1])) * max(1.0, size / 10)
        n_lines = 1 + wrapped(METRIC_NAMES[metric], natural, size).count("\n")
    notes = {note_text(name) for names in layers.values() for name in names}
    note_lines = 1 + max(wrapped(note, across.panel, size).count("\n") for note in notes)
    legend = plan_legend(labels, space=across.all_width - 2 * EDGE, size=size - 1)
    title = axis_title(bins, across.panel, across.panel + 0.6 * between, size)
    margins = Margins(
        left, right, between,
        above=0.0,
        below=ticks_height(bins, across.panel, size) + 0.04,
        axis_title=line_height(size, 1 + title.count("\n")) + 0.05,
        head=0.0,
        foot=legend.height,
    )  # fmt: skip
    grid = time_grid(
        list(layers), targets, across=across, margins=margins, width=width, panel=(PANEL[0] * size / 8, natural),
        lines=1 + note_lines,
    )  # fmt: skip
    return grid, legend, note_lines


def _label(ax: Axes, grid: TimeGrid, block: int, k: int, *, bins: TimeBins, metric: str, size: float) -> None:
    label_bins(ax, bins, panel=grid.across.panel, size=size)
    if grid.is_lowest(block, k):
        ax.set_xlabel(axis_title(bins, grid.across.panel, grid.across.panel + 0.6 * grid.margins.between, size))
    if grid.is_first(k):
        ax.set_ylabel(wrapped(METRIC_NAMES[metric], grid.panel + 0.6 * (grid.title + grid.margins.below), size))
    else:
        ax.tick_params(labelleft=False)
