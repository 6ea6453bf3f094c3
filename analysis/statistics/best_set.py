"""Which layers are not worse than the best: not an argmax, but the set that the data can't tell from it.

A layer is left out where some other layer beats it by more than chance allows, chance being the largest of its
standardised differences to all others under draws of speakers (Hsu, 1981, multiple comparisons with the best; Romano
and Wolf, 2005, for the resampled maximum). Whichever layer is truly best, it is left out in at most 5 % of corpora. The
draws are of those who are heard in the test, with the probes as they were fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from layerprobe.analysis.statistics.bootstrap import LEVEL, expanded_quantile
from layerprobe.analysis.statistics.estimates import BootstrapSample


@dataclass(frozen=True)
class BestSet:
    """Of each layer, ``(n_layers,)``."""

    p_not_best: np.ndarray  # that no other layer is better, corrected for the number of layers
    win_rate: np.ndarray  # of the draws of speakers in which it is the best

    @property
    def is_in(self) -> np.ndarray:
        """Whether the layer is not told from the best."""
        return np.asarray(self.p_not_best > 1 - LEVEL)


def best_set(scores: BootstrapSample, *, lower_is_better: bool = False) -> BestSet:
    """Compare every layer with all others under the same draws of speakers.

    Args:
        scores: ``(n_layers,)``, finite
        lower_is_better: whether a low score is a good one
    """
    sign = -1.0 if lower_is_better else 1.0
    estimate, draws, n_speakers = sign * scores.estimate, sign * scores.draws, len(scores.left_out)
    draws = draws[np.isfinite(draws).all(axis=1)]
    wider = expanded_quantile(n_speakers) / norm.ppf((1 + LEVEL) / 2)  # as its intervals are, for few speakers
    p_not_best = np.empty(len(estimate))
    for layer in range(len(estimate)):
        ahead = estimate - estimate[layer]  # how far each other layer is ahead of this one
        off = draws - draws[:, [layer]] - ahead
        error = off.std(axis=0) * wider
        told = error > 1e-12  # layers that predict alike are never told apart
        if not told.any():
            p_not_best[layer] = 1.0
            continue
        found = np.max(ahead[told] / error[told])
        chance = np.max(off[:, told] / off[:, told].std(axis=0), axis=1)
        p_not_best[layer] = (1 + np.sum(chance >= found)) / (1 + len(draws))
    wins = np.bincount(draws.argmax(axis=1), minlength=len(estimate)) / len(draws)
    return BestSet(p_not_best, wins)
