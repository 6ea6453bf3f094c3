"""The content of a run folder: scores, held-out predictions, layer weights and the plan.

Each file carries the run's fingerprint and a format version, and plan.toml lists them (`probe.results.run_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.data.word_errors import WORD_ERRORS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE, replacing, write_csv
from layerprobe.probe.foreign_files import foreign_content
from layerprobe.probe.results.display import run_html, run_text
from layerprobe.probe.results.pending import pending_fingerprint, pending_work
from layerprobe.probe.results.plan_differences import plan_differences
from layerprobe.probe.results.run_files import (
    AGAIN,
    PLAN as PLAN,
    PREDICTIONS,
    WEIGHTS,
    RunFile,
    checked_file,
    describe_file,
    parse_plan,
    read_files,
    read_plan as read_plan,
    unfinished_fingerprints,
    write_plan,
)
from layerprobe.probe.results.score_table import (
    CONDITIONS as CONDITIONS,
    FORMAT_VERSION as FORMAT_VERSION,
    PROVENANCE as PROVENANCE,
    SCORE_COLUMNS as SCORE_COLUMNS,
    SCORES as SCORES,
    SCORES_PARQUET as SCORES_PARQUET,
    is_plain as is_plain,
    read_scores,
    score_table as score_table,
    write_scores,
)
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.tasks.targets import RESIDUAL, TEXT_RESIDUAL
from layerprobe.probe.toml import check_encodable

PEAK_SPANS = (
    "peak_spans.csv"  # of a sweep with targets per span: the span of each utterance with the highest prediction
)
OPTIONAL = (WORD_ERRORS, PEAK_SPANS)  # tables that some runs have
MIX_KEYS = ("encoder", "probe", "target", "control", "fold", "seed")  # of a fit
WEIGHT_COLUMNS = (*MIX_KEYS, "layer", "weight", "contribution", "low", "high")
LABELS = ("gender", "corpus")  # columns of a manifest that travel with the predictions
PREDICTION_KEYS = ("encoder", "probe", "layer", "target", "control", *CONDITIONS, "seed")
ARRAYS = ("utterance_id", "speaker_id", "fold", *LABELS, "target", "rating", "prediction", "matched_prediction")
CHOSEN = "cv_selected"  # the layer of columns whose layer was chosen inside the training speakers
WEIGHTED_SUM = "weighted_sum"  # of one encoder's layers (`probe.sweep.stacked_layers`)
FUSED_RIDGE, FUSED_WEIGHTED_SUM = "fused_ridge", "fused_weighted_sum"  # of several encoders (`probe.sweep.fits.fusion`)
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

    @property
    def erasure(self) -> dict[str, Any]:
        """The table ``[erasure]`` of plan.toml; empty where nothing was erased."""
        return dict(self.plan.get("erasure", {}))

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
    def pending(self) -> tuple[str, ...]:
        """Controls, probes and baselines that are not there yet, by their names in scores; none of a complete run."""
        return pending_work(self.plan)

    @property
    def nominal_targets(self) -> list[str]:
        """Targets with classes, in order."""
        return list(self.plan["sweep"].get("nominal", []))


def write_run(run: Run, predictions: Predictions, tables: Mapping[str, pd.DataFrame] | None = None) -> None:
    """Write the run folder, plan.toml last; a folder that holds another run is left alone.

    A kill or a full disk at any point leaves a folder that no reader takes for a whole run, and that the same command
    completes.

    Args:
        run: with the folder's path
        predictions: held out
        tables: those of `OPTIONAL` that the run has, by their names

    Raises:
        InputError: if the folder holds a run with another fingerprint, or the plan has text that is not UTF-8
    """
    folder, fingerprint = run.path, run.fingerprint
    check_same_run(folder, fingerprint, run.plan)
    check_encodable(run.plan)
    folder.mkdir(parents=True, exist_ok=True)
    write_scores(folder, run.scores, fingerprint)
    named = {WEIGHTS: run.layer_weights[list(WEIGHT_COLUMNS)], QUARANTINE: run.quarantine, **(tables or {})}
    for name, table in named.items():
        marked = table.assign(fingerprint=fingerprint, format_version=FORMAT_VERSION)
        write_csv(folder / name, marked, durable=True)
    _write_predictions(folder / PREDICTIONS, predictions, fingerprint)
    for name in set(OPTIONAL) - set(named):
        (folder / name).unlink(missing_ok=True)  # of an earlier time with another transcript
    rows = {SCORES: len(run.scores), SCORES_PARQUET: len(run.scores), PREDICTIONS: len(predictions.utterance_id)}
    rows |= {name: len(table) for name, table in named.items()}
    write_plan(folder, run.plan, fingerprint, [describe_file(folder / name, rows=n) for name, n in rows.items()])


def _write_predictions(path: Path, predictions: Predictions, fingerprint: str) -> None:
    arrays = {f"column_{key}": predictions.columns[key].to_numpy(dtype=str) for key in PREDICTION_KEYS}
    with replacing(path, durable=True) as file:
        np.savez(
            file,
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


def read_run(folder: Path | str) -> Run:
    """Read the tables and the plan of a run folder.

    Raises:
        InputError: if a file is missing, damaged, changed, of another run or of another format version
    """
    folder = Path(folder)
    plan = read_plan(folder / PLAN)
    files = read_files(folder, plan.get("fingerprint", ""))
    kinds = {"fingerprint": str, "corpus": dict, "sweep": dict, "encoders": list}
    missing = [key for key, kind in kinds.items() if not isinstance(plan.get(key), kind)]
    if missing:
        raise InputError(
            "LP600", f"{folder / PLAN} is no plan of a run: it has no {missing[0]}. Name another run folder."
        )
    fingerprint = plan.pop("fingerprint")
    checked_file(folder, SCORES, files, fingerprint)
    scores = read_scores(checked_file(folder, SCORES_PARQUET, files, fingerprint))
    weights, quarantine = (_read_table(folder, name, files, fingerprint) for name in (WEIGHTS, QUARANTINE))
    return Run(fingerprint, plan, scores, weights, quarantine, folder)


def read_run_table(folder: Path, name: str, fingerprint: str) -> pd.DataFrame | None:
    """Read one of the `OPTIONAL` tables of a run, or return None where the run has none.

    Raises:
        InputError: if it is missing, damaged, changed or of another run
    """
    files = read_files(folder, fingerprint)
    if name in files:
        return _read_table(folder, name, files, fingerprint)
    if (folder / name).exists():
        raise InputError("LP607", f"{folder / name} does not belong to the run: plan.toml does not list it. Remove it.")
    return None


def read_predictions(folder: Path | str, fingerprint: str | None = None) -> Predictions:
    """Read the held-out predictions of a run folder.

    Args:
        folder: of the run
        fingerprint: of the run that was read from the folder before; None for whichever run is there

    Raises:
        InputError: if they are missing, damaged, changed, of another run or of another format version
    """
    folder = Path(folder)
    fingerprint = fingerprint or read_plan(folder / PLAN).get("fingerprint", "")
    path = checked_file(folder, PREDICTIONS, read_files(folder, fingerprint), fingerprint)
    with np.load(path, allow_pickle=False) as file:
        n = len(file["column_encoder"])
        absent = {key for key in CONDITIONS if f"column_{key}" not in file}  # of an older run
        values = {key: np.full(n, "") if key in absent else file[f"column_{key}"] for key in PREDICTION_KEYS}
        columns = pd.DataFrame(values)
        names = ("utterance_id", "speaker_id", "fold", *LABELS, *(("unit",) if "unit" in file else ()))
        return Predictions(
            **{name: file[name] for name in names},
            targets=file["target"],
            ratings=file["rating"],
            columns=columns,
            prediction=file["prediction"],
            matched=file["matched_prediction"],
        )


def check_same_run(folder: Path, fingerprint: str, plan: dict[str, Any] | None = None) -> str | None:
    """Stop before work whose result would overwrite another run.

    Args:
        folder: the run folder, which may not exist yet
        fingerprint: of the run that is to be written there
        plan: its settings, as in plan.toml; those that differ from the folder's are named in the error

    Returns:
        a sentence about a plan.toml there that is empty or cut and will be written anew; None if there is none such

    Raises:
        InputError: if the folder is a file, its plan.toml is something else, or it holds a run with another fingerprint
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("LP609", f"{folder} is a file. Name a folder as --out.")
    path, same = folder / PLAN, {fingerprint, pending_fingerprint(fingerprint)}
    if not path.exists():
        return None
    try:
        written = parse_plan(path)
    except InputError as error:
        damage, there = error.message.removesuffix(f" {AGAIN}."), unfinished_fingerprints(folder) - same
        if foreign_content(path) and path.read_bytes().strip(b"\0"):
            raise InputError("LP609", f"{damage} Remove the folder, or name another --out.") from error
        if not there:
            return f"{damage} The run is written anew."
        different = []
    else:
        there = {str(written.get("fingerprint", "none that plan.toml names"))} - same
        if not there:
            return None
        different = plan_differences(written, plan) if plan is not None else []
    reason = "; ".join(different) or "its caches, ratings or settings are others"
    found = ", ".join(sorted(there))
    raise InputError("LP609", f"{folder} holds another run ({found}, not {fingerprint}): {reason}. Name another --out.")


def _read_table(folder: Path, name: str, files: Mapping[str, RunFile], fingerprint: str) -> pd.DataFrame:
    names = (
        "encoder",
        "probe",
        "layer",
        "target",
        "control",
        "fold",
        "utterance_id",
        "speaker_id",
        "path",
        "reason",
        "span_id",
        "label",
    )
    path = checked_file(folder, name, files, fingerprint)
    table = pd.read_csv(path, dtype=dict.fromkeys((*names, "fingerprint"), str), keep_default_na=False)
    return table.drop(columns=list(PROVENANCE))
