"""How long each task of a sweep is expected to take on one core, from sizes alone.

Seconds of a nominal core, by the number of floating-point operations: their ratios give the time left before tasks of a
kind have been measured, and their sum decides whether starting processes pays. They are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.solvers.erased_ridge import INNER_FOLDS
from layerprobe.probe.solvers.gram import assign_cells
from layerprobe.probe.solvers.leave_group_out import LEAVE_GROUP_OUT
from layerprobe.probe.sweep.data.rated_parts import RatedPart
from layerprobe.probe.tasks.controls import n_permutations_of

PRODUCTS = 40e9  # floating-point operations a second in products of matrices in float64; twice that in float32
DECOMPOSITIONS = 25e9  # in a reduction to tridiagonal form, of 4/3 n^3 operations; eigenvectors take four times that
LAYER = 0.04  # seconds of a layer of any size
COLUMN = 6e-4  # seconds to score a column of predictions, and
COLUMN_ROW = 1.5e-7  # for each of its rows
ERASURE = 1e-3  # seconds of an erasure in an inner fold of any size
PERMUTED_ALPHAS = 6  # penalties that a permutation tries
MIX_STEPS = 300  # steps of the solver of a mix, its penalties counted
MIX_ROWS = 1024  # rows whose time a step takes at most: larger layers are fitted from moments


@dataclass(frozen=True)
class PartSize:
    """Sizes of a part of a sweep that decide how long its fits take."""

    n_utterances: int
    n_train: int  # of the largest split
    n_splits: int
    n_sets: int  # different training sets, outer and inner
    n_dual: int  # training sets whose Gram matrix of utterances is decomposed, where there are fewer of them
    n_targets: int  # columns of ratings, residuals and classes
    n_permuted: int  # columns of permutations of them
    n_alphas: int

    @classmethod
    def from_part(cls, part: RatedPart) -> PartSize:
        """Count what a part consists of."""
        plan, splits = part.plan, part.data.splits
        _, folds = assign_cells(splits, len(part.rows))
        sets = set()
        for of_split in folds:
            everything = frozenset(set().union(*of_split))
            sets |= {everything, *(everything - fold for fold in of_split)}
        n_dual = len(splits) if plan.inner_selection == LEAVE_GROUP_OUT else len(sets)
        n_targets = len(plan.targets) + len(plan.residuals) + len(plan.text_residuals) + sum(map(len, plan.classes))
        n_permuted = n_targets * sum(n_permutations_of(c, plan.controls, plan.n_permutations) for c in plan.controls)
        n_train = max(len(split.train) for split in splits)
        return cls(len(part.rows), n_train, len(splits), len(sets), n_dual, n_targets, n_permuted, len(plan.alphas))


def ratings_seconds(size: PartSize, n_features: int) -> float:
    """Return the seconds of ridge on the ratings of one layer."""
    n, d = size.n_train, n_features
    if n <= d:  # Gram matrices of utterances, with eigenvectors
        fits = size.n_dual * (6 * n * n * d / PRODUCTS + 16 / 3 * n**3 / DECOMPOSITIONS)
        return LAYER + fits + _dual_columns(size, size.n_targets) + _scores(size, size.n_targets)
    sums = size.n_utterances * d * d / PRODUCTS
    fits = size.n_sets * (8 / 3 * d**3 / DECOMPOSITIONS + 4 * d * d * size.n_targets * size.n_alphas / PRODUCTS)
    return LAYER + sums + fits + _scores(size, size.n_targets)


def permutations_seconds(size: PartSize, n_features: int, *, separate: bool) -> float:
    """Return the seconds of ridge on the permutations of one layer.

    Args:
        size: of the part
        n_features: of the layer
        separate: whether decompositions are made anew, because the ratings were fitted by another task
    """
    n, d = size.n_train, n_features
    again = ratings_seconds(size, n_features) if separate else 0.0
    scores = _scores(size, size.n_permuted)
    if n <= d:
        return again + _dual_columns(size, size.n_permuted) + scores
    sums = 4 * size.n_utterances * d / PRODUCTS
    searches = size.n_sets * d * d * (2 + 4 * PERMUTED_ALPHAS) / (2 * PRODUCTS)
    return again + size.n_permuted * (sums + searches) + scores


def erased_seconds(size: PartSize, n_features: int, *, n_erasures: int) -> float:
    """Return the seconds of one layer without each of some concepts, and without random directions.

    Args:
        size: of the part
        n_features: of the layer
        n_erasures: with those of random directions
    """
    n, d = size.n_train, min(size.n_train, n_features)
    fits = n_features * d * n / PRODUCTS + (1 + INNER_FOLDS) * (
        16 / 3 * d**3 / DECOMPOSITIONS + 2 * n * d * d / PRODUCTS
    )
    columns = size.n_targets * size.n_alphas * 2 * n * d / PRODUCTS + INNER_FOLDS * ERASURE
    return LAYER + size.n_splits * (fits + n_erasures * columns) + n_erasures * _scores(size, size.n_targets)


def mix_seconds(size: PartSize, n_features: int, n_layers: int, *, n_mixes: int, n_seeds: int) -> float:
    """Return the seconds of some mixes of the layers of one encoder."""
    models = size.n_targets * (size.n_sets + size.n_splits * n_seeds) * n_mixes
    rows = min(size.n_utterances, MIX_ROWS)
    return MIX_STEPS * models * n_layers * rows * n_features * 4 / (2 * PRODUCTS)


def others_seconds(size: PartSize, n_features: int, *, n_corpora: int, n_probes: int, n_covariates: int) -> float:
    """Return the seconds of the other probes of one layer: trained on each corpus, with covariates, and the rest."""
    joint = 5 * ratings_seconds(size, n_features + n_covariates) if n_covariates else 0.0  # ratios of penalties
    of_corpora = ratings_seconds(size, n_features) if n_corpora else 0.0  # together as large as one of all
    steps = 2_000 * size.n_targets * size.n_utterances * n_features * 4 / (2 * PRODUCTS)
    return joint + of_corpora + n_probes * steps


def _dual_columns(size: PartSize, n_columns: int) -> float:
    return size.n_splits * n_columns * size.n_alphas * 2 * float(size.n_train) ** 2 / PRODUCTS


def _scores(size: PartSize, n_columns: int) -> float:
    return n_columns * (COLUMN + COLUMN_ROW * size.n_utterances)


def layer_bytes(n_utterances: int, n_features: int) -> int:
    """Return the bytes of a layer as it is read, in float32."""
    return int(np.dtype(np.float32).itemsize) * n_utterances * n_features
