"""Nested ridge regression of all targets on one layer, with an alpha per target chosen on training speakers.

Penalties are relative to the mean eigenvalue of the Gram matrix, so one grid suits every layer, width and corpus.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from layerprobe.probe.solvers.backends import FEW, HOST, Algebra, Factor, Path
from layerprobe.probe.solvers.dual_ridge import DualRidge
from layerprobe.probe.solvers.gram import (
    Moments,
    assign_cells,
    feature_shift,
    predict_rows,
    sum_cells,
    sum_cells_into,
)
from layerprobe.probe.solvers.leave_group_out import (
    LEAVE_GROUP_OUT,
    OF_RATINGS,
    check_inner_selection,
    fit_split,
    inner_selection_of,
)
from layerprobe.probe.solvers.ridge_fit import RidgeFit, least
from layerprobe.probe.solvers.standardiser import Standardiser
from layerprobe.probe.splits import Split

# Half decades. The largest eigenvalue is at most min(n_train, n_features) times the mean one.
DEFAULT_ALPHAS = tuple(float(f"{a:.4g}") for a in np.logspace(-4, 4, 17))
DEFAULT_BAND_DECADES = (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Bands:
    """Groups of features with penalties that may differ: banded ridge (Nunez-Elizalde et al., 2019)."""

    of_feature: np.ndarray  # (n_features,) the band of each feature, from 0
    ratios: np.ndarray  # (n_ratios, n_bands), candidates; a larger value is a weaker penalty on the band

    @classmethod
    def side_by_side(cls, widths: list[int], *, decades: tuple[float, ...] = DEFAULT_BAND_DECADES) -> Bands:
        """Return bands of adjacent features, with every combination of ``decades`` relative to the first band.

        Args:
            widths: number of features of each band
            decades: exponents of ten of the ratio of the first band's penalty to another's
        """
        of_feature = np.repeat(np.arange(len(widths)), widths)
        others = list(itertools.product(decades, repeat=len(widths) - 1))
        logarithms = np.array([(0.0, *other) for other in others])
        return cls(of_feature, 10 ** (logarithms - logarithms.mean(axis=1, keepdims=True)))

    @property
    def scales(self) -> np.ndarray:
        """Factors of standardised features, ``(n_ratios, n_features)``, which give bands of any width equal weight."""
        widths = np.bincount(self.of_feature)
        return np.asarray(np.sqrt(self.ratios / widths * widths.mean())[:, self.of_feature])


def nested_ridge(
    x: np.ndarray,
    y: np.ndarray,
    *,
    splits: list[Split],
    alphas: tuple[float, ...],
    bands: Bands | None = None,
    shared: np.ndarray | None = None,
    algebra: Algebra = HOST,
    inner_selection: str | None = None,
) -> list[RidgeFit]:
    """For each split choose alpha by squared error on inner folds, refit on all training rows, predict the test rows.

    Args:
        x: embeddings of one layer, or of several concatenated sources, ``(n_utterances, n_features)``
        y: ratings, ``(n_utterances, n_targets)``, finite
        splits: rows of ``x`` and ``y``
        alphas: relative penalties in rising order
        bands: groups of features whose penalties may differ; their ratio is chosen with alpha, per target
        shared: ``(n_targets,)``, targets with the same number have one alpha in common; None for one each
        algebra: the backend that multiplies matrices
        inner_selection: a key of `probe.solvers.leave_group_out.INNER_SELECTIONS`; None takes the faster one
    """
    ridge = NestedRidge(x, splits=splits, alphas=alphas, bands=bands, algebra=algebra, inner_selection=inner_selection)
    return ridge.fit(y, shared=shared)


class NestedRidge:
    """Nested ridge regression of one layer; Gram matrices and decompositions are reused between folds and targets.

    One pass over the data is enough for every training set, outer and inner (`probe.solvers.gram`). Where inner folds
    are the other outer folds, each inner fit is used by two splits. Where no training set has more utterances than
    features, the Gram matrices of utterances are decomposed instead (`probe.solvers.dual_ridge`). Many small inner
    folds are left out of one fit, on the CPU (`probe.solvers.leave_group_out`).
    """

    def __init__(
        self,
        x: np.ndarray,
        *,
        splits: list[Split],
        alphas: tuple[float, ...],
        bands: Bands | None = None,
        algebra: Algebra = HOST,
        inner_selection: str | None = None,
        on_factor: Callable[[frozenset[int], Factor], None] | None = None,
    ) -> None:
        """Take arguments as of `nested_ridge`; ``on_factor`` is called with each training set and its decomposition.

        The memory of a decomposition is used again for the next one.
        """
        self.x, self.splits, self.alphas, self.algebra = x, splits, alphas, algebra
        self.scales = np.ones((1, x.shape[1])) if bands is None else bands.scales
        self.inner_selection = check_inner_selection(inner_selection or inner_selection_of(splits))
        self.is_dual = bool(max(len(split.train) for split in splits) <= x.shape[1])
        self.cell_of_row, self.folds = assign_cells(splits, len(x))
        self.shift = feature_shift(x)
        self.cells: dict[int, Moments] = {}
        self._on_factor = on_factor
        self._memory: np.ndarray | None = None

    @functools.cached_property
    def dual(self) -> DualRidge:
        """The same from Gram matrices of utterances, with their decompositions."""
        return DualRidge(self.x, splits=self.splits, alphas=self.alphas, scales=self.scales)

    def fit(
        self, y: np.ndarray, *, shared: np.ndarray | None = None, inner_predictions: bool = False
    ) -> list[RidgeFit]:
        """Fit ratings ``(n_utterances, n_targets)``, and return one fit per split.

        Args:
            y: ratings, finite
            shared: as of `nested_ridge`
            inner_predictions: whether the fits hold predictions of the training rows, each held out once
        """
        if self.inner_selection == LEAVE_GROUP_OUT:
            return [
                fit_split(
                    self.x,
                    y,
                    split,
                    alphas=self.alphas,
                    scales=self.scales,
                    shared=shared,
                    search=OF_RATINGS,
                    inner_predictions=inner_predictions,
                )
                for split in self.splits
            ]
        if self.is_dual:
            fits = [self.dual.fit(y, k, shared=shared) for k in range(len(self.splits))]
            return fits if inner_predictions else [replace(fit, inner_prediction=None) for fit in fits]
        y_shift = np.median(y, axis=0)
        centred = y - y_shift
        self.cells = {
            cell: self.algebra.sums(self.x, centred, np.flatnonzero(self.cell_of_row == cell), shift=self.shift)
            for cell in np.unique(self.cell_of_row[self.cell_of_row >= 0]).tolist()
        }
        paths: dict[frozenset[int], Path] = {}
        fits = []
        for split, folds in zip(self.splits, self.folds, strict=True):
            everything = frozenset(set().union(*folds))
            inner = [self._path(everything - fold, paths) for fold in folds]
            parts = (
                self.algebra.held_out(path, sum_cells(self.cells, frozenset(fold)))
                for path, fold in zip(inner, folds, strict=True)
            )
            sums = functools.reduce(operator.add, parts)
            errors = sums.error / sums.n
            chosen, targets = least(errors, shared), np.arange(y.shape[1])
            w, b = self._solution(everything, chosen, paths)
            mean = sums.prediction[chosen, targets] / sums.n
            variance = np.maximum(sums.square[chosen, targets] / sums.n - mean**2, 0.0)
            held_out = None
            if inner_predictions:
                held_out = np.empty((len(split.train), y.shape[1]))
                for number, path in zip(np.unique(split.inner_folds), inner, strict=True):
                    rows = split.inner_folds == number
                    w_inner, b_inner = path.chosen(chosen)
                    held_out[rows] = predict_rows(self.x, split.train[rows], self.shift, w_inner) + b_inner + y_shift
            fits.append(
                RidgeFit(
                    prediction=predict_rows(self.x, split.test, self.shift, w) + b + y_shift,
                    inner_mean=mean + y_shift,
                    inner_std=np.sqrt(variance),
                    inner_error=np.maximum(errors[chosen, targets], 0.0),
                    alpha=np.array(self.alphas)[chosen % len(self.alphas)],
                    ratio=chosen // len(self.alphas),
                    inner_errors=errors,
                    inner_prediction=held_out,
                )
            )
        return fits

    def _path(self, training: frozenset[int], paths: dict[frozenset[int], Path]) -> Path:
        if training not in paths:
            moments = self._training_sums(training)
            factor = self.algebra.factor(moments, self.scales)
            if self._on_factor is not None:
                self._on_factor(training, factor)
            paths[training] = factor.path(moments, self.alphas)
        return paths[training]

    def _training_sums(self, training: frozenset[int]) -> Moments:
        """Return sums over a training set in memory that the next call overwrites."""
        if self._memory is None:
            self._memory = np.zeros_like(self.cells[min(training)].xx)
        return sum_cells_into(self._memory, self.cells, training)

    def _solution(
        self, training: frozenset[int], chosen: np.ndarray, paths: dict[frozenset[int], Path]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients and intercepts of one candidate per target, as `Path.chosen` does."""
        if len(np.unique(chosen)) > FEW:
            return self._path(training, paths).chosen(chosen)
        if self._on_factor is not None and training not in paths:
            self._on_factor(training, self.algebra.factor(self._training_sums(training), self.scales))
        return self.algebra.solve(self._training_sums(training), self.scales, self.alphas, chosen)


