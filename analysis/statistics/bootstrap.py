"""Bootstrap over speakers: confidence intervals and p-values of scores, paired over layers, targets and encoders.

Utterances of one speaker resemble each other, so that resampling utterances would give intervals that are too narrow.
Whole speakers are resampled instead, the same for all columns, so that differences are paired (Bisani and Ney, 2004).
Scores are functions of sums over utterances: a resample is a row of counts of the speakers, and all resamples of all
columns are one matrix product (Efron and Tibshirani, 1993). With few speakers, percentile intervals are too narrow by a
factor of about sqrt((n - 1) / n) and for using the normal in place of Student's distribution; expanded percentiles
correct for both (Hesterberg, 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm, t as student

from layerprobe.probe.vectors import FLOAT32_ROUNDING, ROUNDING

N_RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Sums:
    """Sums over utterances, one row per speaker or resample, of ratings t and predictions p minus a constant each.

    ``n`` is ``(n_rows, 1)``, or like the others ``(n_rows, n_columns)`` where columns have different utterances; there
    is one column per layer, target and probe.
    """

    n: np.ndarray
    t: np.ndarray
    p: np.ndarray
    tt: np.ndarray
    pp: np.ndarray
    tp: np.ndarray
    offset: np.ndarray  # (n_columns,) constant of t minus that of p
    rounding_t: np.ndarray  # (n_columns,) variance of t up to which it is rounding (`probe.vectors.is_rounding`)
    rounding_p: np.ndarray  # (n_columns,)

    def resampled(self, counts: np.ndarray) -> Sums:
        """Return the sums of resamples from counts of the speakers, ``(n_resamples, n_speakers)``."""
        n_columns, n_counts = self.t.shape[1], self.n.shape[1]
        every = counts @ np.concatenate([self.n, self.t, self.p, self.tt, self.pp, self.tp], axis=1)
        n, t, p, tt, pp, tp = np.split(every, [n_counts + k * n_columns for k in range(5)], axis=1)
        return replace(self, n=n, t=t, p=p, tt=tt, pp=pp, tp=tp)


def speaker_sums(truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray) -> Sums:
    """Return the sums of each speaker.

    Args:
        truth: ratings that each column is compared with, ``(n_utterances, n_columns)``; NaN where an utterance has
            none, which is left out of the column
        prediction: ``(n_utterances, n_columns)``
        groups: ``(n_utterances,)``, the number of the speaker
    """
    order = np.argsort(groups, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    tolerances = tuple(FLOAT32_ROUNDING if a.dtype == np.float32 else ROUNDING for a in (truth, prediction))
    rated = np.isfinite(truth)
    if rated.all():
        prediction = prediction.astype(np.float64, copy=False)
        t0, p0 = truth.mean(axis=0, dtype=np.float64), prediction.mean(axis=0, dtype=np.float64)
        t, p = truth[order] - t0, prediction[order] - p0
        n = np.diff(np.r_[begins, len(order)])[:, None].astype(np.float64)
    else:
        n_rated = np.maximum(rated.sum(axis=0), 1)
        truth, prediction = (np.where(rated, a, 0.0).astype(np.float64) for a in (truth, prediction))
        t0, p0 = truth.sum(axis=0) / n_rated, prediction.sum(axis=0) / n_rated
        t, p = (np.where(rated, a - centre, 0.0)[order] for a, centre in ((truth, t0), (prediction, p0)))
        n = np.add.reduceat(rated[order].astype(np.float64), begins, axis=0)
    sum_t, sum_p, tt, pp, tp = (np.add.reduceat(v, begins, axis=0) for v in (t, p, t * t, p * p, t * p))
    rounding = ((tolerance * centre) ** 2 for tolerance, centre in zip(tolerances, (t0, p0), strict=True))
    return Sums(n, sum_t, sum_p, tt, pp, tp, t0 - p0, *rounding)


def resample_speakers(n_speakers: int, *, n_resamples: int = N_RESAMPLES, rng: np.random.Generator) -> np.ndarray:
    """Return how often each resample with replacement holds each speaker, ``(n_resamples, n_speakers)`` float64."""
    sampled = rng.integers(n_speakers, size=(n_resamples, n_speakers))
    cells = sampled + n_speakers * np.arange(n_resamples)[:, None]
    return (
        np.bincount(cells.ravel(), minlength=n_resamples * n_speakers)
        .reshape(n_resamples, n_speakers)
        .astype(np.float64)
    )


def ccc(sums: Sums) -> np.ndarray:
    """Return Lin's concordance (1989) of each row and column; 0 for a constant prediction, NaN if both are constant."""
    t, p, variance_t, variance_p, covariance = _moments(sums)
    denominator = variance_t + variance_p + (t - p + sums.offset) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * covariance / denominator)


def pearson(sums: Sums) -> np.ndarray:
    """Return Pearson's correlation of each row and column; NaN where either is constant."""
    _, _, variance_t, variance_p, covariance = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(covariance / np.sqrt(variance_t * variance_p))


def rmse(sums: Sums) -> np.ndarray:
    """Return the root mean squared error of each row and column."""
    t, p, variance_t, variance_p, covariance = _moments(sums)
    return np.asarray(np.sqrt(np.maximum(variance_t + variance_p - 2 * covariance + (t - p + sums.offset) ** 2, 0.0)))


def r2(sums: Sums) -> np.ndarray:
    """Return the coefficient of determination of each row and column; NaN for constant ratings."""
    _, _, variance_t, _, _ = _moments(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - rmse(sums) ** 2 / variance_t)


