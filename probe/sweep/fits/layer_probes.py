"""Every probe of one layer: ridge on all targets and permutations, with covariates, and the optional ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerprobe.probe.metrics import MomentMatching, RatingMoments
from layerprobe.probe.results.predictions import (
    NO_RESULTS,
    HeldOutPrediction,
    ProbeResults,
    SweepData,
    prediction_builder,
)
from layerprobe.probe.results.run_folder import POOLED
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.solvers.backends import Algebra
from layerprobe.probe.solvers.mdl import online_code
from layerprobe.probe.solvers.permuted_ridge import PermutedRidge
from layerprobe.probe.solvers.ridge import Bands, nested_ridge
from layerprobe.probe.solvers.ridge_fit import RidgeFit
from layerprobe.probe.splits import Split
from layerprobe.probe.tasks.controls import n_permutations_of
from layerprobe.probe.tasks.cross_corpus import splits_within
from layerprobe.probe.tasks.targets import FittedTarget, ProbeTargets, TargetBuilder, control_rng

PERMUTED_BYTES = 2**28  # of permuted ratings that are fitted together
BYTES_PER_UTTERANCE = 24  # a rating, predictions, and a copy of either
PERMUTED_COLUMNS = (64, 1024)  # fewest and most that are fitted together
LOGISTIC_PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)
RATINGS, PERMUTATIONS, OTHERS = "ratings", "permutations", "other probes"
PASSES = (RATINGS, PERMUTATIONS, OTHERS)  # over a layer: ridge on the ratings, on permutations of them, and the rest


@dataclass(frozen=True)
class CovariateFeatures:
    """The features of all covariates of a sweep; empty if it has none."""

    name: str  # of all of them, for the column ``covariates``
    features: list[np.ndarray]  # each (n_utterances, n_features)


def layer_passes(plan: SweepPlan, control: str, *, covariates: bool) -> tuple[str, ...]:
    """Return which of `PASSES` a layer has work for.

    Args:
        plan: the sweep's
        control: of the layer's cache: "none" or "random_init"
        covariates: whether the sweep has any
    """
    real = control == "none"
    others = bool(plan.probes) or (real and (covariates or plan.cross_corpus))
    wanted = {RATINGS: True, PERMUTATIONS: real and bool(plan.controls), OTHERS: others}
    return tuple(one for one in PASSES if wanted[one])


def layer_probes(
    x: np.ndarray,
    data: SweepData,
    plan: SweepPlan,
    keys: dict[str, Any],
    *,
    covariates: CovariateFeatures,
    algebra: Algebra,
    passes: tuple[str, ...] = PASSES,
) -> ProbeResults:
    """Fit the probes of the plan to one layer.

    Args:
        x: embeddings, ``(n_utterances, n_features)``
        data: what is rated, and the splits
        plan: which probes and controls
        keys: encoder, layer, control and seed of the rows of the score table
        covariates: features that the layer is also fitted with, each with its own penalty
        algebra: where ridge multiplies matrices
        passes: those of `PASSES` that are made; each gives the same results without the others
    """
    wanted = layer_passes(plan, keys["control"], covariates=bool(covariates.features))
    passes = tuple(one for one in passes if one in wanted)
    finished = _ridge(x, data, plan, {**keys, "probe": "ridge"}, passes=passes, algebra=algebra)
    if OTHERS not in passes:
        return finished
    real = keys["control"] == "none"
    if covariates.features and real:
        joint = {**keys, "probe": "banded_ridge", "covariates": covariates.name}
        finished += banded_probe([x, *covariates.features], data, plan, joint, algebra=algebra)
    if plan.cross_corpus and real and (plan.targets or plan.nominal):
        for corpus in np.unique(data.labels["corpus"][data.labels["corpus"] != ""]).tolist():
            finished += _trained_on(corpus, x, data, plan, {**keys, "probe": "ridge"}, algebra=algebra)
    if "logistic" in plan.probes:
        finished += ProbeResults.from_columns(_logistic(x, data, plan, keys), data)
    if "mlp" in plan.probes:
        finished += ProbeResults.from_columns(_mlp(x, data, plan, keys), data)
    if "mdl" in plan.probes:
        finished += ProbeResults([], _mdl(x, data, plan, keys), [])
    return finished


def banded_probe(
    sources: Sequence[np.ndarray], data: SweepData, plan: SweepPlan, keys: dict[str, Any], *, algebra: Algebra
) -> ProbeResults:
    """Fit ridge to sources side by side, each ``(n_utterances, n_features)``; several have a penalty each."""
    targets = make_targets(data, plan)
    bands = Bands.side_by_side([source.shape[1] for source in sources]) if len(sources) > 1 else None
    fits = nested_ridge(
        np.concatenate(sources, axis=1),
        targets.y,
        splits=data.splits,
        alphas=plan.alphas,
        bands=bands,
        shared=targets.shared,
        algebra=algebra,
        inner_selection=plan.inner_selection,
    )
    return ProbeResults.from_columns(ridge_columns(fits, targets, data.splits, keys), data)


def make_targets(data: SweepData, plan: SweepPlan) -> ProbeTargets:
    """Return the ratings and classes, with the residuals of ratings given other targets and given the transcript."""
    builder = _builder(data, plan)
    builder.add(data.every_rating, data.codes, control="none", seed=0, text_residuals=data.text_residuals)
    return builder.build()


def permuted_targets(data: SweepData, plan: SweepPlan) -> Iterator[ProbeTargets]:
    """Yield permutations of the plan's controls, as many at a time as memory allows."""
    n_columns = int(np.clip(PERMUTED_BYTES // (BYTES_PER_UTTERANCE * len(data.ratings)), *PERMUTED_COLUMNS))
    rows = None if data.part_of is None else data.part_of.rows
    data = data if data.part_of is None else data.part_of.data

    def built(builder: TargetBuilder) -> ProbeTargets:
        return builder.build() if rows is None else builder.build().take(rows)

    builder = _builder(data, plan)
    ratings, rest = data.every_rating, data.text_residuals
    for control in plan.controls:
        rng = control_rng(control, plan.seed)
        for number in range(n_permutations_of(control, plan.controls, plan.n_permutations)):
            builder.add_control(
                control,
                ratings,
                data.codes,
                data.groups,
                rng=rng,
                seed=number,
                text_residuals=rest,
                blocks=data.blocks,
            )
            if builder.n_columns >= n_columns:
                yield built(builder)
                builder = _builder(data, plan)
    if builder.n_columns:
        yield built(builder)


def _builder(data: SweepData, plan: SweepPlan) -> TargetBuilder:
    classes = {name: len(names) for name, names in plan.classes_of.items()}
    return TargetBuilder(
        plan.targets,
        plan.residuals,
        classes,
        data.splits,
        text_residuals=plan.text_residuals,
        others=data.other_targets,
    )


def _ridge(
    x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any], *, passes: tuple[str, ...], algebra: Algebra
) -> ProbeResults:
    """Fit ridge to the ratings and to permutations of them, or to either."""
    targets, finished = make_targets(data, plan), NO_RESULTS
    if PERMUTATIONS not in passes:
        if RATINGS in passes:
            fits = nested_ridge(
                x,
                targets.y,
                splits=data.splits,
                alphas=plan.alphas,
                shared=targets.shared,
                algebra=algebra,
                inner_selection=plan.inner_selection,
            )
            finished += ProbeResults.from_columns(ridge_columns(fits, targets, data.splits, keys), data)
        return finished
    ridge = PermutedRidge(
        x, splits=data.splits, alphas=plan.alphas, algebra=algebra, inner_selection=plan.inner_selection
    )
    if RATINGS in passes:
        fits = ridge.fit(targets.y, shared=targets.shared)
        finished += ProbeResults.from_columns(ridge_columns(fits, targets, data.splits, keys), data)
    for permuted in permuted_targets(data, plan):
        fits = ridge.fit_permuted(permuted.y, shared=permuted.shared, of_split=permuted.of_split)
        finished += ProbeResults.from_columns(ridge_columns(fits, permuted, data.splits, keys), data)
    return finished


def _trained_on(
    corpus: str, x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any], *, algebra: Algebra
) -> ProbeResults:
    """Fit ridge on one corpus and test it on all; not to residuals of ratings, for those belong to all corpora."""
    within = replace(
        data, splits=splits_within(data.splits, data.labels["corpus"], corpus), text_residuals=None, other_targets=()
    )
    plain = replace(plan, residuals=(), text_residuals=())
    return _ridge(x, within, plain, {**keys, "train_corpus": corpus}, passes=(RATINGS,), algebra=algebra)


