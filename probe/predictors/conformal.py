"""Prediction intervals for an utterance of a new speaker: conformal prediction over speakers.

Utterances of one speaker are alike, so that many utterances of few speakers do not show how large an error on a new
speaker can be. One utterance of each of K speakers, sampled at random, gives K errors that are exchangeable with that
of an utterance of a new one: the interval up to the error of rank ``level * (K + 1)`` holds its rating with that
probability (split conformal prediction by single subsampling: Dunn, Wasserman and Ramdas, 2023). So every speaker has
the same weight, however many utterances there are of it, and the new speaker has that weight beyond all errors, as in
hierarchical conformal prediction (Lee, Barber and Willett, 2023).

Which utterances are sampled should not matter, so half-widths are averaged over many samples, and between the two ranks
around ``level * (K + 1)``. Both keep the probability at the level or above it wherever small errors are more frequent
than large ones, since the distribution function of the absolute error is then concave. Weighting all errors at once, as
Lee, Barber and Willett do, holds without that, and holds too much with few speakers:
tests/benchmarks/interval_coverage.py measures all of these.
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.9  # probability that an interval holds the rating
N_SAMPLES = 1000
ROUNDING = 1e-9  # of a rank


def reachable_level(n_speakers: int, level: float = LEVEL) -> float:
    """Return the level of intervals, or the highest that so few speakers can show, which is K / (K + 1).

    >>> reachable_level(24), reachable_level(4)
    (0.9, 0.8)
    """
    return min(level, n_speakers / (n_speakers + 1))


def half_width(errors: np.ndarray, speakers: np.ndarray, *, level: float, rng: np.random.Generator) -> float:
    """Return half the width of intervals around predictions, in the unit of the errors.

    Args:
        errors: ``(n_utterances,)`` rating minus prediction, of speakers that the probe was not fitted on
        speakers: ``(n_utterances,)`` names or numbers of them
        level: probability that the interval holds the rating of an utterance of a new speaker, in (0, 1)
        rng: samples an utterance of each speaker

    Returns:
        infinity where the level is above K / (K + 1) of K speakers

    Raises:
        ValueError: if there is no error, or one is not finite

    >>> half_width(np.array([1.0, 3.0, 2.0]), np.array(["a", "b", "c"]), level=0.75, rng=np.random.default_rng(0))
    3.0
    """
    if not len(errors) or not np.isfinite(errors).all():
        raise ValueError(f"{(~np.isfinite(errors)).sum()} of {len(errors)} errors are not finite")
    _, of_row, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    n = len(counts)
    rank = level * (n + 1)
    if rank > n + ROUNDING:
        return float("inf")
    by_speaker = np.abs(errors)[np.argsort(of_row, kind="stable")]
    first = np.cumsum(counts) - counts
    sampled = np.sort(by_speaker[first + rng.integers(counts, size=(N_SAMPLES, n))], axis=1).mean(axis=0)
    return float(np.interp(rank, np.arange(1, n + 1), sampled))
