"""Nested ridge where there are fewer utterances than features, from Gram matrices of utterances.

Where the inner folds of a split are the test rows of other splits, two splits have each inner training set in common.
It is decomposed once, for the ratings and for any number of permutations of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.solvers.ridge_fit import RidgeFit, least
from layerprobe.probe.solvers.standardiser import Standardiser
from layerprobe.probe.splits import Split

KEPT_BYTES = 2**28  # of all decompositions of a layer; larger ones are made again where they are needed


@dataclass(frozen=True)
class _Decomposition:
    """Eigenvectors of one training set's Gram matrix, and the products with them of rows that it predicts."""

    train: np.ndarray  # (n_train,) row numbers
    rows: np.ndarray  # (n_rows,) row numbers that are predicted, in rising order
    vectors: np.ndarray  # (n_train, n_train)
    left: np.ndarray  # (n_rows, n_train)
    shrinkage: np.ndarray  # (n_alphas, n_train), of each eigenvector

    @classmethod
    def of_rows(
        cls, x: np.ndarray, train: np.ndarray, rows: np.ndarray, scale: np.ndarray, alphas: tuple[float, ...]
    ) -> _Decomposition:
        """Decompose the Gram matrix of standardised features times ``scale``, ``(n_features,)``."""
        standardise = Standardiser.learn(x[train])
        z, predicted = (standardise(x[at]) * scale for at in (train, rows))
        eigenvalues, vectors = np.linalg.eigh(z @ z.T)
        eigenvalues = np.clip(eigenvalues, 0, None)
        penalties = np.array(alphas)[:, None] * (eigenvalues.mean() or 1.0)  # a constant layer predicts the mean
        return cls(train, rows, vectors, predicted @ z.T @ vectors, 1 / (eigenvalues + penalties))

    def left_of(self, rows: np.ndarray) -> np.ndarray:
        """Return ``left`` of some of the rows."""
        return np.asarray(self.left[np.searchsorted(self.rows, rows)])


@dataclass(frozen=True)
class _Path:
    """Predictions of some rows by every penalty, for all targets."""

    left: np.ndarray  # (n_rows, n_train)
    right: np.ndarray  # (n_train, n_targets), ratings in the basis of the eigenvectors
    mean: np.ndarray  # (n_targets,)
    shrinkage: np.ndarray  # (n_alphas, n_train)

    @classmethod
    def of_ratings(cls, made: _Decomposition, rows: np.ndarray, y: np.ndarray) -> _Path:
        """Fit the ratings of the training rows, for predictions of ``rows``."""
        y_train = y[made.train]
        mean = y_train.mean(axis=0, dtype=np.float64)
        return cls(made.left_of(rows), made.vectors.T @ (y_train - mean), mean, made.shrinkage)

    def squared_errors(self, y: np.ndarray) -> np.ndarray:
        """Return each penalty's sum of squared errors of the ratings ``y`` of the rows, ``(n_alphas, n_targets)``."""
        shrunk = (self.left * self.shrinkage[:, None]).reshape(-1, self.left.shape[1])
        errors = (shrunk @ self.right).reshape(len(self.shrinkage), *y.shape)
        errors -= y - self.mean
        return np.asarray(np.einsum("ant,ant->at", errors, errors))

    def predict(self, alpha: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the rows' predictions of some targets by the penalty number ``alpha`` of each."""
        return np.asarray(self.left @ (self.right[:, targets] * self.shrinkage[alpha].T) + self.mean[targets])


class DualRidge:
    """Nested ridge of one layer that has fewer training utterances than features."""

    def __init__(self, x: np.ndarray, *, splits: list[Split], alphas: tuple[float, ...], scales: np.ndarray) -> None:
        """Take the arguments of `probe.solvers.ridge.nested_ridge`, and the ``scales`` of its bands."""
        self._x, self._splits, self._alphas, self._scales = x, splits, alphas, scales
        predicted: dict[bytes, list[np.ndarray]] = {}
        sizes: dict[bytes, int] = {}
        for split in splits:
            for train, rows in [(split.train, split.test), *_inner_sets(split)]:
                key = np.sort(train).tobytes()
                predicted.setdefault(key, []).append(rows)
                sizes[key] = len(train)
        self._rows = {key: np.unique(np.concatenate(rows)) for key, rows in predicted.items()}
        n_values = sum(n * (n + len(self._rows[key])) for key, n in sizes.items())
        self._keeps = 8 * n_values * len(scales) <= KEPT_BYTES
        self._kept: dict[tuple[bytes, int], _Decomposition] = {}

    def fit(self, y: np.ndarray, number: int, *, shared: np.ndarray | None) -> RidgeFit:
        """Fit ratings ``(n_utterances, n_targets)`` in one split; ``shared`` as of `probe.solvers.ridge.nested_ridge`.

        Args:
            y: ratings, finite
            number: of the split
            shared: targets with the same number have one alpha in common; None for one each
        """
        split, n_alphas, n_scales = self._splits[number], len(self._alphas), len(self._scales)
        errors, inner = np.zeros((n_scales, n_alphas, y.shape[1])), []
        for train, rows in _inner_sets(split):
            paths = self._paths(train, rows, y)
            errors += [path.squared_errors(y[rows]) for path in paths]
            inner.append((rows, paths))
        errors = errors.reshape(n_scales * n_alphas, -1) / len(split.train)
        chosen, targets = least(errors, shared), np.arange(y.shape[1])
        held_out = np.empty_like(y, dtype=np.float64)
        for rows, paths in inner:
            held_out[rows] = _predict(paths, chosen, n_alphas)
        inner_prediction = held_out[split.train]
        return RidgeFit(
            prediction=_predict(self._paths(split.train, split.test, y), chosen, n_alphas),
            inner_mean=inner_prediction.mean(axis=0),
            inner_std=inner_prediction.std(axis=0),
            inner_error=errors[chosen, targets],
            alpha=np.array(self._alphas)[chosen % n_alphas],
            ratio=chosen // n_alphas,
            inner_errors=errors,
            inner_prediction=inner_prediction,
        )

    def _paths(self, train: np.ndarray, rows: np.ndarray, y: np.ndarray) -> list[_Path]:
        """Return the path of each row of the scales."""
        return [_Path.of_ratings(self._decompose(train, s), rows, y) for s in range(len(self._scales))]

    def _decompose(self, train: np.ndarray, number: int) -> _Decomposition:
        train = np.sort(train)
        key = train.tobytes(), number
        if key in self._kept:
            return self._kept[key]
        made = _Decomposition.of_rows(self._x, train, self._rows[key[0]], self._scales[number], self._alphas)
        if self._keeps:
            self._kept[key] = made
        return made


def _inner_sets(split: Split) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the training rows and the held-out rows of each inner fold."""
    folds = np.unique(split.inner_folds)
    return [(split.train[split.inner_folds != fold], split.train[split.inner_folds == fold]) for fold in folds]


def _predict(paths: list[_Path], chosen: np.ndarray, n_alphas: int) -> np.ndarray:
    """Return predictions ``(n_rows, n_targets)`` by the candidate that was chosen for each target."""
    out = np.empty((len(paths[0].left), len(chosen)))
    for s, path in enumerate(paths):
        targets = np.flatnonzero(chosen // n_alphas == s)
        out[:, targets] = path.predict(chosen[targets] % n_alphas, targets)
    return out
