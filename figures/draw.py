"""Stage: run folders become pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.relevance import DEFAULT_METRIC, METRIC_NAMES, layer_scores
from figures.curves import curves_figure
from figures.heatmap import heatmap_figure
from figures.style import save
from probe.errors import InputError
from probe.plan import combined_fingerprint
from probe.score_table import Run, read_run

PICTURES: dict[str, Callable[..., Figure]] = {"heatmap": heatmap_figure, "curves": curves_figure}


def draw(picture: str, folders: Sequence[Path | str], *, metric: str = DEFAULT_METRIC) -> list[Path]:
    """Draw one picture of one or several runs into the first one's folder.

    Args:
        picture: a key of `PICTURES`
        folders: run folders; the encoders of several are put side by side
        metric: a key of `analysis.relevance.METRIC_NAMES`

    Returns:
        the files, as PNG, PDF and SVG

    Raises:
        InputError: if a folder is no run, its files are mixed, or runs differ in more than their encoders
    """
    if metric not in METRIC_NAMES:
        raise InputError(f"metric {metric!r} is unknown; choose one of {', '.join(METRIC_NAMES)}.")
    paths = [Path(folder) for folder in folders]
    runs = [read_run(path) for path in paths]
    layers: dict[str, list[str]] = {}
    tables = []
    for path, run in zip(paths, runs, strict=True):
        _refuse_other_question(run, runs[0], path, paths[0])
        table = layer_scores(run.scores, metric=metric)
        for encoder in run.encoders:
            shown = encoder if encoder not in layers else f"{encoder} ({path.name})"
            layers[shown] = run.layers(encoder)
            tables.append(table[table["encoder"] == encoder].assign(encoder=shown))
    figure = PICTURES[picture](pd.concat(tables), layers=layers, targets=runs[0].targets, metric=metric)
    alone = len(runs) == 1
    fingerprint = runs[0].fingerprint if alone else combined_fingerprint(*(run.fingerprint for run in runs))
    name = picture if alone else "-".join([picture, *(path.name for path in paths)])
    return save(figure, paths[0] / "figures", name, fingerprint=fingerprint)


def _refuse_other_question(run: Run, first: Run, path: Path, first_path: Path) -> None:
    """Scores are comparable only on the same utterances, splits and settings."""
    for key in ("corpus", "sweep"):
        if run.plan[key] != first.plan[key]:
            raise InputError(f"{path} and {first_path} differ in their {key}, so their scores can't be compared.")
