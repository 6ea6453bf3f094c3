"""The figure of curves: scores over layers with their intervals, and the controls in the same axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprobe.analysis.layers.scores import best_layer, score_range
from layerprobe.figures.layout.panels import (
    EDGE,
    legend_below,
    panels_across,
    plan_legend,
    titles,
    titles_height,
    unify_limits,
)
from layerprobe.figures.layout.style import (
    Look,
    StyledFigure,
    encoder_looks,
    lay_out,
    line_height,
    move,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import font_size
from layerprobe.probe.layer_names import FINAL, is_stack, relative_depth
from layerprobe.probe.metrics import METRIC_NAMES

PERMUTED = "0.55"
PERMUTATIONS = {  # the first that a run has is the chance level
    "permuted_by_speaker": "ratings permuted by speaker (band: permutations)",
    "permuted": "permuted ratings (band: permutations)",
}
BASELINES = {  # label and dashes of each baseline
    "noise_ceiling": ("noise ceiling, √ICC(1, k)", (0, (8, 1))),
    "single_rater": ("one rater against the others", (0, (1, 1))),
    "text_only": ("text baseline (bag of words)", (0, (6, 2))),
    "duration_loudness": ("duration and loudness only", (0, (3, 1, 1, 1, 1, 1))),
}


def plot_layer_curves(
    table: pd.DataFrame, ax: Axes, *, layers: dict[str, list[str]], looks: dict[str, Look], metric: str
) -> Axes:
    """Draw one line per encoder over relative depth, with its interval as a ribbon and its controls as thinner lines.

    Args:
        table: rows of `analysis.layers.scores.with_intervals` for one target: ``encoder, control, probe, baseline,
            layer, value, ci_low, ci_high, interval, fold_min, fold_max, draw_min, draw_max``
        ax: axes to draw into
        layers: layers of each encoder, in order
        looks: colour and marker of each encoder
        metric: a key of `METRIC_NAMES`
    """
    for encoder, names in layers.items():
        if not is_stack(names):
            _level(table, ax, encoder, colour=looks[encoder].colour, metric=metric)
            continue
        depth, (colour, marker) = relative_depth(names), looks[encoder]

        def of(control: str, encoder: str = encoder, names: list[str] = names) -> pd.DataFrame:
            rows = table[(table["encoder"] == encoder) & (table["control"] == control) & (table["probe"] == "ridge")]
            return rows.set_index("layer").reindex(names)

        if names[-1] == FINAL:  # separate: it is the last block again, after the final norm
            last = of("none").iloc[-1]
            ax.plot(depth[-1], last["value"], color=colour, marker=marker, markersize=4, fillstyle="none")
            depth, names = depth[:-1], names[:-1]
        real, untrained = (of(c, names=names) for c in ("none", "random_init"))
        low, high, name = score_range(real)
        ax.fill_between(depth, low, high, color=colour, alpha=0.15, linewidth=0)
        label = f"{encoder} (ribbon: {name})"
        ax.plot(depth, real["value"], color=colour, marker=marker, markersize=3, label=label)
        if untrained["value"].notna().any():
            ax.plot(depth, untrained["value"], color=colour, ls="--", lw=1, label=f"{encoder}, random weights")
        chance = next((c for c in PERMUTATIONS if of(c, names=names)["value"].notna().any()), None)
        if chance is not None:
            permuted, label = of(chance, names=names), PERMUTATIONS[chance]
            ax.fill_between(depth, permuted["draw_min"], permuted["draw_max"], color=PERMUTED, alpha=0.2, linewidth=0)
            has_label = label in ax.get_legend_handles_labels()[1]
            ax.plot(depth, permuted["value"], color=PERMUTED, ls=":", lw=1, label=None if has_label else label)
        mix = table[(table["encoder"] == encoder) & (table["control"] == "none") & (table["probe"] == "weighted_sum")]
        for value in mix["value"]:
            ax.axhline(value, color=colour, lw=0.8, ls="-.", alpha=0.7, label=f"{encoder}, weighted sum of layers")
    levels = table[table["baseline"] != ""].groupby("baseline")["value"].mean()
    for control, (name, dashes) in BASELINES.items():
        if control in levels and np.isfinite(levels[control]):
            ax.axhline(levels[control], color="0.35", lw=0.9, ls=dashes, label=name)
    ax.axhline(0, color="0.8", lw=0.6, zorder=0)
    ax.set(xlabel="relative depth", xticks=(0, 0.25, 0.5, 0.75, 1))
    return ax


def _level(table: pd.DataFrame, ax: Axes, encoder: str, *, colour: Any, metric: str) -> None:
    """Draw features without depth as one horizontal line at the score of the best feature."""
    rows = table[(table["encoder"] == encoder) & (table["control"] == "none") & (table["probe"] == "ridge")]
    scores = rows.set_index("layer")["value"]
    label = f"{encoder}, best feature"
    ax.axhline(scores[best_layer(scores, metric=metric)], color=colour, lw=1.2, ls=(0, (5, 1, 1, 1)), label=label)


def curves_figure(
    table: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str], metric: str, width: float | None = None
) -> Figure:
    """Return a figure with a panel per target, all on one scale, at most four a row.

    Args:
        table: as `plot_layer_curves` takes it, with a column ``target``
        layers: layers of each encoder, in order
        targets: in order
        metric: a key of `METRIC_NAMES`
        width: inches, or None for the natural width
    """
    looks, size = encoder_looks(list(layers)), font_size(width)
    left = EDGE + line_height(size) + text_width("−0.25", size) + 0.12
    across = panels_across(len(targets), width=width, left=left, natural=2.1)
    names = titles(targets, across.panel, size + 1)
    height = float(np.clip(0.9 * across.panel, 1.3, 2.2))
    with styled(width):
        figure = StyledFigure()
        panels = [figure.add_axes((0, 0, 1, 1)) for _ in targets]
        entries: dict[str, Any] = {}
        for k, (ax, target) in enumerate(zip(panels, targets, strict=True)):
            plot_layer_curves(table[table["target"] == target], ax, layers=layers, looks=looks, metric=metric)
            ax.set_title(names[target])
            if across.panel < 1.8:
                ax.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
            ax.tick_params(labelleft=k % across.n_columns == 0)
            handles, labels = ax.get_legend_handles_labels()
            entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
        if any(layer_names[-1] == FINAL for layer_names in layers.values()):
            entries["final (after the final norm)"] = Line2D(
                [], [], color="0.3", marker="o", markersize=4, fillstyle="none", ls=""
            )
        unify_limits(panels)
        legend = plan_legend(list(entries), space=across.all_width - 2 * EDGE, size=size - 1)
        title, below = titles_height(names, size + 1), 2 * line_height(size) + 0.14
        n_rows = -(-len(targets) // across.n_columns)
        figure.set_size_inches(across.all_width, EDGE + n_rows * (title + height + below) + legend.height + EDGE)
        for k, ax in enumerate(panels):
            row, column = divmod(k, across.n_columns)
            move(ax, across.at(column), EDGE + row * (title + height + below) + title, across.panel, height)
            if column == 0:
                ax.set_ylabel(wrapped(METRIC_NAMES[metric], height, size))
        legend_below(figure, list(entries.values()), legend)
        return lay_out(figure)