def fit_ridge(x: np.ndarray, y: np.ndarray, *, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients ``(n_features, n_targets)`` and intercepts ``(n_targets,)`` for unstandardised features.

    Args:
        x: ``(n_utterances, n_features)``
        y: ``(n_utterances, n_targets)``
        alpha: ``(n_targets,)``, relative, as in `ridge_path`
    """
    standardiser = Standardiser.learn(x)
    z, y_mean = standardiser(x), y.mean(axis=0, dtype=np.float64)
    dual = z.shape[0] <= z.shape[1]
    eigenvalues, vectors = np.linalg.eigh(z @ z.T if dual else z.T @ z)
    eigenvalues = np.clip(eigenvalues, 0, None)
    right = vectors.T @ ((y - y_mean) if dual else z.T @ (y - y_mean))
    solved = vectors @ (right / (eigenvalues[:, None] + alpha * (eigenvalues.mean() or 1.0)))
    coefficients = standardiser.scale[:, None] * (z.T @ solved if dual else solved)
    return coefficients, y_mean - standardiser.mean @ coefficients


def ridge_path(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    *,
    alphas: tuple[float, ...],
    scales: np.ndarray | None = None,
) -> np.ndarray:
    """Return predictions for every alpha from one decomposition, ``(n_alphas, n_test, n_targets)`` float64.

    Features are standardised on ``x_train``, the intercept is not penalised. The smaller of the two Gram matrices
    is decomposed: of features (n_features, n_features), or of utterances (n_train, n_train).

    Args:
        x_train: ``(n_train, n_features)``
        y_train: ``(n_train, n_targets)``
        x_test: ``(n_test, n_features)``
        alphas: relative to the mean eigenvalue of the decomposed matrix
        scales: ``(n_scales, n_features)`` factors of standardised features, one decomposition for each; the first axis
            of the result is then every alpha for the first, then for the next
    """
    standardiser = Standardiser.learn(x_train)
    z_train, z_test = standardiser(x_train), standardiser(x_test)
    if scales is None:
        return _scaled_path(z_train, y_train, z_test, alphas)
    return np.concatenate([_scaled_path(z_train * s, y_train, z_test * s, alphas) for s in scales])


def _scaled_path(z_train: np.ndarray, y_train: np.ndarray, z_test: np.ndarray, alphas: tuple[float, ...]) -> np.ndarray:
    mean = y_train.mean(axis=0, dtype=np.float64)
    residual = y_train - mean
    n_train, n_features = z_train.shape
    dual = n_train <= n_features
    eigenvalues, vectors = np.linalg.eigh(z_train @ z_train.T if dual else z_train.T @ z_train)
    eigenvalues = np.clip(eigenvalues, 0, None)
    penalties = np.array(alphas) * (eigenvalues.mean() or 1.0)  # a constant layer predicts the mean
    if dual:
        left, right = z_test @ (z_train.T @ vectors), vectors.T @ residual
    else:
        left, right = z_test @ vectors, vectors.T @ (z_train.T @ residual)
    shrunk = right[None] / (eigenvalues[None, :, None] + penalties[:, None, None])
    return np.asarray(left @ shrunk + mean)
