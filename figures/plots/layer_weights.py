"""The figure of layer weights: weights of the weighted sum, contributions, and the score of each layer alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.layers.weights import SINGLE
from layerprobe.figures.layout.layer_axis import centres, common_span, name_layers, overhang
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
from layerprobe.figures.layout.width import font_size, panel_height
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.metrics import METRIC_NAMES

QUANTITIES = ("weight", "contribution", "score")  # from the top
HEIGHT, LEAST, GAP = 0.8, 0.35, 0.1  # inches of a small plot, of the lowest one, and between two


def plot_layer_weights(
    table: pd.DataFrame,
    ax: Axes,
    *,
    layers: dict[str, list[str]],
    looks: dict[str, Look],
    quantity: str,
    fits: pd.DataFrame | None = None,
) -> Axes:
    """Draw one quantity as a point per layer; weights with their 95 % interval, and the uniform weight as a line.

    Pale points are the single fits: one for each fold and seed.

    Weights and contributions of several encoders are divided by the uniform weight, one over the number of layers.

    Args:
        table: rows ``encoder, layer, weight, weight_low, weight_high, contribution, score`` of one target; the
            interval may be NaN
        ax: axes to draw into
        layers: layers of each encoder, in order
        looks: colour and marker of each encoder
        quantity: one of `QUANTITIES`
        fits: rows ``encoder, layer, weight, contribution`` of the same target, one for each fold and seed, or None
    """
    for encoder, names in layers.items():
        rows = table[table["encoder"] == encoder].set_index("layer").reindex(names)
        uniform = 1 / sum(name != FINAL for name in names)  # final has no weight: the mix ends at the last block
        unit = uniform if len(layers) > 1 and quantity != "score" else 1.0
        x, y = centres(names), rows[quantity].to_numpy(dtype=float) / unit
        n_joined = len(names) - (names[-1] == FINAL)  # final is the last block again, after the final norm
        colour, marker = looks[encoder]
        if fits is not None and quantity in fits:
            of_encoder = fits[(fits["encoder"] == encoder) & fits["layer"].isin(names)]
            at = of_encoder["layer"].map(dict(zip(names, x, strict=True))).to_numpy(dtype=float)
            values = of_encoder[quantity].to_numpy(dtype=float) / unit
            ax.plot(at, values, color=colour, ls="", marker=".", markersize=2, alpha=0.35, gid="fits", zorder=1)
        ax.plot(x[:n_joined], y[:n_joined], color=colour, lw=0.8, marker=marker, markersize=2.5, label=encoder)
        ax.plot(x[n_joined:], y[n_joined:], color=colour, ls="", marker=marker, markersize=2.5, fillstyle="none")
        if quantity == "weight":
            low, high = (rows[f"weight_{end}"].to_numpy(dtype=float) / unit for end in ("low", "high"))
            known = np.isfinite(low) & np.isfinite(high)
            ax.vlines(x[known], low[known], high[known], color=colour, lw=0.8, alpha=0.6)
            ax.axhline(uniform / unit, color=colour if unit == 1 else "0.4", lw=0.7, ls=(0, (4, 2)), alpha=0.8)
    if quantity == "score":
        ax.axhline(0, color="0.8", lw=0.6, zorder=0)
    else:
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.set_xlim(common_span(list(layers.values())))
    return ax


def layer_weights_figure(
    table: pd.DataFrame,
    fits: pd.DataFrame | None = None,
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    metric: str,
    looks: dict[str, Look] | None = None,
    width: float | None = None,
) -> Figure:
    """Return a figure with three panels per target: layer weights, contributions, and the score of each layer alone.

    A weight is no score: which of several alike layers has it depends on the training speakers, as its interval shows.
    Where one layer has nearly all of a target's weight, a note below states that it was selected. Weights and
    contributions are fractions of the sum over layers and have one scale; scores have another; scales are the same for
    all targets.

    Args:
        table: rows ``encoder, probe, target, layer, weight, weight_low, weight_high, contribution, score`` of one
            probe
        fits: rows ``encoder, control, probe, target, fold, seed, layer, weight, contribution`` of all fits, or None;
            those of the table's probe on the real ratings are pale points
        layers: layers of each encoder, in order
        targets: in order
        metric: a key of `METRIC_NAMES`, of the scores
        looks: colour and marker of each encoder; those of `encoder_looks` if None
        width: inches, or None for the natural width
    """
    looks, size = looks or encoder_looks(list(layers)), font_size(width)
    if fits is not None:
        fits = fits[(fits["control"] == "none") & fits["probe"].isin(set(table["probe"]))]
    left = EDGE + line_height(size, 3) + text_width("−0.25", size) + 0.12
    right = overhang(layers.values(), size) if len(layers) == 1 else 0.0  # several have an axis of depth
    across = panels_across(len(targets), width=width, left=left, right=right, natural=1.9, gap=0.22)
    names = titles(targets, across.panel, size + 1)
    title, small = titles_height(names, size + 1), size - 1
    n_blocks = -(-len(targets) // across.n_columns)
    entries: dict[str, Line2D] = {}
    if fits is not None and len(fits):
        entries["one fit (fold and seed)"] = Line2D([], [], color="0.4", marker=".", markersize=2, alpha=0.5, ls="")
    entries |= {"uniform weights": Line2D([], [], color="0.4", lw=0.8, ls=(0, (4, 2)))}
    if table["weight_low"].notna().any():
        entries["95 % interval over training speakers (jackknife)"] = Line2D(
            [], [], color="0.4", marker="|", markersize=8, ls=""
        )
    if any(layer_names[-1] == FINAL for layer_names in layers.values()):
        entries["final (after the final norm)"] = Line2D(
            [], [], color="0.4", marker="o", markersize=2.5, fillstyle="none", ls=""
        )
    entries |= {note: Line2D([], [], ls="") for note in _notes(table, targets)}
    if len(layers) > 1:
        lines = {
            e: Line2D([], [], color=looks[e].colour, lw=0.8, marker=looks[e].marker, markersize=2.5) for e in layers
        }
        entries = {**lines, **entries}
    legend = plan_legend(list(entries), space=across.all_width - 2 * EDGE, size=small)
    around = title + len(QUANTITIES) * GAP + line_height(small) + line_height(size) + 0.14
    n_plots, others = n_blocks * len(QUANTITIES), n_blocks * around + legend.height + 2 * EDGE
    height = panel_height(HEIGHT * size / 8, least=LEAST, n_rows=n_plots, others=others)
    block = around + len(QUANTITIES) * height
    with styled(width):
        figure = StyledFigure(figsize=(across.all_width, EDGE + n_blocks * block + legend.height + EDGE))
        panels: dict[str, list[Axes]] = {quantity: [] for quantity in QUANTITIES}
        for k, target in enumerate(targets):
            row, column = divmod(k, across.n_columns)
            rows = table[table["target"] == target]
            own = None if fits is None else fits[fits["target"] == target]
            for j, quantity in enumerate(QUANTITIES):
                ax = figure.add_axes((0, 0, 1, 1))
                top = EDGE + row * block + title + j * (height + GAP)
                move(ax, across.at(column), top, across.panel, height)
                plot_layer_weights(rows, ax, layers=layers, looks=looks, quantity=quantity, fits=own)
                last = j == len(QUANTITIES) - 1
                label_layers(ax, layers, size=small, labelled=last)
                ax.tick_params(axis="y", labelsize=small, labelleft=column == 0)
                if j == 0:
                    ax.set_title(names[target])
                if column == 0:
                    label = METRIC_NAMES[metric] if quantity == "score" else quantity
                    label += " × layers" if len(layers) > 1 and quantity != "score" else ""
                    ax.set_ylabel(wrapped(label, height + GAP, small), fontsize=small)
                panels[quantity].append(ax)
        unify_limits(panels["weight"] + panels["contribution"])
        unify_limits(panels["score"])
        for axes in panels.values():
            figure.align_ylabels(axes[:: across.n_columns])
        legend_below(figure, list(entries.values()), legend)
        return lay_out(figure)


def _notes(table: pd.DataFrame, targets: list[str]) -> list[str]:
    """Return a sentence about the targets for which one layer has nearly all the weight, if there are any."""
    single = set(table.loc[table["weight"] > SINGLE, "target"])
    names = [shown_name(target) for target in targets if target in single]
    if not names:
        return []
    shown = ", ".join(names)
    return [f"one layer has over {SINGLE:g} of the weight for {shown}: it was selected, others were not measured"]


def label_layers(ax: Axes, layers: dict[str, list[str]], *, size: float, labelled: bool) -> None:
    """Label the layers of one encoder, or the relative depth of several; draw only ticks if not ``labelled``."""
    if len(layers) == 1:
        name_layers(ax, next(iter(layers.values())), size=size)
        ax.tick_params(axis="x", length=2)
    else:
        ax.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        ax.tick_params(axis="x", length=2, labelsize=size)
    ax.tick_params(axis="x", labelbottom=labelled)
    if labelled:
        ax.set_xlabel("layer" if len(layers) == 1 else "relative depth")
