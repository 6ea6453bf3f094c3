"""Heads fitted as a sweep fits its probes: on all speakers, or on those of one fold, whose predictions are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.metrics import MomentMatching, RatingMoments
from layerprobe.probe.predictors.heads import Head, matched_head
from layerprobe.probe.predictors.swept import SweptData as SweptData, read_swept as read_swept
from layerprobe.probe.solvers.ridge import fit_ridge, nested_ridge
from layerprobe.probe.splits import Split, speaker_folds
from layerprobe.probe.sweep.data.inputs import row_indices
from layerprobe.probe.sweep.data.rated_parts import RatedPart

ALL_SPEAKERS = "all"
MIXES = ("weighted_sum", "uniform_mix", "softmax_mix")  # that heads can be refitted of


def fit_head(swept: SweptData, *, encoder: str, target: str, layer: str, fold: str = ALL_SPEAKERS) -> Head:
    """Fit the head of one target as the sweep fits its probe, with the penalty that inner folds choose.

    Fitted on all speakers, the inner folds are the folds of the sweep, so that the penalty is the one with the lowest
    error over all held-out speakers, and moment matching is learnt on their held-out predictions. Fitted without a
    fold, all is as in the sweep, and so are the predictions for the utterances of the fold.

    Args:
        swept: of `read_swept`
        encoder: its name in the run
        target: a rating
        layer: of the encoder, or one of `MIXES` over all its layers (of the first seed)
        fold: the name of a fold, whose speakers are left out; `ALL_SPEAKERS` leaves none out

    Raises:
        InputError: if the run has no such encoder, target or layer
    """
    cache, part = swept.cache(encoder), swept.part(target)
    split = fold_split(part, fold)
    ratings = part.data.ratings[:, [part.plan.targets.index(target)]]
    rows = part.take(row_indices(cache, swept.dataset))
    if layer in MIXES:
        return _fit_mix(cache, rows, part, split, target=target, mix=layer)
    if layer not in cache.layers:
        known = ", ".join([*cache.layers, *MIXES])
        raise InputError("LP903", f"{encoder} has no layer {layer!r} in {cache.path}; choose one of {known}.")
    return layer_head(
        cache.read_layer(layer, rows),
        ratings,
        split,
        target=target,
        layer=layer,
        alphas=swept.plan.alphas,
        inner_selection=swept.plan.inner_selection,
    )


def layer_head(
    x: np.ndarray,
    ratings: np.ndarray,
    split: Split,
    *,
    target: str,
    layer: str,
    alphas: tuple[float, ...],
    inner_selection: str,
) -> Head:
    """Fit the head of one layer on the training utterances of a split.

    Args:
        x: ``(n_utterances, n_features)`` embeddings of the layer
        ratings: ``(n_utterances, 1)`` of the target
        split: with the inner folds that choose the penalty
        target: its name
        layer: its name
        alphas: penalties to choose from
        inner_selection: how, a key of `probe.solvers.leave_group_out.INNER_SELECTIONS`
    """
    (chosen,) = nested_ridge(x, ratings, splits=[split], alphas=alphas, inner_selection=inner_selection)
    coefficients, intercept = fit_ridge(
        np.asarray(x[split.train], dtype=np.float64), ratings[split.train], alpha=chosen.alpha
    )
    moments = RatingMoments.of_columns(ratings[split.train])[0]
    match = MomentMatching.from_moments(moments, mean=float(chosen.inner_mean[0]), std=float(chosen.inner_std[0]))
    return matched_head(target, (layer,), coefficients.T, float(intercept[0]), match)


def fold_split(part: RatedPart, fold: str) -> Split:
    """Return the split of a fold, or of all speakers with the sweep's folds as inner folds.

    Where the sweep held out a split of the manifest, the speakers are assigned to as many inner folds anew.

    Raises:
        InputError: if there is no such fold
    """
    splits = {split.name: split for split in part.data.splits}
    if fold != ALL_SPEAKERS:
        if fold not in splits:
            raise InputError("LP904", f"The sweep has no fold {fold!r}; it has {', '.join(splits)}. Name one of these.")
        return splits[fold]
    n = len(part.data.utterance_ids)
    inner = np.full(n, -1)
    for number, split in enumerate(splits.values()):
        inner[split.test] = number
    if (inner < 0).any() or len(splits) < 2:
        groups, rng = part.data.held_out_units, np.random.default_rng(part.plan.seed)
        n_folds = min(part.plan.n_inner_folds, len(np.unique(groups)))
        inner = speaker_folds(groups, n_folds=n_folds, rng=rng)
    return Split(ALL_SPEAKERS, np.arange(n), np.arange(0), inner)


def _fit_mix(cache: Cache, rows: np.ndarray, part: RatedPart, split: Split, *, target: str, mix: str) -> Head:
    """Fit a weighted sum of all layers, as `probe.sweep.fits.mix_probes` does with its first seed.

    A fold is fitted together with all others, targets and seeds, as in the sweep, so that all sums are the same.
    """
    import torch

    from layerprobe.probe.weighted_sum.solver import Mixer  # imports torch

    plan, ratings, column = part.plan, part.data.ratings, part.plan.targets.index(target)
    layers = [layer for layer in cache.layers if layer != FINAL]
    names, learns = dict(enumerate(layers)), mix != "uniform_mix"
    seeds = plan.weighted_sum_seeds if learns and plan.weighted_sum_seeds else (0,)
    splits, k = part.data.splits, 0
    if split.name == ALL_SPEAKERS:
        splits, ratings, column, seeds = [split], ratings[:, [column]], 0, seeds[:1]
    else:
        k = next(i for i, one in enumerate(splits) if one.name == split.name)
    mixer = Mixer(
        lambda layer, some: cache.read_layer(names[layer], rows[some]),
        len(layers),
        ratings,
        splits=splits,
        device=plan.device if torch.cuda.is_available() else "cpu",
    )
    chosen = mixer.choose(
        plan.mix_penalties,
        weight_penalties=plan.mix_weight_penalties if mix == "weighted_sum" else (0.0,),
        max_iterations=plan.mix_iterations,
        seed=seeds[0],
        learns=learns,
    )
    coefficients, intercept = mixer.coefficients(
        chosen, max_iterations=plan.mix_iterations, seeds=seeds, learns=learns
    )[k]
    match = MomentMatching.learn(ratings[split.train, column], chosen.inner_prediction[k][:, column])
    return matched_head(target, layers, coefficients[column], float(intercept[column]), match)


def with_interval(head: Head, half_width: float) -> Head:
    """Return the head with a prediction interval of that half-width, in the target's unit."""
    return replace(head, half_width=half_width)
