"""Debiased linear centred kernel alignment (CKA) between two representations of the same utterances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layerprobe.probe.vectors import varies_by_rounding

MIN_UTTERANCES = 4  # the unbiased estimator divides by n - 3
BLOCK_BYTES = 2**27  # maximum size of the Gram matrices in memory


def debiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Return linear centred kernel alignment from the unbiased estimator of HSIC.

    ``hsic(K, L) / sqrt(hsic(K, K) hsic(L, L))`` of the Gram matrices ``K`` and ``L`` of the centred sides, each without
    its diagonal, where ``hsic(K, L) = (tr(KL) + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 / (n - 2) 1'KL1) / (n (n - 3))``.

    The usual, biased CKA nears 1 for any two representations that are wider than there are utterances, random ones
    included (Murphy et al., 2024, arXiv 2405.01012). HSIC's unbiased estimator is Song et al.'s (2012, JMLR 13), CKA
    Kornblith et al.'s (2019), their union Nguyen et al.'s (2021). From products of features and row norms, in
    O(n dim^2) and float64; no n x n matrix is made.

    Args:
        x: ``(n_utterances, dim_x)``, at least 4 utterances
        y: ``(n_utterances, dim_y)``, the same utterances in the same order

    Returns:
        in [-1, 1], around 0 for independent sides; the same under rotation, shift, and one scale of all features;
        NaN where a side is constant

    Raises:
        ValueError: if the numbers of utterances differ, or are below 4

    >>> x = np.array([[0.0], [1.0], [2.0], [5.0], [4.0]])
    >>> round(debiased_cka(x, 3 - 2 * x), 6)
    1.0
    """
    check_pair(x, y)
    layers = [centred(side) for side in (x, y)]
    return float(_normalised(_cross_by_features(layers), _row_norms(layers), np.float64)[0, 1])


def cka_square(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return `debiased_cka` of all pairs of layers, by the exact algorithm with fewer products.

    Features by features costs ``n dim_a dim_b`` for each pair of layers; blocks of rows of all layers' Gram matrices
    cost ``n^2 dim / 2`` for each layer, and are far cheaper where many layers have a few thousand utterances in
    common. The Gram matrices in memory are never larger than `BLOCK_BYTES`.

    Args:
        layers: each ``(n_utterances, dim)``, of mean 0 per feature; float32 gives values within 1e-5

    Returns:
        ``(n_layers, n_layers)`` float64, symmetric
    """
    n, dims = len(layers[0]), np.array([layer.shape[1] for layer in layers], dtype=float)
    by_features = n * (dims.sum() ** 2 + dims @ dims) / 2
    by_grams = n * n / 2 * (dims.sum() + len(layers) ** 2)
    cross = (_cross_by_features if by_features < by_grams else _cross_by_grams)(layers)
    return _normalised(cross, _row_norms(layers), layers[0].dtype)


def check_pair(x: np.ndarray, y: np.ndarray) -> None:
    """Check that two sides can be compared.

    Raises:
        ValueError: if a side is not two-dimensional, the numbers of utterances differ, or are below 4
    """
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}; each must be (n_utterances, dim)")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} utterances and y {len(y)}; give both the same utterances, in the same order")
    if len(x) < MIN_UTTERANCES:
        raise ValueError(f"x and y have {len(x)} utterances, and similarity needs {MIN_UTTERANCES}; add utterances")


def centred(x: np.ndarray) -> np.ndarray:
    """Return a float64 copy with mean 0 per feature; features that are constant, up to rounding, are exactly 0."""
    away = np.asarray(x - x.mean(axis=0, dtype=np.float64))
    away[:, varies_by_rounding(x)] = 0.0
    return away


def _row_norms(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return the diagonals of the Gram matrices, ``(n_layers, n_utterances)``: squared norms of the utterances."""
    return np.stack([np.einsum("ij,ij->i", layer, layer, dtype=np.float64) for layer in layers])


def _cross_by_features(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sums over i != j of K_ij L_ij for all pairs of Gram matrices: ``|X'Y|^2`` minus the diagonals."""
    norms = _row_norms(layers)
    cross = np.asarray(-(norms @ norms.T))
    for a, left in enumerate(layers):
        for b, right in enumerate(layers[: a + 1]):
            cross[a, b] += np.sum((left.T @ right) ** 2, dtype=np.float64)
            cross[b, a] = cross[a, b]
    return cross


def _cross_by_grams(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sums of `_cross_by_features` from blocks of rows of all Gram matrices above their diagonals."""
    n, n_layers = len(layers[0]), len(layers)
    n_rows = int(np.clip(BLOCK_BYTES // (n * n_layers * layers[0].itemsize), 1, n))
    cross = np.zeros((n_layers, n_layers))
    for begin in range(0, n, n_rows):
        rows = slice(begin, min(n, begin + n_rows))
        grams = np.stack([layer[rows] @ layer[begin:].T for layer in layers], axis=1)  # (n_rows, n_layers, n - begin)
        grams *= np.arange(n - begin) > np.arange(len(grams))[:, None, None]
        cross += np.sum(grams @ grams.transpose(0, 2, 1), axis=0, dtype=np.float64)
    return cross + cross.T


def _normalised(cross: np.ndarray, norms: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Return debiased CKA from off-diagonal sums of products and the diagonals of centred Gram matrices."""
    # Song et al. (2012), eq. 5, times n (n - 3), which cancels. Rows of a centred Gram matrix sum to 0, so those of
    # one without its diagonal sum to minus the diagonal, and all of it to minus the trace.
    n, traces = norms.shape[1], norms.sum(axis=1)
    hsic = cross - 2 / (n - 2) * (norms @ norms.T) + np.outer(traces, traces) / ((n - 1) * (n - 2))
    own = np.diag(hsic)
    squares = np.diag(cross) + np.sum(norms**2, axis=1)
    own = np.where(own > 1e3 * np.finfo(dtype).eps * squares, own, np.nan)  # what is left by rounding is no variance
    return np.asarray(hsic / np.sqrt(np.outer(own, own)))
