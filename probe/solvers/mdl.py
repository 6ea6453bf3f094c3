"""Description length of ratings given one layer: the bits by which it shortens those of speakers not yet heard.

The online code of Voita and Titov (2020, 2003.12298), whose labels are classes, with Gaussian codes for ratings. It
comes in blocks of speakers, so that a layer which only tells speakers apart shortens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import Split, assert_disjoint, speaker_folds

# Of all utterances. Those of Voita and Titov (2020) begin at 1/1000: too few speakers to choose alpha by.
FRACTIONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
MIN_SPEAKERS, MIN_UTTERANCES = 4, 16  # in the first portion
# A squared error below this share of the ratings' variance is rounding in `probe.solvers.gram`, and no rater
# is as exact.
LEAST_ERROR = 1e-6


@dataclass(frozen=True)
class DescriptionLength:
    """What one order of the speakers gives; NaN for a target of which all ratings seen by some code are equal."""

    gain: np.ndarray  # (n_targets,) bits per coded utterance that the layer saves; below 0 where it misleads
    coded: np.ndarray  # (n_targets,) bits of all coded ratings given the layer, in bins of one rating unit; may be < 0
    marginal: np.ndarray  # (n_targets,) the same by mean and spread alone
    n_coded: int  # utterances, all but the first portion


def online_code(
    x: np.ndarray,
    y: np.ndarray,
    *,
    groups: np.ndarray,
    alphas: tuple[float, ...],
    rng: np.random.Generator,
    n_inner_folds: int = 4,
) -> DescriptionLength:
    """Code each portion of speakers by what the portions before it teach, with the layer and without.

    The layer's code is a Gaussian around the ridge's prediction, as wide as its error on inner held-out speakers; the
    marginal code is one around the mean rating, as wide as the error of the mean on the same inner held-out speakers.
    Narrower bins lengthen both alike. The first portion would cost the same in both and is left out.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)``
        y: ratings, ``(n_utterances, n_targets)``, finite
        groups: ``(n_utterances,)`` a number per speaker, as of `probe.splits.speaker_groups`
        alphas: relative penalties, rising, as of `probe.solvers.ridge.nested_ridge`
        rng: orders the speakers, and deals those seen into inner folds
        n_inner_folds: at least 2; as many as there are speakers where they are fewer

    Raises:
        InputError: if no speaker is left to code, or inner folds are fewer than 2
    """
    portion = speaker_portions(groups, rng=rng)
    coded, marginal = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    for k in range(1, int(portion.max()) + 1):
        seen, coming = np.flatnonzero(portion < k), np.flatnonzero(portion == k)
        n_folds = min(n_inner_folds, len(np.unique(groups[seen])))
        split = Split(f"portion {k}", seen, coming, speaker_folds(groups[seen], n_folds=n_folds, rng=rng))
        assert_disjoint(split, groups)
        # One call a portion. Together, five portions in four folds each would hold twenty cells of n_features^2 and
        # share no fit, since every portion's training sets are new. They would even be slower, for one long portion
        # denies the short ones the cheap fit by utterances: 5000 x 2048 took 30 s and 800 MiB together, 9 s and 250
        # MiB so, on one core. The price is to sum earlier portions again, which is little beside the fits.
        (fit,) = nested_ridge(x, y, splits=[split], alphas=alphas)
        mean, variance = _mean_and_variance(y[seen])
        # of speakers held out: on the rows it was fitted to, a wide ridge would seem far too sure
        error = np.maximum(fit.inner_errors.min(axis=0), LEAST_ERROR * variance)
        coded += gaussian_bits(y[coming], mean=fit.prediction, variance=error)
        off = np.maximum(_held_out_variance(y[seen], split.inner_folds), LEAST_ERROR * variance)
        marginal += gaussian_bits(y[coming], mean=mean, variance=off)
    n_coded = int((portion > 0).sum())
    return DescriptionLength((marginal - coded) / n_coded, coded, marginal, n_coded)


def speaker_portions(groups: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Put speakers in random order and cut after the first with whom each of `FRACTIONS` is reached.

    The first portion has at least `MIN_SPEAKERS` with `MIN_UTTERANCES`; cuts that come before its end are dropped.

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
    heard = np.cumsum(counts[order])  # utterances of the first speakers
    shortest = max(MIN_SPEAKERS, int(np.searchsorted(heard, MIN_UTTERANCES)) + 1)
    if shortest >= len(speakers):
        raise InputError(
            f"{len(speakers)} speaker{'s' * (len(speakers) != 1)} with {len(groups)} utterances are too few for an "
            f"online code: it learns from {MIN_SPEAKERS} speakers with {MIN_UTTERANCES} utterances, or more, before it "
            "codes another speaker. Add speakers."
        )
    ends = np.searchsorted(heard, np.array(FRACTIONS) * len(groups)) + 1  # numbers of speakers
    cuts = np.unique(np.maximum(ends, shortest))
    portion_of = np.empty(len(speakers), dtype=int)
    portion_of[order] = np.searchsorted(cuts, np.arange(len(speakers)), side="right")
    return np.asarray(portion_of[np.searchsorted(speakers, groups)])


def gaussian_bits(ratings: np.ndarray, *, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """``-log2 N(ratings | mean, variance)``, summed over utterances: ``(n_targets,)``.

    Args:
        ratings: ``(n_utterances, n_targets)``
        mean: of each rating, or ``(n_targets,)``
        variance: ``(n_targets,)``, above 0 or NaN
    """
    surprise = np.square(ratings - mean) / (2 * variance) / np.log(2)
    return np.asarray((surprise + np.log2(2 * np.pi * variance) / 2).sum(axis=0))


def _mean_and_variance(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ``(n_targets,)``; a constant has no Gaussian, thus variance NaN."""
    constant = np.ptp(ratings, axis=0) == 0  # not variance == 0: that of a constant can be 1e-34
    variance = np.where(constant, np.nan, ratings.var(axis=0, dtype=np.float64))
    return ratings.mean(axis=0, dtype=np.float64), variance


def _held_out_variance(ratings: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Mean squared distance of each fold's ratings from the mean of the others, ``(n_targets,)``.

    New speakers differ from the mean more than those of whom it was taken; the ridge's width knows that, so must this.
    """
    off = np.empty(ratings.shape, dtype=np.float64)
    for fold in np.unique(folds):
        off[folds == fold] = ratings[folds == fold] - ratings[folds != fold].mean(axis=0)
    return np.asarray((off**2).mean(axis=0))
