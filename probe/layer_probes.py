"""Every probe of one layer: ridge on all targets and draws, bands beside it, and those that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from probe.columns import Column, Finished, SweepData, column_for
from probe.description_length import online_code
from probe.logistic import nested_logistic
from probe.metrics import MomentMatch
from probe.plan import SweepPlan
from probe.ridge import Bands, RidgeFit, nested_ridge
from probe.ridge_algebra import Algebra
from probe.score_table import POOLED
from probe.splits import Split
from probe.targets import Fitted, TargetBuilder, Targets

LOGISTIC_PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)


def layer_probes(
    x: np.ndarray,
    data: SweepData,
    plan: SweepPlan,
    keys: dict[str, Any],
    *,
    bands: Sequence[np.ndarray] = (),
    algebra: Algebra,
) -> Finished:
    """All that the plan asks of one layer.

    Args:
        x: embeddings, ``(n_utterances, n_features)``
        data: what is rated, and the splits
        plan: which probes and controls
        keys: encoder, layer, control and seed of the rows of the score table
        bands: sources that are fitted beside the layer, each ``(n_utterances, n_other_features)``, with its own penalty
        algebra: where ridge multiplies matrices
    """
    real = keys["control"] == "none"
    targets = targets_of(data, plan, controls=plan.controls if real else ())
    fits = nested_ridge(x, targets.y, splits=data.splits, alphas=plan.alphas, shared=targets.shared, algebra=algebra)
    finished = Finished.of(ridge_columns(fits, targets, data.splits, {**keys, "probe": "ridge"}), data)
    if len(bands) and real:
        finished += banded_probe([x, *bands], data, plan, {**keys, "probe": "banded_ridge"}, algebra=algebra)
    if "logistic" in plan.probes:
        finished += Finished.of(_logistic(x, data, plan, keys), data)
    if "mlp" in plan.probes:
        finished += Finished.of(_mlp(x, data, plan, keys), data)
    if "description_length" in plan.probes:
        finished += Finished([], _description_length(x, data, plan, keys), [])
    return finished


def banded_probe(
    sources: Sequence[np.ndarray], data: SweepData, plan: SweepPlan, keys: dict[str, Any], *, algebra: Algebra
) -> Finished:
    """Ridge on sources side by side, each ``(n_utterances, n_features)``; several have a penalty each."""
    targets = targets_of(data, plan, controls=())
    bands = Bands.side_by_side([source.shape[1] for source in sources]) if len(sources) > 1 else None
    fits = nested_ridge(
        np.concatenate(sources, axis=1),
        targets.y,
        splits=data.splits,
        alphas=plan.alphas,
        bands=bands,
        shared=targets.shared,
        algebra=algebra,
    )
    return Finished.of(ridge_columns(fits, targets, data.splits, keys), data)


def targets_of(data: SweepData, plan: SweepPlan, *, controls: tuple[str, ...]) -> Targets:
    """The ratings and classes, and the draws of some controls."""
    classes = {name: len(names) for name, names in plan.classes_of.items()}
    builder = TargetBuilder(plan.targets, plan.residuals, classes, data.splits)
    builder.add(data.ratings, data.codes, control="none", seed=0)
    for control in controls:
        builder.add_control(control, data.ratings, data.codes, data.groups, seed=plan.seed, n_draws=plan.n_permutations)
    return builder.build()


def ridge_columns(fits: list[RidgeFit], targets: Targets, splits: list[Split], keys: dict[str, Any]) -> list[Column]:
    """A column for each target of each draw."""
    columns = []
    for fitted in targets.fitted:
        builder = column_for(fitted, keys)
        for k, (split, fit) in enumerate(zip(splits, fits, strict=True)):
            if fitted.n_classes:
                chosen = _most_likely(fit.prediction[:, fitted.columns], targets.y[split.train][:, fitted.columns])
                builder.add(split, chosen, None, float(fit.alpha[fitted.columns[0]]))
                continue
            column = fitted.columns[k if fitted.by_split else 0]
            mean, spread = float(fit.inner_mean[column]), float(fit.inner_spread[column])
            match = MomentMatch.of_moments(targets.y[split.train, column], mean=mean, spread=spread)
            builder.add(split, fit.prediction[:, column], match, float(fit.alpha[column]))
        columns.append(builder.build())
    return columns


def _most_likely(prediction: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """The class whose fitted share exceeds its share of the training rows the most, as average recall asks.

    A class's fitted share over its frequency is what each class would have if all were as frequent; a class that is
    absent from the training rows is never chosen.
    """
    share = one_hot.mean(axis=0)
    return np.asarray(np.where(share > 0, prediction / np.where(share > 0, share, 1.0), -np.inf).argmax(axis=1))


def _logistic(x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[Column]:
    columns = []
    for k, (name, classes) in enumerate(plan.classes_of.items()):
        fitted = Fitted(name, "none", 0, np.array([0]), data.codes[:, k].astype(np.float64), n_classes=len(classes))
        builder = column_for(fitted, {**keys, "probe": "logistic"})
        fits = nested_logistic(
            x, data.codes[:, k], n_classes=len(classes), splits=data.splits, penalties=LOGISTIC_PENALTIES
        )
        for split, fit in zip(data.splits, fits, strict=True):
            builder.add(split, fit.probability.argmax(axis=1), None, fit.penalty)
        columns.append(builder.build())
    return columns


def _mlp(x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[Column]:
    from probe.mlp import fit_mlp  # a network is loaded where one is asked for

    fits = fit_mlp(x, data.ratings, splits=data.splits, seed=plan.seed, device=plan.device)
    columns = []
    for t, name in enumerate(plan.targets):
        builder = column_for(
            Fitted(name, "none", 0, np.array([t]), data.ratings[:, t]), {**keys, "probe": "mlp", "seed": plan.seed}
        )
        for split, fit in zip(data.splits, fits, strict=True):
            match = MomentMatch.learn(fit.inner_truth[:, t], fit.inner_prediction[:, t])
            builder.add(split, fit.prediction[:, t], match)
        columns.append(builder.build())
    return columns


def _description_length(x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Score rows; there are no held-out predictions to keep."""
    code = online_code(
        x, data.ratings, groups=data.groups, alphas=plan.alphas, rng=np.random.default_rng([plan.seed, 99])
    )
    label = {**keys, "probe": "description_length", "fold": POOLED, "metric": "bits_saved"}
    return [{**label, "target": t, "value": float(g)} for t, g in zip(plan.targets, code.gain, strict=True)]
