"""The figure of curves: scores over layers with their intervals, chance and baselines in the same axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from layerprobe.analysis.layers.scores import best_layer, score_range
from layerprobe.figures.layout.mark_ids import Mark, mark_id
from layerprobe.figures.layout.panels import (
    EDGE,
    legend_below,
    panels_across,
    plan_legend,
    titles,
    titles_height,
    unify_limits,
)
from layerprobe.figures.layout.side_labels import Label, label_lines, labels_height
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
from layerprobe.figures.layout.width import font_size, is_narrow, panel_height
from layerprobe.figures.plots.references import BASELINES, CEILINGS, is_chance
from layerprobe.probe.layer_names import FINAL, is_stack, relative_depth
from layerprobe.probe.metrics import LOWER_IS_BETTER, METRIC_NAMES

TRAINED, UNTRAINED, LEVEL, CEILING = "-", (0, (4, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5))  # all line styles
CHANCE = "0.75"
DEPTH = "relative depth"
MIX_AT = 1.05  # relative depth at which the score of a mix of all layers is placed
TICK, TICK_STEP = 2.6, 3.4  # points: the mark of a layer of the best set, and from one encoder's marks to the next
LABELS = 1.15  # inches for direct labels at labels of 8 points


@dataclass(frozen=True)
class Curve:
    """A line, band or mark with its direct label, where the label points to, and the colour of both."""

    text: str
    y: float
    colour: Any
    x: float


def plot_layer_curves(
    table: pd.DataFrame, ax: Axes, *, layers: dict[str, list[str]], looks: dict[str, Look], metric: str
) -> list[Curve]:
    """Draw one line per encoder over relative depth, with its interval as a ribbon, and what it is compared with.

    Lines are solid for encoders, dashed for their random initialisation, dotted for baselines and acoustic features,
    dash-dotted for the agreement of raters. Chance is a band. A diamond right of the layers is the weighted sum of all
    layers.
    Ticks under the axis mark the layers of the 95 % set of best layers of each encoder that is above chance.

    Args:
        table: rows of `figures.tables.curves_table` for one target: ``encoder, control, probe, baseline, layer, value,
            ci_low, ci_high, interval, fold_min, fold_max, draw_min, draw_max``, with or without ``in_best_set, chance``
        ax: axes to draw into
        layers: layers of each encoder, in order
        looks: colour and marker of each encoder
        metric: a key of `METRIC_NAMES`

    Returns:
        what direct labels name, from the encoders to the baselines
    """
    found = _chance_band(table, ax, metric=metric)
    n_marked = 0
    for encoder, names in layers.items():
        rows = table[table["encoder"] == encoder]
        real = rows[(rows["control"] == "none") & (rows["probe"] == "ridge")]
        if real.empty:
            continue
        if not is_stack(names):
            found.append(_features(real, ax, encoder, colour=looks[encoder].colour, metric=metric))
            continue
        found += _encoder(rows, ax, encoder, names=names, look=looks[encoder])
        if _best_layers(real, ax, names, colour=looks[encoder].colour, metric=metric, row=n_marked):
            n_marked += 1
    levels = table[table["baseline"] != ""].groupby("baseline")["value"].mean()
    for baseline, (_, name) in BASELINES.items():
        if baseline in levels and np.isfinite(levels[baseline]):
            style = CEILING if baseline in CEILINGS else LEVEL
            ax.axhline(levels[baseline], color="0.25", lw=1.0, ls=style, label=name)
            found.append(Curve(name, float(levels[baseline]), "0.25", 1.0))
    ax.axhline(0, color="0.85", lw=0.6, zorder=0)
    ax.set(xlabel=DEPTH, xticks=(0, 0.25, 0.5, 0.75, 1))
    ax.tick_params(axis="x", pad=3.5 + n_marked * TICK_STEP)
    return found


def _align_ticks(panels: list[Axes]) -> None:
    """Write the tick labels of all panels as far under the axis as the lowest."""
    n_marked = max(sum(line.get_gid() == "best-set" for line in ax.lines) for ax in panels)
    for ax in panels:
        ax.tick_params(axis="x", pad=3.5 + n_marked * TICK_STEP)


def _chance_band(table: pd.DataFrame, ax: Axes, *, metric: str) -> list[Curve]:
    """Draw the band from the lowest score on permuted ratings to the chance level, the highest of all encoders."""
    permuted = table[table["control"].isin(["permuted_by_speaker", "permuted"])]
    levels = table["chance"].dropna() if "chance" in table else permuted["draw_max"].dropna()
    if permuted.empty or levels.empty:
        return []
    if metric in LOWER_IS_BETTER:
        low, high = float(levels.min()), float(permuted["draw_max"].max())
    else:
        low, high = float(permuted["draw_min"].min()), float(levels.max())
    ax.axhspan(low, high, color=CHANCE, alpha=0.5, linewidth=0, zorder=0, label="chance")
    return [Curve("chance", (low + high) / 2, "0.35", 1.0)]


def _encoder(rows: pd.DataFrame, ax: Axes, encoder: str, *, names: list[str], look: Look) -> list[Curve]:
    """Draw an encoder's scores, those with random initialisation, and the score of its weighted sum."""
    colour, marker = look
    depth, probe = relative_depth(names), rows["probe"] == "ridge"
    real, untrained = (
        rows[probe & (rows["control"] == control)].set_index("layer").reindex(names)
        for control in ("none", "random_init")
    )
    for k, (name, x, y) in enumerate(zip(names, depth, real["value"], strict=True)):
        (point,) = ax.plot(
            x, y, color=colour, marker=marker, markersize=3, ls="", fillstyle="none" if name == FINAL else "full"
        )
        target = str(real["target"].dropna().iloc[0]) if "target" in real else ""
        point.set_gid(mark_id("point", k, Mark(encoder, "none", target, name)))
    if names[-1] == FINAL:  # separate: it is the last block again, after the final norm
        depth, real, untrained = depth[:-1], real.iloc[:-1], untrained.iloc[:-1]
    low, high, interval = score_range(real)
    ax.fill_between(depth, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(depth, real["value"], color=colour, ls=TRAINED, lw=1.3, label=f"{encoder} (ribbon: {interval})")
    curves = [Curve(encoder, float(real["value"].iloc[-1]), colour, float(depth[-1]))]
    if untrained["value"].notna().any():
        ax.plot(depth, untrained["value"], color=colour, ls=UNTRAINED, lw=1, label=f"{encoder}, random initialisation")
        curves.append(Curve("random init.", float(untrained["value"].iloc[-1]), colour, float(depth[-1])))
    mix = rows[(rows["control"] == "none") & (rows["probe"] == "weighted_sum")]["value"].dropna()
    if len(mix):
        ax.plot(MIX_AT, mix.iloc[0], color=colour, marker="D", markersize=3.5, ls="", label=f"{encoder}, weighted sum")
    return curves


def _features(rows: pd.DataFrame, ax: Axes, encoder: str, *, colour: Any, metric: str) -> Curve:
    """Draw features without depth as one horizontal line at the score of the best feature."""
    scores = rows.set_index("layer")["value"]
    best = best_layer(scores, metric=metric)
    ax.axhline(scores[best], color=colour, lw=1.2, ls=LEVEL, label=f"{encoder}, best feature")
    return Curve(f"{encoder}: best feature", float(scores[best]), colour, 1.0)


def _best_layers(rows: pd.DataFrame, ax: Axes, names: list[str], *, colour: Any, metric: str, row: int) -> bool:
    """Mark the 95 % set of best layers by ticks under the axis; return whether there is one above chance."""
    if "in_best_set" not in rows or is_chance(rows, metric=metric).all():
        return False
    chosen = set(rows.loc[rows["in_best_set"].eq(True).fillna(False), "layer"])
    x = [float(d) for name, d in zip(names, relative_depth(names), strict=True) if name in chosen]
    if not x:
        return False
    figure = ax.figure
    down = ScaledTranslation(0, -(3.2 + row * TICK_STEP) / 72, figure.dpi_scale_trans)
    ax.plot(
        x, np.zeros(len(x)), color=colour, marker="|", markersize=TICK, markeredgewidth=1.4, ls="", clip_on=False,
        transform=blended_transform_factory(ax.transData, ax.transAxes) + down, gid="best-set",
    )  # fmt: skip
    return True


def curves_figure(
    table: pd.DataFrame,
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    metric: str,
    looks: dict[str, Look] | None = None,
    width: float | None = None,
) -> Figure:
    """Return a figure with a panel per target, all on one scale; lines are labelled at the right of each row.

    Args:
        table: as `plot_layer_curves` takes it, with a column ``target``
        layers: layers of each encoder, in order
        targets: in order
        metric: a key of `METRIC_NAMES`
        looks: colour and marker of each encoder; those of `encoder_looks` if None
        width: inches, or None for the natural width
    """
    looks, size = looks or encoder_looks(list(layers)), font_size(width)
    small = size - 1
    left = EDGE + line_height(size) + text_width("−0.25", size) + 0.12
    space = LABELS * small / 7 * (0.8 if is_narrow(width) else 1.0)
    across = panels_across(len(targets), width=width, left=left, right=space, natural=1.9, least=0.9)
    names = titles(targets, across.panel, size + 1)
    with styled(width):
        figure = StyledFigure(figsize=(across.all_width, 3))
        panels, curves = [figure.add_axes((0, 0, 1, 1)) for _ in targets], []
        entries: dict[str, Any] = {}
        for ax, target in zip(panels, targets, strict=True):
            rows = table[table["target"] == target]
            curves.append(plot_layer_curves(rows, ax, layers=layers, looks=looks, metric=metric))
            ax.set_title(names[target])
            ax.set_xlabel(DEPTH if text_width(DEPTH, size) < across.panel else "rel. depth")
            if across.panel < 1.8 * size / 8:
                ax.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        shown_in = _labelled(len(targets), across.n_columns)
        labels = [_labels(curves[k], space - 0.22, small) for k in shown_in]
        height = max(float(np.clip(0.95 * across.panel, 1.2, 2.2)), *(labels_height(part, small) for part in labels))
        entries = _entries(panels, layers, colour=looks[next(iter(layers))].colour, lacking=_lacking(curves, shown_in))
        unify_limits(panels)
        _align_ticks(panels)
        legend = plan_legend(list(entries), space=across.all_width - 2 * EDGE, size=small)
        ticks = max(len(layers) * TICK_STEP / 72, 0.0)
        title, below = titles_height(names, size + 1), 2 * line_height(size) + 0.14 + ticks
        n_rows = -(-len(targets) // across.n_columns)
        least = max(0.6, *(labels_height(part, small) for part in labels))
        others = n_rows * (title + below) + legend.height + 2 * EDGE
        height = panel_height(height, least=least, n_rows=n_rows, others=others)
        figure.set_size_inches(across.all_width, EDGE + n_rows * (title + height + below) + legend.height + EDGE)
        for k, ax in enumerate(panels):
            row, column = divmod(k, across.n_columns)
            move(ax, across.at(column), EDGE + row * (title + height + below) + title, across.panel, height)
            ax.tick_params(labelleft=column == 0)
            if column == 0:
                ax.set_ylabel(wrapped(METRIC_NAMES[metric], height + 0.6 * (title + below), size))
        for k, part in zip(shown_in, labels, strict=True):
            label_lines(panels[k], part, size=small)
        legend_below(figure, list(entries.values()), legend)
        return lay_out(figure)


def _labelled(n: int, n_columns: int) -> list[int]:
    """Return the panels at the right end of each row."""
    return sorted({min(k + n_columns, n) - 1 for k in range(0, n, n_columns)})


def _labels(curves: list[Curve], space: float, size: float) -> list[Label]:
    """Return the direct labels of a panel, broken into lines of at most ``space`` inches."""
    return [Label(wrapped(curve.text, space, size), curve.x, curve.y, curve.colour) for curve in curves]


def _lacking(curves: list[list[Curve]], shown_in: list[int]) -> set[str]:
    """Return the texts of lines that no labelled panel has."""
    shown = {curve.text for k in shown_in for curve in curves[k]}
    return {curve.text for part in curves for curve in part} - shown


def _entries(panels: list[Axes], layers: dict[str, list[str]], *, colour: Any, lacking: set[str]) -> dict[str, Any]:
    """Return what the legend explains: ribbons and marks, and lines that have no direct label."""
    found: dict[str, Any] = {}
    handles = {label: handle for ax in panels for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    for label, handle in handles.items():
        name = label.split(" (ribbon")[0]
        if name in lacking or name.replace(", best", ": best") in lacking:
            found[name] = handle
    interval = next((label.split("ribbon: ")[1].rstrip(")") for label in handles if "ribbon: " in label), None)
    if interval is not None:
        found[f"ribbon: {interval}"] = Line2D([], [], color=colour, lw=5, alpha=0.25)
    if any(label.endswith(", weighted sum") for label in handles):
        found["weighted sum of all layers"] = Line2D([], [], color="0.3", marker="D", markersize=3.5, ls="")
    if any(line.get_gid() == "best-set" for ax in panels for line in ax.lines):
        found["95 % set of best layers"] = Line2D([], [], color="0.3", marker="|", markersize=5, ls="")
    if any(names[-1] == FINAL for names in layers.values()):
        found["final (after the final norm)"] = Line2D(
            [], [], color="0.3", marker="o", markersize=3, fillstyle="none", ls=""
        )
    return found
