"""Representational similarity analysis (RSA) between utterances of different speakers, with a permutation test."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from layerprobe.analysis.similarity.cka import check_pair
from layerprobe.probe.system import cores
from layerprobe.probe.vectors import varies_by_rounding

MIN_SPEAKERS = 3  # fewer leave no two dissimilarities between speakers to rank, at one utterance each
MAX_UTTERANCES = 400  # 79,800 pairs


@dataclass(frozen=True)
class Rsa:
    """Spearman's correlation of two sets of dissimilarities, with its permutation p-value."""

    value: float  # in [-1, 1]; NaN where a side's dissimilarities are all equal
    p_permutation: float  # one-sided, in [1 / (1 + n_permutations), 1]


def rsa(
    x: np.ndarray,
    y: np.ndarray,
    speakers: np.ndarray,
    *,
    n_permutations: int,
    rng: np.random.Generator,
    max_utterances: int = MAX_UTTERANCES,
) -> Rsa:
    """Representational similarity analysis over pairs of utterances of different speakers (Kriegeskorte et al., 2008).

    Spearman's correlation, over the pairs (i, j), of the dissimilarities of the rows i and j in ``x`` and in ``y``.

    Dissimilarity is 1 - Pearson's correlation over features; with one or two features, whose correlation is not
    informative, it is the Euclidean distance. Permutations exchange speakers as blocks, and utterances within each:
    with freely permuted utterances, any two sides that both distinguish speakers would be similar. Blocks must be of
    one size, so equally many utterances of each speaker are sampled.

    Args:
        x: ``(n_utterances, dim_x)``
        y: ``(n_utterances, dim_y)``
        speakers: ``(n_utterances,)`` speaker of each utterance
        n_permutations: number of permutations
        rng: generator for the sample of utterances, then for the permutations
        max_utterances: maximum size of the sample

    Returns:
        the correlation, and the fraction of permutations, including the identity, with at least that correlation

    Raises:
        ValueError: if the numbers of utterances differ, or there are fewer than 3 speakers

    >>> rng = np.random.default_rng(0)
    >>> x, speakers = rng.normal(size=(30, 8)), np.repeat(np.arange(10), 3)
    >>> same = rsa(x, 2 * x + 1, speakers, n_permutations=99, rng=rng)
    >>> round(same.value, 6), same.p_permutation
    (1.0, 0.01)
    """
    check_pair(x, y)
    if len(speakers) != len(x):
        raise ValueError(f"x has {len(x)} utterances and speakers {len(speakers)}; give one speaker an utterance")
    blocks = sample_blocks(speakers, max_utterances=max_utterances, rng=rng)
    ranks = np.stack([centred_ranks(side[blocks.ravel()], blocks.shape) for side in (x, y)])
    reached = n_reached(ranks[:1], ranks[1:], blocks.shape, n_permutations=n_permutations, rng=rng)
    value = float(ranks[0] @ ranks[1])
    return Rsa(value, float("nan") if np.isnan(value) else float(1 + reached[0, 0]) / (1 + n_permutations))


