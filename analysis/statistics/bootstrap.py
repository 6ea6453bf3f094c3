"""Intervals by drawing whole speakers: one set of draws for all layers and targets, so that differences are paired.

Utterances of one speaker resemble each other; drawing utterances would make intervals too narrow. Scores are functions
of sums over speakers, so a draw is a row of speakers' counts, and all draws of all columns are one product of matrices
(Efron and Tibshirani, 1993; Bisani and Ney, 2004, for the paired draws). Few speakers still give intervals that are too
narrow by about a factor of sqrt((n - 1) / n) and by the normal's tails in place of Student's: both are corrected by
taking wider percentiles (Hesterberg, 2015, expanded percentiles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t as student

N_RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Sums:
    """Sums over utterances, by speaker or by draw, of ratings t and predictions p less a constant each.

    ``n`` is ``(n_rows, 1)`` and the others ``(n_rows, n_columns)``, a column for each layer, target, probe.
    """

    n: np.ndarray
    t: np.ndarray
    p: np.ndarray
    tt: np.ndarray
    pp: np.ndarray
    tp: np.ndarray
    apart: np.ndarray  # (n_columns,) the constant of t less that of p

    def drawn(self, counts: np.ndarray) -> Sums:
        """The sums of draws, given how often each holds each speaker, ``(n_draws, n_speakers)``."""
        n_columns = self.t.shape[1]
        every = counts @ np.concatenate([self.n, self.t, self.p, self.tt, self.pp, self.tp], axis=1)
        n, t, p, tt, pp, tp = np.split(every, [1 + k * n_columns for k in range(5)], axis=1)
        return Sums(n, t, p, tt, pp, tp, self.apart)


def speaker_sums(truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray) -> Sums:
    """Sums by speaker.

    Args:
        truth: ratings that each column is compared with, ``(n_utterances, n_columns)``
        prediction: ``(n_utterances, n_columns)``
        groups: ``(n_utterances,)`` a number per speaker
    """
    order = np.argsort(groups, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    t0, p0 = truth.mean(axis=0, dtype=np.float64), prediction.mean(axis=0, dtype=np.float64)
    t, p = truth[order] - t0, prediction[order] - p0
    n = np.diff(np.r_[begins, len(order)])[:, None].astype(np.float64)
    sum_t, sum_p, tt, pp, tp = (np.add.reduceat(v, begins, axis=0) for v in (t, p, t * t, p * p, t * p))
    return Sums(n, sum_t, sum_p, tt, pp, tp, t0 - p0)


def resample_speakers(n_speakers: int, *, n_draws: int = N_RESAMPLES, rng: np.random.Generator) -> np.ndarray:
    """How often each of ``n_draws`` draws with replacement holds each speaker, ``(n_draws, n_speakers)`` float64."""
    drawn = rng.integers(n_speakers, size=(n_draws, n_speakers))
    places = drawn + n_speakers * np.arange(n_draws)[:, None]
    return np.bincount(places.ravel(), minlength=n_draws * n_speakers).reshape(n_draws, n_speakers).astype(np.float64)


def ccc(sums: Sums) -> np.ndarray:
    """Lin's concordance (1989) of each row and column; 0 for a constant prediction, NaN where both are one constant."""
    t, p, variance_t, variance_p, covariance = _moments(sums)
    spread = variance_t + variance_p + (t - p + sums.apart) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * covariance / spread)


def pearson(sums: Sums) -> np.ndarray:
    """Pearson's correlation of each row and column; NaN where either is constant."""
    _, _, variance_t, variance_p, covariance = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(covariance / np.sqrt(variance_t * variance_p))


def rmse(sums: Sums) -> np.ndarray:
    """Root mean squared error of each row and column."""
    t, p, variance_t, variance_p, covariance = _moments(sums)
    return np.asarray(np.sqrt(np.maximum(variance_t + variance_p - 2 * covariance + (t - p + sums.apart) ** 2, 0.0)))


def r2(sums: Sums) -> np.ndarray:
    """The share of the ratings' variance that is predicted, of each row and column; NaN for constant ratings."""
    _, _, variance_t, _, _ = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - rmse(sums) ** 2 / variance_t)


METRICS: dict[str, Callable[[Sums], np.ndarray]] = {
    "ccc": ccc,
    "ccc_matched": ccc,  # of matched predictions
    "pearson": pearson,
    "rmse": rmse,
    "r2": r2,
}


@dataclass(frozen=True)
class Intervals:
    """Of each column, ``(n_columns,)``."""

    estimate: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray


