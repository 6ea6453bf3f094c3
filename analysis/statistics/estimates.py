"""Estimates with bootstrap resamples and jackknife values, so that any function of scores has an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t as student

from layerprobe.analysis.statistics.bootstrap import bca_interval, bca_p_value, expanded_quantile

BCA_SPEAKERS = "bca_95_speakers"  # 95 % BCa bootstrap interval over speakers
PERCENTILE_SPEAKERS = "percentile_95_speakers"  # 95 % expanded percentile interval over speakers
SIMULTANEOUS_SPEAKERS = "simultaneous_95_speakers"  # 95 % interval over speakers that holds for all differences at once
JACKKNIFE_FOLDS = "jackknife_95_folds"  # 95 % delete-a-group jackknife interval over folds
INTERVAL_NAMES = {
    BCA_SPEAKERS: "95 % CI over speakers",
    PERCENTILE_SPEAKERS: "95 % CI over speakers",
    SIMULTANEOUS_SPEAKERS: "simultaneous 95 % CI over speakers",
    JACKKNIFE_FOLDS: "95 % CI over folds",
    "": "range over folds",  # scores without an interval
}
FEWEST_SPEAKERS = 3  # for an interval
SAME_SCORES = 4e-6  # relative difference up to which two scores are the same: predictions are stored in float32
MOST_UNDEFINED = 0.05  # fraction of undefined resamples up to which the interval is computed from the others


@dataclass(frozen=True)
class BootstrapSample:
    """Scores, their bootstrap resamples, and their jackknife values, each without one speaker.

    All scores have the same resamples, so that the difference of two samples is paired.
    """

    estimate: np.ndarray  # (…)
    resamples: np.ndarray  # (n_resamples, …)
    left_out: np.ndarray  # (n_speakers, …)
    # (…), how many of the speakers have ratings of the target; None: all. Leaving out another speaker changes nothing.
    n_speakers: np.ndarray | None = None

    @property
    def counted(self) -> np.ndarray:
        """Number of speakers that each score is of, ``(…)``."""
        n_speakers = len(self.left_out) if self.n_speakers is None else self.n_speakers
        return np.broadcast_to(np.asarray(n_speakers), np.shape(self.estimate))

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> BootstrapSample:
        """Return a function of the last axes, applied to each resample: ``scores.map(lambda s: s.max(axis=-1))``."""
        fewest = None if self.n_speakers is None else np.min(self.n_speakers)
        given = (self.estimate, self.resamples, self.left_out)
        estimate, resamples, left_out = (np.asarray(function(a)) for a in given)
        return BootstrapSample(estimate, resamples, left_out, fewest)

    def __sub__(self, other: BootstrapSample) -> BootstrapSample:
        """Return the paired difference, resample by resample; 0 where it is rounding of the predictions in all of them.

        Predictions are stored in float32. Those of two probes that are the same up to rounding would otherwise differ
        significantly, by 1e-8.
        """
        resamples = self.resamples - other.resamples
        largest, level = (np.nan_to_num(np.abs(a)).max(axis=0, initial=0.0) for a in (resamples, self.resamples))
        factor = np.where(largest > SAME_SCORES * level, 1.0, 0.0)
        both = self.n_speakers is None and other.n_speakers is None
        fewest = None if both else np.minimum(self.counted, other.counted)
        estimate, left_out = self.estimate - other.estimate, self.left_out - other.left_out
        return BootstrapSample(estimate * factor, resamples * factor, left_out * factor, fewest)

    def __getitem__(self, index: np.ndarray | int) -> BootstrapSample:
        """Return the sample of some elements of the last axis."""
        n_speakers = None if self.n_speakers is None else self.counted[..., index]
        return BootstrapSample(
            self.estimate[..., index], self.resamples[..., index], self.left_out[..., index], n_speakers
        )

    def estimated(self) -> list[Estimate]:
        """Return each estimate ``(n,)`` with its 95 % BCa interval and the two-sided p-value of its being 0."""
        estimate, resamples, left_out = np.atleast_1d(self.estimate), _flat(self.resamples), _flat(self.left_out)
        known = np.isfinite(resamples).mean(axis=0) >= 1 - MOST_UNDEFINED
        known &= np.isfinite(left_out).all(axis=0) & np.isfinite(estimate)
        n_speakers = np.atleast_1d(self.counted)
        known &= n_speakers >= FEWEST_SPEAKERS
        found = []
        for k in range(len(estimate)):
            if not known[k]:
                found.append(Estimate(float(estimate[k]), float("nan"), float("nan"), float("nan")))
                continue
            defined = resamples[np.isfinite(resamples[:, k]), k : k + 1]
            arguments = estimate[k : k + 1], defined, left_out[:, k : k + 1]
            n = float(n_speakers[k])
            interval, p = bca_interval(*arguments, n_speakers=n), bca_p_value(*arguments, n_speakers=n)
            found.append(
                Estimate(float(estimate[k]), float(interval.ci_low[0]), float(interval.ci_high[0]), float(p[0]))
            )
        return found

    def one(self) -> Estimate:
        """Return the estimate and interval of a scalar sample."""
        (found,) = self.estimated()
        return found

    def percentiles(self) -> Estimate:
        """Return a scalar with its expanded percentile interval (Hesterberg, 2015), for scores with few values.

        The bias and the acceleration of BCa are not defined for a score that most resamples leave unchanged. The
        p-value counts resamples at 0 for the null hypothesis.
        """
        estimate, defined = float(self.estimate), self.resamples[np.isfinite(self.resamples)]
        n = float(np.min(self.counted))
        few = len(defined) < (1 - MOST_UNDEFINED) * len(self.resamples) or n < FEWEST_SPEAKERS
        if few or not np.isfinite(estimate):
            return Estimate(estimate, float("nan"), float("nan"), float("nan"))
        reach = expanded_quantile(n)
        low, high = np.quantile(defined, norm.cdf([-reach, reach]))
        beyond = max(min(np.mean(defined <= 0), np.mean(defined >= 0)), 0.5 / len(defined))
        p = 2 * student.sf(abs(norm.ppf(beyond)) * np.sqrt((n - 1) / n), n - 1) if beyond < 0.5 else 1.0
        return Estimate(estimate, float(low), float(high), float(np.clip(p, 1 / (len(defined) + 1), 1.0)))


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval and the two-sided p-value of its being 0; NaN where these are not known."""

    estimate: float
    ci_low: float
    ci_high: float
    p_value: float

    @property
    def is_known(self) -> bool:
        """Whether it has an interval."""
        return bool(np.isfinite(self.ci_low) and np.isfinite(self.ci_high))


def _flat(values: np.ndarray) -> np.ndarray:
    return values[:, None] if values.ndim == 1 else values
