"""Similarity of all layers of all encoders with each other and with the ratings, in one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerprobe.analysis.similarity.cca import canonical_correlations, whitened
from layerprobe.analysis.similarity.cka import MIN_UTTERANCES, cka_square
from layerprobe.analysis.similarity.rsa import centred_ranks, n_reached, sample_blocks

Read = Callable[[str, np.ndarray], np.ndarray]  # a layer's name, row numbers (n_rows,) -> (n_rows, dim)
RATINGS = "ratings"  # name under which rated targets are the layers of an encoder
COLUMNS = ["measure", "encoder_a", "layer_a", "encoder_b", "layer_b", "value", "p_permutation"]
MAX_UTTERANCES = 4000
N_PERMUTATIONS = 999
N_COMPONENTS = 10
MAX_RANK = 100  # principal components before CCA
PENALTY = 0.1  # of CCA, in units of the features' mean variance


@dataclass(frozen=True)
class _Layer:
    """What the measures need of one layer, or of one target."""

    encoder: str
    name: str
    embeddings: np.ndarray  # (n_sample, dim) float32, each feature of mean 0 and variance 1
    ranks: np.ndarray  # (n_pairs,) of dissimilarities
    # Two of (n_sample, rank), each whitened on one half of the speakers; empty for a target
    halves: tuple[np.ndarray, ...]


def similarity_table(  # noqa: PLR0913 - each is a choice that a caller can make
    sources: Mapping[str, tuple[Sequence[str], Read]],
    ratings: pd.DataFrame,
    speakers: np.ndarray,
    *,
    seed: int,
    max_utterances: int = MAX_UTTERANCES,
    n_permutations: int = N_PERMUTATIONS,
    n_components: int = N_COMPONENTS,
    max_rank: int = MAX_RANK,
    penalty: float = PENALTY,
) -> pd.DataFrame:
    """Return debiased CKA, held-out CCA and RSA of every layer with every layer and with every rating.

    At most ``max_utterances`` are sampled among those with all ratings, stratified by speaker: speakers with few
    contribute all, the others equally many up to one. Each layer is read once and kept as float32, with every feature
    standardised over the sample, because a few features of huge variance would otherwise dominate the layer; memory is
    ``4 n_sample`` bytes times the sum of all layers' dimensions. All pairs have the same sample, halves of speakers,
    utterances of RSA and permutations. Eigenvectors take most of the time; on a busy machine, one BLAS thread is
    several times faster than more.

    Args:
        sources: for each encoder its layer names and ``read(layer, rows)``, which returns those rows (ascending numbers
            in the common order of utterances) as ``(n_rows, dim)``
        ratings: ``(n_utterances, n_targets)``, one column per target; NaN where not rated; there may be no column
        speakers: ``(n_utterances,)`` speaker of each utterance
        seed: of the sample, the halves and the permutations
        max_utterances: maximum size of the sample
        n_permutations: permutations of RSA
        n_components: maximum number of canonical components that CCA averages over
        max_rank: maximum number of principal components of each layer in CCA
        penalty: ridge penalty of CCA, in units of the features' mean variance

    Returns:
        tidy rows ``measure, encoder_a, layer_a, encoder_b, layer_b, value, p_permutation``, every pair in both orders
        with the same numbers, and every layer with itself, so that each pair of encoders is a full matrix:

        * ``cka``: `analysis.similarity.cka.debiased_cka`, in [-1, 1]; ``p_permutation`` is NaN
        * ``cca``: mean held-out correlation, in [-1, 1], the mean of fits on either half of the speakers;
          ``p_permutation`` is NaN; with a single rating it would be a probe, so it has no rows with ratings
        * ``rsa``: Spearman's correlation between speakers, in [-1, 1]; ``p_permutation`` is one-sided, with speakers
          as blocks, not corrected for the number of pairs

        Targets are layers of the encoder ``ratings``. Values of a constant layer are NaN.

    Raises:
        ValueError: if lengths differ, speakers or rated utterances are too few, a source is named ``ratings``, or a
            layer is of another shape, or not finite
    """
    _check(sources, ratings, speakers)
    rng_sample, rng_halves, rng_rsa = np.random.default_rng(seed).spawn(3)
    rated = np.flatnonzero(np.isfinite(ratings.to_numpy(dtype=np.float64)).all(axis=1))
    rows = rated[stratify_by_speaker(speakers[rated], max_utterances=max_utterances, rng=rng_sample)]
    if len(rows) < 2 * MIN_UTTERANCES:
        raise ValueError(
            f"{len(rows)} of {len(ratings)} utterances have all ratings, and similarity needs "
            f"{2 * MIN_UTTERANCES}; add utterances, or leave out a target that is seldom rated"
        )
    blocks = sample_blocks(speakers[rows], rng=rng_rsa)
    halves = speaker_halves(speakers[rows], rng=rng_halves)
    if min(map(len, halves)) < MIN_UTTERANCES:
        raise ValueError(
            f"halves of the speakers hold {len(halves[0])} and {len(halves[1])} utterances, and CCA needs "
            f"{MIN_UTTERANCES} in each; add utterances of other speakers"
        )

    def prepared(encoder: str, layer: str, values: np.ndarray) -> _Layer:
        z = standardised(values)
        ranks = centred_ranks(z[blocks.ravel()], blocks.shape)
        fits = halves if encoder != RATINGS else ()
        white = tuple(whitened(z, half, penalty=penalty, max_rank=max_rank) for half in fits)
        return _Layer(encoder, layer, z.astype(np.float32), ranks, white)

    layers = [
        prepared(encoder, layer, _read(encoder, layer, read, rows))
        for encoder, (names, read) in sources.items()
        for layer in names
    ]
    targets = [prepared(RATINGS, str(target), ratings[[target]].to_numpy(dtype=np.float64)[rows]) for target in ratings]
    everything = layers + targets
    ranks = np.stack([layer.ranks for layer in everything])
    rho = ranks @ ranks.T
    reached = n_reached(ranks, ranks, blocks.shape, n_permutations=n_permutations, rng=rng_rsa)
    reached = np.triu(reached) + np.triu(reached, k=1).T  # the other order would have other permutations
    p = np.where(np.isnan(rho), np.nan, (1 + reached) / (1 + n_permutations))
    return pd.concat(
        [
            _tidy("cka", everything, cka_square([layer.embeddings for layer in everything])),
            _tidy("cca", layers, _cca_square(layers, halves, n_components=n_components)),
            _tidy("rsa", everything, rho, p),
        ],
        ignore_index=True,
    )


def stratify_by_speaker(speakers: np.ndarray, *, max_utterances: int, rng: np.random.Generator) -> np.ndarray:
    """Return ascending row numbers of at most so many utterances, with as equal numbers per speaker as possible.

    >>> speakers = np.array(["a"] * 7 + ["b"] * 2 + ["c"] * 5)
    >>> rows = stratify_by_speaker(speakers, max_utterances=9, rng=np.random.default_rng(0))
    >>> np.unique(speakers[rows], return_counts=True)[1]
    array([4, 2, 3])
    """
    order = rng.permutation(len(speakers))
    number = np.unique(speakers, return_inverse=True)[1][order]
    by_speaker = np.argsort(number, kind="stable")
    begins = np.searchsorted(number[by_speaker], number)
    turn = np.empty(len(order), dtype=int)  # rank of the utterance among those of its speaker
    turn[by_speaker] = np.arange(len(order))
    turn -= begins
    return np.sort(order[np.argsort(turn, kind="stable")[:max_utterances]])


def speaker_halves(speakers: np.ndarray, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers of two halves without a common speaker; each speaker, the largest first, joins the smaller."""
    number, counts = np.unique(speakers, return_inverse=True, return_counts=True)[1:]
    order = rng.permutation(len(counts))
    side, sizes = np.zeros(len(counts), dtype=int), [0, 0]
    for speaker in order[np.argsort(-counts[order], kind="stable")]:
        side[speaker] = int(sizes[1] < sizes[0])
        sizes[side[speaker]] += counts[speaker]
    return np.flatnonzero(side[number] == 0), np.flatnonzero(side[number] == 1)


