"""The 95 % set of best layers: all layers that are not significantly worse than the best.

A layer is excluded where another layer exceeds it significantly: by more than the 95th percentile of the maximum
standardised difference to all other layers over bootstrap resamples of the speakers (Hsu, 1981, multiple comparisons
with the best; Romano and Wolf, 2005, for the resampled maximum). The truly best layer, whichever it is, is excluded in
at most 5 % of corpora. The resamples are of the held-out speakers, with the fitted probes held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from layerprobe.analysis.statistics.bootstrap import LEVEL, expanded_quantile
from layerprobe.analysis.statistics.estimates import SAME_SCORES, BootstrapSample


@dataclass(frozen=True)
class BestSet:
    """Which layers belong to the 95 % set of best layers, with what p-value and win rate; ``(n_layers,)`` each."""

    p_not_best: np.ndarray  # p-value of "no other layer is better", corrected for the number of layers
    win_rate: np.ndarray  # fraction of resamples in which the layer scores best; sums to 1

    @property
    def is_in(self) -> np.ndarray:
        """Whether the layer is not significantly worse than the best, at the 5 % level."""
        return np.asarray(self.p_not_best > 1 - LEVEL)


def best_set(scores: BootstrapSample, *, lower_is_better: bool = False) -> BestSet:
    """Return the 95 % set of best layers, from comparisons of every layer with all others in the same resamples.

    Args:
        scores: ``(n_layers,)``, finite
        lower_is_better: whether the metric is an error
    """
    sign = -1.0 if lower_is_better else 1.0
    estimate, resamples, n_speakers = sign * scores.estimate, sign * scores.resamples, int(scores.counted.min())
    resamples = resamples[np.isfinite(resamples).all(axis=1)]
    # Expanded percentiles for few speakers, as for intervals
    wider = expanded_quantile(n_speakers) / norm.ppf((1 + LEVEL) / 2)
    p_not_best = np.empty(len(estimate))
    for layer in range(len(estimate)):
        ahead = estimate - estimate[layer]  # how far each other layer is ahead of this one
        off = resamples - resamples[:, [layer]] - ahead
        error = off.std(axis=0) * wider
        # layers whose predictions are equal, up to the rounding of float32, never differ significantly
        differs = error > SAME_SCORES * np.abs(resamples).max(initial=0.0)
        if not differs.any():
            p_not_best[layer] = 1.0
            continue
        found = np.max(ahead[differs] / error[differs])
        chance = np.max(off[:, differs] / off[:, differs].std(axis=0), axis=1)
        p_not_best[layer] = (1 + np.sum(chance >= found)) / (1 + len(resamples))
    wins = np.bincount(resamples.argmax(axis=1), minlength=len(estimate)) / len(resamples)
    return BestSet(p_not_best, wins)


def behind_at_most(scores: BootstrapSample, *, lower_is_better: bool = False) -> np.ndarray:
    """Return how far each layer can be behind the truly best one, ``(n_layers,)``, 0 or more: upper 95 % bounds.

    That a layer is not significantly worse than the best does not make it as good. The bounds hold for all layers and
    whichever is the best together: the quantile is that of the largest standardised deviation of all paired
    differences over the resamples (Hothorn, Bretz and Westfall, 2008), so that they hold for a selected layer, too.

    Args:
        scores: ``(n_layers,)``, finite
        lower_is_better: whether the metric is an error
    """
    sign = -1.0 if lower_is_better else 1.0
    estimate, resamples = sign * scores.estimate, sign * scores.resamples
    resamples = resamples[np.isfinite(resamples).all(axis=1)]
    wider = expanded_quantile(int(scores.counted.min())) / norm.ppf((1 + LEVEL) / 2)
    smallest = SAME_SCORES * np.abs(resamples).max(initial=0.0)
    largest, errors = np.zeros(len(resamples)), np.zeros((len(estimate), len(estimate)))
    for layer in range(len(estimate)):
        off = resamples - resamples[:, [layer]] - (estimate - estimate[layer])
        deviation = off.std(axis=0)
        differs = deviation * wider > smallest
        errors[layer, differs] = deviation[differs] * wider
        largest = np.maximum(largest, np.max(np.abs(off[:, differs]) / deviation[differs], axis=1, initial=0.0))
    ahead = estimate[None, :] - estimate[:, None]
    return np.asarray((ahead + np.quantile(largest, LEVEL) * errors).max(axis=1))
