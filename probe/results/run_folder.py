"""The files of a run folder: tidy scores, held-out predictions, layer weights, the plan.

Each carries the run's fingerprint, so that a folder whose files come from different runs is refused, not drawn.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE
from layerprobe.probe.tasks.targets import RESIDUAL, TEXT_RESIDUAL
from layerprobe.probe.toml import toml_document

SCORES, PREDICTIONS, WEIGHTS, PLAN = "scores.csv", "predictions.npz", "layer_weights.csv", "plan.toml"
CONDITIONS = ("baseline", "train_corpus", "covariates")  # "" in all three: one layer alone, trained on all corpora
SCORE_COLUMNS = (
    "encoder", "probe", "layer", "target", "control", *CONDITIONS, "fold", "seed", "metric", "value"
)  # fmt: skip
WEIGHT_COLUMNS = ("encoder", "probe", "target", "control", "fold", "seed", "layer", "weight", "contribution")
LABELS = ("gender", "corpus")  # columns of a manifest that travel with the predictions
PREDICTION_KEYS = ("encoder", "probe", "layer", "target", "control", *CONDITIONS, "seed")
CHOSEN = "cv_selected"  # the layer of columns whose layer was chosen inside the training speakers
FUSED_RIDGE, FUSED_WEIGHTED_SUM = (
    "fused_ridge",
    "fused_weighted_sum",
)  # probes of several encoders (`probe.sweep.fusion`)
TRAINED = "trained"  # the probe of a regressor whose encoders were trained with it (`probe.regressor.train`)
JOINED = " + "  # between the names of encoders that are heard together
COVARIATES_ONLY = "covariates_only"  # the baseline of what is fitted alongside the layers, without a layer
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
    matched: np.ndarray  # (n_utterances, n_columns) float32, mean and spread matched on training speakers
    gender: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))  # (n_utterances,) str, '' if unknown
    corpus: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))  # (n_utterances,) str, '' if unknown

    def __post_init__(self) -> None:
        """What is not known of any utterance is '' for each."""
        for name in LABELS:
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.utterance_id), ""))


@dataclass(frozen=True)
class Run:
    """A run folder in memory."""

    fingerprint: str
    plan: dict[str, Any]  # the content of plan.toml
    scores: pd.DataFrame  # `SCORE_COLUMNS`
    layer_weights: pd.DataFrame  # `WEIGHT_COLUMNS`
    quarantine: pd.DataFrame  # encoder, utterance_id, path, reason

    def layers(self, encoder: str) -> list[str]:
        """Layer names of an encoder in order."""
        return next(list(e["layers"]) for e in self.plan["encoders"] if e["name"] == encoder)

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders under study, in the order they were given."""
        return [e["name"] for e in self.plan["encoders"]]

    @property
    def targets(self) -> list[str]:
        """Rated targets in the order they were swept, then those scored on what others, or the words, leave of them."""
        sweep = self.plan["sweep"]
        residuals = [t + RESIDUAL for t in sweep.get("residuals", [])]
        return [*sweep["targets"], *residuals, *(t + TEXT_RESIDUAL for t in sweep.get("text_residuals", []))]

    @property
    def nominal_targets(self) -> list[str]:
        """Targets with classes."""
        return list(self.plan["sweep"].get("nominal", []))


