"""Scores of a run's held-out predictions, each under the same draws of whole speakers."""

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
SEED = 0  # of the draws, which are the same for every picture of a run
FEWEST_SPEAKERS = 3  # that have an interval


@dataclass(frozen=True)
class BootstrapScores:
    """The scores of all columns of a run that were fitted to real ratings; of several seeds their mean."""

    metric: str
    keys: pd.DataFrame  # n_columns rows of `KEYS`
    scores: BootstrapSample  # (n_columns,)
    n_speakers: int

    def of(self, layers: Sequence[str], **keys: str) -> BootstrapSample | None:
        """The scores of some layers ``(n_layers,)`` in that order; None where one is missing or not defined.

        Args:
            layers: their names
            keys: encoder, control, probe and target, all four; a condition that is not named is ""
        """
        rows = self.keys
        conditions = {"baseline": "", "train_corpus": ""}
        for name, value in (conditions | keys).items():
            rows = rows[rows[name] == value]
        place = pd.Series(rows.index.to_numpy(), index=rows["layer"])
        if not set(layers) <= set(place.index):
            return None
        return self.scores[place[list(layers)].to_numpy()]

    def table(self) -> pd.DataFrame:
        """``KEYS`` with ``estimate, ci_low, ci_high, p_value``: 95 % intervals (BCa), NaN where there are none."""
        found = pd.DataFrame(
            [vars(e) for e in self.scores.estimated()], columns=["estimate", "ci_low", "ci_high", "p_value"]
        )
        return pd.concat([self.keys.reset_index(drop=True), found], axis=1)

    def joined(self, other: BootstrapScores) -> BootstrapScores:
        """Columns of two runs of the same speakers and metric side by side."""
        pairs = zip(vars(self.scores).values(), vars(other.scores).values(), strict=True)
        both = BootstrapSample(*(np.concatenate(pair, axis=-1) for pair in pairs))
        return replace(self, keys=pd.concat([self.keys, other.keys], ignore_index=True), scores=both)


def bootstrap_scores(
    predictions: Predictions, *, metric: str, n_draws: int = N_RESAMPLES, rows: np.ndarray | None = None
) -> BootstrapScores:
    """Score every column under each draw of speakers.

    Args:
        predictions: held-out predictions of a run
        metric: a key of `analysis.statistics.bootstrap.METRICS`, or of
            `analysis.statistics.class_counts.COUNTED_METRICS` for nominal targets
        n_draws: of speakers, the same for all columns, and for every call with the same speakers
        rows: ``(n_utterances,)`` bool, the utterances that are scored; all speakers are drawn all the same

    Raises:
        ValueError: if the metric is unknown
    """
    if metric not in METRICS and metric not in COUNTED_METRICS:
        raise ValueError(f"metric {metric!r} is unknown; choose one of {', '.join([*METRICS, *COUNTED_METRICS])}")
    values = predictions.matched if metric == "ccc_matched" else predictions.prediction
    nominal = _nominal(predictions)
    wanted = predictions.columns["target"].isin(nominal).to_numpy() == (metric in COUNTED_METRICS)
    wanted &= np.isfinite(values).all(axis=0)
    columns = predictions.columns[wanted].reset_index(drop=True)
    place = {str(name): k for k, name in enumerate(predictions.targets)}
    truth = predictions.ratings[:, [place[t] for t in columns["target"]]]
    groups = speaker_groups(predictions.speaker_id)
    n_speakers = len(np.unique(groups))
    chosen = np.ones(len(groups), dtype=bool) if rows is None else rows
    present = np.unique(groups[chosen])
    counts = resample_speakers(n_speakers, n_draws=n_draws, rng=np.random.default_rng(SEED))[:, present]
    arrays = truth[chosen], values[:, wanted][chosen], groups[chosen]
    if columns.empty:
        scores = BootstrapSample(np.empty(0), np.empty((n_draws, 0)), np.empty((len(present), 0)))
    else:
        scores = _over_seeds(_scored(*arrays, counts, metric), columns)
    return BootstrapScores(metric, columns[KEYS].drop_duplicates().reset_index(drop=True), scores, len(present))


def _scored(
    truth: np.ndarray, values: np.ndarray, groups: np.ndarray, counts: np.ndarray, metric: str
) -> BootstrapSample:
    once = np.ones((1, counts.shape[1]))
    if metric in COUNTED_METRICS:
        of_classes = class_sums(truth.astype(int), values.astype(int), groups)
        class_score = COUNTED_METRICS[metric]
        parts = (of_classes.drawn(once), of_classes.drawn(counts), of_classes.without_each())
        estimate, draws, left_out = (class_score(part) for part in parts)
    else:
        sums = speaker_sums(truth, values.astype(np.float64), groups)
        score = METRICS[metric]
        estimate, draws, left_out = (
            score(part) for part in (sums.drawn(once), sums.drawn(counts), without_each_speaker(sums))
        )
    return BootstrapSample(estimate[0], draws, left_out)


def _over_seeds(scores: BootstrapSample, columns: pd.DataFrame) -> BootstrapSample:
    """The mean over seeds of each column, in the order of first appearance."""
    groups = columns.groupby(KEYS, sort=False).ngroup().to_numpy()
    if len(np.unique(groups)) == len(groups):
        return scores
    places = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    return scores.map(lambda values: np.stack([values[..., p].mean(axis=-1) for p in places], axis=-1))


def _nominal(predictions: Predictions) -> list[str]:
    """Targets whose columns are codes of classes: those that have no matched prediction at all."""
    matched = np.isfinite(predictions.matched).any(axis=0)
    return sorted(set(predictions.columns["target"]) - set(predictions.columns["target"][matched]))