METRICS: dict[str, Callable[[Sums], np.ndarray]] = {
    "ccc": ccc,
    "ccc_matched": ccc,  # of moment-matched predictions
    "pearson": pearson,
    "rmse": rmse,
    "r2": r2,
}


@dataclass(frozen=True)
class Intervals:
    """Estimates with the ends of their confidence intervals, ``(n_columns,)`` each."""

    estimate: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray


def expanded_quantile(n_speakers: float, *, level: float = LEVEL) -> float:
    """Return the normal quantile of expanded percentiles (Hesterberg, 2015).

    >>> round(expanded_quantile(1e9), 2), round(expanded_quantile(10), 2)
    (1.96, 2.38)
    """
    return float(np.sqrt(n_speakers / (n_speakers - 1)) * student.ppf((1 + level) / 2, n_speakers - 1))


def bca_interval(
    estimate: np.ndarray,
    resamples: np.ndarray,
    left_out: np.ndarray,
    *,
    level: float = LEVEL,
    n_speakers: float | None = None,
) -> Intervals:
    """Return bias-corrected and accelerated bootstrap intervals (BCa; Efron, 1987) with expanded percentiles.

    Args:
        estimate: ``(n_columns,)``
        resamples: ``(n_resamples, n_columns)``
        left_out: jackknife scores, each without one speaker, ``(n_speakers, n_columns)``
        level: confidence level
        n_speakers: for the expanded percentiles; infinite for the textbook's interval, the rows of ``left_out`` if
            None
    """
    n_resamples, reach = len(resamples), expanded_quantile(n_speakers or len(left_out), level=level)
    bias, skew = _bias(estimate, resamples), _skew(left_out)
    ends = []
    for side in (-reach, reach):
        z = bias + side
        ends.append(norm.cdf(bias + z / (1 - skew * z)))
    ordered = np.sort(resamples, axis=0)
    places = np.clip(np.array(ends) * (n_resamples - 1), 0, n_resamples - 1)
    columns = np.arange(resamples.shape[1])
    below_place, part = np.floor(places).astype(int), places % 1
    above = np.minimum(below_place + 1, n_resamples - 1)
    low, high = (1 - part) * ordered[below_place, columns] + part * ordered[above, columns]
    return Intervals(estimate, low, high)


def bca_p_value(
    estimate: np.ndarray,
    resamples: np.ndarray,
    left_out: np.ndarray,
    *,
    null: float = 0.0,
    n_speakers: float | None = None,
) -> np.ndarray:
    """Return two-sided p-values ``(n_columns,)``: 1 minus the level of the BCa interval that ends at ``null``.

    A p-value is below .05 where the 95 % interval excludes ``null``. With fewer than eight speakers that interval may
    end at the most extreme resample; the p-value is then the more conservative of the two. It is never below
    1 / (n_resamples + 1). Arguments are those of `bca_interval`.
    """
    n_resamples, n = len(resamples), n_speakers or len(left_out)
    bias, skew = _bias(estimate, resamples), _skew(left_out)
    below = (np.sum(resamples < null, axis=0) + 0.5 * np.sum(resamples == null, axis=0)) / n_resamples
    reached = norm.ppf(np.clip(below, 0.5 / n_resamples, 1 - 0.5 / n_resamples)) - bias
    side = reached / (1 + skew * reached) - bias
    p = 2 * student.sf(np.abs(side) * np.sqrt((n - 1) / n), n - 1)
    return np.asarray(np.clip(p, 1 / (n_resamples + 1), 1.0))


def _bias(estimate: np.ndarray, resamples: np.ndarray) -> np.ndarray:
    n_resamples = len(resamples)
    below = (np.sum(resamples < estimate, axis=0) + 0.5 * np.sum(resamples == estimate, axis=0)) / n_resamples
    return np.asarray(norm.ppf(np.clip(below, 0.5 / n_resamples, 1 - 0.5 / n_resamples)))


def _skew(left_out: np.ndarray) -> np.ndarray:
    off = left_out.mean(axis=0) - left_out
    squares = np.sum(off**2, axis=0)
    return np.asarray(np.sum(off**3, axis=0) / np.where(squares > 0, 6 * squares**1.5, 1.0))


def without_each_speaker(sums: Sums) -> Sums:
    """Return the sums of all speakers but one, one row for each speaker left out."""
    n, t, p, tt, pp, tp = (
        column.sum(axis=0) - column for column in (sums.n, sums.t, sums.p, sums.tt, sums.pp, sums.tp)
    )
    return replace(sums, n=n, t=t, p=p, tt=tt, pp=pp, tp=tp)


def _moments(sums: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return means, variances and covariance, all dividing by n; variances within rounding are 0; NaN without rows."""
    n = np.where(sums.n > 0, sums.n, np.nan)
    t, p = sums.t / n, sums.p / n
    square_t, square_p = sums.tt / n, sums.pp / n
    variance_t, variance_p = square_t - t**2, square_p - p**2
    variance_t = np.where(variance_t > np.maximum(1e-12 * square_t, sums.rounding_t), variance_t, 0.0)
    variance_p = np.where(variance_p > np.maximum(1e-12 * square_p, sums.rounding_p), variance_p, 0.0)
    constant = (variance_t == 0) | (variance_p == 0)
    return t, p, variance_t, variance_p, np.where(constant, 0.0, sums.tp / n - t * p)
