"""Additive sums that are all a ridge fit needs of its rows: one pass over a layer serves every training set.

Rows that are in the same training sets form a cell. Each cell's sums of products are computed once; those of any
training set, outer or inner, are a sum over its cells, and so are the squared errors of any linear prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.linalg.blas import dsyrk, ssyrk

from layerprobe.probe.splits import Split
from layerprobe.probe.vectors import is_rounding

BLOCK = 4096  # rows whose products are summed in float32, before these sums are added in float64
TILE = 512  # rows that are centred at once, few enough to stay in the processor's cache until they are multiplied
# Products of float32 rows are done in float64 as long as that takes no more than a moment.
EXACT_FLOPS = 4e9
# Up to one column of ratings for so many features is multiplied together with them. It costs less than one more
# product, and rows whose length is no power of two are multiplied faster.
FEATURES_PER_COLUMN = 32
TRIANGLE = 64  # columns of a block of a triangle
SHIFT_ROWS = 257  # whose median is subtracted
Sums = TypeVar("Sums", "Moments", "RatingSums")


@dataclass(frozen=True)
class Moments:
    """Sums over some rows of ``x`` and ``y``, each after subtraction of a constant; all float64."""

    n: int
    x: np.ndarray  # (n_features,)
    y: np.ndarray  # (n_targets,)
    xx: np.ndarray  # (n_features, n_features), the lower triangle
    xy: np.ndarray  # (n_features, n_targets)
    yy: np.ndarray  # (n_targets,)
    low: np.ndarray  # (n_features,), the minimum of each feature
    high: np.ndarray  # (n_features,), the maximum
    shift: np.ndarray  # (n_features,), the constant that was subtracted from x
    dtype: np.dtype  # of x

    def scale(self, variance: np.ndarray) -> np.ndarray:
        """Return what standardises each feature, ``(n_features,)``: 0 for one that is constant up to rounding.

        Args:
            variance: ``(n_features,)`` of these rows, from `xx`
        """
        std = np.sqrt(np.maximum(variance, 0.0))
        varies = (self.high > self.low) & ~is_rounding(std, self.x / self.n + self.shift, self.dtype)
        return np.where(varies & (std > 0), 1 / np.sqrt(np.where(varies & (std > 0), variance, 1.0)), 0.0)

    def plus(self, other: Moments) -> Moments:
        """Return the sums over the rows of both."""
        return Moments(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.shift,
            self.dtype,
        )


@dataclass(frozen=True)
class RatingSums:
    """Those sums of `Moments` that depend on ratings, for ratings that are fitted after the first ones."""

    y: np.ndarray  # (n_targets,)
    xy: np.ndarray  # (n_features, n_targets)
    yy: np.ndarray  # (n_targets,)

    def plus(self, other: RatingSums) -> RatingSums:
        """Return the sums over the rows of both."""
        return RatingSums(self.y + other.y, self.xy + other.xy, self.yy + other.yy)


def assign_cells(splits: list[Split], n_rows: int) -> tuple[np.ndarray, list[list[set[int]]]]:
    """Divide rows into cells by their role in each split: not in training, or in which inner fold.

    Returns:
        the cell of each row, ``(n_rows,)``, -1 where no split trains on it; and for each split its training cells,
        one set for each inner fold
    """
    signature = np.full((n_rows, len(splits)), -1)
    for k, split in enumerate(splits):
        signature[split.train, k] = split.inner_folds
    cell = np.zeros(n_rows, dtype=int)
    for roles in signature.T:  # one number for both the cell so far and the role; sorting whole rows takes far longer
        values, role = np.unique(roles, return_inverse=True)
        cell = np.unique(cell * len(values) + role, return_inverse=True)[1]
    kinds = signature[np.unique(cell, return_index=True)[1]]
    untrained = np.flatnonzero((kinds == -1).all(axis=1))
    folds = [
        [set(np.flatnonzero(kinds[:, k] == fold).tolist()) for fold in np.unique(split.inner_folds)]
        for k, split in enumerate(splits)
    ]
    return np.where(np.isin(cell, untrained), -1, cell), folds


def sum_cells(cells: dict[int, Sums], chosen: frozenset[int]) -> Sums:
    """Return the sums over some cells, added in the order of their numbers."""
    first, *others = sorted(chosen)
    total = cells[first]
    for cell in others:
        total = total.plus(cells[cell])
    return total


def sum_cells_into(memory: np.ndarray, cells: dict[int, Moments], chosen: frozenset[int]) -> Moments:
    """Return `sum_cells` with the products of features in ``memory``: new pages would take as long as the sums."""
    parts = [cells[cell] for cell in sorted(chosen)]
    for block in lower_blocks(len(memory)):  # all cells of a block before the next, for the sum stays in the cache
        total = memory[block]
        np.copyto(total, parts[0].xx[block])
        for part in parts[1:]:
            total += part.xx[block]
    nothing = np.empty((0, 0))
    small = {k: replace(part, xx=nothing) for k, part in enumerate(parts)}
    return replace(sum_cells(small, frozenset(small)), xx=memory)


def lower_blocks(n: int) -> list[tuple[slice, slice]]:
    """Return blocks that cover the lower triangle of a matrix ``(n, n)``: about half of it."""
    return [(slice(k, None), slice(k, k + TRIANGLE)) for k in range(0, n, TRIANGLE)]


def feature_shift(x: np.ndarray) -> np.ndarray:
    """Return a constant near each feature's centre, ``(n_features,)``, which makes float32 products precise.

    It is subtracted and cancels in every result. It is the median of some rows, so that an outlier does not move it.
    """
    chosen = np.linspace(0, len(x) - 1, min(len(x), SHIFT_ROWS)).astype(int)
    return np.asarray(np.median(np.ascontiguousarray(x[chosen].T), axis=1))  # a third faster than along the columns


def sum_moments(x: np.ndarray, y: np.ndarray, rows: np.ndarray, *, shift: np.ndarray) -> Moments:
    """Return the sums over ``rows`` of embeddings ``(n, n_features)`` less ``shift`` and ratings ``(n, n_targets)``."""
    n_features, kind = x.shape[1], precision_of_products(x)
    product = ssyrk if kind == np.float32 else dsyrk
    chosen = y[rows]
    columns = np.column_stack([chosen, np.ones(len(rows))]).astype(kind)
    few = columns[:, : columns.shape[1] if columns.shape[1] * FEATURES_PER_COLUMN <= n_features else 0]
    width = n_features + few.shape[1]
    xx, part = np.zeros((n_features, n_features), order="F"), np.zeros((width, width), dtype=kind, order="F")
    low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
    totals = np.zeros((columns.shape[1], n_features))
    for begin in range(0, len(rows), BLOCK):
        part.fill(0)
        for at, tile in centred_tiles(x, rows[begin : begin + BLOCK], shift, extra=few[begin : begin + BLOCK]):
            part = product(1.0, tile.T, beta=1.0, c=part, lower=1, overwrite_c=1)
            features = tile[:, :n_features]
            if not few.shape[1]:
                totals += columns[begin + at.start : begin + at.stop].T @ features
            np.minimum(low, features.min(axis=0), out=low)
            np.maximum(high, features.max(axis=0), out=high)
        totals[: few.shape[1]] += part[n_features:, :n_features]
        for block in lower_blocks(n_features):
            summed = part[:n_features, :n_features][block]
            xx[block] = summed if begin == 0 else xx[block] + summed
    xy, sums = np.ascontiguousarray(totals[:-1].T), totals[-1]
    return Moments(
        len(rows), sums, chosen.sum(axis=0), xx, xy, np.square(chosen).sum(axis=0), low, high, shift, x.dtype
    )


def sum_ratings(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, *, shift: np.ndarray, y_shift: np.ndarray
) -> RatingSums:
    """Return the sums that depend on ratings less ``y_shift`` ``(n_targets,)``; other arguments as of `sum_moments`."""
    xy, total, squares = np.zeros((x.shape[1], y.shape[1])), *np.zeros((2, y.shape[1]))
    for at, tile in centred_tiles(x, rows, shift, size=BLOCK):
        centred = y[rows[at]] - y_shift
        xy += tile.T @ centred.astype(tile.dtype)
        total += centred.sum(axis=0)
        squares += np.square(centred).sum(axis=0)
    return RatingSums(total, xy, squares)


def precision_of_products(x: np.ndarray) -> np.dtype:
    """Return what rows of a layer ``(n, n_features)`` are multiplied in: float32, or float64 if it takes a moment."""
    return np.dtype(np.float64 if x.dtype != np.float32 or x.size * x.shape[1] < EXACT_FLOPS else np.float32)


def centred_tiles(
    x: np.ndarray, rows: np.ndarray, shift: np.ndarray, *, size: int = TILE, extra: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows of a layer less ``shift``, ``size`` at a time, with their positions in ``rows``.

    The next tile takes the memory of the last one.

    Args:
        x: ``(n, n_features)``
        rows: their numbers, ``(n_rows,)``
        shift: ``(n_features,)``
        size: rows of a tile
        extra: further columns of the tiles, ``(n_rows, n_columns)``
    """
    kind, n_features = precision_of_products(x), x.shape[1]
    off = shift.astype(kind)
    memory = np.empty((min(size, len(rows)), n_features + (0 if extra is None else extra.shape[1])), dtype=kind)
    stored = np.empty((len(memory), n_features), dtype=x.dtype)
    for begin in range(0, len(rows), size):
        at = slice(begin, min(begin + size, len(rows)))
        tile, values = memory[: at.stop - begin], stored[: at.stop - begin]
        np.take(x, rows[at], axis=0, out=values, mode="clip")  # the other modes copy once more
        np.subtract(values, off, out=tile[:, :n_features])
        if extra is not None:
            tile[:, n_features:] = extra[at]
        yield at, tile


def predict_rows(x: np.ndarray, rows: np.ndarray, shift: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return predictions of rows less ``shift``, ``(n_rows, n_targets)`` float64.

    Args:
        x: ``(n, n_features)``
        rows: their numbers, ``(n_rows,)``
        shift: ``(n_features,)``
        w: coefficients, ``(n_features, n_targets)`` float64
    """
    n_targets = w.shape[1]
    out, rounded = np.empty((len(rows), n_targets)), w.astype(precision_of_products(x))
    rest = (w - rounded).astype(rounded.dtype)  # in float32 it makes the coefficients as good as float64
    both = np.hstack([rounded, rest])
    for at, tile in centred_tiles(x, rows, shift):
        product = tile @ both
        np.add(product[:, :n_targets], product[:, n_targets:], out=out[at], dtype=np.float64)
    return out
