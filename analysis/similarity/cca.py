"""Held-out canonical correlation analysis (CCA) with a ridge penalty, between two representations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from layerprobe.analysis.similarity.cka import MIN_UTTERANCES, centred, check_pair


@dataclass(frozen=True)
class CanonicalCorrelations:
    """Correlations of canonical components, the strongest in training first, ``(n_components,)`` in [-1, 1]."""

    in_sample: np.ndarray
    held_out: np.ndarray

    @property
    def mean(self) -> float:
        """Mean held-out correlation; NaN where a side is constant."""
        return float(self.held_out.mean()) if len(self.held_out) else float("nan")


def ridge_cca(
    x: np.ndarray,
    y: np.ndarray,
    *,
    train: np.ndarray,
    test: np.ndarray,
    penalty: float,
    n_components: int,
    max_rank: int | None = None,
) -> CanonicalCorrelations:
    """Return canonical correlations, fitted on some utterances and computed on others (Hotelling, 1936; Vinod, 1976).

    The directions ``a`` and ``b`` that maximise ``a'X'Yb`` under ``a'(X'X + r I)a = b'(Y'Y + s I)b = 1`` over the
    training rows, each pair orthogonal to those before it; then Pearson's correlation of ``Xa`` with ``Yb``.

    In-sample correlations are near 1 unless there are far more utterances than features; held-out correlations are not.

    Args:
        x: ``(n_utterances, dim_x)``
        y: ``(n_utterances, dim_y)``
        train: row numbers to fit on
        test: row numbers to correlate, of other speakers than ``train``
        penalty: ridge penalty on each side's variances, in units of its features' mean variance
        n_components: maximum number of canonical components; there are fewer where a side's rank is lower
        max_rank: maximum number of principal components of each side; all if None

    Returns:
        the in-sample and held-out correlation of each component

    Raises:
        ValueError: if the numbers of utterances differ, or ``train`` or ``test`` has fewer than 4

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(40, 3))
    >>> rotated = x @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    >>> rows = np.arange(40)
    >>> found = ridge_cca(x, rotated, train=rows[:20], test=rows[20:], penalty=0.0, n_components=3)
    >>> round(found.mean, 6)
    1.0
    """
    check_pair(x, y)
    for name, rows in (("train", train), ("test", test)):
        if len(rows) < MIN_UTTERANCES:
            raise ValueError(f"{name} has {len(rows)} utterances, and CCA needs {MIN_UTTERANCES}; add utterances")
    sides = [whitened(side, train, penalty=penalty, max_rank=max_rank) for side in (x, y)]
    return canonical_correlations(*sides, train=train, test=test, n_components=n_components)


def whitened(x: np.ndarray, train: np.ndarray, *, penalty: float, max_rank: int | None) -> np.ndarray:
    """Return the principal components of the training rows for all rows, scaled to unit length or less in training.

    Returns:
        ``(n_utterances, rank)`` float64; ``rank`` is 0 where the training rows are constant
    """
    fitted = centred(x[train])
    n, dim = fitted.shape
    products = fitted @ fitted.T if dim > n else fitted.T @ fitted
    size = len(products)
    kept = min(size, size if max_rank is None else max_rank)
    squares, vectors = eigh(products, subset_by_index=(size - kept, size - 1))
    solid = squares > np.finfo(float).eps * max(n, dim) * max(squares[-1], 0.0)
    squares, vectors = squares[solid], vectors[:, solid]
    directions = fitted.T @ (vectors / np.sqrt(squares)) if dim > n else vectors
    shrunk = directions / np.sqrt(squares + penalty * np.trace(products) / dim)
    return np.asarray((x - x[train].mean(axis=0, dtype=np.float64)) @ shrunk)


def canonical_correlations(
    x: np.ndarray, y: np.ndarray, *, train: np.ndarray, test: np.ndarray, n_components: int
) -> CanonicalCorrelations:
    """Return the canonical correlations of two sides that `whitened` made from the same ``train``."""
    left, _, right = np.linalg.svd(x[train].T @ y[train], full_matrices=False)
    a, b = x @ left[:, :n_components], y @ right[:n_components].T
    return CanonicalCorrelations(*(_column_correlations(a[rows], b[rows]) for rows in (train, test)))


def _column_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each column of ``a`` with that of ``b``; NaN where either is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sum(a * b, axis=0) / np.sqrt(np.sum(a * a, axis=0) * np.sum(b * b, axis=0)))
