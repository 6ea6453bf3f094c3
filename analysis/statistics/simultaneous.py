"""Tests of many scores at once by the maximum of their standardised deviations over resamples."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from layerprobe.analysis.statistics.bootstrap import LEVEL, expanded_quantile
from layerprobe.analysis.statistics.estimates import FEWEST_SPEAKERS, MOST_UNDEFINED, SAME_SCORES, BootstrapSample


def max_statistic(sample: BootstrapSample) -> np.ndarray:
    """Return each score's two-sided p-value of being 0, adjusted for all scores of the sample, ``(n_scores,)``.

    A score is compared with the largest of all standardised deviations from the estimates in each resample, which takes
    account of how the scores correlate (Romano and Wolf, 2005, single-step): under the hypothesis that all are 0, any
    has a p-value of at most .05 in 5 % of corpora. Errors are expanded for few speakers as intervals are (Hesterberg,
    2015). No p-value is below 1 / (n_resamples + 1).

    Args:
        sample: differences ``(n_scores,)``. One that is 0 in all resamples has the p-value 1; one that is not defined,
            in more than 5 % of resamples, or is of fewer than three speakers has none (NaN) and does not count
    """
    estimate, resamples = np.atleast_1d(sample.estimate), np.atleast_2d(sample.resamples)
    defined, counted = np.isfinite(resamples), np.atleast_1d(sample.counted)
    known = np.isfinite(estimate) & (defined.mean(axis=0) >= 1 - MOST_UNDEFINED) & (counted >= FEWEST_SPEAKERS)
    p = np.full(len(estimate), np.nan)
    error = np.zeros(len(estimate))
    error[known] = np.nanstd(resamples[:, known], axis=0)
    p[known] = 1.0
    varies = known & (error > SAME_SCORES)
    if not varies.any():
        return p
    off = np.abs(np.where(defined, resamples, estimate) - estimate)[:, varies] / error[varies]
    wider = np.array([expanded_quantile(float(n)) for n in counted[varies]]) / norm.ppf((1 + LEVEL) / 2)
    found = np.abs(estimate[varies]) / (error[varies] * wider)
    largest = np.sort(off.max(axis=1))
    n_beyond = len(largest) - np.searchsorted(largest, found, side="left")
    p[varies] = (1 + n_beyond) / (1 + len(largest))
    return p
