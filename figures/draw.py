"""Stage: run folders become figures, each with the table behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from layerprobe.analysis.layers.encoder_gains import EncoderPair
from layerprobe.analysis.similarity.table import RATINGS
from layerprobe.analysis.study import Study, study
from layerprobe.figures.captions import caption
from layerprobe.figures.draw_erasure import erasure
from layerprobe.figures.draw_time import time_curve, time_map
from layerprobe.figures.layout.mark import mark_figure
from layerprobe.figures.layout.presets import preset
from layerprobe.figures.layout.style import Look, encoder_colours, encoder_looks, save
from layerprobe.figures.layout.width import default_width
from layerprobe.figures.plots.best_layer_frequency import best_layer_figure
from layerprobe.figures.plots.cost import cost_figure
from layerprobe.figures.plots.curves import curves_figure
from layerprobe.figures.plots.depth import depth_figure
from layerprobe.figures.plots.gain import GAIN, gain_figure
from layerprobe.figures.plots.heatmap import CONDENSED, check_controls, heatmap_figure
from layerprobe.figures.plots.layer_weights import layer_weights_figure
from layerprobe.figures.plots.similarity import similarity_figure
from layerprobe.figures.selection import (
    FigureWithData as FigureWithData,
    Selection as Selection,
    filled,
    select as select,
)
from layerprobe.figures.tables import (
    NothingToPlotError as NothingToPlotError,
    best_layer_table,
    check_known_cost,
    curves_table,
    depth_table,
    encoder_gain_table,
    gain_table,
    heatmap_table,
    layer_weights_table,
    selected_costs,
    similarity_rows,
)
from layerprobe.probe.metrics import CLASS_METRICS, METRIC_NAMES
from layerprobe.probe.results.pending import pending_label


def _heatmap(
    study: Study, width: float | None, selection: Selection | None = None, controls: str = CONDENSED
) -> FigureWithData:
    check_controls(controls)
    selection = selection or select(study)
    table = filled(selection.rows(heatmap_table(study)))
    figure = heatmap_figure(
        table,
        layers=selection.layers,
        targets=selection.targets,
        metric=study.metric,
        controls=controls,
        width=width,
    )
    return FigureWithData(figure, table)


def _curves(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    selection = selection or select(study)
    table = filled(selection.rows(curves_table(study)))
    figure = curves_figure(
        table,
        layers=selection.layers,
        targets=selection.targets,
        metric=study.metric,
        looks=_looks(study),
        width=width,
    )
    return FigureWithData(figure, table)


def _gain_over_random(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    selection = selection or select(study)
    table = filled(selection.rows(gain_table(study)))
    figure = gain_figure(
        table,
        layers=selection.present(table).layers,
        targets=selection.targets,
        label=f"{METRIC_NAMES[study.metric]}: {GAIN}",
        width=width,
    )
    return FigureWithData(figure, table)


def _gain(
    study: Study,
    width: float | None,
    selection: Selection | None = None,
    pairs: Sequence[EncoderPair] | None = None,
) -> FigureWithData:
    selection = selection or select(study)
    table = filled(selection.rows(encoder_gain_table(study, pairs)))
    gains = table[table["measure"] == "gain"]
    shifts = table[table["measure"] == "shift"]
    references = gains.drop_duplicates("encoder").set_index("encoder")["reference"]
    one = references.nunique() == 1
    figure = gain_figure(
        gains,
        layers=selection.present(gains).layers,
        targets=selection.present(gains).targets,
        label=f"{METRIC_NAMES[study.metric]}: gain over {references.iloc[0] if one else 'the reference'}",
        shifts=shifts.assign(blocks=shifts["value"].astype(float) * shifts["n_blocks"].astype(float)),
        notes=() if one else ("; ".join(f"{e}: over {r}" for e, r in references.items()),),
        width=width,
    )
    return FigureWithData(figure, table)


def _layer_weights(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    selection = selection or select(study)
    table = filled(selection.rows(layer_weights_table(study)))
    selection = selection.present(table)
    figure = layer_weights_figure(
        table,
        study.weights,
        layers=selection.layers,
        targets=selection.targets,
        metric=study.metric,
        looks=_looks(study),
        width=width,
    )
    return FigureWithData(figure, table)


def _depth(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    selection = selection or select(study)
    table = selection.rows(depth_table(study))
    if len(selection.targets) == 1:
        table = table[table["reference_target"] == ""].reset_index(drop=True)  # of one target alone there is none
    depths = filled(selection.rows(study.depth_table))
    contrasts = study.contrasts[study.contrasts["encoder"].isin(list(selection.layers))]
    figure = depth_figure(
        depths,
        contrasts if len(selection.targets) > 1 else None,
        encoders=list(selection.present(depths).layers),
        targets=selection.targets,
        colours=encoder_colours(list(study.layers)),
        width=width,
    )
    return FigureWithData(figure, table)


def _best_layer(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    selection = selection or select(study)
    table = filled(selection.rows(best_layer_table(study)))
    figure = best_layer_figure(
        table, layers=selection.layers, targets=selection.targets, looks=_looks(study), width=width
    )
    return FigureWithData(figure, table)


def _similarity(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    table = similarity_rows(study)
    rows = table[table["measure"] == "cka"]
    layers = {
        str(encoder): list(group["layer_a"].unique())
        for encoder, group in rows.groupby("encoder_a", sort=False)
        if encoder != RATINGS and (selection is None or encoder in selection.layers)
    }
    if selection is not None:
        kept = [*layers, RATINGS]
        table = table[table["encoder_a"].isin(kept) & table["encoder_b"].isin(kept)].reset_index(drop=True)
    filled(rows[rows["encoder_a"].isin(list(layers))])
    return FigureWithData(similarity_figure(rows, layers=layers, measure="cka", width=width), table)


def _cost(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    selection = selection or select(study)
    table = check_known_cost(filled(selected_costs(study, selection.targets, list(selection.layers))))
    return FigureWithData(cost_figure(table, width=width), table)


PLOTS: dict[str, Callable[..., FigureWithData]] = {  # of a study, a width in inches or None, and perhaps a selection
    "heatmap": _heatmap,
    "curves": _curves,
    "gain-over-random": _gain_over_random,
    "gain": _gain,
    "layer-weights": _layer_weights,
    "depth": _depth,
    "best-layer": _best_layer,
    "similarity": _similarity,
    "cost": _cost,
    "time-map": time_map,
    "time-curve": time_curve,
    "erasure": erasure,
}


def plot(
    figure: str,
    study: Study,
    width: float | None = None,
    selection: Selection | None = None,
    *,
    controls: str = CONDENSED,
    pairs: Sequence[EncoderPair] | None = None,
) -> FigureWithData:
    """Plot one figure of a study; that of a run whose controls or other work are pending is marked.

    Args:
        figure: a key of `PLOTS`
        study: of one or several runs
        width: inches; None for the natural width
        selection: targets and encoders; None for all
        controls: rows of the heatmap, a key of `figures.plots.heatmap.CONTROLS`; of no other figure
        pairs: encoders of the figure gain, each with its reference; of no other figure

    Raises:
        InputError: if ``controls`` is unknown
        NothingToPlotError: if the study lacks what the figure shows
    """
    own: dict[str, dict[str, Any]] = {"heatmap": {"controls": controls}, "gain": {"pairs": pairs}}
    plotted = PLOTS[figure](study, width, selection, **own.get(figure, {}))
    if label := pending_label(run.plan for run in study.runs):
        mark_figure(plotted.figure, label, width=width)
    return replace(plotted, caption=caption(figure, study, plotted.table))


def draw(
    figure: str,
    runs: Sequence[Path | str],
    *,
    metric: str | None = None,
    width: str | float | None = None,
    style: str | None = None,
    controls: str = CONDENSED,
) -> list[Path]:
    """Plot one figure of one or several runs and save it in the first run's folder ``figures``.

    Args:
        figure: a key of `PLOTS`
        runs: run folders; the encoders of several are plotted side by side
        metric: a key of `probe.metrics.METRIC_NAMES`, which decides whether targets with ratings or with classes are
            plotted; moment-matched CCC if None, or unweighted average recall where no target has ratings
        width: ``"column"``, ``"double"``, a length such as ``"89mm"``, or inches; None for the natural width, or for
            both columns of the style
        style: a key of `figures.layout.presets.WIDTHS`; None for the default style
        controls: rows of the heatmap: ``"condensed"`` into slim columns, or ``"full"``

    Returns:
        the paths of PNG, PDF, SVG, and of the table behind them as CSV

    Raises:
        InputError: if a folder is no run, its files are mixed, runs differ in more than their encoders, the width is
            unknown or too narrow, or the style or the controls are unknown
        NothingToPlotError: if the runs lack what the figure shows
    """
    check_controls(controls)
    with preset(style):
        inches = default_width(width)
        return save_plot(figure, study(runs, metric=metric), inches, controls=controls)


def save_plot(
    figure: str,
    study: Study,
    width: float | None,
    *,
    controls: str = CONDENSED,
    pairs: Sequence[EncoderPair] | None = None,
) -> list[Path]:
    """Plot one figure of a study as `plot` does, save it in the first run's folder ``figures``, and return the paths.

    Raises:
        NothingToPlotError: if the study lacks what the figure shows
    """
    plotted = plot(figure, study, width, controls=controls, pairs=pairs)
    return save(
        plotted.figure,
        study.folders[0] / "figures",
        file_name(figure, study),
        fingerprint=study.fingerprint,
        table=plotted.table,
        width=width,
    )


def file_name(figure: str, study: Study) -> str:
    """Return the name of a figure's files, without ending.

    Figures of classes in a run that also has ratings, and figures of several runs, have names of their own.
    """
    name = f"{figure}-classes" if study.metric in CLASS_METRICS and study.runs[0].targets else figure
    return name if len(study.folders) == 1 else "-".join([name, *(path.name for path in study.folders)])


def _looks(study: Study) -> dict[str, Look]:
    """Return colour and marker of each encoder, the same in all figures of a study, whichever encoders they show."""
    return encoder_looks(list(study.layers))
