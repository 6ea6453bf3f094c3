"""Minimum description length (MDL) of ratings given one layer, as an online code over unseen speakers.

The online code of Voita and Titov (2020, arXiv:2003.12298), whose labels are classes, with Gaussian codes for ratings.
It advances in blocks of speakers, so that a layer which only identifies speakers shortens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import Split, assert_disjoint, speaker_folds
from layerprobe.probe.vectors import RESIDUAL_ROUNDING, varies_by_rounding

# Of all utterances. Those of Voita and Titov (2020) start at 1/1000: too few speakers to choose alpha with.
FRACTIONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
MIN_SPEAKERS, MIN_UTTERANCES = 4, 16  # in the first portion


@dataclass(frozen=True)
class DescriptionLength:
    """Code lengths for one order of the speakers; NaN for a target with constant ratings in a training portion."""

    gain: np.ndarray  # (n_targets,) bits per coded utterance that the layer saves; negative if it misleads
    coded: np.ndarray  # (n_targets,) bits of the coded ratings given the layer, in bins of one rating unit
    marginal: np.ndarray  # (n_targets,) bits of the same ratings given their mean and standard deviation only
    n_coded: int  # number of utterances after the first portion


def online_code(
    x: np.ndarray,
    y: np.ndarray,
    *,
    groups: np.ndarray,
    alphas: tuple[float, ...],
    rng: np.random.Generator,
    n_inner_folds: int = 4,
) -> DescriptionLength:
    """Code each portion of speakers with a model of the earlier portions, with the layer and without.

    The layer's code is a Gaussian around the ridge prediction whose variance is the error on inner held-out speakers;
    the marginal code is one around the mean rating whose variance is the error of the mean on the same speakers.
    Narrower bins lengthen both equally. The first portion would cost the same in both and is left out.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)``
        y: ratings, ``(n_utterances, n_targets)``, finite
        groups: ``(n_utterances,)`` a number per speaker, from `probe.splits.speaker_groups`
        alphas: relative penalties in rising order, as in `probe.solvers.ridge.nested_ridge`
        rng: orders the speakers, and assigns those of earlier portions to inner folds
        n_inner_folds: at least 2; limited by the number of speakers

    Raises:
        InputError: if no speaker is left to code, or there are fewer than 2 inner folds
    """
    portion = speaker_portions(groups, rng=rng)
    coded, marginal = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    for k in range(1, int(portion.max()) + 1):
        earlier, coded_rows = np.flatnonzero(portion < k), np.flatnonzero(portion == k)
        n_folds = min(n_inner_folds, len(np.unique(groups[earlier])))
        split = Split(f"portion {k}", earlier, coded_rows, speaker_folds(groups[earlier], n_folds=n_folds, rng=rng))
        assert_disjoint(split, groups)
        # One call per portion. Together, five portions in four folds each would hold twenty cells of n_features^2 and
        # reuse no fit, since every portion's training sets are new. They would even be slower, because one long portion
        # denies the short ones the cheap fit by utterances: 5000 x 2048 took 30 s and 800 MiB together, 9 s and 250
        # MiB like this, on one core. The price is to sum earlier portions again, little compared with the fits.
        (fit,) = nested_ridge(x, y, splits=[split], alphas=alphas)
        mean, variance = _mean_and_variance(y[earlier])
        # on held-out speakers: on the rows it was fitted to, a wide ridge would seem far too certain
        error = np.maximum(fit.inner_errors.min(axis=0), RESIDUAL_ROUNDING * variance)
        coded += gaussian_bits(y[coded_rows], mean=fit.prediction, variance=error)
        error_of_mean = np.maximum(_held_out_variance(y[earlier], split.inner_folds), RESIDUAL_ROUNDING * variance)
        marginal += gaussian_bits(y[coded_rows], mean=mean, variance=error_of_mean)
    n_coded = int((portion > 0).sum())
    return DescriptionLength((marginal - coded) / n_coded, coded, marginal, n_coded)


def speaker_portions(groups: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Put speakers in random order and cut after the first speaker at which each of `FRACTIONS` is reached.

    The first portion has at least `MIN_SPEAKERS` with `MIN_UTTERANCES`; cuts before its end are dropped.

    Args:
        groups: ``(n_utterances,)`` a number per speaker
        rng: orders the speakers

    Returns:
        ``(n_utterances,)`` portion numbers 0, 1, …; no speaker is in two

    Raises:
        InputError: if the first portion takes all speakers
    """
    speakers, counts = np.unique(groups, return_counts=True)
    order = rng.permutation(len(speakers))
    cumulative = np.cumsum(counts[order])  # utterances of the first speakers
    shortest = max(MIN_SPEAKERS, int(np.searchsorted(cumulative, MIN_UTTERANCES)) + 1)
    if shortest >= len(speakers):
        raise InputError(
            "LP526",
            f"{len(speakers)} speaker{'s' * (len(speakers) != 1)} with {len(groups)} utterances are too few for an "
            f"online code: it learns from {MIN_SPEAKERS} speakers with {MIN_UTTERANCES} utterances, or more, before it "
            "codes another speaker. Add speakers.",
        )
    ends = np.searchsorted(cumulative, np.array(FRACTIONS) * len(groups)) + 1  # numbers of speakers
    cuts = np.unique(np.maximum(ends, shortest))
    portion_of = np.empty(len(speakers), dtype=int)
    portion_of[order] = np.searchsorted(cuts, np.arange(len(speakers)), side="right")
    return np.asarray(portion_of[np.searchsorted(speakers, groups)])


def gaussian_bits(ratings: np.ndarray, *, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return ``-log2 N(ratings | mean, variance)``, summed over utterances, ``(n_targets,)``.

    Args:
        ratings: ``(n_utterances, n_targets)``
        mean: of each rating, or ``(n_targets,)``
        variance: ``(n_targets,)``, positive or NaN
    """
    surprise = np.square(ratings - mean) / (2 * variance) / np.log(2)
    return np.asarray((surprise + np.log2(2 * np.pi * variance) / 2).sum(axis=0))


def _mean_and_variance(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance, both ``(n_targets,)``; the variance of a constant is NaN: it has no Gaussian."""
    variance = np.where(varies_by_rounding(ratings), np.nan, ratings.var(axis=0, dtype=np.float64))
    return ratings.mean(axis=0, dtype=np.float64), variance


def _held_out_variance(ratings: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the mean squared difference of each fold's ratings from the mean of the others, ``(n_targets,)``.

    New speakers differ from the mean more than the speakers it was computed of. The variance of the ridge's code
    includes that, so this one must, too.
    """
    error_of_mean = np.empty(ratings.shape, dtype=np.float64)
    for fold in np.unique(folds):
        error_of_mean[folds == fold] = ratings[folds == fold] - ratings[folds != fold].mean(axis=0)
    return np.asarray((error_of_mean**2).mean(axis=0))
