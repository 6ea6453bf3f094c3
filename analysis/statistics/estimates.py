"""Numbers with their draws of speakers, and what follows from them: any function of scores has an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layerprobe.analysis.statistics.bootstrap import bca_interval, bca_p_value

BCA_SPEAKERS = "bca_95_speakers"  # 95 % BCa bootstrap interval over speakers
JACKKNIFE_FOLDS = "jackknife_95_folds"  # 95 % delete-a-group jackknife interval over folds
INTERVAL_NAMES = {
    BCA_SPEAKERS: "95 % CI over speakers",
    JACKKNIFE_FOLDS: "95 % CI over folds",
    "": "range over folds",  # scores without an interval
}
MOST_UNDEFINED = 0.05  # the share of draws without a value up to which an interval is made of the others


@dataclass(frozen=True)
class BootstrapSample:
    """Scores as they are, under draws of speakers, and without each speaker in turn.

    The draws are the same for all, so that a difference of two is the difference of the same draws.
    """

    estimate: np.ndarray  # (…)
    draws: np.ndarray  # (n_draws, …)
    left_out: np.ndarray  # (n_speakers, …)

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> BootstrapSample:
        """A function of the last axes, applied to each draw: ``scores.map(lambda s: s.max(axis=-1))``."""
        return BootstrapSample(*(np.asarray(function(a)) for a in (self.estimate, self.draws, self.left_out)))

    def __sub__(self, other: BootstrapSample) -> BootstrapSample:
        """The difference, draw by draw."""
        return BootstrapSample(self.estimate - other.estimate, self.draws - other.draws, self.left_out - other.left_out)

    def __getitem__(self, places: np.ndarray | int) -> BootstrapSample:
        """Some of the last axis."""
        return BootstrapSample(self.estimate[..., places], self.draws[..., places], self.left_out[..., places])

    def estimated(self) -> list[Estimate]:
        """Each number ``(n,)`` with its 95 % interval (BCa) and the p-value of its being 0."""
        estimate, draws, left_out = np.atleast_1d(self.estimate), _flat(self.draws), _flat(self.left_out)
        known = np.isfinite(draws).mean(axis=0) >= 1 - MOST_UNDEFINED
        known &= np.isfinite(left_out).all(axis=0) & np.isfinite(estimate)
        if len(left_out) < 3:
            known[:] = False
        found = []
        for k in range(len(estimate)):
            if not known[k]:
                found.append(Estimate(float(estimate[k]), float("nan"), float("nan"), float("nan")))
                continue
            own = draws[np.isfinite(draws[:, k]), k : k + 1]
            arguments = estimate[k : k + 1], own, left_out[:, k : k + 1]
            interval, p = bca_interval(*arguments), bca_p_value(*arguments)
            found.append(
                Estimate(float(estimate[k]), float(interval.ci_low[0]), float(interval.ci_high[0]), float(p[0]))
            )
        return found

    def one(self) -> Estimate:
        """The same of a single number."""
        (found,) = self.estimated()
        return found


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and the two-sided p-value of its being 0; NaN where these are not known."""

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
