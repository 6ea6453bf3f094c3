"""Held-out predictions of one probe for one target, and their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from layerprobe.probe.metrics import CLASS_METRICS, RATING_METRICS, MomentMatching, ccc
from layerprobe.probe.results.many_scores import rating_scores
from layerprobe.probe.results.run_folder import CONDITIONS, LABELS, POOLED, PREDICTION_KEYS, Predictions
from layerprobe.probe.results.selection import INNER_ERROR
from layerprobe.probe.splits import Split
from layerprobe.probe.tasks.controls import CONTROLS
from layerprobe.probe.tasks.targets import FittedTarget

SCORED_VALUES = 2**21  # ratings whose columns are scored together
ALL_LAYERS = "all"  # the layer of a probe over the whole encoder


@dataclass(frozen=True)
class SweepData:
    """The data and folds that all probes of a sweep use."""

    utterance_ids: np.ndarray
    speaker_ids: np.ndarray
    groups: np.ndarray  # (n_utterances,) a number per speaker
    ratings: np.ndarray  # (n_utterances, n_targets), NaN where there is none
    codes: np.ndarray  # (n_utterances, n_nominal) int, of the classes in the header's order, -1 where there is none
    splits: list[Split]
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # those of `LABELS` that the manifest has
    text_residuals: np.ndarray | None = None  # (n_utterances, n_splits, n_targets) of `probe.tasks.text_residuals`
    units: np.ndarray | None = None  # (n_utterances,) a number per unit that is held out as a whole; None for speakers
    other_targets: tuple[str, ...] = ()  # targets that only residuals of others need
    other_ratings: np.ndarray | None = None  # (n_utterances, n_other_targets)
    part_of: PartOf | None = None  # the data whose ratings control tasks permute; None for these
    blocks: np.ndarray | None = None  # (n_rows,) a number per utterance where rows are spans, in the order of time

    @property
    def every_rating(self) -> np.ndarray:
        """Ratings of the targets, and of those that residuals need, ``(n_utterances, n_targets + n_other_targets)``."""
        if self.other_ratings is None or not self.other_targets:
            return self.ratings
        return np.column_stack([self.ratings, self.other_ratings])

    @property
    def held_out_units(self) -> np.ndarray:
        """A number per unit that is held out as a whole, ``(n_utterances,)``: the speakers if no others are given."""
        return self.groups if self.units is None else self.units


@dataclass(frozen=True)
class PartOf:
    """The data that some rows are part of."""

    data: SweepData
    rows: np.ndarray  # (n_rows,) rising numbers of the rows


@dataclass(frozen=True)
class HeldOutPrediction:
    """The held-out predictions of one probe on one layer for one target."""

    keys: dict[str, Any]  # `PREDICTION_KEYS`
    truth: np.ndarray  # (n_utterances,)
    prediction: np.ndarray  # (n_utterances,) float32, NaN where never held out; codes of classes
    matched: np.ndarray  # (n_utterances,) float32; NaN for classes
    alphas: list[float]  # per split; empty for probes without one
    nominal: bool = False
    inner_errors: list[float] = field(default_factory=list)  # per split, mean squared; of ratings where it is known

    @property
    def is_control(self) -> bool:
        """Whether its ratings are those of a control task."""
        return self.keys["control"] in CONTROLS


@dataclass(frozen=True)
class ProbeResults:
    """The results of one layer, of one encoder's mixes, or of the baselines."""

    columns: list[HeldOutPrediction]  # on the real ratings; of a control task only the scores are kept
    scores: list[dict[str, Any]]  # rows of the score table
    weights: list[dict[str, Any]]  # rows of the layer weights, of a mix
    peaks: list[dict[str, Any]] = field(default_factory=list)  # rows of the table of peaks, of a sweep over spans

    @classmethod
    def from_columns(
        cls, columns: list[HeldOutPrediction], data: SweepData, weights: list[dict[str, Any]] | None = None
    ) -> ProbeResults:
        """Score every column, and keep those on real ratings."""
        together = _scores_together(columns, data.splits)
        scores = [
            row for k, one in enumerate(columns) for row in together.get(k) or prediction_scores(one, data.splits)
        ]
        kept = [
            replace(c, prediction=c.prediction.copy(), matched=c.matched.copy()) for c in columns if not c.is_control
        ]
        return cls(kept, scores, weights or [])

    def __add__(self, other: ProbeResults) -> ProbeResults:
        names = ("columns", "scores", "weights", "peaks")
        return ProbeResults(*(getattr(self, name) + getattr(other, name) for name in names))


NO_RESULTS = ProbeResults([], [], [])


