"""The figure of best layers: how often each layer scores best in bootstrap resamples of the speakers."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from layerprobe.figures.layout.layer_axis import cell_width, centres, layer_labels_height, name_layers, overhang, span
from layerprobe.figures.layout.panels import EDGE, legend_below, panels_across, plan_legend, titles, titles_height
from layerprobe.figures.layout.style import (
    Look,
    StyledFigure,
    encoder_looks,
    lay_out,
    line_height,
    place,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import font_size, panel_height

HEIGHT, LEAST = 0.9, 0.3  # inches of a panel, and of the lowest one
IN_SET = "not significantly worse than the best (95 % set)"
NOT_IN_SET = "significantly worse"
Y_LABEL = "win rate"  # fraction of bootstrap resamples in which a layer scores best
OTHERS = 0.35  # opacity of layers outside the 95 % set


def plot_best_layer(table: pd.DataFrame, ax: Axes, *, layers: list[str], colour: Any) -> Axes:
    """Draw a bar per layer: the fraction of bootstrap resamples of the speakers in which it scores best.

    Layers of the 95 % set of best layers have the full colour, others are lighter.

    Args:
        table: rows ``layer, win_rate`` of one encoder and target, the rates adding up to 1, with or without a column
            ``in_best_set``; without it all bars have the full colour
        ax: axes to draw into
        layers: in order
        colour: of the bars
    """
    rows = table.set_index("layer").reindex(layers)
    rates = rows["win_rate"].fillna(0.0)
    bars = ax.bar(centres(layers), rates, width=0.8 * cell_width(layers), color=colour, linewidth=0)
    if "in_best_set" in rows:
        for bar, is_best in zip(bars, rows["in_best_set"].eq(True).fillna(False), strict=True):
            bar.set_alpha(1.0 if is_best else OTHERS)
    ax.set_xlim(span(layers))
    return ax


def best_layer_figure(
    table: pd.DataFrame,
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    looks: dict[str, Look] | None = None,
    width: float | None = None,
) -> Figure:
    """Return a figure with a panel per encoder and target, all on one scale, encoders below each other.

    Args:
        table: rows ``encoder, target, layer, win_rate``, with or without ``in_best_set``
        layers: layers of each encoder, in order; encoders without rows are left out
        targets: in order
        looks: colour and marker of each encoder; those of `encoder_looks` if None
        width: inches, or None for the natural width
    """
    looks, size = looks or encoder_looks(list(layers)), font_size(width)
    layers = {e: names for e, names in layers.items() if e in set(table["encoder"])}
    small = size - 1
    left = EDGE + line_height(size) + text_width("0.75", size) + 0.12
    right = overhang(layers.values(), small)
    across = panels_across(len(targets), width=width, left=left, right=right, natural=1.9, gap=0.22)
    names = titles(targets, across.panel, size + 1)
    encoders = {e: wrapped(e, across.all_width - left - EDGE, size + 1, bold=True) for e in layers}
    title, ticks = titles_height(names, size), {e: layer_labels_height(layers[e], across.panel, small) for e in layers}
    n_rows = -(-len(targets) // across.n_columns)
    head = line_height(size + 1, max(1 + name.count("\n") for name in encoders.values())) + 0.04
    entries = {}
    if "in_best_set" in table:
        entries = {IN_SET: Patch(color="0.3"), NOT_IN_SET: Patch(color="0.3", alpha=OTHERS)}
    legend = plan_legend(list(entries), space=across.all_width - 2 * EDGE, size=small)
    axis_label = wrapped("layer (0 enters the first block)", across.all_width - left - EDGE, size)
    others = [head + n_rows * (title + ticks[e]) + 0.08 for e in layers]
    foot = line_height(size, 1 + axis_label.count("\n")) + 0.04 + legend.height + 2 * EDGE
    bar = panel_height(HEIGHT * size / 8, least=LEAST, n_rows=n_rows * len(layers), others=sum(others) + foot)
    blocks = [other + n_rows * bar for other in others]
    height = EDGE + sum(blocks) + line_height(size, 1 + axis_label.count("\n")) + 0.04 + legend.height + EDGE
    highest = min(1.0, 1.05 * float(table["win_rate"].max()))
    with styled(width):
        figure = StyledFigure(figsize=(across.all_width, height))
        for i, (encoder, layer_names) in enumerate(layers.items()):
            top = EDGE + sum(blocks[:i])
            figure.text(
                left / across.all_width, 1 - top / height, encoders[encoder], va="top", fontsize=size + 1, weight="bold"
            )
            for k, target in enumerate(targets):
                row, column = divmod(k, across.n_columns)
                down = top + head + row * (title + bar + ticks[encoder]) + title
                ax = place(figure, across.at(column), down, across.panel, bar)
                rows = table[(table["encoder"] == encoder) & (table["target"] == target)]
                plot_best_layer(rows, ax, layers=layer_names, colour=looks[encoder].colour)
                ax.set_ylim(0, highest)
                ax.set_title(names[target], fontsize=size, weight="normal")
                name_layers(ax, layer_names, size=small)
                ax.tick_params(axis="y", labelsize=small, labelleft=column == 0)
                if column == 0:
                    ax.set_ylabel(Y_LABEL, fontsize=small)
        bottom = EDGE + legend.height + 0.02
        middle = (across.left + across.all_width) / 2 / across.all_width
        figure.text(middle, bottom / height, axis_label, ha="center", va="bottom")
        legend_below(figure, list(entries.values()), legend)
        return lay_out(figure)
