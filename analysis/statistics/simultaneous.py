"""Tests of many scores at once by the maximum of their standardised deviations over resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t as student

from layerprobe.analysis.statistics.bootstrap import LEVEL
from layerprobe.analysis.statistics.estimates import FEWEST_SPEAKERS, MOST_UNDEFINED, SAME_SCORES, BootstrapSample


def max_statistic(sample: BootstrapSample, *, inflation: float = 1.0, tested: np.ndarray | None = None) -> np.ndarray:
    """Return each score's two-sided p-value of being 0, adjusted for all scores of the sample, ``(n_scores,)``.

    A score is compared with the largest of all standardised deviations from the estimates in each resample, which takes
    account of how the scores correlate (Romano and Wolf, 2005, single-step): under the hypothesis that all are 0, any
    has a p-value of at most .05 in 5 % of corpora. For few speakers, errors are expanded and Student's distribution is
    taken, as for intervals (Hesterberg, 2015). No p-value is below 1 / (n_resamples + 1).

    Args:
        sample: differences ``(n_scores,)``. One that is 0 in all resamples has the p-value 1; one that is not defined,
            in more than 5 % of resamples, or is of fewer than three speakers has none (NaN) and does not count
        inflation: factor of the standard errors, for variation that the resamples do not have
        tested: ``(n_scores,)``, what is compared instead of the estimates, and no further from 0 than they are, so that
            p-values can only rise; None for the estimates
    """
    estimate, counted = np.atleast_1d(sample.estimate), np.atleast_1d(sample.counted)
    found = _deviations(sample)
    p = np.where(found.known, 1.0, np.nan)
    varies, error = found.varies, found.error
    if not varies.any():
        return p
    n = counted[varies].astype(float)
    of = estimate if tested is None else np.atleast_1d(tested)
    ratio = np.abs(of[varies]) / (error[varies] * np.sqrt(n / (n - 1)) * inflation)
    reached = norm.isf(student.sf(ratio, n - 1))  # the normal deviate of the same tail as this one of Student's t
    n_beyond = len(found.largest) - np.searchsorted(found.largest, reached, side="left")
    p[varies] = (1 + n_beyond) / (1 + len(found.largest))
    return p


def simultaneous_margins(sample: BootstrapSample, *, inflation: float = 1.0) -> np.ndarray:
    """Return how far the 95 % interval of each score reaches to either side, ``(n_scores,)``, for all scores at once.

    All intervals together hold their true values in 95 % of corpora; one excludes 0 where the p-value of
    `max_statistic` is at most .05. Arguments are those of `max_statistic`. A score that does not vary has the margin 0,
    one without a p-value NaN.
    """
    found, counted = _deviations(sample), np.atleast_1d(sample.counted)
    margins = np.where(found.known, 0.0, np.nan)
    if found.varies.any():
        n = counted[found.varies].astype(float)
        reach = student.isf(norm.sf(np.quantile(found.largest, LEVEL)), n - 1) * np.sqrt(n / (n - 1))
        margins[found.varies] = found.error[found.varies] * reach * inflation
    return margins


@dataclass(frozen=True)
class _Deviations:
    """How scores vary over resamples."""

    known: np.ndarray  # (n_scores,), defined in enough resamples and of enough speakers
    varies: np.ndarray  # (n_scores,), known and not the same in all resamples
    error: np.ndarray  # (n_scores,), standard error, 0 where it is not known
    largest: np.ndarray  # (n_resamples,), ascending: largest standardised deviation of all that vary


def _deviations(sample: BootstrapSample) -> _Deviations:
    estimate, resamples = np.atleast_1d(sample.estimate), np.atleast_2d(sample.resamples)
    defined, counted = np.isfinite(resamples), np.atleast_1d(sample.counted)
    known = np.isfinite(estimate) & (defined.mean(axis=0) >= 1 - MOST_UNDEFINED) & (counted >= FEWEST_SPEAKERS)
    error = np.zeros(len(estimate))
    error[known] = np.nanstd(resamples[:, known], axis=0)
    varies = known & (error > SAME_SCORES)
    off = np.abs(np.where(defined, resamples, estimate) - estimate)[:, varies]
    largest = np.sort((off / error[varies]).max(axis=1)) if varies.any() else np.zeros(0)
    return _Deviations(known, varies, error, largest)


def training_inflation(n_test: Sequence[int], n_train: Sequence[int]) -> float:
    """Return the factor of a standard error that makes it one over training speakers, too.

    Resamples of held-out speakers keep the fitted probes. Whether an encoder is better also with probes of other
    training speakers needs their variance, too, which is about (number of test / number of training speakers) times
    that of one fold (Nadeau and Bengio, 2003): the factor is 1.5 for five folds, and 1.1 for a split of 4 to 1.

    Args:
        n_test: speakers, or utterances, that each fold holds out
        n_train: those that it trains on

    >>> training_inflation([4] * 5, [16] * 5), round(training_inflation([20], [80]), 2)
    (1.5, 1.12)
    """
    return float(np.sqrt(1 + sum(test / train for test, train in zip(n_test, n_train, strict=True))))