class PredictionBuilder:
    """The held-out predictions of one probe for one target, filled split by split."""

    def __init__(self, keys: dict[str, Any], truth: np.ndarray, *, nominal: bool = False) -> None:
        """Start with no prediction."""
        self._keys, self._truth, self._nominal = keys, truth, nominal
        self._prediction, self._matched = (np.full(len(truth), np.nan, dtype=np.float32) for _ in range(2))
        self._alphas: list[float] = []
        self._inner_errors: list[float] = []

    def add(
        self,
        split: Split,
        prediction: np.ndarray,
        match: MomentMatching | None,
        alpha: float | None = None,
        inner_error: float | None = None,
    ) -> None:
        """Add the predictions of one split.

        Args:
            split: its test rows are predicted
            prediction: ``(n_test,)``
            match: without it the column has no matched score
            alpha: the penalty that was chosen
            inner_error: the mean squared error over the inner folds, by which it was chosen
        """
        self._prediction[split.test] = prediction
        if match is not None:
            self._matched[split.test] = match(prediction)
        if alpha is not None:
            self._alphas.append(alpha)
        if inner_error is not None:
            self._inner_errors.append(inner_error)

    def build(self) -> HeldOutPrediction:
        """Return the column."""
        by_split = {"alphas": self._alphas, "inner_errors": self._inner_errors}
        return HeldOutPrediction(
            self._keys, self._truth, self._prediction, self._matched, nominal=self._nominal, **by_split
        )


def prediction_builder(fitted: FittedTarget, keys: dict[str, Any]) -> PredictionBuilder:
    """Return a builder for one target, permuted or not; ``keys`` name encoder, probe, layer, control and seed."""
    named = {"target": fitted.target} | ({} if fitted.control == "none" else {"control": fitted.control})
    seed = {} if fitted.control == "none" else {"seed": fitted.seed}
    return PredictionBuilder({**keys, **named, **seed}, fitted.truth, nominal=fitted.n_classes > 0)


def prediction_scores(column: HeldOutPrediction, splits: list[Split]) -> Iterator[dict[str, Any]]:
    """Yield every metric of one column, per fold and pooled over all held-out utterances; of controls only pooled."""
    held_out = np.concatenate([split.test for split in splits])
    folds = [] if column.is_control else [(split.name, split.test) for split in splits]
    for fold, rows in [*folds, (POOLED, held_out)]:
        truth, raw, matched = column.truth[rows], column.prediction[rows], column.matched[rows]
        known = np.isfinite(truth) & np.isfinite(raw)
        if not known.any():
            continue
        truth, raw, matched = (a[known] for a in (truth, raw, matched))  # float32 shows what of them is rounding
        if column.nominal:
            values = {name: score(truth.astype(int), raw.astype(int)) for name, score in CLASS_METRICS.items()}
        else:
            values = {name: metric(truth, raw) for name, metric in RATING_METRICS.items()}
            if np.isfinite(matched).all():
                values["ccc_matched"] = ccc(truth, matched)
        for metric, value in values.items():
            yield {**column.keys, "fold": fold, "metric": metric, "value": value}
    if column.is_control:
        return
    for metric, values_of_splits in (("alpha", column.alphas), (INNER_ERROR, np.sqrt(column.inner_errors).tolist())):
        for split, value in zip(splits, values_of_splits, strict=False):
            yield {**column.keys, "fold": split.name, "metric": metric, "value": value}


def _scores_together(columns: list[HeldOutPrediction], splits: list[Split]) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of `prediction_scores` of rated columns of control tasks, by their number, where that is as well.

    A column with a missing rating or prediction, or without variance, is left out.
    """
    held_out, found = np.concatenate([split.test for split in splits]), {}
    controls = [k for k, column in enumerate(columns) if column.is_control and not column.nominal]
    for first in range(0, len(controls), at_once := max(1, SCORED_VALUES // len(held_out))):
        chosen = controls[first : first + at_once]
        truth, raw, matched = (
            np.stack([getattr(columns[k], name)[held_out] for k in chosen])
            for name in ("truth", "prediction", "matched")
        )
        whole = np.all([np.isfinite(values).all(axis=1) for values in (truth, raw, matched)], axis=0)
        numbers = np.array(chosen)[whole]
        for k, values in zip(numbers, rating_scores(truth[whole], raw[whole], matched[whole]), strict=True):
            if values is not None:
                label = {**columns[k].keys, "fold": POOLED}
                found[int(k)] = [{**label, "metric": metric, "value": value} for metric, value in values.items()]
    return found


def held_out_predictions(columns: list[HeldOutPrediction], data: SweepData) -> Predictions:
    """Return the held-out rows of columns on the real ratings."""
    held_out = np.sort(np.concatenate([split.test for split in data.splits]))
    fold = np.empty(len(data.utterance_ids), dtype=object)
    for split in data.splits:
        fold[split.test] = split.name
    truths = {
        str(c.keys["target"]): c.truth[held_out]
        for c in columns
        if c.keys["control"] == "none" and not c.keys.get("bin")
    }
    return Predictions(
        utterance_id=data.utterance_ids[held_out],
        speaker_id=data.speaker_ids[held_out],
        fold=fold[held_out],
        targets=np.array(list(truths)),
        ratings=np.stack(list(truths.values()), axis=1),
        columns=pd.DataFrame([dict.fromkeys(CONDITIONS, "") | c.keys for c in columns])[list(PREDICTION_KEYS)],
        prediction=np.stack([c.prediction[held_out] for c in columns], axis=1),
        matched=np.stack([c.matched[held_out] for c in columns], axis=1),
        unit=np.array([] if data.units is None else [f"unit {u}" for u in data.units[held_out]], dtype=str),
        **{name: data.labels[name][held_out] for name in LABELS if name in data.labels},
    )
