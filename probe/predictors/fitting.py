"""Heads fitted as a sweep fits its probes: on all speakers, or on those of one fold, whose predictions are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.metrics import MomentMatching, RatingMoments
from layerprobe.probe.predictors.heads import Head, matched_head
from layerprobe.probe.results.run_folder import Run
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.solvers.ridge import fit_ridge, nested_ridge
from layerprobe.probe.splits import Split, speaker_folds
from layerprobe.probe.sweep.inputs import SweepDataset, encoder_names, make_dataset, row_indices
from layerprobe.probe.sweep.prepared import prepare_recorded
from layerprobe.probe.sweep.rated_parts import RatedPart
from layerprobe.probe.sweep.recorded import read_recorded

ALL_SPEAKERS = "all"
MIXES = ("weighted_sum", "uniform_mix", "softmax_mix")  # that heads can be refitted of


@dataclass(frozen=True)
class SweptData:
    """What a sweep was fitted on, read again: the utterances, their folds, and the cache of each encoder."""

    run: Run
    plan: SweepPlan
    dataset: SweepDataset
    caches: dict[str, Cache]  # by the encoder's name in the run
    manifest: Path

    def part(self, target: str) -> RatedPart:
        """Return the utterances that rate a target.

        Raises:
            InputError: if the run did not rate it
        """
        for part in self.dataset.parts:
            if target in part.plan.targets:
                return part
        known = ", ".join(self.plan.targets) or "no rated target"
        raise InputError("LP900", f"{self.run.path} has no ratings of {target!r}; it has {known}. Name one of these.")

    def cache(self, encoder: str) -> Cache:
        """Return the cache of an encoder.

        Raises:
            InputError: if the run has no such encoder
        """
        if encoder not in self.caches:
            raise InputError(
                "LP901", f"{self.run.path} has no encoder {encoder!r}; it has {', '.join(self.caches)}. Name one."
            )
        return self.caches[encoder]


def read_swept(run: Run) -> SweptData:
    """Read the manifest and the caches of a sweep's run again, and check that they are what the sweep was fitted on.

    Args:
        run: of `layerprobe sweep`

    Raises:
        InputError: if it is of another command, or a file is gone or has changed since
    """
    recorded = read_recorded(run.path)
    inputs = prepare_recorded(recorded, [], None, [], [], {})
    changed = recorded.changes(inputs.manifest, [*inputs.caches, *inputs.random_weights])
    if changed or inputs.manifest.content_hash(recorded.plan.group_by) != recorded.content:
        reason = changed[0].removeprefix("Warning: ").split(", so scores")[0] if changed else "its ratings are others"
        raise InputError(
            "LP902", f"{run.path} can't be refitted: {reason}. Run layerprobe sweep again, and deploy the new run."
        )
    others = [*inputs.random_weights, *(cache for covariate in inputs.covariates for cache in covariate.caches)]
    dataset = make_dataset([*inputs.caches, *others], inputs.manifest, inputs.plan)
    named = dict(zip(encoder_names(inputs.caches), inputs.caches, strict=True))
    return SweptData(run, inputs.plan, dataset, named, inputs.manifest.path)


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
        return _fit_mix(cache, rows, ratings, split, plan=swept.plan, target=target, mix=layer)
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
    alphas: Sequence[float],
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


def _fit_mix(
    cache: Cache, rows: np.ndarray, ratings: np.ndarray, split: Split, *, plan: SweepPlan, target: str, mix: str
) -> Head:
    """Fit a weighted sum of all layers, as `probe.sweep.mix_probes` does with its first seed."""
    from layerprobe.probe.weighted_sum.solver import Mixer  # imports torch

    layers = [layer for layer in cache.layers if layer != FINAL]
    names, learns = dict(enumerate(layers)), mix != "uniform_mix"
    mixer = Mixer(lambda k, some: cache.read_layer(names[k], rows[some]), len(layers), ratings, splits=[split])
    seed = plan.weighted_sum_seeds[0] if learns and plan.weighted_sum_seeds else 0
    chosen = mixer.choose(
        plan.mix_penalties,
        weight_penalties=plan.mix_weight_penalties if mix == "weighted_sum" else (0.0,),
        max_iterations=plan.mix_iterations,
        seed=seed,
        learns=learns,
    )
    ((coefficients, intercept),) = mixer.coefficients(
        chosen, max_iterations=plan.mix_iterations, seed=seed, learns=learns
    )
    match = MomentMatching.learn(ratings[split.train, 0], chosen.inner_prediction[0][:, 0])
    return matched_head(target, layers, coefficients[0], float(intercept[0]), match)


def with_interval(head: Head, half_width: float) -> Head:
    """Return the head with a prediction interval of that half-width, in the target's unit."""
    return replace(head, half_width=half_width)
