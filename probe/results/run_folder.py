"""The files of a run folder: scores, held-out predictions, layer weights and the plan.

Each carries the run's fingerprint and a format version, so that a folder with files of several runs is refused.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE
from layerprobe.probe.results.display import run_html, run_text
from layerprobe.probe.results.plan_differences import plan_differences
from layerprobe.probe.results.score_table import (
    CONDITIONS as CONDITIONS,
    FORMAT_VERSION as FORMAT_VERSION,
    PROVENANCE as PROVENANCE,
    SCORE_COLUMNS as SCORE_COLUMNS,
    SCORES as SCORES,
    SCORES_PARQUET as SCORES_PARQUET,
    check_fingerprint,
    check_format_version,
    check_table,
    read_scores,
    score_table as score_table,
    write_scores,
)
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.tasks.targets import RESIDUAL, TEXT_RESIDUAL
from layerprobe.probe.toml import toml_document

PREDICTIONS, WEIGHTS, PLAN = "predictions.npz", "layer_weights.csv", "plan.toml"
WEIGHT_COLUMNS = ("encoder", "probe", "target", "control", "fold", "seed", "layer", "weight", "contribution")
LABELS = ("gender", "corpus")  # columns of a manifest that travel with the predictions
PREDICTION_KEYS = ("encoder", "probe", "layer", "target", "control", *CONDITIONS, "seed")
ARRAYS = ("utterance_id", "speaker_id", "fold", *LABELS, "target", "rating", "prediction", "matched_prediction")
CHOSEN = "cv_selected"  # the layer of columns whose layer was chosen inside the training speakers
FUSED_RIDGE, FUSED_WEIGHTED_SUM = "fused_ridge", "fused_weighted_sum"  # of several encoders (`probe.sweep.fusion`)
TRAINED = "trained"  # the probe of a regressor whose encoders were trained with it (`probe.regressor.train`)
JOINED = " + "  # between the names of encoders that are fused, and of covariates
COVARIATES_ONLY = "covariates_only"  # the baseline of the covariates without a layer
POOLED = "pooled"  # the fold of a score over all held-out predictions


@dataclass(frozen=True)
class Predictions:
    """Held-out predictions, one column for each encoder, probe, layer, target, control and seed."""

    utterance_id: np.ndarray  # (n_utterances,) str
    speaker_id: np.ndarray  # (n_utterances,) str
    fold: np.ndarray  # (n_utterances,) str, the fold that held the utterance out
    targets: np.ndarray  # (n_targets,) str
    ratings: np.ndarray  # (n_utterances, n_targets)
    columns: pd.DataFrame  # n_columns rows of `PREDICTION_KEYS`
    prediction: np.ndarray  # (n_utterances, n_columns) float32
    matched: np.ndarray  # (n_utterances, n_columns) float32, mean and deviation matched on training speakers
    gender: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))  # (n_utterances,) str, '' if unknown
    corpus: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))  # (n_utterances,) str, '' if unknown
    unit: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))  # (n_utterances,) str, '' for the speaker

    def __post_init__(self) -> None:
        """Fill labels that no utterance has with ''."""
        for name in (*LABELS, "unit"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.utterance_id), ""))


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder in memory."""

    fingerprint: str  # twelve hex digits of plan, ratings and caches; equal ones mean equal scores
    plan: dict[str, Any]  # the content of plan.toml
    scores: pd.DataFrame  # `SCORE_COLUMNS`, layer as text, layer_index as Int64
    layer_weights: pd.DataFrame  # `WEIGHT_COLUMNS`
    quarantine: pd.DataFrame  # encoder, utterance_id, path, reason
    path: Path  # the folder

    def __repr__(self) -> str:
        """Return the path, the corpus and what was probed, in one line."""
        return run_text(self.path, self.plan, self.encoders, [*self.targets, *self.nominal_targets])

    def _repr_html_(self) -> str:
        """Return a table of the best layer for each target and encoder, for notebooks."""
        return run_html(repr(self), self.scores)

    @property
    def sweep_plan(self) -> SweepPlan:
        """The sweep's plan.

        Raises:
            InputError: if the run is a trained regressor, which has none
        """
        return SweepPlan.from_toml(self.plan["sweep"], self.path / PLAN)

    def layers(self, encoder: str) -> list[str]:
        """Return the names of an encoder's layers in order."""
        return next(list(e["layers"]) for e in self.plan["encoders"] if e["name"] == encoder)

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders in the order of their caches; none of a trained regressor."""
        return [e["name"] for e in self.plan["encoders"]]

    @property
    def targets(self) -> list[str]:
        """Rated targets in order, then their residuals given other targets, then those given the transcript."""
        sweep = self.plan["sweep"]
        residuals = [t + RESIDUAL for t in sweep.get("residuals", [])]
        texts = [t + TEXT_RESIDUAL for t in sweep.get("text_residuals", [])]
        left_out = {row["target"] for row in self.plan.get("left_out", [])}  # residuals that are rounding alone
        return [t for t in (*sweep["targets"], *residuals, *texts) if t not in left_out]

    @property
    def nominal_targets(self) -> list[str]:
        """Targets with classes, in order."""
        return list(self.plan["sweep"].get("nominal", []))


def write_run(run: Run, predictions: Predictions) -> None:
    """Write the run folder; a folder that holds another run is left alone.

    Raises:
        InputError: if the folder holds a run with another fingerprint
    """
    folder, fingerprint = run.path, run.fingerprint
    check_same_run(folder, fingerprint, run.plan)
    folder.mkdir(parents=True, exist_ok=True)
    write_scores(folder, run.scores, fingerprint)
    write_table(folder / WEIGHTS, run.layer_weights[list(WEIGHT_COLUMNS)], fingerprint)
    write_table(folder / QUARANTINE, run.quarantine, fingerprint)
    arrays = {f"column_{key}": predictions.columns[key].to_numpy(dtype=str) for key in PREDICTION_KEYS}
    np.savez(
        folder / PREDICTIONS,
        fingerprint=np.array(fingerprint),
        format_version=np.array(FORMAT_VERSION, dtype=np.int64),
        utterance_id=predictions.utterance_id.astype(str),
        speaker_id=predictions.speaker_id.astype(str),
        fold=predictions.fold.astype(str),
        target=predictions.targets.astype(str),
        rating=predictions.ratings,
        prediction=predictions.prediction,
        matched_prediction=predictions.matched,
        gender=predictions.gender.astype(str),
        corpus=predictions.corpus.astype(str),
        allow_pickle=False,
        **(arrays | {"column_seed": predictions.columns["seed"].to_numpy(dtype=np.int64)}),
        **({"unit": predictions.unit.astype(str)} if (predictions.unit != "").any() else {}),
    )
    head = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint}
    (folder / PLAN).write_text(toml_document({**head, **run.plan}), encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame, fingerprint: str) -> None:
    """Write a CSV file of a run folder, with the run's fingerprint and the format version as last columns."""
    marked = table.assign(fingerprint=fingerprint, format_version=FORMAT_VERSION)
    marked.to_csv(path, index=False, lineterminator="\n")