def standardised(x: np.ndarray) -> np.ndarray:
    """Return each feature with mean 0 and variance 1 in float64; features constant up to float32 rounding are 0."""
    x = x.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    varies = deviation > 1e-6 * np.abs(mean)
    return np.where(varies, (x - mean) / np.where(varies, deviation, 1.0), 0.0)


def _check(sources: Mapping[str, tuple[Sequence[str], Read]], ratings: pd.DataFrame, speakers: np.ndarray) -> None:
    if RATINGS in sources:
        raise ValueError(f"a source is called {RATINGS!r}, as the rated targets are; give it another name")
    if len(ratings) != len(speakers):
        raise ValueError(f"ratings have {len(ratings)} utterances and speakers {len(speakers)}; give both the same")


def _read(encoder: str, layer: str, read: Read, rows: np.ndarray) -> np.ndarray:
    values = read(layer, rows)
    if values.ndim != 2 or len(values) != len(rows):
        raise ValueError(
            f"{encoder}, layer {layer}: {values.shape} was read, not ({len(rows)}, dim); correct its read function"
        )
    if not np.isfinite(values).all():
        n = int((~np.isfinite(values)).any(axis=1).sum())
        raise ValueError(f"{encoder}, layer {layer}: {n} utterances are not finite; extract them again")
    return values


def _cca_square(layers: list[_Layer], halves: tuple[np.ndarray, np.ndarray], *, n_components: int) -> np.ndarray:
    """Return the mean held-out canonical correlation of all pairs, over fits on either half of the speakers."""
    square = np.empty((len(layers), len(layers)))
    for a, left in enumerate(layers):
        for b, right in enumerate(layers[: a + 1]):
            folds = zip(left.halves, right.halves, halves, reversed(halves), strict=True)
            fits = [
                canonical_correlations(x, y, train=train, test=test, n_components=n_components)
                for x, y, train, test in folds
            ]
            square[a, b] = square[b, a] = np.mean([fit.mean for fit in fits])
    return square


def _tidy(measure: str, layers: list[_Layer], square: np.ndarray, p: np.ndarray | None = None) -> pd.DataFrame:
    """Return one row per ordered pair, in the order of the rows of ``square``."""
    n = len(layers)
    encoders, names = np.array([x.encoder for x in layers], object), np.array([x.name for x in layers], object)
    p_values = np.full(n * n, np.nan) if p is None else p.ravel()
    cells = (np.repeat(encoders, n), np.repeat(names, n), np.tile(encoders, n), np.tile(names, n))
    return pd.DataFrame(dict(zip(COLUMNS, (measure, *cells, square.ravel(), p_values), strict=True)))