def expanded_quantile(n_speakers: float, *, level: float = LEVEL) -> float:
    """How many standard deviations of the draws an interval reaches (Hesterberg, 2015).

    >>> round(expanded_quantile(1e9), 2), round(expanded_quantile(10), 2)
    (1.96, 2.38)
    """
    return float(np.sqrt(n_speakers / (n_speakers - 1)) * student.ppf((1 + level) / 2, n_speakers - 1))


def bca_interval(
    estimate: np.ndarray,
    draws: np.ndarray,
    left_out: np.ndarray,
    *,
    level: float = LEVEL,
    n_speakers: float | None = None,
) -> Intervals:
    """Percentiles that are corrected for bias and for a spread that depends on the score (BCa; Efron, 1987).

    Args:
        estimate: ``(n_columns,)``
        draws: ``(n_draws, n_columns)``
        left_out: scores without each speaker in turn, ``(n_speakers, n_columns)``
        level: of the interval
        n_speakers: infinite for the textbook's interval; all that are left out in turn if None
    """
    n_draws, reach = len(draws), expanded_quantile(n_speakers or len(left_out), level=level)
    bias, skew = _bias(estimate, draws), _skew(left_out)
    ends = []
    for side in (-reach, reach):
        z = bias + side
        ends.append(norm.cdf(bias + z / (1 - skew * z)))
    ordered = np.sort(draws, axis=0)
    places = np.clip(np.array(ends) * (n_draws - 1), 0, n_draws - 1)
    columns = np.arange(draws.shape[1])
    below_place, part = np.floor(places).astype(int), places % 1
    above = np.minimum(below_place + 1, n_draws - 1)
    low, high = (1 - part) * ordered[below_place, columns] + part * ordered[above, columns]
    return Intervals(estimate, low, high)


def bca_p_value(
    estimate: np.ndarray,
    draws: np.ndarray,
    left_out: np.ndarray,
    *,
    null: float = 0.0,
    n_speakers: float | None = None,
) -> np.ndarray:
    """Two-sided p-values ``(n_columns,)``: one less the level of the BCa interval that ends at ``null``.

    So a p-value is below .05 where the 95 % interval leaves ``null`` out. Of under eight speakers that interval may be
    cut off where the draws end, and the p-value is then the more careful of the two. Never below 1 / (n_draws + 1).
    Arguments as in `bca_interval`.
    """
    n_draws, n = len(draws), n_speakers or len(left_out)
    bias, skew = _bias(estimate, draws), _skew(left_out)
    below = (np.sum(draws < null, axis=0) + 0.5 * np.sum(draws == null, axis=0)) / n_draws
    reached = norm.ppf(np.clip(below, 0.5 / n_draws, 1 - 0.5 / n_draws)) - bias
    side = reached / (1 + skew * reached) - bias
    p = 2 * student.sf(np.abs(side) * np.sqrt((n - 1) / n), n - 1)
    return np.asarray(np.clip(p, 1 / (n_draws + 1), 1.0))


def _bias(estimate: np.ndarray, draws: np.ndarray) -> np.ndarray:
    n_draws = len(draws)
    below = (np.sum(draws < estimate, axis=0) + 0.5 * np.sum(draws == estimate, axis=0)) / n_draws
    return np.asarray(norm.ppf(np.clip(below, 0.5 / n_draws, 1 - 0.5 / n_draws)))


def _skew(left_out: np.ndarray) -> np.ndarray:
    off = left_out.mean(axis=0) - left_out
    spread = np.sum(off**2, axis=0)
    return np.asarray(np.sum(off**3, axis=0) / np.where(spread > 0, 6 * spread**1.5, 1.0))


def without_each_speaker(sums: Sums) -> Sums:
    """The sums of all speakers but one, for each one in turn."""
    n, t, p, tt, pp, tp = (
        column.sum(axis=0) - column for column in (sums.n, sums.t, sums.p, sums.tt, sums.pp, sums.tp)
    )
    return Sums(n, t, p, tt, pp, tp, sums.apart)


def _moments(sums: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, variances and covariance, all dividing by n; a variance within rounding of 0 is 0; NaN of no utterance."""
    n = np.where(sums.n > 0, sums.n, np.nan)
    t, p = sums.t / n, sums.p / n
    square_t, square_p = sums.tt / n, sums.pp / n
    variance_t, variance_p = square_t - t**2, square_p - p**2
    variance_t = np.where(variance_t > 1e-12 * square_t, variance_t, 0.0)
    variance_p = np.where(variance_p > 1e-12 * square_p, variance_p, 0.0)
    constant = (variance_t == 0) | (variance_p == 0)
    return t, p, variance_t, variance_p, np.where(constant, 0.0, sums.tp / n - t * p)
