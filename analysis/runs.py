"""Join runs on the same utterances and splits, and read the layer similarity of a run."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import damage_of, foreign_content
from layerprobe.probe.metrics import CLASS_METRICS, DEFAULT_CLASS_METRIC, DEFAULT_METRIC, METRIC_NAMES
from layerprobe.probe.results.pending import pending_fingerprint
from layerprobe.probe.results.run_folder import Predictions, Run, is_plain, read_predictions

SIMILARITY = "similarity.csv"
SIMILARITY_VERSION = 1  # format version of similarity.csv
MEASURES = ("cka", "cca", "rsa")  # of similarity.csv
_NUMBERS = {"value": ["", "nan"], "p_permutation": ["", "nan"]}


@dataclass(frozen=True)
class BinTables:
    """What runs have of spans in time: each row of scores and column of predictions belongs to a bin."""

    scores: pd.DataFrame  # tidy rows of `SCORE_COLUMNS`
    predictions: Predictions  # NaN for an utterance without a span in the bin


@dataclass(frozen=True)
class ErasedTables:
    """What runs have of embeddings without a concept, and of concepts: each row and column names what was erased."""

    scores: pd.DataFrame  # tidy rows of `SCORE_COLUMNS`
    predictions: Predictions


@dataclass(frozen=True)
class SideBySide:
    """The tables of several runs, each encoder under a unique name."""

    layers: dict[str, list[str]]  # for each encoder its layers in order
    scores: pd.DataFrame  # tidy rows of `SCORE_COLUMNS`, of whole utterances
    weights: pd.DataFrame
    predictions: Predictions  # of whole utterances
    bins: BinTables | None  # of spans in time; None where no run has any
    erased: ErasedTables | None  # of embeddings without a concept; None where no run has any


def read_side_by_side(paths: Sequence[Path], runs: Sequence[Run]) -> SideBySide:
    """Join the tables of runs; rows without an encoder, such as baselines, are taken from the first run that has them.

    An encoder whose name an earlier run has too is shown with the name of its run folder.

    Raises:
        InputError: if a run has no layers, files are missing or mixed, or runs differ in more than their encoders,
            where bins of time are those of the runs that have any
    """
    for path, run in zip(paths, runs, strict=True):
        if not run.encoders:
            raise InputError(
                "LP610", f"{path} is a trained regressor and has no layers to draw. Use layerprobe compare {path}."
            )
        _check_same_plan(run, runs[0], path, paths[0])
    _check_same_time(paths, runs)
    layers: dict[str, list[str]] = {}
    scores, weights, predictions = [], [], []
    found: set[str] | None = None  # what was erased in rows without an encoder, which all runs have alike
    for path, run in zip(paths, runs, strict=True):
        shown = shown_names(run.encoders, path, taken=layers)
        layers |= {shown[e]: run.layers(e) for e in run.encoders}
        scores.append(_renamed(run.scores, shown, found))
        weights.append(_renamed(run.layer_weights, shown, found))
        predictions.append(_renamed_columns(read_predictions(path, run.fingerprint), shown, found))
        found = {"", *(found or ()), *run.scores["erased"][run.scores["encoder"] == ""]}
    every, predicted = pd.concat(scores, ignore_index=True), _joined(predictions)
    plain, of_bin, of_concept = is_plain(every), every["bin"] != "", every["erased"] != ""
    bins = (
        BinTables(every[of_bin].reset_index(drop=True), _only_columns(predicted, predicted.columns["bin"] != ""))
        if of_bin.any()
        else None
    )
    without = predicted.columns["erased"] != ""
    erased = (
        ErasedTables(every[of_concept].reset_index(drop=True), _only_columns(predicted, without))
        if of_concept.any()
        else None
    )
    return SideBySide(
        layers,
        every[plain].reset_index(drop=True),
        pd.concat(weights, ignore_index=True),
        _only_columns(predicted, is_plain(predicted.columns)),
        bins,
        erased,
    )


def shown_names(encoders: Iterable[str], path: Path, *, taken: Container[str]) -> dict[str, str]:
    """Return the name that each encoder of a run is shown under: its own, with the folder's where it is taken."""
    return {e: e if e not in taken else f"{e} ({path.name})" for e in encoders}


def chosen_metric(run: Run, metric: str | None, path: Path) -> str:
    """Return the metric to show: moment-matched CCC if None, or unweighted average recall where no target is rated.

    Raises:
        InputError: if there is no such metric, or the run has no target that it scores
    """
    if metric is not None and metric not in METRIC_NAMES:
        raise InputError("LP611", f"metric {metric!r} is unknown; choose one of {', '.join(METRIC_NAMES)}.")
    metric = metric or (DEFAULT_METRIC if run.targets else DEFAULT_CLASS_METRIC)
    if not (run.nominal_targets if metric in CLASS_METRICS else run.targets):
        kind = "classes" if metric in CLASS_METRICS else "ratings"
        raise InputError(
            "LP612",
            f"{path} has no target with {kind}, which {METRIC_NAMES[metric]} is a score of. Choose another --metric.",
        )
    return metric


