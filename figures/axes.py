"""One target of one encoder, plotted into axes of the user: a panel of each figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Text

from layerprobe.analysis.formatting import concept_text, shown_name
from layerprobe.analysis.layers.encoder_gains import EncoderPair
from layerprobe.analysis.study import Study
from layerprobe.analysis.time.bins import KINDS
from layerprobe.figures.draw import select
from layerprobe.figures.layout.layer_axis import name_layers
from layerprobe.figures.layout.mark import mark_axes
from layerprobe.figures.layout.style import encoder_colours, encoder_looks, size_in_inches
from layerprobe.figures.layout.time_axis import label_bins
from layerprobe.figures.plots.best_layer_frequency import Y_LABEL, plot_best_layer
from layerprobe.figures.plots.cost import cost_limits, plot_cost, ring_cheapest
from layerprobe.figures.plots.curves import plot_layer_curves
from layerprobe.figures.plots.depth import DEPTH_AXIS, plot_depth
from layerprobe.figures.plots.erasure import plot_erasure
from layerprobe.figures.plots.gain import gain_limits, plot_gain
from layerprobe.figures.plots.heatmap import (
    CONDENSED,
    CONTROL_NAMES,
    CONTROLS,
    cell_order,
    check_controls,
    plot_layer_heatmap,
    score_scale,
)
from layerprobe.figures.plots.layer_weights import label_layers, plot_layer_weights
from layerprobe.figures.plots.references import reference_scores
from layerprobe.figures.plots.similarity import plot_similarity
from layerprobe.figures.plots.time_curve import plot_time_curve
from layerprobe.figures.plots.time_map import label_rows, plot_time_map
from layerprobe.figures.tables import TABLES, NothingToPlotError, check_known_cost, encoder_gain_table
from layerprobe.figures.time_tables import time_bins
from layerprobe.probe.cost.settings import COSTS
from layerprobe.probe.metrics import METRIC_NAMES
from layerprobe.probe.results.pending import pending_label


def draw_panel(
    figure: str,
    study: Study,
    ax: Axes,
    *,
    target: str | None = None,
    encoder: str | None = None,
    controls: str = CONDENSED,
    pairs: Sequence[EncoderPair] | None = None,
) -> Axes:
    """Plot one target of one encoder into given axes, with the fonts that are set for these axes, and return them.

    Args:
        figure: a key of `PANELS`
        study: of one or several runs
        ax: axes with their final position and size, which decide whether cells show their values
        target: the first of the study if None
        encoder: the first of the study if None
        controls: rows of the heatmap, a key of `figures.plots.heatmap.CONTROLS`; of no other figure
        pairs: encoders of the figure gain, each with its reference, of which the first is plotted; of no other figure

    Raises:
        InputError: if the study has no such target or encoder, or ``controls`` is unknown
        NothingToPlotError: if the study lacks what the figure shows
    """
    selection = select(study, target=target, encoder=encoder)
    target = target or (selection.targets[0] if selection.targets else "")
    encoder = encoder or next(iter(selection.layers))
    check_controls(controls)
    if figure == "heatmap":
        _heatmap_panel(study, ax, target, encoder, controls)
    elif figure == "gain":
        _gain_panel(study, ax, target, encoder, pairs)
    else:
        PANELS[figure](study, ax, target, encoder)
    if label := pending_label(run.plan for run in study.runs):
        mark_axes(ax, label)
    for text in cast(list[Text], ax.findobj(Text)):
        text.set_parse_math(False)  # names of users may hold a dollar
    return ax


def _rows(figure: str, study: Study, target: str, encoder: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all rows of a figure, and those of one target and encoder.

    Raises:
        NothingToPlotError: if these have none
    """
    table = TABLES[figure](study)
    rows = table[(table["target"] == target) & (table["encoder"] == encoder)].reset_index(drop=True)
    if rows.empty:
        raise NothingToPlotError(
            "LP656",
            f"The run has no results of {target!r} and {encoder!r} for the figure {figure}. "
            "Choose another target or encoder.",
        )
    return table, rows


