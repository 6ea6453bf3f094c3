"""Runs that ask the same question, of other encoders perhaps, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import CLASS_METRICS, DEFAULT_CLASS_METRIC, DEFAULT_METRIC, METRIC_NAMES
from layerprobe.probe.results.run_folder import Predictions, Run, read_predictions


@dataclass(frozen=True)
class SideBySide:
    """The tables of all runs, each encoder under a name of its own."""

    layers: dict[str, list[str]]  # of each encoder, in order
    scores: pd.DataFrame  # tidy rows
    weights: pd.DataFrame
    predictions: Predictions


def read_side_by_side(paths: Sequence[Path], runs: Sequence[Run]) -> SideBySide:
    """Join runs; rows that belong to no encoder are taken from the first.

    Raises:
        InputError: if files are missing or mixed, or runs differ in more than their encoders
    """
    layers: dict[str, list[str]] = {}
    scores, weights, predictions = [], [], []
    for path, run in zip(paths, runs, strict=True):
        _refuse_other_question(run, runs[0], path, paths[0])
        shown = {e: e if e not in layers else f"{e} ({path.name})" for e in run.encoders}
        layers |= {shown[e]: run.layers(e) for e in run.encoders}
        first = run is runs[0]  # rows of no encoder are the same for all, who share utterances and splits
        scores.append(_renamed(run.scores, shown, others=first))
        weights.append(_renamed(run.layer_weights, shown, others=first))
        predictions.append(_renamed_columns(read_predictions(path), shown, others=first))
    return SideBySide(
        layers,
        pd.concat(scores, ignore_index=True),
        pd.concat(weights, ignore_index=True),
        _joined(predictions),
    )


def chosen_metric(run: Run, metric: str | None, path: Path) -> str:
    """The metric that is shown of a run: the matched CCC if None, or average recall where no target is rated.

    Raises:
        InputError: if there is no such metric, or the run has no target that it scores
    """
    if metric is not None and metric not in METRIC_NAMES:
        raise InputError(f"metric {metric!r} is unknown; choose one of {', '.join(METRIC_NAMES)}.")
    metric = metric or (DEFAULT_METRIC if run.targets else DEFAULT_CLASS_METRIC)
    if not (run.nominal_targets if metric in CLASS_METRICS else run.targets):
        kind = "classes" if metric in CLASS_METRICS else "ratings"
        raise InputError(f"{path} has no target with {kind}, which {METRIC_NAMES[metric]} is a score of.")
    return metric


def _refuse_other_question(run: Run, first: Run, path: Path, first_path: Path) -> None:
    """Scores are comparable only on the same utterances, splits and settings."""
    for key in ("corpus", "sweep"):
        if run.plan[key] != first.plan[key]:
            raise InputError(f"{path} and {first_path} differ in their {key}, so their scores can't be compared.")


def _renamed(table: pd.DataFrame, shown: dict[str, str], *, others: bool) -> pd.DataFrame:
    kept = table if others else table[table["encoder"].isin(list(shown))]
    return kept.assign(encoder=[shown.get(e, e) for e in kept["encoder"]])


def _renamed_columns(predictions: Predictions, shown: dict[str, str], *, others: bool) -> Predictions:
    kept = _renamed(predictions.columns, shown, others=others)
    return replace(
        predictions,
        columns=kept.reset_index(drop=True),
        prediction=predictions.prediction[:, kept.index],
        matched=predictions.matched[:, kept.index],
    )


def _joined(parts: list[Predictions]) -> Predictions:
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        columns=pd.concat([p.columns for p in parts], ignore_index=True),
        prediction=np.concatenate([p.prediction for p in parts], axis=1),
        matched=np.concatenate([p.matched for p in parts], axis=1),
    )