def read_similarity(folder: Path, fingerprint: str) -> pd.DataFrame | None:
    """Return the layer similarity of a run, or None where it was not computed.

    Raises:
        InputError: if the file is damaged, belongs to another run, or was written in another format version
    """
    path = folder / SIMILARITY
    if not path.exists():
        return None
    if damage := foreign_content(path):
        raise InputError("LP615", f"{path} {damage}. Make it anew with layerprobe similarity.")
    try:
        return _read_similarity(path, fingerprint)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError) as error:  # a cut line, text among the numbers, a missing column
        raise InputError(
            "LP615", f"{path} {damage_of(path, error)}. Make it anew with layerprobe similarity."
        ) from error


def _read_similarity(path: Path, fingerprint: str) -> pd.DataFrame:
    texts = ("measure", "encoder_a", "layer_a", "encoder_b", "layer_b", "fingerprint", "format_version")
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=_NUMBERS)
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError("it was cut: its last line has no end")
    if "format_version" not in table or set(table["format_version"]) - {str(SIMILARITY_VERSION)}:
        found = ", ".join(sorted(set(table.get("format_version", ["none"]))))
        raise InputError(
            "LP615",
            f"{path} has format version {found}, and this version of layerprobe reads {SIMILARITY_VERSION}. Make it "
            "anew with layerprobe similarity.",
        )
    # Those of the run while it was pending are of the same caches and ratings.
    if set(table["fingerprint"]) - {fingerprint, pending_fingerprint(fingerprint)}:
        raise InputError("LP615", f"{path} belongs to another run. Delete it, or run layerprobe similarity again.")
    if missing := [measure for measure in MEASURES if measure not in set(table["measure"])]:
        raise ValueError(f"it was cut: it has no {missing[0]}")
    for measure, rows in table.groupby("measure"):
        n_layers = len(rows[["encoder_b", "layer_b"]].drop_duplicates())
        if len(rows) != n_layers**2:
            raise ValueError(f"it was cut: {measure} has {len(rows)} pairs of {n_layers} layers")
    table = table.astype(dict.fromkeys(_NUMBERS, float))
    return table.drop(columns=["fingerprint", "format_version"])


def _check_same_plan(run: Run, first: Run, path: Path, first_path: Path) -> None:
    """Check that two runs have the same utterances, splits and settings, without which scores can't be compared."""
    for key in ("corpus", "sweep"):
        if run.plan[key] != first.plan[key]:
            _refuse(key, path, first_path)


def _check_same_time(paths: Sequence[Path], runs: Sequence[Run]) -> None:
    """Check that runs that were swept in time have the same bins, or ratings of the same spans."""
    timed = [(path, run.plan["time"]) for path, run in zip(paths, runs, strict=True) if run.plan.get("time")]
    for path, time in timed[1:]:
        if time.get("fingerprint") != timed[0][1].get("fingerprint"):
            _refuse("time", path, timed[0][0])


def _refuse(key: str, path: Path, first_path: Path) -> NoReturn:
    raise InputError(
        "LP613",
        f"{path} and {first_path} differ in their {key}, so their scores can't be compared. "
        "Sweep both with the same manifest and options.",
    )


def _renamed(table: pd.DataFrame, shown: dict[str, str], found: set[str] | None) -> pd.DataFrame:
    """Return the rows of a run's encoders, renamed, and those without an encoder that no earlier run has.

    Args:
        table: of a run
        shown: the name that each of its encoders is shown under
        found: what was erased in rows without an encoder of earlier runs, "" included; None for the first run
    """
    kept = table
    if found is not None:
        chosen = table["encoder"].isin(list(shown))
        if "erased" in table:
            chosen |= (table["encoder"] == "") & ~table["erased"].isin(found)
        kept = table[chosen]
    return kept.assign(encoder=[shown.get(e, e) for e in kept["encoder"]])


def _renamed_columns(predictions: Predictions, shown: dict[str, str], found: set[str] | None) -> Predictions:
    kept = _renamed(predictions.columns, shown, found)
    return _with_columns(predictions, kept)


def _only_columns(predictions: Predictions, wanted: pd.Series) -> Predictions:
    """Return the predictions of some columns, ``(n_columns,)`` bool; all of them are the predictions themselves."""
    return predictions if wanted.all() else _with_columns(predictions, predictions.columns[wanted])


def _with_columns(predictions: Predictions, kept: pd.DataFrame) -> Predictions:
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