def _heatmap_panel(study: Study, ax: Axes, target: str, encoder: str, controls: str = CONDENSED) -> None:
    table, rows = _rows("heatmap", study, target, encoder)
    cells = cell_order(table, layers=study.layers, targets=study.targets, controls=controls)
    references = reference_scores(table, layers=study.layers, targets=study.targets, metric=study.metric)
    scale = score_scale(pd.concat([cells["value"], references["value"]]).dropna(), metric=study.metric)
    plot_layer_heatmap(
        rows, ax, layers=study.layers[encoder], targets=[target], metric=study.metric, limits=scale.limits,
        controls=controls,
    )  # fmt: skip
    for text in list(ax.texts):
        if text.get_text() in CONTROL_NAMES.values():
            text.remove()  # with one target, controls are labels of rows and not headings
    names = [CONTROL_NAMES[c] for c in CONTROLS[controls] if c in set(rows["control"]) - {"none"}]
    ax.set_yticks(ax.get_yticks(), [shown_name(target), *names])
    ax.set_xlabel("layer")
    ax.set_title(f"{encoder}: {METRIC_NAMES[study.metric]}")


def _curves_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    table, _ = _rows("curves", study, target, encoder)
    rows = table[(table["target"] == target) & table["encoder"].isin([encoder, ""])]
    layers = {encoder: study.layers[encoder]}
    plot_layer_curves(rows, ax, layers=layers, looks=encoder_looks(list(study.layers)), metric=study.metric)
    ax.set_ylabel(METRIC_NAMES[study.metric])
    ax.set_title(shown_name(target))


def _gain_over_random_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    table, rows = _rows("gain-over-random", study, target, encoder)
    limits = gain_limits(cell_order(table, layers=study.layers, targets=study.targets))
    plot_gain(rows, ax, layers=study.layers[encoder], targets=[target], limits=limits)
    ax.set_xlabel("layer")
    ax.set_title(f"{encoder}: gain in {METRIC_NAMES[study.metric]}")


def _gain_panel(study: Study, ax: Axes, target: str, encoder: str, pairs: Sequence[EncoderPair] | None = None) -> None:
    """Plot the gain of an encoder, or of the first one that has a reference."""
    table = encoder_gain_table(study, pairs)
    shown = encoder if encoder in set(table["encoder"]) else table["encoder"].iloc[0]
    gains = table[(table["measure"] == "gain") & (table["encoder"] == shown)]
    rows = gains[gains["target"] == target].reset_index(drop=True)
    (encoder, reference), layers = gains[["encoder", "reference"]].iloc[0], list(gains["layer"].unique())
    plot_gain(rows, ax, layers=layers, targets=[target], limits=gain_limits(gains))
    ax.set_xlabel("layer")
    ax.set_title(f"{encoder}: gain over {reference} in {METRIC_NAMES[study.metric]}")


def _layer_weights_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    _, rows = _rows("layer-weights", study, target, encoder)
    layers = {encoder: study.layers[encoder]}
    for quantity, look in encoder_looks(["weight", "contribution"]).items():
        before = len(ax.lines)
        plot_layer_weights(rows, ax, layers=layers, looks={encoder: look}, quantity=quantity)
        ax.lines[before].set_label(quantity)
    label_layers(ax, layers, size=_tick_size(ax), labelled=True)
    ax.set_ylabel("fraction of the sum over layers")
    ax.set_title(shown_name(target))


def _depth_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    _, rows = _rows("depth", study, target, encoder)
    depths = rows[rows["reference_target"] == ""]
    plot_depth(depths, ax, encoders=[encoder], targets=[target], colours=encoder_colours(list(study.layers)))
    ax.set_xlabel(DEPTH_AXIS)


def _best_layer_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    _, rows = _rows("best-layer", study, target, encoder)
    names = study.layers[encoder]
    plot_best_layer(rows, ax, layers=names, colour=encoder_colours(list(study.layers))[encoder])
    name_layers(ax, names, size=_tick_size(ax))
    ax.set(xlabel="layer", ylabel=Y_LABEL, title=shown_name(target))


