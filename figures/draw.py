"""Stage: run folders become pictures, each with the table behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from layerprobe.analysis.similarity.table import RATINGS
from layerprobe.analysis.study import Study, study
from layerprobe.figures.layout.style import save
from layerprobe.figures.layout.width import parse_width
from layerprobe.figures.plots.best_layer_frequency import best_layer_figure
from layerprobe.figures.plots.curves import curves_figure
from layerprobe.figures.plots.depth import depth_figure
from layerprobe.figures.plots.heatmap import gain_over_random_figure, heatmap_figure
from layerprobe.figures.plots.layer_weights import layer_weights_figure
from layerprobe.figures.plots.similarity import similarity_figure
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import CLASS_METRICS, METRIC_NAMES


@dataclass(frozen=True)
class FigureWithData:
    """A figure and the tidy rows that it shows."""

    figure: Figure
    table: pd.DataFrame


class NothingToPlotError(InputError):
    """The run lacks what a picture shows."""


def _heatmap(of: Study, width: float | None) -> FigureWithData:
    table = of.table[(of.table["probe"] == "ridge") & (of.table["baseline"] == "")]
    correlations = of.correlations if len(of.targets) > 1 and of.metric not in CLASS_METRICS else None
    figure = heatmap_figure(
        table, layers=of.layers, targets=of.targets, metric=of.metric, correlations=correlations, width=width
    )
    return FigureWithData(figure, table)


def _curves(of: Study, width: float | None) -> FigureWithData:
    figure = curves_figure(of.table, layers=of.layers, targets=of.targets, metric=of.metric, width=width)
    return FigureWithData(figure, of.table)


def _difference(of: Study, width: float | None) -> FigureWithData:
    table = of.gain_over_random
    if table.empty:
        raise NothingToPlotError(
            "No cache with random weights was swept. Sweep with --random-weights or --controls all."
        )
    layers = {e: names for e, names in of.layers.items() if e in set(table["encoder"])}
    label = f"{METRIC_NAMES[of.metric]}, trained better than random weights by"
    return FigureWithData(
        gain_over_random_figure(table, layers=layers, targets=of.targets, label=label, width=width), table
    )


def _weights(of: Study, width: float | None) -> FigureWithData:
    table = of.weights_table
    targets = [t for t in of.targets if t in set(table["target"])]
    if not targets:
        raise NothingToPlotError("No weighted sum was learnt. Sweep with --weighted-sum-seeds 3.")
    layers = {e: names for e, names in of.layers.items() if e in set(table["encoder"])}
    return FigureWithData(
        layer_weights_figure(table, layers=layers, targets=targets, metric=of.metric, width=width), table
    )


def _depth(of: Study, width: float | None) -> FigureWithData:
    table = of.depth_table
    if table.empty:
        raise NothingToPlotError("No encoder has layers one above the other whose depth could be told.")
    encoders = [e for e in of.layers if e in set(table["encoder"])]
    figure = depth_figure(table, of.contrasts, encoders=encoders, targets=of.targets, width=width)
    return FigureWithData(figure, pd.concat([table, of.contrasts], ignore_index=True))


def _wins(of: Study, width: float | None) -> FigureWithData:
    table = of.best[of.best["control"] == "none"]
    if table.empty:
        raise NothingToPlotError("Too few speakers were held out to draw any: it takes three.")
    return FigureWithData(best_layer_figure(table, layers=of.layers, targets=of.targets, width=width), table)


def _similarity(of: Study, width: float | None) -> FigureWithData:
    if of.similarity is None:
        raise NothingToPlotError(f"{of.folders[0]} has no similarity.csv. Run layerprobe similarity on it.")
    table = of.similarity[of.similarity["measure"] == "cka"]
    layers = {
        str(encoder): list(rows["layer_a"].unique())
        for encoder, rows in table.groupby("encoder_a", sort=False)
        if encoder != RATINGS
    }
    return FigureWithData(similarity_figure(table, layers=layers, measure="cka", width=width), of.similarity)


PLOTS: dict[str, Callable[[Study, float | None], FigureWithData]] = {
    "heatmap": _heatmap,
    "curves": _curves,
    "gain-over-random": _difference,
    "layer-weights": _weights,
    "depth": _depth,
    "best-layer": _wins,
    "similarity": _similarity,
}


def draw(
    picture: str, folders: Sequence[Path | str], *, metric: str | None = None, width: str | None = None
) -> list[Path]:
    """Draw one picture of one or several runs into the first one's folder.

    Args:
        picture: a key of `PLOTS`
        folders: run folders; the encoders of several are put side by side
        metric: a key of `probe.metrics.METRIC_NAMES`, which settles whether rated or nominal targets are
            drawn; the matched CCC if None, or the average recall where no target is rated
        width: as `figures.layout.width.parse_width` takes it, or None for the natural width

    Returns:
        the files, as PNG, PDF and SVG; the table behind them lies beside them as CSV

    Raises:
        InputError: if a folder is no run, its files are mixed, or runs differ in more than their encoders
        NothingToPlotError: if the runs lack what the picture shows
    """
    inches = None if width is None else parse_width(width)
    of = study(folders, metric=metric)
    drawn = PLOTS[picture](of, inches)
    return save(
        drawn.figure,
        of.folders[0] / "figures",
        file_name(picture, of),
        fingerprint=of.fingerprint,
        table=drawn.table,
        width=inches,
    )


def file_name(picture: str, of: Study) -> str:
    """What the files of a picture are called: of several runs, and of classes beside ratings, they have their own."""
    shown = f"{picture}-classes" if of.metric in CLASS_METRICS and of.runs[0].targets else picture
    return shown if len(of.folders) == 1 else "-".join([shown, *(path.name for path in of.folders)])
