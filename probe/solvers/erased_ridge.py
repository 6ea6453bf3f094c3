"""Nested ridge on embeddings of which a concept was erased, for many erasures of one layer.

Erasing removes a few directions, so the Gram matrix of erased features is that of the features with an update of low
rank: one decomposition of each training set serves every erasure, every penalty and every target, by Woodbury's
identity. What is computed is what erasing and then fitting would give:

* features are standardised on the training rows of an outer split, and not again after the erasure;
* an eraser is fitted on all training rows of an outer split, so the test speakers have no part in it;
* a penalty, relative to the mean eigenvalue of the Gram matrix of each training set's features before any erasure, is
  chosen on the split's inner folds, of which at most `INNER_FOLDS` are left: neighbouring ones are joined.

With nothing erased this is `probe.solvers.ridge.nested_ridge`, but that features are not standardised again on each
inner training set, and that inner folds are joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from layerprobe.probe.solvers.leace import Whitening
from layerprobe.probe.solvers.ridge_fit import RidgeFit, least
from layerprobe.probe.solvers.standardiser import Standardiser
from layerprobe.probe.splits import Split
from layerprobe.probe.vectors import varies_by_rounding

INNER_FOLDS = 5
_Ratings = tuple[np.ndarray, np.ndarray]  # products of features and centred ratings, and the ratings' means


@dataclass(frozen=True)
class Directions:
    """What an eraser reads and writes, in the basis of a `SplitRidge`, both ``(n_directions, rank)``."""

    read: np.ndarray
    write: np.ndarray

    @property
    def rank(self) -> int:
        """Number of directions that are erased."""
        return int(self.read.shape[1])

    def turned(self, vectors: np.ndarray) -> Directions:
        """Return the same in another basis, the columns of ``vectors``."""
        return Directions(vectors.T @ self.read, vectors.T @ self.write)


@dataclass(frozen=True)
class _TrainingSet:
    """Eigenvectors of the Gram matrix of some rows, and the rows that they predict."""

    rows: np.ndarray  # (n_train,) positions among the training rows of the split
    held_out: np.ndarray  # (n_held_out,) positions of those that are predicted
    vectors: np.ndarray  # (n_directions, n_directions)
    eigenvalues: np.ndarray  # (n_directions,), 0 or more
    mean_eigenvalue: float  # with those that are left out or 0, of the smaller Gram matrix; 1 for a constant layer
    predicted: np.ndarray  # (n_held_out, n_directions), less the mean of the training rows, times the vectors

    def path(self, right: np.ndarray, alphas: np.ndarray, erased: Directions | None) -> np.ndarray:
        """Return coefficients of features before the erasure, ``(n_alphas, n_directions, n_targets)``.

        Args:
            right: features times centred ratings, in the basis of the vectors, ``(n_directions, n_targets)``
            alphas: penalties relative to the mean eigenvalue, ``(n_alphas,)``
            erased: in the basis of the split; None for nothing
        """
        inverse = 1 / (self.eigenvalues + self.mean_eigenvalue * alphas[:, None])  # (n_alphas, n_directions)
        if erased is None or not erased.rank:
            return np.asarray(inverse[:, :, None] * right)
        # (A' G A + penalty)^-1 A' r with A = I - read write', whose update of G has the columns [write, G read]
        at = erased.turned(self.vectors)
        seen = self.eigenvalues[:, None] * at.read
        right = right - at.write @ (at.read.T @ right)
        update = np.concatenate([at.write, seen], axis=1)
        eye = np.eye(erased.rank)
        middle = np.block([[np.zeros_like(eye), -eye], [-eye, -at.read.T @ seen]])  # inverse of [[C'GC, -1], [-1, 0]]
        weighted = inverse[:, :, None] * update
        small = middle + update.T @ weighted  # (n_alphas, 2 rank, 2 rank)
        q = np.linalg.solve(small, weighted.transpose(0, 2, 1) @ right)
        w = inverse[:, :, None] * right - weighted @ q
        return np.asarray(w - at.read @ (at.write.T @ w))


class SplitRidge:
    """Nested ridge of one layer in one outer split, for any number of erasures.

    Args:
        x: embeddings, ``(n_utterances, n_features)``
        split: its rows
        alphas: relative penalties in rising order
    """

    def __init__(self, x: np.ndarray, split: Split, *, alphas: tuple[float, ...]) -> None:
        self.split, self.alphas = split, np.array(alphas)
        self.standardiser = Standardiser.learn(x[split.train])
        z = self.standardiser(x[split.train])
        self.n_features = z.shape[1]
        is_dual = len(z) <= z.shape[1]
        eigenvalues, vectors = np.linalg.eigh(z @ z.T if is_dual else z.T @ z)
        kept = eigenvalues > max(z.shape) * np.finfo(np.float64).eps * max(eigenvalues[-1], 1.0)
        self.eigenvalues = eigenvalues[kept]
        # orthonormal basis of the training rows, (n_features, n_directions)
        self.basis = z.T @ vectors[:, kept] / np.sqrt(self.eigenvalues) if is_dual else vectors[:, kept]
        self.train = z @ self.basis
        self.test = self.standardiser(x[split.test]) @ self.basis
        self._last: tuple[np.ndarray, list[_Ratings]] | None = None

    @cached_property
    def whitening(self) -> Whitening:
        """The whitening of the training rows, in the basis of the split."""
        n = len(self.train)
        return Whitening.from_eigenvalues(self.eigenvalues / n, n, self.n_features)

    def leace(self, *concepts: np.ndarray, most: int | None = None) -> Directions:
        """Return the directions of an eraser of concepts together, fitted on the training rows.

        Args:
            concepts: each ``(n_utterances, n_columns)`` numbers, NaN in rows where it is not known, or codes of classes
                ``(n_utterances,)``, -1 where not known; rows that lack a concept help to whiten, and to erase the
                others
            most: the rank of each concept at most
        """
        crosses = [self._covariance(concept[self.split.train]) for concept in concepts]
        std = np.sqrt(self.whitening.variances)[:, None]
        for k, cross in enumerate(crosses):
            if most is not None and cross.shape[1] > most:
                u, s, _ = np.linalg.svd(cross / std, full_matrices=False)
                crosses[k] = u[:, :most] * s[:most] * std
        return Directions(*self.whitening.eraser(np.hstack(crosses)))

    def random(self, rank: int, rng: np.random.Generator) -> Directions:
        """Return random directions, comparable to those of an eraser of this rank.

        They are random directions of features, so that the same numbers give nearly the same ones in each fold, as
        the directions of a concept are: their scores then vary as those of another concept would.
        """
        random = self.basis.T @ rng.normal(size=(self.n_features, rank))
        return Directions(*self.whitening.along(np.linalg.qr(random)[0]))

    def _covariance(self, values: np.ndarray) -> np.ndarray:
        """Return the covariance of the training rows with a concept where it is known, ``(n_directions, n_columns)``.

        Args:
            values: of the training rows, as of `leace`
        """
        known = values >= 0 if values.ndim == 1 else np.isfinite(values).all(axis=1)
        n = max(1, int(known.sum()))
        rows = self.train[known] - self.train[known].sum(axis=0) / n
        sums = _class_sums(rows, values[known]) if values.ndim == 1 else rows.T @ _unit(values[known])
        return np.asarray(sums / n)

    def fit(self, y: np.ndarray, *, shared: np.ndarray | None = None, erased: Directions | None = None) -> RidgeFit:
        """Choose each target's penalty on the inner folds, fit all training rows, and predict the test rows.

        Args:
            y: ratings ``(n_utterances, n_targets)``, finite
            shared: ``(n_targets,)``, targets with the same number have one penalty in common; None for one each
            erased: directions that are erased of all rows; None for nothing
        """
        targets = np.arange(y.shape[1])
        errors, totals, squares = np.zeros((3, len(self.alphas), y.shape[1]))
        n = len(self.split.train)
        for one, (right, mean) in zip(self._inner, self._ratings(y)[1:], strict=True):
            w = one.path(right, self.alphas, erased)
            prediction = one.predicted @ w + mean
            errors += np.square(prediction - y[self.split.train[one.held_out]]).sum(axis=1)
            totals += prediction.sum(axis=1)
            squares += (
                np.square(prediction - mean).sum(axis=1)
                + 2 * mean * prediction.sum(axis=1)
                - len(one.held_out) * mean**2
            )
        errors /= n
        chosen = least(errors, shared)
        mean, square = totals[chosen, targets] / n, squares[chosen, targets] / n
        return RidgeFit(
            prediction=self.predict(y, self.alphas[chosen], erased),
            inner_mean=mean,
            inner_std=np.sqrt(np.maximum(square - mean**2, 0.0)),
            inner_error=errors[chosen, targets],
            alpha=self.alphas[chosen],
            ratio=np.zeros(len(targets), dtype=int),
            inner_errors=errors,
        )

    def predict(self, y: np.ndarray, alpha: np.ndarray, erased: Directions | None) -> np.ndarray:
        """Return predictions of the test rows by a fit to all training rows, ``(n_test, n_targets)``.

        Args:
            y: as of `fit`
            alpha: of each target, of the grid
            erased: as of `fit`
        """
        (right, mean), number = self._ratings(y)[0], np.searchsorted(self.alphas, alpha)
        used = np.unique(number)
        w = self._outer.path(right, self.alphas[used], erased)
        w = w[np.searchsorted(used, number), :, np.arange(len(number))].T
        return np.asarray(self._outer.predicted @ w + mean)

    def _ratings(self, y: np.ndarray) -> list[_Ratings]:
        """Return what the outer training set and each inner one needs of ratings; kept for the next erasure."""
        if self._last is None or self._last[0] is not y:
            found = []
            for one in (self._outer, *self._inner):
                of_rows = y[self.split.train[one.rows]]
                mean = of_rows.mean(axis=0)
                found.append((one.vectors.T @ (self.train[one.rows].T @ (of_rows - mean)), mean))
            self._last = y, found
        return self._last[1]

    @cached_property
    def _outer(self) -> _TrainingSet:
        n, k = len(self.train), len(self.eigenvalues)
        return _TrainingSet(
            np.arange(n), np.arange(0), np.eye(k), self.eigenvalues, self._mean(self.eigenvalues, n), self.test
        )

    @cached_property
    def _inner(self) -> list[_TrainingSet]:
        numbers = np.unique(self.split.inner_folds, return_inverse=True)[1]
        groups = numbers * min(INNER_FOLDS, n_folds := int(numbers.max()) + 1) // n_folds
        return [self._without(np.flatnonzero(groups == group)) for group in np.unique(groups)]

    def _without(self, held_out: np.ndarray) -> _TrainingSet:
        rows = np.setdiff1d(np.arange(len(self.train)), held_out)
        mean = self.train[rows].mean(axis=0)
        features = self.train[rows] - mean
        eigenvalues, vectors = np.linalg.eigh(features.T @ features)
        predicted = (self.train[held_out] - mean) @ vectors
        eigenvalues = np.maximum(eigenvalues, 0.0)
        return _TrainingSet(rows, held_out, vectors, eigenvalues, self._mean(eigenvalues, len(rows)), predicted)

    def _mean(self, eigenvalues: np.ndarray, n_train: int) -> float:
        return float(eigenvalues.sum()) / min(n_train, self.n_features) or 1.0


def _class_sums(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the sum of the rows of each class that occurs, ``(n_directions, n_classes)``; of one class alone nothing.

    Centred rows of a single class sum to rounding, which would be a direction.
    """
    order = np.argsort(codes, kind="stable")
    first = np.unique(codes[order], return_index=True)[1]
    return np.asarray(np.add.reduceat(rows[order], first, axis=0).T) if len(first) > 1 else rows.T[:, :0]


def _unit(values: np.ndarray) -> np.ndarray:
    """Return numbers of standard deviation 1, so that no unit decides which of them count as rounding.

    A column that varies by rounding alone becomes 0: divided by its standard deviation it would be a direction.
    """
    if not len(values):
        return values
    std = np.where(varies_by_rounding(values), np.inf, values.std(axis=0))
    return np.asarray((values - values.mean(axis=0)) / std)
