"""Scores of a run's held-out predictions in bootstrap resamples of the speakers, the same for all predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap import (
    METRICS,
    N_RESAMPLES,
    resample_speakers,
    speaker_sums,
    without_each_speaker,
)
from layerprobe.analysis.statistics.class_counts import COUNTED_METRICS, class_sums
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.probe.results.run_folder import CONDITIONS, Predictions
from layerprobe.probe.splits import speaker_groups

KEYS = ["encoder", "control", *CONDITIONS, "probe", "target", "layer"]
SEED = 0  # of the resamples, which are the same for every figure of a run


@dataclass(frozen=True)
class BootstrapScores:
    """Scores of all columns of a run's predictions; of several seeds the mean."""

    metric: str
    keys: pd.DataFrame  # n_columns rows of `KEYS`
    scores: BootstrapSample  # (n_columns,)
    n_speakers: int

    def of(self, layers: Sequence[str], **keys: str) -> BootstrapSample | None:
        """Return the scores of some layers ``(n_layers,)`` in that order; None where one is missing or not defined.

        Args:
            layers: names of the layers
            keys: encoder, control, probe and target; baseline and train_corpus are "" where they are not given
        """
        chosen = np.ones(len(self.keys), dtype=bool)
        for name, value in ({"baseline": "", "train_corpus": ""} | keys).items():
            chosen &= (self.keys[name] == value).to_numpy()
        rows = self.keys["layer"][chosen]
        index = pd.Series(rows.index.to_numpy(), index=rows)
        if not set(layers) <= set(index.index):
            return None
        return self.scores[index[list(layers)].to_numpy()]

    def table(self) -> pd.DataFrame:
        """Return `KEYS` with ``estimate, ci_low, ci_high, p_value``: 95 % BCa intervals, NaN where there are none."""
        found = pd.DataFrame(
            [vars(e) for e in self.scores.estimated()], columns=["estimate", "ci_low", "ci_high", "p_value"]
        )
        return pd.concat([self.keys.reset_index(drop=True), found], axis=1)

    def joined(self, other: BootstrapScores) -> BootstrapScores:
        """Return the columns of two runs of the same speakers and metric together."""
        names = ("estimate", "resamples", "left_out", "counted")
        pairs = ([getattr(scores, name) for scores in (self.scores, other.scores)] for name in names)
        both = BootstrapSample(*(np.concatenate(pair, axis=-1) for pair in pairs))
        return replace(self, keys=pd.concat([self.keys, other.keys], ignore_index=True), scores=both)


def bootstrap_scores(
    predictions: Predictions, *, metric: str, n_resamples: int = N_RESAMPLES, rows: np.ndarray | None = None
) -> BootstrapScores:
    """Score every column in each bootstrap resample of the speakers, or of the larger units that were held out.

    Args:
        predictions: held-out predictions of a run
        metric: a key of `analysis.statistics.bootstrap.METRICS`, or of
            `analysis.statistics.class_counts.COUNTED_METRICS` for nominal targets
        n_resamples: number of resamples, which are the same for all columns and for every call with the same speakers
        rows: ``(n_utterances,)`` bool, the utterances that are scored; all speakers are resampled nevertheless

    Utterances without a rating of a target (NaN) are left out of its columns, and speakers without any of its ratings
    do not count for its intervals.

    Raises:
        ValueError: if the metric is unknown
    """
    if metric not in METRICS and metric not in COUNTED_METRICS:
        raise ValueError(f"metric {metric!r} is unknown; choose one of {', '.join([*METRICS, *COUNTED_METRICS])}")
    values = predictions.matched if metric == "ccc_matched" else predictions.prediction
    nominal = _nominal(predictions)
    wanted = predictions.columns["target"].isin(nominal).to_numpy() == (metric in COUNTED_METRICS)
    column_of = {str(name): k for k, name in enumerate(predictions.targets)}
    wanted[wanted] = _predicted(predictions, values, np.flatnonzero(wanted))
    columns = predictions.columns[wanted].reset_index(drop=True)
    truth = predictions.ratings[:, [column_of[t] for t in columns["target"]]]
    # Units that were held out as a whole, such as sessions, are resampled as a whole: utterances of a session have more
    # in common than the speaker.
    by_speaker = (predictions.unit == "").all()
    groups = (
        speaker_groups(predictions.speaker_id) if by_speaker else np.unique(predictions.unit, return_inverse=True)[1]
    )
    n_speakers = len(np.unique(groups))
    chosen = np.ones(len(groups), dtype=bool) if rows is None else rows
    present = np.unique(groups[chosen])
    counts = resample_speakers(n_speakers, n_resamples=n_resamples, rng=np.random.default_rng(SEED))[:, present]
    arrays = truth[chosen], values[:, wanted][chosen], groups[chosen]
    if columns.empty:
        scores = BootstrapSample(np.empty(0), np.empty((n_resamples, 0)), np.empty((len(present), 0)))
    else:
        scores = _over_seeds(_scored(*arrays, counts, metric), columns)
    return BootstrapScores(metric, columns[KEYS].drop_duplicates().reset_index(drop=True), scores, len(present))


def _scored(
    truth: np.ndarray, values: np.ndarray, groups: np.ndarray, counts: np.ndarray, metric: str
) -> BootstrapSample:
    once = np.ones((1, counts.shape[1]))
    if metric in COUNTED_METRICS:
        of_classes = class_sums(truth, values, groups)
        class_score = COUNTED_METRICS[metric]
        parts = (of_classes.resampled(once), of_classes.resampled(counts), of_classes.without_each())
        estimate, resamples, left_out = (class_score(part) for part in parts)
    else:
        sums = speaker_sums(truth, values, groups)
        score = METRICS[metric]
        estimate, resamples, left_out = (
            score(part) for part in (sums.resampled(once), sums.resampled(counts), without_each_speaker(sums))
        )
    rated = np.isfinite(truth)
    if rated.all():
        return BootstrapSample(estimate[0], resamples, left_out)
    n_speakers = np.array([len(np.unique(groups[column])) for column in rated.T])
    return BootstrapSample(estimate[0], resamples, left_out, n_speakers)


def _predicted(predictions: Predictions, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return of some columns which have a prediction for every utterance that has a rating, ``(n_columns,)`` bool."""
    if np.isfinite(predictions.ratings).all():
        return np.asarray(np.isfinite(values[:, columns]).all(axis=0))
    targets = list(map(str, predictions.targets))
    rated = [np.isfinite(predictions.ratings[:, targets.index(t)]) for t in predictions.columns["target"].iloc[columns]]
    found = [np.isfinite(values[rows, k]).all() for k, rows in zip(columns, rated, strict=True)]
    return np.array(found, dtype=bool)


def _over_seeds(scores: BootstrapSample, columns: pd.DataFrame) -> BootstrapSample:
    """Return the mean over seeds of each column, in the order of first appearance."""
    groups = columns.groupby(KEYS, sort=False).ngroup().to_numpy()
    if len(np.unique(groups)) == len(groups):
        return scores
    members = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    means = scores.map(lambda values: np.stack([values[..., p].mean(axis=-1) for p in members], axis=-1))
    return replace(means, n_speakers=np.array([scores.counted[p].min() for p in members]))


def _nominal(predictions: Predictions) -> list[str]:
    """Return the nominal targets, whose columns are codes of classes: they have no moment-matched prediction."""
    matched = np.isfinite(predictions.matched).any(axis=0)
    return sorted(set(predictions.columns["target"]) - set(predictions.columns["target"][matched]))
