"""The Pareto front of scores and costs: the candidates than which no other is both better and cheaper."""

from __future__ import annotations

import numpy as np

from layerprobe.analysis.statistics.estimates import BootstrapSample


def pareto_front(scores: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return which candidates are on the front, ``(…, n)`` bool.

    A candidate is not on it where another costs no more and scores no less, and is better in one of both. Of candidates
    that are equal in both, all are on it; one whose score or cost is not known (NaN) is not, and excludes none.

    Args:
        scores: ``(…, n)``, higher is better
        costs: ``(n,)``, lower is better

    >>> pareto_front(np.array([0.5, 0.6, 0.55]), np.array([1.0, 2.0, 3.0]))
    array([ True,  True, False])
    """
    known = np.isfinite(costs)
    values = np.where(known & np.isfinite(scores), scores, -np.inf)
    order = np.argsort(np.where(known, costs, np.inf), kind="stable")
    ordered, prices = values[..., order], costs[order]
    on = np.zeros(values.shape, dtype=bool)
    best = np.full(values.shape[:-1], -np.inf)
    start = 0
    while start < int(known.sum()):
        stop = start + int(np.sum(prices[start:] == prices[start]))
        group = ordered[..., start:stop]
        top = group.max(axis=-1)
        on[..., order[start:stop]] = (group == top[..., None]) & (group > best[..., None])
        best, start = np.maximum(best, top), stop
    return on


def front_rate(scores: BootstrapSample, costs: np.ndarray, *, lower_is_better: bool = False) -> np.ndarray:
    """Return the fraction of bootstrap resamples in which each candidate is on the front, ``(n,)``.

    Args:
        scores: ``(n,)``
        costs: ``(n,)``, lower is better
        lower_is_better: whether the metric is an error
    """
    sign = -1.0 if lower_is_better else 1.0
    return np.asarray(pareto_front(sign * scores.resamples, costs).mean(axis=0))
