"""Layers of one cache become held-out predictions, and these become scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from probe.cache import Cache
from probe.controls import CONTROLS
from probe.metrics import METRICS, MomentMatch, ccc
from probe.plan import SweepPlan
from probe.ridge import nested_ridge
from probe.score_table import POOLED, PREDICTION_KEYS, Predictions
from probe.splits import Split, speaker_groups
from probe.weighted_sum import fit_weighted_sum

ALL_LAYERS = "all"  # the layer of a probe over the whole encoder


@dataclass(frozen=True)
class SweepData:
    """What every probe of a sweep shares."""

    utterance_ids: np.ndarray
    speaker_ids: np.ndarray
    ratings: np.ndarray  # (n_utterances, n_targets)
    splits: list[Split]


@dataclass(frozen=True)
class Column:
    """The held-out predictions of one probe on one layer for one target."""

    keys: dict[str, Any]  # `PREDICTION_KEYS`
    truth: np.ndarray  # (n_utterances,)
    prediction: np.ndarray  # (n_utterances,) float32 as they are kept, NaN where never held out
    matched: np.ndarray  # (n_utterances,) float32
    alphas: list[float]  # per split; empty for probes without one

    @property
    def is_drawn(self) -> bool:
        """Whether its ratings are those of a control."""
        return self.keys["control"] in CONTROLS


@dataclass(frozen=True)
class Finished:
    """What one layer or one mix gives."""

    columns: list[Column]  # on the real ratings; of a control only the scores are kept
    scores: list[dict[str, Any]]  # rows of the score table
    weights: list[dict[str, Any]]  # rows of the weights' table, of a mix

    @classmethod
    def of(cls, columns: list[Column], data: SweepData, weights: list[dict[str, Any]] | None = None) -> Finished:
        """Score every column, and keep the real ones."""
        scores = [row for column in columns for row in column_scores(column, data)]
        kept = [replace(c, prediction=c.prediction.copy(), matched=c.matched.copy()) for c in columns if not c.is_drawn]
        return cls(kept, scores, weights or [])


def ridge_columns(
    cache: Cache, layer: str, rows: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]
) -> Finished:
    """Ridge on one layer; the controls' ratings are further targets of the same decompositions."""
    drawn, labels = [data.ratings], [(keys["control"], cache.plan.random_init or 0, target) for target in plan.targets]
    groups = speaker_groups(data.speaker_ids)
    for control in plan.controls if keys["control"] == "none" else ():
        rng = np.random.default_rng([plan.seed, 1 + list(CONTROLS).index(control)])
        drawn += [CONTROLS[control](data.ratings, groups, rng) for _ in range(plan.n_permutations)]
        labels += [(control, seed, target) for seed in range(plan.n_permutations) for target in plan.targets]
    y = np.concatenate(drawn, axis=1)
    x = cache.read_layer(layer, rows)
    prediction, matched = (np.full(y.shape, np.nan, dtype=np.float32) for _ in range(2))
    alphas = []
    for split, fit in zip(data.splits, nested_ridge(x, y, splits=data.splits, alphas=plan.alphas), strict=True):
        prediction[split.test] = fit.prediction
        for t in range(y.shape[1]):
            mean, spread = float(fit.inner_mean[t]), float(fit.inner_spread[t])
            match = MomentMatch.of_moments(y[split.train, t], mean=mean, spread=spread)
            matched[split.test, t] = match(fit.prediction[:, t])
        alphas.append(fit.alpha)
    columns = []
    for t, (control, seed, target) in enumerate(labels):
        column = {**keys, "probe": "ridge", "layer": layer, "target": target, "control": control, "seed": seed}
        truth = data.ratings[:, t] if t < len(plan.targets) else y[:, t]
        columns.append(Column(column, truth, prediction[:, t], matched[:, t], [float(a[t]) for a in alphas]))
    return Finished.of(columns, data)


def mix_columns(
    cache: Cache, seed: int, rows: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]
) -> Finished:
    """The weighted sum over all layers but ``final``, which says again what the last block says, and its weights."""
    layers = [name for name in cache.plan.layers if name != "final"]
    x = np.stack([cache.read_layer(layer, rows) for layer in layers], axis=1)
    prediction, matched = (np.full(data.ratings.shape, np.nan, dtype=np.float32) for _ in range(2))
    weights = []
    for split in data.splits:
        fit = fit_weighted_sum(
            x,
            data.ratings,
            split=split,
            penalties=plan.mix_penalties,
            max_iterations=plan.mix_iterations,
            seed=seed,
        )
        prediction[split.test] = fit.prediction
        for t, target in enumerate(plan.targets):
            match = MomentMatch.learn(data.ratings[split.train, t], fit.inner_prediction[:, t])
            matched[split.test, t] = match(fit.prediction[:, t])
            label = {**keys, "target": target, "fold": split.name, "seed": seed}
            weights += [
                {**label, "layer": layer, "weight": float(w)}
                for layer, w in zip(layers, fit.layer_weights[t], strict=True)
            ]
    columns = []
    for t, target in enumerate(plan.targets):
        column = {**keys, "probe": "weighted_sum", "layer": ALL_LAYERS, "target": target, "seed": seed}
        columns.append(Column(column, data.ratings[:, t], prediction[:, t], matched[:, t], []))
    return Finished.of(columns, data, weights)


def column_scores(column: Column, data: SweepData) -> Iterator[dict[str, Any]]:
    """Every metric of one column, per fold and pooled over all held-out utterances."""
    held_out = np.concatenate([split.test for split in data.splits])
    for fold, rows in [*((s.name, s.test) for s in data.splits), (POOLED, held_out)]:
        truth = column.truth[rows]
        raw, matched = (p[rows].astype(np.float64) for p in (column.prediction, column.matched))
        values = {name: metric(truth, raw) for name, metric in METRICS.items()}
        values["ccc_matched"] = ccc(truth, matched)
        for metric, value in values.items():
            yield {**column.keys, "fold": fold, "metric": metric, "value": value}
    for split, alpha in zip(data.splits, column.alphas, strict=False):
        yield {**column.keys, "fold": split.name, "metric": "alpha", "value": alpha}


def held_out_predictions(columns: list[Column], data: SweepData, plan: SweepPlan) -> Predictions:
    """The held-out rows of columns on the real ratings."""
    held_out = np.sort(np.concatenate([split.test for split in data.splits]))
    fold = np.empty(len(data.utterance_ids), dtype=object)
    for split in data.splits:
        fold[split.test] = split.name
    return Predictions(
        utterance_id=data.utterance_ids[held_out],
        speaker_id=data.speaker_ids[held_out],
        fold=fold[held_out],
        targets=np.array(plan.targets),
        ratings=data.ratings[held_out],
        columns=pd.DataFrame([c.keys for c in columns])[list(PREDICTION_KEYS)],
        prediction=np.stack([c.prediction[held_out] for c in columns], axis=1),
        matched=np.stack([c.matched[held_out] for c in columns], axis=1),
    )
