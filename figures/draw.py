"""Stage: run folders become pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.intervals import score_intervals
from analysis.relevance import (
    BASELINE,
    CLASS_METRICS,
    DEFAULT_CLASS_METRIC,
    DEFAULT_METRIC,
    METRIC_NAMES,
    layer_scores,
    with_intervals,
)
from figures.curves import curves_figure
from figures.heatmap import heatmap_figure
from figures.style import save
from probe.errors import InputError
from probe.plan import combined_fingerprint
from probe.score_table import Run, read_predictions, read_run

PICTURES: dict[str, Callable[..., Figure]] = {"heatmap": heatmap_figure, "curves": curves_figure}


def draw(picture: str, folders: Sequence[Path | str], *, metric: str | None = None) -> list[Path]:
    """Draw one picture of one or several runs into the first one's folder.

    Args:
        picture: a key of `PICTURES`
        folders: run folders; the encoders of several are put side by side
        metric: a key of `analysis.relevance.METRIC_NAMES`, which settles whether rated or nominal targets are drawn;
            the matched CCC if None, or the average recall where no target is rated

    Returns:
        the files, as PNG, PDF and SVG

    Raises:
        InputError: if a folder is no run, its files are mixed, or runs differ in more than their encoders
    """
    if metric is not None and metric not in METRIC_NAMES:
        raise InputError(f"metric {metric!r} is unknown; choose one of {', '.join(METRIC_NAMES)}.")
    paths = [Path(folder) for folder in folders]
    runs = [read_run(path) for path in paths]
    metric = metric or default_metric(runs[0])
    targets = runs[0].nominal_targets if metric in CLASS_METRICS else runs[0].targets
    if not targets:
        kind = "classes" if metric in CLASS_METRICS else "ratings"
        raise InputError(f"{paths[0]} has no target with {kind}, which {METRIC_NAMES[metric]} is a score of.")
    layers: dict[str, list[str]] = {}
    tables = []
    for path, run in zip(paths, runs, strict=True):
        _refuse_other_question(run, runs[0], path, paths[0])
        intervals = score_intervals(read_predictions(path), metric=metric)
        table = with_intervals(layer_scores(run.scores, metric=metric), intervals)
        if picture == "heatmap":
            table = table[table["probe"] == "ridge"]
        for encoder in run.encoders:
            shown = encoder if encoder not in layers else f"{encoder} ({path.name})"
            layers[shown] = run.layers(encoder)
            tables.append(table[table["encoder"] == encoder].assign(encoder=shown))
        if run is runs[0]:
            tables.append(table[table["encoder"] == BASELINE])  # the same for all, who share utterances and splits
    figure = PICTURES[picture](pd.concat(tables), layers=layers, targets=targets, metric=metric)
    alone = len(runs) == 1
    fingerprint = runs[0].fingerprint if alone else combined_fingerprint(*(run.fingerprint for run in runs))
    shown = f"{picture}-classes" if metric in CLASS_METRICS and runs[0].targets else picture
    name = shown if alone else "-".join([shown, *(path.name for path in paths)])
    return save(figure, paths[0] / "figures", name, fingerprint=fingerprint)


def default_metric(run: Run) -> str:
    """What is drawn of a run unless another metric is named."""
    return DEFAULT_METRIC if run.targets else DEFAULT_CLASS_METRIC


def _refuse_other_question(run: Run, first: Run, path: Path, first_path: Path) -> None:
    """Scores are comparable only on the same utterances, splits and settings."""
    for key in ("corpus", "sweep"):
        if run.plan[key] != first.plan[key]:
            raise InputError(f"{path} and {first_path} differ in their {key}, so their scores can't be compared.")