def sample_blocks(
    speakers: np.ndarray, *, max_utterances: int = MAX_UTTERANCES, rng: np.random.Generator
) -> np.ndarray:
    """Return row numbers of equally many utterances of each sampled speaker, ``(n_sampled_speakers, n_each)``.

    ``n_each`` is ``max_utterances`` over the number of speakers, or less where that keeps more utterances because
    some speakers have few; speakers with fewer are left out, and of too many speakers some are sampled.

    Raises:
        ValueError: if there are fewer than 3 speakers
    """
    names, number, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    if len(names) < MIN_SPEAKERS:
        raise ValueError(f"RSA needs {MIN_SPEAKERS} speakers and there are {len(names)}; add utterances of others")
    sizes = np.arange(1, max(1, max_utterances // len(names)) + 1)
    n_speakers = np.minimum([(counts >= size).sum() for size in sizes], max_utterances // sizes)
    n_speakers[n_speakers < MIN_SPEAKERS] = 0
    best = int(np.argmax(n_speakers * sizes))  # the first of equals, with the most speakers
    sampled = rng.permutation(np.flatnonzero(counts >= sizes[best]))[: n_speakers[best]]
    return np.stack([rng.permutation(np.flatnonzero(number == s))[: sizes[best]] for s in np.sort(sampled)])


def centred_ranks(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return ranks of the dissimilarities between speakers, with mean 0 and norm 1: products are Spearman's rho.

    Args:
        x: ``(n_speakers * n_each, dim)``, speaker by speaker
        shape: ``(n_speakers, n_each)``

    Returns:
        ``(n_pairs,)`` in the order of `pairs_between_speakers`; NaN where all are equal, or a row of x is constant, up
        to rounding
    """
    first, second = pairs_between_speakers(shape)
    constant_rows = varies_by_rounding(x.T)
    x = np.where(varies_by_rounding(x), x[0], x).astype(np.float64)
    if x.shape[1] < 3:
        far = np.sqrt(np.sum((x[first] - x[second]) ** 2, axis=1))
    else:
        rows = x - x.mean(axis=1, keepdims=True)
        rows[constant_rows] = np.nan
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        far = 1 - (rows @ rows.T)[first, second]
    top = far.max()
    unit = top if x.shape[1] < 3 else 1.0  # of correlations, whose rounding does not shrink with their distance from 1
    if np.isnan(top) or np.ptp(far) <= 1e-12 * unit:
        return np.full(len(first), np.nan)
    ranks = rankdata(np.round(far / top, 12))  # ratings have few steps, and rounding would break their ties
    ranks -= ranks.mean()
    return np.asarray(ranks / np.linalg.norm(ranks))


def pairs_between_speakers(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return both indices of every pair of rows in blocks ``(n_speakers, n_each)`` that differ in speaker."""
    first, second = np.triu_indices(shape[0] * shape[1], k=1)
    differ = first // shape[1] != second // shape[1]
    return first[differ], second[differ]


def n_reached(
    ranks_a: np.ndarray, ranks_b: np.ndarray, shape: tuple[int, ...], *, n_permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Return how many permutations of b's utterances give at least the observed correlation, ``(n_a, n_b)``.

    Permutations are the same for all pairs; ranks are computed once and then looked up.

    Args:
        ranks_a: ``(n_a, n_pairs)`` as `centred_ranks` returns them
        ranks_b: ``(n_b, n_pairs)``
        shape: ``(n_speakers, n_each)``
        n_permutations: number of permutations
        rng: generator for the permutations
    """
    first, second = pairs_between_speakers(shape)
    n = shape[0] * shape[1]
    lookup = np.zeros((n, n, len(ranks_b)), dtype=np.float32)  # contiguous in b, so that one look-up fetches all of b
    lookup[first, second] = lookup[second, first] = ranks_b.T
    by_pair = lookup.reshape(n * n, len(ranks_b))
    singles = ranks_a.astype(np.float32)
    enough = ranks_a @ ranks_b.T - 1e-6  # equal up to float32 counts as reached

    def reached_by(orders: list[np.ndarray]) -> np.ndarray:
        reached = np.zeros((len(ranks_a), len(ranks_b)), dtype=np.int64)
        permuted = np.empty((len(first), len(ranks_b)), dtype=np.float32)
        for order in orders:
            pairs = order[first] * n + order[second]
            np.take(by_pair, pairs, axis=0, out=permuted, mode="clip")  # "raise" would copy once more
            reached += singles @ permuted >= enough
        return reached

    orders = list(_block_permutations(shape, n_permutations, rng))
    n_threads = cores()
    with ThreadPoolExecutor(n_threads) as threads:  # each makes whole products, so none waits for another's part
        counts = threads.map(reached_by, [orders[k::n_threads] for k in range(n_threads)])
        return np.asarray(sum(counts))


def _block_permutations(shape: tuple[int, ...], n_permutations: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield permutations of speakers, and of utterances within each speaker, ``(n_speakers * n_each,)``."""
    rows = np.arange(shape[0] * shape[1]).reshape(shape)
    for _ in range(n_permutations):
        yield rng.permuted(rows[rng.permutation(shape[0])], axis=1).ravel()
