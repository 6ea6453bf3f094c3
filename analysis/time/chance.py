"""Chance levels of the cells of a map, corrected for the number of cells.

Bins of time have unequal numbers of utterances, so that scores on permuted ratings vary more in some cells than in
others. The maximum over raw scores would be that of the smallest bins. Scores are therefore standardised cell by cell
before the maximum is taken (Westfall and Young, 1993; Nichols and Holmes, 2002, on unequal variances).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.analysis.statistics.estimates import MOST_UNDEFINED
from layerprobe.analysis.statistics.permutation import ALPHA, holm


@dataclass(frozen=True)
class MapChance:
    """Tests of the cells of a map against chance, ``(n_cells,)`` each; NaN where a cell has no score or no test."""

    p_permutation: np.ndarray  # of the cell alone
    p_adjusted: np.ndarray  # for all cells of the map
    level: np.ndarray  # score that a cell must exceed to be above chance in the map
    n_permutations: int


def map_chance(observed: np.ndarray, null: np.ndarray) -> MapChance:
    """Return one-sided permutation tests of all cells of a map together.

    Each cell is standardised by the mean and the standard deviation of its scores on the permuted and on the real
    ratings, which are one more permutation: under the hypothesis that no cell predicts anything, all of them are
    exchangeable, and the test by the maximum over cells is exact. Where permutations of cells do not belong together,
    because more than 5 % of them lack a cell, cells are tested one by one, and p-values are adjusted by Holm's
    method; a cell above its level, which is that of .05 divided by the number of cells, is then significant, and
    cells that have too few permutations for that have no level.

    Args:
        observed: scores ``(n_cells,)``, higher is better, NaN where there is none
        null: scores on permuted ratings, ``(n_permutations, n_cells)``, with the same permutation in all cells

    Returns:
        no p-value is below 1 / (n_permutations + 1). A cell whose permuted scores do not vary has the p-value 1
    """
    n_cells, tested = len(observed), np.isfinite(observed) & np.isfinite(null).any(axis=0)
    p, adjusted, level = (np.full(n_cells, np.nan) for _ in range(3))
    if not tested.any():
        return MapChance(p, adjusted, level, 0)
    x, permuted = observed[tested], null[:, tested]
    finite = np.isfinite(permuted)
    p[tested] = (1 + np.sum(np.where(finite, permuted >= x, False), axis=0)) / (1 + finite.sum(axis=0))
    complete = permuted[finite.all(axis=1)]
    n = len(complete)
    if n < (1 - MOST_UNDEFINED) * len(permuted):
        adjusted[tested] = holm(p[tested])
        alpha = ALPHA / int(tested.sum())
        level[tested] = [_critical(column[known], alpha) for column, known in zip(permuted.T, finite.T, strict=True)]
        return MapChance(p, adjusted, level, int(finite.sum(axis=0).min()))
    every = np.vstack([x, complete])
    deviation = every.std(axis=0)
    varies = deviation > 0
    scaled = np.divide(every - every.mean(axis=0), deviation, out=np.zeros_like(every), where=varies)
    highest = scaled[1:].max(axis=1)
    adjusted[tested] = np.where(varies, (1 + np.sum(highest[:, None] >= scaled[0], axis=0)) / (1 + n), 1.0)
    critical = _critical(highest, ALPHA)
    level[tested] = _level(complete, critical if np.isfinite(critical) else float(highest.max()))
    return MapChance(p, adjusted, level, n)


def _critical(null: np.ndarray, alpha: float) -> float:
    """Return the value of ``(n_permutations,)`` that one with a p-value of at most alpha exceeds; NaN if too few."""
    n_beyond = int(np.floor(alpha * (len(null) + 1) + 1e-9)) - 1  # permutations that may reach such a value
    return float(np.sort(null)[len(null) - 1 - n_beyond]) if n_beyond >= 0 else float("nan")


def _level(permuted: np.ndarray, critical: float) -> np.ndarray:
    """Return the score ``(n_cells,)`` whose standardised deviation is ``critical`` if it is among those of a cell.

    With the mean m and the standard deviation s of n permuted scores, the score m + d deviates from the mean of all
    n + 1 by z standard deviations of all n + 1 where d² (n − z²) = z² s² (n + 1).
    """
    n, z = len(permuted), critical
    factor = np.sqrt((n + 1) / (n - z**2)) if z**2 < n else np.inf
    deviation = permuted.std(axis=0)
    beyond = np.multiply(z * factor, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    return np.asarray(permuted.mean(axis=0) + beyond)