def read_run(folder: Path | str) -> Run:
    """Read the tables and the plan of a run folder.

    Raises:
        InputError: if a file is missing, has another format version, or belongs to another run
    """
    folder = Path(folder)
    plan = read_plan(folder / PLAN)
    fingerprint = plan.pop("fingerprint", "")
    scores = read_scores(folder, fingerprint)
    weights, quarantine = (_read_table(folder / name, fingerprint) for name in (WEIGHTS, QUARANTINE))
    return Run(fingerprint, plan, scores, weights, quarantine, folder)


def read_plan(path: Path) -> dict[str, Any]:
    """Read a run's plan.toml, without its format version.

    Raises:
        InputError: if it is missing or no TOML, or has another format version
    """
    if not path.exists():
        raise InputError(f"{path.parent} is no run folder: it has no {path.name}. Make one with layerprobe sweep.")
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} can't be read ({error}). Sweep again with layerprobe sweep.") from error
    check_format_version(path, plan.pop("format_version", None))
    return plan


def read_predictions(folder: Path | str) -> Predictions:
    """Read the held-out predictions of a run folder.

    Raises:
        InputError: if they are missing, have another format version, or belong to another run
    """
    folder = Path(folder)
    fingerprint = read_run(folder).fingerprint
    path = folder / PREDICTIONS
    if not path.exists():
        raise InputError(f"{path} is missing. Sweep again.")
    with np.load(path) as file:
        arrays = ("fingerprint", *ARRAYS, *(f"column_{key}" for key in PREDICTION_KEYS))
        missing = [name for name in arrays if name not in file]
        check_format_version(path, int(file["format_version"]) if "format_version" in file else None)
        if missing:
            raise InputError(f"{path} has no array {missing[0]}. Sweep again.")
        check_fingerprint(path, str(file["fingerprint"]), fingerprint)
        columns = pd.DataFrame({key: file[f"column_{key}"] for key in PREDICTION_KEYS})
        names = ("utterance_id", "speaker_id", "fold", *LABELS, *(("unit",) if "unit" in file else ()))
        return Predictions(
            **{name: file[name] for name in names},
            targets=file["target"],
            ratings=file["rating"],
            columns=columns,
            prediction=file["prediction"],
            matched=file["matched_prediction"],
        )


def check_same_run(folder: Path, fingerprint: str, plan: dict[str, Any] | None = None) -> None:
    """Stop before work whose result would overwrite another run.

    Args:
        folder: the run folder, which may not exist yet
        fingerprint: of the run that is to be written there
        plan: its settings, as in plan.toml; those that differ from the folder's are named in the error

    Raises:
        InputError: if the folder is a file, its plan can't be read, or it holds a run with another fingerprint
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder as --out.")
    if not (folder / PLAN).exists():
        return
    try:
        written = tomllib.loads((folder / PLAN).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{folder / PLAN} can't be read ({error}). Remove the folder, or name another --out."
        ) from error
    if written.get("fingerprint") == fingerprint:
        return
    different = plan_differences(written, plan) if plan is not None else []
    reason = "; ".join(different) or "its caches, ratings or settings are others"
    raise InputError(
        f"{folder} holds another run ({written.get('fingerprint')}, not {fingerprint}): {reason}. Name another --out."
    )


def _read_table(path: Path, fingerprint: str) -> pd.DataFrame:
    check_table(path, fingerprint)
    names = ("encoder", "probe", "layer", "target", "control", "fold", "utterance_id", "path", "reason", "fingerprint")
    table = pd.read_csv(path, dtype=dict.fromkeys(names, str), keep_default_na=False)
    for found in table["fingerprint"].unique():
        check_fingerprint(path, found, fingerprint)
    return table.drop(columns=list(PROVENANCE))