def _similarity_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:  # noqa: ARG001 - ratings are no layers
    table = TABLES["similarity"](study)
    rows = table[(table["measure"] == "cka") & (table["encoder_a"] == encoder) & (table["encoder_b"] == encoder)]
    if rows.empty:
        raise NothingToPlotError(
            "LP656",
            f"{study.folders[0]} has no similarities of {encoder!r}, which has no stacked layers. "
            "Choose another encoder.",
        )
    names = study.layers[encoder]
    plot_similarity(rows, ax, layers_a=names, layers_b=names, limits=(0.0, 1.0))
    name_layers(ax, names, size=_tick_size(ax))
    name_layers(ax, names, size=_tick_size(ax), axis="y")
    ax.set(xlabel="layer", ylabel="layer", title=encoder)


def _cost_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:  # noqa: ARG001 - it compares encoders
    table = TABLES["cost"](study)
    check_known_cost(table)
    rows, by = table[table["target"] == target].reset_index(drop=True), str(table["cheapest_by"].iloc[0])
    ax.set_xscale("log")
    ax.set_xlim(*cost_limits(table[by]))
    plot_cost(rows, ax, by=by, looks=encoder_looks(list(dict.fromkeys(table["encoder"]))))
    ring_cheapest(rows, ax, by=by, size=_tick_size(ax))
    ax.set(xlabel=COSTS[by], ylabel=METRIC_NAMES[study.metric], title=shown_name(target))


def _time_map_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    table, rows = _rows("time-map", study, target, encoder)
    names, bins = study.layers[encoder], time_bins(study).kept(list(table["bin"]))
    scale = score_scale(table["value"].astype(float).dropna(), metric=study.metric)
    plot_time_map(rows, ax, bins=bins, layers=names, metric=study.metric, limits=scale.limits)
    across, down = size_in_inches(ax)
    label_bins(ax, bins, panel=across, size=_tick_size(ax))
    label_rows(ax, names, height=down, size=_tick_size(ax))
    ax.set(xlabel=KINDS[bins.kind], ylabel="layer", title=f"{shown_name(target)}: {METRIC_NAMES[study.metric]}")


def _time_curve_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    table, rows = _rows("time-curve", study, target, encoder)
    bins = time_bins(study).kept(list(table["bin"]))
    plot_time_curve(rows, ax, bins=bins, layers=study.layers[encoder], metric=study.metric)
    label_bins(ax, bins, panel=size_in_inches(ax)[0], size=_tick_size(ax))
    ax.set(xlabel=KINDS[bins.kind], ylabel=METRIC_NAMES[study.metric], title=shown_name(target))


def _erasure_panel(study: Study, ax: Axes, target: str, encoder: str) -> None:
    """Plot the first concept that was erased."""
    _, rows = _rows("erasure", study, target, encoder)
    names, concept = study.layers[encoder], str(rows["concept"].iloc[0])
    plot_erasure(rows, ax, layers=names, look=encoder_looks(list(study.layers))[encoder], concept=concept)
    name_layers(ax, names, size=_tick_size(ax))
    ax.set(xlabel="layer", ylabel=METRIC_NAMES[study.metric])
    ax.set_title(f"{shown_name(target)} without {concept_text(concept)}")


def _tick_size(ax: Axes) -> float:
    """Return the font size of the axes' tick labels in points."""
    return float(ax.xaxis.get_major_ticks()[0].label1.get_fontsize())


PANELS: dict[str, Callable[[Study, Axes, str, str], None]] = {
    "heatmap": _heatmap_panel,
    "curves": _curves_panel,
    "gain-over-random": _gain_over_random_panel,
    "gain": _gain_panel,
    "layer-weights": _layer_weights_panel,
    "depth": _depth_panel,
    "best-layer": _best_layer_panel,
    "similarity": _similarity_panel,
    "cost": _cost_panel,
    "time-map": _time_map_panel,
    "time-curve": _time_curve_panel,
    "erasure": _erasure_panel,
}
