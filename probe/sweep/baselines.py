"""What is reached without any layer: the mean rating, another rater, the words, duration with loudness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerprobe.probe.metrics import MomentMatching
from layerprobe.probe.results.predictions import (
    NO_RESULTS,
    HeldOutPrediction,
    PredictionBuilder,
    ProbeResults,
    SweepData,
)
from layerprobe.probe.solvers.backends import Algebra
from layerprobe.probe.sweep.layer_probes import banded_probe
from layerprobe.probe.sweep.plan import SweepPlan
from layerprobe.probe.tasks.bag_of_words import word_counts


def baselines(
    data: SweepData,
    plan: SweepPlan,
    *,
    raters: dict[str, np.ndarray],
    transcripts: Sequence[str] | None,
    acoustic: np.ndarray | None,
    algebra: Algebra,
) -> ProbeResults:
    """Score what needs no encoder, in rows whose column ``baseline`` names it.

    Args:
        data: what is rated, and the splits
        plan: targets and penalties
        raters: for each target that has them each rater's own ratings, ``(n_utterances, n_raters)``, NaN where none
        transcripts: the words of each utterance, if there are any
        acoustic: duration and loudness, ``(n_utterances, n_features)``, if they are known
        algebra: where ridge multiplies matrices
    """
    keys = {"encoder": "", "layer": "", "control": "none", "seed": 0}
    finished = ProbeResults.of(_mean_rating(data, plan, {**keys, "probe": "mean", "baseline": "mean_rating"}), data)
    finished += ProbeResults.of(_single_rater(data, plan, raters, {**keys, "probe": "rater"}), data)
    for name, x in (
        ("text_only", None if transcripts is None else word_counts(transcripts)),
        ("duration_loudness", acoustic),
    ):
        if x is not None:
            finished += banded_probe([x], data, plan, {**keys, "probe": "ridge", "baseline": name}, algebra=algebra)
    return ProbeResults(NO_RESULTS.columns, finished.scores, [])


def _mean_rating(data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[HeldOutPrediction]:
    columns = []
    for t, target in enumerate(plan.targets):
        builder = PredictionBuilder({**keys, "target": target}, data.ratings[:, t])
        for split in data.splits:
            level = float(data.ratings[split.train, t].mean())
            builder.add(split, np.full(len(split.test), level), MomentMatching(1.0, 0.0))
        columns.append(builder.build())
    return columns


def _single_rater(
    data: SweepData, plan: SweepPlan, raters: dict[str, np.ndarray], keys: dict[str, Any]
) -> list[HeldOutPrediction]:
    """Each rater in turn against the mean of the others on the same utterance: how well people agree.

    A seed for each rater column; utterances that fewer than two rated are left out of it.
    """
    columns = []
    for target in plan.targets:
        own = raters.get(target, np.empty((len(data.ratings), 0)))
        n_raters = np.isfinite(own).sum(axis=1)
        total = np.nansum(own, axis=1)
        for r in range(own.shape[1]):
            known = np.isfinite(own[:, r]) & (n_raters >= 2)
            truth = np.full(len(own), np.nan)
            truth[known] = (total[known] - own[known, r]) / (n_raters[known] - 1)
            builder = PredictionBuilder({**keys, "baseline": "single_rater", "target": target, "seed": r}, truth)
            for split in data.splits:
                heard = split.train[known[split.train]]
                match = MomentMatching.learn(truth[heard], own[heard, r]) if len(heard) > 1 else None
                builder.add(split, np.where(known, own[:, r], np.nan)[split.test], match)
            if known[np.concatenate([s.test for s in data.splits])].any():
                columns.append(builder.build())
    return columns