def score_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows of scores as a table of `SCORE_COLUMNS`; conditions that a row does not name are ""."""
    plain = dict.fromkeys(CONDITIONS, "")
    return pd.DataFrame([plain | row for row in rows], columns=list(SCORE_COLUMNS))


def write_run(folder: Path, run: Run, predictions: Predictions) -> None:
    """Write the run folder; a folder that holds another run is left alone.

    Raises:
        InputError: if ``folder`` holds a run with another fingerprint
    """
    check_same_run(folder, run.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table, columns in (
        (SCORES, run.scores, SCORE_COLUMNS),
        (WEIGHTS, run.layer_weights, WEIGHT_COLUMNS),
        (QUARANTINE, run.quarantine, tuple(run.quarantine.columns)),
    ):
        table[list(columns)].assign(fingerprint=run.fingerprint).to_csv(folder / name, index=False, lineterminator="\n")
    arrays = {f"column_{key}": predictions.columns[key].to_numpy(dtype=str) for key in PREDICTION_KEYS}
    np.savez(
        folder / PREDICTIONS,
        fingerprint=np.array(run.fingerprint),
        utterance_id=predictions.utterance_id.astype(str),
        speaker_id=predictions.speaker_id.astype(str),
        fold=predictions.fold.astype(str),
        targets=predictions.targets.astype(str),
        ratings=predictions.ratings,
        prediction=predictions.prediction,
        matched=predictions.matched,
        gender=predictions.gender.astype(str),
        corpus=predictions.corpus.astype(str),
        allow_pickle=False,
        **arrays,
    )
    (folder / PLAN).write_text(toml_document({"fingerprint": run.fingerprint, **run.plan}), encoding="utf-8")


def read_run(folder: Path | str) -> Run:
    """Read a run folder's tables.

    Raises:
        InputError: if a file is missing, or its fingerprint is another run's
    """
    folder = Path(folder)
    if not (folder / PLAN).exists():
        raise InputError(f"{folder} is no run folder: it has no {PLAN}. Make one with layerprobe sweep.")
    plan = tomllib.loads((folder / PLAN).read_text(encoding="utf-8"))
    fingerprint = plan.pop("fingerprint")
    tables = {name: _read_table(folder / name, fingerprint) for name in (SCORES, WEIGHTS, QUARANTINE)}
    return Run(fingerprint, plan, tables[SCORES], tables[WEIGHTS], tables[QUARANTINE])


def read_predictions(folder: Path | str) -> Predictions:
    """Read the held-out predictions of a run folder.

    Raises:
        InputError: if they are missing, or belong to another run
    """
    folder = Path(folder)
    fingerprint = read_run(folder).fingerprint
    path = folder / PREDICTIONS
    if not path.exists():
        raise InputError(f"{path} is missing. Sweep again.")
    with np.load(path) as file:
        _refuse_mixed(path, str(file["fingerprint"]), fingerprint)
        columns = pd.DataFrame({key: file[f"column_{key}"] for key in PREDICTION_KEYS})
        names = ("utterance_id", "speaker_id", "fold", "targets", "ratings")
        return Predictions(
            **{name: file[name] for name in names},
            **{name: file[name] for name in LABELS if name in file},  # runs of before they were kept have none
            columns=columns,
            prediction=file["prediction"],
            matched=file["matched"],
        )


def check_same_run(folder: Path, fingerprint: str) -> None:
    """Stop before work whose result would overwrite another run."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder as --out.")
    if (folder / PLAN).exists():
        found = tomllib.loads((folder / PLAN).read_text(encoding="utf-8")).get("fingerprint")
        if found != fingerprint:
            raise InputError(
                f"{folder} holds another run ({found}, not {fingerprint}): other caches, ratings or settings. "
                "Name another --out."
            )


def _read_table(path: Path, fingerprint: str) -> pd.DataFrame:
    if not path.exists():
        raise InputError(f"{path} is missing. Sweep again.")
    names = ("encoder", "layer", "target", *CONDITIONS, "fold", "fingerprint", "utterance_id", "path", "reason")
    text = {name: str for name in names}
    table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"value": ["", "nan"]})
    for found in table["fingerprint"].unique():
        _refuse_mixed(path, found, fingerprint)
    return table.drop(columns="fingerprint")


def _refuse_mixed(path: Path, found: str, fingerprint: str) -> None:
    if found != fingerprint:
        raise InputError(f"{path} belongs to run {found}, not to {fingerprint} of its {PLAN}. Sweep again.")
