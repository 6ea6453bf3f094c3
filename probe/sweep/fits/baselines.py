"""Baselines without any layer: the mean rating, another rater, the noise ceiling, the transcript, duration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from layerprobe.probe.results.run_folder import POOLED
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.solvers.backends import Algebra
from layerprobe.probe.sweep.fits.layer_probes import banded_probe
from layerprobe.probe.tasks.agreement import intraclass_correlation
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
    """Fit and score the baselines; the column ``baseline`` of their rows has its name.

    Args:
        data: the ratings and the splits
        plan: targets and penalties
        raters: for each target that has them each rater's own ratings, ``(n_utterances, n_raters)``, NaN where none
        transcripts: of each utterance, if there are any
        acoustic: duration and loudness, ``(n_utterances, n_features)``, if they are known
        algebra: where ridge multiplies matrices
    """
    keys = {"encoder": "", "layer": "", "control": "none", "seed": 0}
    finished = ProbeResults.from_columns(
        _mean_rating(data, plan, {**keys, "probe": "mean", "baseline": "mean_rating"}), data
    )
    finished += ProbeResults.from_columns(_single_rater(data, plan, raters, {**keys, "probe": "rater"}), data)
    for name, x in (
        ("text_only", None if transcripts is None else word_counts(transcripts)),
        ("duration_loudness", acoustic),
    ):
        if x is not None:
            finished += banded_probe([x], data, plan, {**keys, "probe": "ridge", "baseline": name}, algebra=algebra)
    return ProbeResults(NO_RESULTS.columns, [*finished.scores, *_noise_ceiling(data, plan, raters, keys)], [])


def _mean_rating(data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[HeldOutPrediction]:
    columns = []
    for t, target in enumerate(plan.targets):
        builder = PredictionBuilder({**keys, "target": target}, data.ratings[:, t])
        for split in data.splits:
            level = float(data.ratings[split.train, t].mean())
            builder.add(split, np.full(len(split.test), level), MomentMatching(1.0, 0.0))
        columns.append(builder.build())
    return columns


def _noise_ceiling(
    data: SweepData, plan: SweepPlan, raters: dict[str, np.ndarray], keys: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the highest scores that a prediction of the mean rating can have, given how the raters agree."""
    held_out = np.concatenate([split.test for split in data.splits])
    for target in plan.targets:
        found = intraclass_correlation(raters.get(target, np.empty((len(data.ratings), 0)))[held_out])
        if found is None or not np.isfinite(found.ceiling):
            continue
        label = {**keys, "probe": "rater", "baseline": "noise_ceiling", "target": target, "fold": POOLED}
        for metric in ("ccc_matched", "ccc", "pearson"):  # a prediction of the best scale has a CCC equal to r
            yield {**label, "metric": metric, "value": found.ceiling}
        yield {**label, "metric": "r2", "value": found.mean}


def _single_rater(
    data: SweepData, plan: SweepPlan, raters: dict[str, np.ndarray], keys: dict[str, Any]
) -> list[HeldOutPrediction]:
    """Score each rater against the mean of the others on the same utterance: how well people agree.

    A seed for each rater column; utterances that fewer than two rated are left out of it.
    """
    columns = []
    for target in plan.targets:
        values = raters.get(target, np.empty((len(data.ratings), 0)))
        n_raters = np.isfinite(values).sum(axis=1)
        total = np.nansum(values, axis=1)
        for r in range(values.shape[1]):
            known = np.isfinite(values[:, r]) & (n_raters >= 2)
            truth = np.full(len(values), np.nan)
            truth[known] = (total[known] - values[known, r]) / (n_raters[known] - 1)
            builder = PredictionBuilder({**keys, "baseline": "single_rater", "target": target, "seed": r}, truth)
            for split in data.splits:
                rated = split.train[known[split.train]]
                match = MomentMatching.learn(truth[rated], values[rated, r]) if len(rated) > 1 else None
                builder.add(split, np.where(known, values[:, r], np.nan)[split.test], match)
            if known[np.concatenate([s.test for s in data.splits])].any():
                columns.append(builder.build())
    return columns
