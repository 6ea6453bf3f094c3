"""Scores over layers, with their intervals and the controls in the same axes."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.relevance import BASELINE, FINAL, METRIC_NAMES, best_layer, is_stack, relative_depth
from figures.style import STYLE, encoder_colours

PERMUTED = "0.55"
BASELINES = {  # control of the baseline's rows: how the line is called, and its dashes
    "single_rater": ("one rater against the others", (0, (1, 1))),
    "text_only": ("the transcript's words alone", (0, (6, 2))),
    "duration_loudness": ("duration and loudness alone", (0, (3, 1, 1, 1, 1, 1))),
}


def plot_layer_curves(
    table: pd.DataFrame, ax: Axes, *, layers: dict[str, list[str]], colours: dict[str, Any], metric: str
) -> Axes:
    """One line per encoder over relative depth; the range of its scores as a ribbon, its controls thinner.

    Args:
        table: rows of `analysis.relevance.with_intervals` for one target
        ax: where to draw
        layers: for each encoder its layers in order
        colours: for each encoder
        metric: a key of `METRIC_NAMES`
    """
    for encoder, names in layers.items():
        if not is_stack(names):
            _level(table, ax, encoder, colour=colours[encoder], metric=metric)
            continue
        depth, colour = relative_depth(names), colours[encoder]

        def of(control: str, encoder: str = encoder, names: list[str] = names) -> pd.DataFrame:
            rows = table[(table["encoder"] == encoder) & (table["control"] == control) & (table["probe"] == "ridge")]
            return rows.set_index("layer").reindex(names)

        if names[-1] == FINAL:  # stands apart: it is the last block again, normalised
            last = of("none").iloc[-1]
            ax.plot(depth[-1], last["value"], color=colour, marker="o", markersize=4, fillstyle="none")
            depth, names = depth[:-1], names[:-1]
        real, untrained, permuted = (of(c, names=names) for c in ("none", "random_init", "permuted"))
        spread = str(real["spread"].dropna().iloc[0])
        ax.fill_between(depth, real["lowest"], real["highest"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(depth, real["value"], color=colour, marker="o", markersize=3, label=f"{encoder} (ribbon: {spread})")
        if untrained["value"].notna().any():
            ax.plot(depth, untrained["value"], color=colour, ls="--", lw=1, label=f"{encoder}, random weights")
        if permuted["value"].notna().any():
            first = encoder == next(iter(layers))
            label = "permuted ratings (band: permutations)" if first else None
            ax.fill_between(
                depth, permuted["seed_lowest"], permuted["seed_highest"], color=PERMUTED, alpha=0.2, linewidth=0
            )
            ax.plot(depth, permuted["value"], color=PERMUTED, ls=":", lw=1, label=label)
        mix = table[(table["encoder"] == encoder) & (table["control"] == "none") & (table["probe"] == "weighted_sum")]
        for value in mix["value"]:
            ax.axhline(value, color=colour, lw=0.8, ls="-.", alpha=0.7, label=f"{encoder}, weighted sum of layers")
    levels = table[table["encoder"] == BASELINE].groupby("control")["value"].mean()
    for control, (name, dashes) in BASELINES.items():
        if control in levels and np.isfinite(levels[control]):
            ax.axhline(levels[control], color="0.35", lw=0.9, ls=dashes, label=name)
    ax.axhline(0, color="0.8", lw=0.6, zorder=0)
    ax.set(xlabel="relative depth", xticks=(0, 0.25, 0.5, 0.75, 1))
    return ax


def _level(table: pd.DataFrame, ax: Axes, encoder: str, *, colour: Any, metric: str) -> None:
    """Features without depth as one line: what the best of them reaches."""
    rows = table[(table["encoder"] == encoder) & (table["control"] == "none") & (table["probe"] == "ridge")]
    scores = rows.set_index("layer")["value"]
    label = f"{encoder}, its best feature"
    ax.axhline(scores[best_layer(scores, metric=metric)], color=colour, lw=1.2, ls=(0, (5, 1, 1, 1)), label=label)


def curves_figure(table: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str], metric: str) -> Figure:
    """A panel per target with one scale; arguments as in `figures.heatmap.heatmap_figure`."""
    colours = encoder_colours(list(layers))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(3.4, 2.4 * len(targets)), 3.2), layout="constrained")
        panels = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
        for ax, target in zip(panels, targets, strict=True):
            plot_layer_curves(table[table["target"] == target], ax, layers=layers, colours=colours, metric=metric)
            ax.set_title(target.replace("_", " "))
        panels[0].set_ylabel(METRIC_NAMES[metric])
        handles, labels = panels[0].get_legend_handles_labels()
        if any(names[-1] == FINAL for names in layers.values()):
            handles.append(Line2D([], [], color="0.3", marker="o", markersize=4, fillstyle="none", ls=""))
            labels.append("final (after the final norm)")
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7)
    return figure