def ridge_columns(
    fits: list[RidgeFit], targets: ProbeTargets, splits: list[Split], keys: dict[str, Any]
) -> list[HeldOutPrediction]:
    """Return a column of held-out predictions for each target, permuted or not."""
    columns, moments = [], [RatingMoments.of_columns(targets.y[split.train]) for split in splits]
    for fitted in targets.fitted:
        builder = prediction_builder(fitted, keys)
        for k, (split, fit) in enumerate(zip(splits, fits, strict=True)):
            if fitted.n_classes:
                chosen = _most_likely(fit.prediction[:, fitted.columns], targets.y[split.train][:, fitted.columns])
                error = float(fit.inner_error[fitted.columns].mean())  # of indicators of the classes
                builder.add(split, chosen, None, float(fit.alpha[fitted.columns[0]]), error)
                continue
            column = fitted.columns[k if fitted.by_split else 0]
            mean, deviation = float(fit.inner_mean[column]), float(fit.inner_std[column])
            match = MomentMatching.from_moments(moments[k][column], mean=mean, std=deviation)
            alpha, error = float(fit.alpha[column]), float(fit.inner_error[column])
            builder.add(split, fit.prediction[:, column], match, alpha, error)
        columns.append(builder.build())
    return columns


def _most_likely(prediction: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """Return the class whose fitted probability exceeds its frequency in training the most, for average recall.

    A class's fitted probability over its frequency is what it would have if all classes were as frequent; a class that
    is absent from the training rows is never chosen.
    """
    frequency = one_hot.mean(axis=0)
    ratio = prediction / np.where(frequency > 0, frequency, 1.0)
    return np.asarray(np.where(frequency > 0, ratio, -np.inf).argmax(axis=1))


def _logistic(x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[HeldOutPrediction]:
    from layerprobe.probe.solvers.logistic import nested_logistic  # imports torch, as that of the MLP does

    columns = []
    for k, (name, classes) in enumerate(plan.classes_of.items()):
        fitted = FittedTarget(
            name, "none", 0, np.array([0]), data.codes[:, k].astype(np.float64), n_classes=len(classes)
        )
        builder = prediction_builder(fitted, {**keys, "probe": "logistic"})
        fits = nested_logistic(
            x, data.codes[:, k], n_classes=len(classes), splits=data.splits, penalties=LOGISTIC_PENALTIES
        )
        for split, fit in zip(data.splits, fits, strict=True):
            builder.add(split, fit.probability.argmax(axis=1), None, fit.penalty)
        columns.append(builder.build())
    return columns


def _mlp(x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[HeldOutPrediction]:
    from layerprobe.probe.solvers.mlp import fit_mlp  # imports torch's modules only where an MLP is requested

    fits = fit_mlp(x, data.ratings, splits=data.splits, seed=plan.seed, device=plan.device)
    columns = []
    for t, name in enumerate(plan.targets):
        builder = prediction_builder(
            FittedTarget(name, "none", 0, np.array([t]), data.ratings[:, t]),
            {**keys, "probe": "mlp", "seed": plan.seed},
        )
        for split, fit in zip(data.splits, fits, strict=True):
            match = MomentMatching.learn(fit.inner_truth[:, t], fit.inner_prediction[:, t])
            builder.add(split, fit.prediction[:, t], match)
        columns.append(builder.build())
    return columns


def _mdl(x: np.ndarray, data: SweepData, plan: SweepPlan, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows of scores; online coding has no held-out predictions to save."""
    code = online_code(
        x, data.ratings, groups=data.held_out_units, alphas=plan.alphas, rng=np.random.default_rng([plan.seed, 99])
    )
    label = {**keys, "probe": "mdl", "fold": POOLED, "metric": "bits_saved"}
    return [{**label, "target": t, "value": float(g)} for t, g in zip(plan.targets, code.gain, strict=True)]
