"""Agreement of raters in time: the CCC of each pair, and that of each rater with the mean of the others.

It is taken over all moments that both rated, in all recordings. Traces are compared on a grid, because raters of some
corpora are not sampled at the same times: the step is the longest of the raters' median ones, and at least 40 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from layerprobe.probe.data.traces.source import RaterTrace

SHORTEST_STEP = 0.04  # seconds, of RECOLA


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on a target."""

    n_raters: int
    n_pairs: int
    pairwise: float  # mean CCC of pairs; NaN without one
    with_others: tuple[float, ...]  # CCC of each rater with the mean of the others, ascending

    def __str__(self) -> str:
        """Return a clause, such as ``CCC .41 (mean of 15 pairs of raters)``."""
        if self.n_raters == 1:
            return "one rater, so there is no agreement"
        if not self.n_pairs:
            return "no agreement, as no two raters rated the same moment"
        pairs = f"{self.n_pairs:,} pair{'' if self.n_pairs == 1 else 's'} of raters"
        low, high = min(self.with_others), max(self.with_others)
        others = f"{np.mean(self.with_others):.2f} ({low:.2f} to {high:.2f})"
        return f"CCC {self.pairwise:.2f} (mean of {pairs}), of a rater with the mean of the others {others}"


class AgreementSums:
    """Collects the moments of one target, recording by recording, so that no recording is kept."""

    def __init__(self) -> None:
        """Begin without a recording."""
        self._pairs: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(6))
        self._others: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(6))
        self._raters: set[str] = set()

    def add(self, raters: Sequence[RaterTrace]) -> None:
        """Add the raters of one recording."""
        self._raters |= {trace.rater for trace in raters}
        if len(raters) < 2:
            return
        grid = on_grid(raters)
        rated = np.isfinite(grid)
        values = np.where(rated, grid, 0.0)
        n, total = rated.sum(axis=0), values.sum(axis=0)
        for a, b in combinations(range(len(raters)), 2):
            both = rated[a] & rated[b]
            names = sorted((raters[a].rater, raters[b].rater))
            self._pairs[names[0], names[1]] += _sums(grid[a, both], grid[b, both])
        for a, trace in enumerate(raters):
            others = rated[a] & (n > 1)
            self._others[trace.rater] += _sums(grid[a, others], (total - values[a])[others] / (n[others] - 1))

    def result(self) -> Agreement:
        """Return the agreement over all that was added; a pair without a common moment, or variance, is none."""
        pairs = [c for c in map(_ccc, self._pairs.values()) if np.isfinite(c)]
        others = sorted(c for c in map(_ccc, self._others.values()) if np.isfinite(c))
        mean = float(np.mean(pairs)) if pairs else float("nan")
        return Agreement(len(self._raters), len(pairs), mean, tuple(others))


def on_grid(raters: Sequence[RaterTrace]) -> np.ndarray:
    """Return ratings at times of a regular grid at which any rater rated, ``(n_raters, n_times)``.

    Each is the mean of the rater's samples that are nearest to that time, NaN where there is none: gaps are not filled.
    """
    steps = [float(np.median(np.diff(trace.times))) for trace in raters if len(trace.times) > 1]
    step = max(SHORTEST_STEP, *steps) if steps else SHORTEST_STEP
    rated = [np.isfinite(trace.ratings) for trace in raters]
    places = [np.round(trace.times[is_rated] / step) for trace, is_rated in zip(raters, rated, strict=True)]
    visited = np.unique(np.concatenate(places))
    rows = []
    for trace, is_rated, place in zip(raters, rated, places, strict=True):
        at = np.searchsorted(visited, place)
        total = np.bincount(at, weights=trace.ratings[is_rated], minlength=len(visited))
        count = np.bincount(at, minlength=len(visited))
        rows.append(np.divide(total, count, out=np.full(len(visited), np.nan), where=count > 0))
    return np.array(rows)


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the sums that moments are made of: of 1, x, y, x², y² and xy."""
    return np.array([len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y])


def _ccc(sums: np.ndarray) -> float:
    """Return the CCC (Lin, 1989) by sums; NaN without two moments or without any variance."""
    n = sums[0]
    if n < 2:
        return float("nan")
    x, y, xx, yy, xy = sums[1:] / n
    denominator = (xx - x * x) + (yy - y * y) + (x - y) ** 2
    # below the rounding of the sums it is that of constants
    return float("nan") if denominator <= 1e-12 * (xx + yy) else float(2 * (xy - x * y) / denominator)
