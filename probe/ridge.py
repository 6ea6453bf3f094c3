"""Ridge regression of all targets on one layer, alpha chosen per target inside the training speakers.

Penalties are relative to the mean eigenvalue of what is fitted, so one grid suits every layer, width and corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dsymm

from probe.grams import Moments, cells_of, moments_of, shift_of
from probe.splits import Split
from probe.tridiagonal import solve_for_penalties

# Half decades. The largest eigenvalue is at most min(n_train, n_features) times the mean one.
DEFAULT_ALPHAS = tuple(float(f"{a:.4g}") for a in np.logspace(-4, 4, 17))


@dataclass(frozen=True)
class RidgeFit:
    """What one split gives for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    inner_mean: np.ndarray  # (n_targets,), of predictions of training speakers held out by the inner folds
    inner_spread: np.ndarray  # (n_targets,), their standard deviation
    alpha: np.ndarray  # (n_targets,), relative as in the grid
    inner_errors: np.ndarray  # (n_alphas, n_targets), their mean squared error, by which alpha was chosen


@dataclass(frozen=True)
class _Path:
    """Ridge solutions for every alpha, on features as they are but for a shift."""

    coefficients: np.ndarray  # (n_alphas, n_features, n_targets)
    intercepts: np.ndarray  # (n_alphas, n_targets)


@dataclass(frozen=True)
class _Inner:
    """Sums over the inner held-out predictions of one or all inner folds, each ``(n_alphas, n_targets)``."""

    n: int
    prediction: np.ndarray
    square: np.ndarray
    error: np.ndarray  # squared

    def __add__(self, other: _Inner) -> _Inner:
        return _Inner(
            self.n + other.n,
            self.prediction + other.prediction,
            self.square + other.square,
            self.error + other.error,
        )


def nested_ridge(x: np.ndarray, y: np.ndarray, *, splits: list[Split], alphas: tuple[float, ...]) -> list[RidgeFit]:
    """For each split choose alpha by squared error on its inner folds, refit on all its training, predict the rest.

    One pass over the data serves every training set, outer and inner (`probe.grams`); where inner folds are the other
    outer folds, two splits share each inner fit. Where no training set has more utterances than features, the
    utterances' Gram matrices are decomposed instead.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)``
        y: ratings, ``(n_utterances, n_targets)``, finite
        splits: rows of ``x`` and ``y``
        alphas: relative penalties, rising
    """
    if max(len(split.train) for split in splits) <= x.shape[1]:
        return [_nested_dual(x, y, split, alphas) for split in splits]
    shift, y_shift = shift_of(x), np.median(y, axis=0)
    cell_of_row, folds_of_splits = cells_of(splits, len(x))
    cells = {
        cell: moments_of(x, y - y_shift, np.flatnonzero(cell_of_row == cell), shift=shift)
        for cell in np.unique(cell_of_row[cell_of_row >= 0]).tolist()
    }
    paths: dict[frozenset[int], _Path] = {}

    def path(training: frozenset[int]) -> _Path:
        if training not in paths:
            paths[training] = _fit_path(_total(cells, training), alphas)
        return paths[training]

    fits = []
    for split, folds in zip(splits, folds_of_splits, strict=True):
        everything = frozenset(set().union(*folds))
        inner = [_held_out_sums(path(everything - fold), _total(cells, frozenset(fold))) for fold in folds]
        sums = inner[0]
        for more in inner[1:]:
            sums += more
        errors = sums.error / sums.n
        chosen = errors.argmin(axis=0)
        targets = np.arange(y.shape[1])
        best = path(everything)
        w, b = best.coefficients[chosen, :, targets].T, best.intercepts[chosen, targets]
        mean = sums.prediction[chosen, targets] / sums.n
        variance = np.maximum(sums.square[chosen, targets] / sums.n - mean**2, 0.0)
        fits.append(
            RidgeFit(
                prediction=(x[split.test].astype(np.float64) - shift) @ w + b + y_shift,
                inner_mean=mean + y_shift,
                inner_spread=np.sqrt(variance),
                alpha=np.array(alphas)[chosen],
                inner_errors=errors,
            )
        )
    return fits


def _total(cells: dict[int, Moments], chosen: frozenset[int]) -> Moments:
    first, *others = sorted(chosen)
    total = cells[first]
    for cell in others:
        total += cells[cell]
    return total


def _fit_path(moments: Moments, alphas: tuple[float, ...]) -> _Path:
    """Standardise, centre and solve, all from sums."""
    mean, y_mean = moments.x / moments.n, moments.y / moments.n
    covariance = moments.xx - np.outer(moments.x, mean).T  # symmetric; the transpose is laid out as the sums are
    variance = np.maximum(np.diag(covariance) / moments.n, 0.0)
    varies = (moments.high > moments.low) & (variance > 0)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
    covariance *= scale
    covariance *= scale[:, None]
    right = (moments.xy - np.outer(moments.x, y_mean)) * scale[:, None]
    mean_eigenvalue = np.trace(covariance) / min(moments.n, len(scale))
    penalties = np.array(alphas) * (mean_eigenvalue or 1.0)  # a layer that is constant predicts the mean
    w = solve_for_penalties(covariance, right, penalties=penalties) * scale[:, None]
    return _Path(w, y_mean - mean @ w)


def _held_out_sums(path: _Path, held_out: Moments) -> _Inner:
    """What ``path`` predicts of rows of which only the sums are known."""
    w, b = path.coefficients, path.intercepts
    n_alphas, n_features, n_targets = w.shape
    columns = np.asfortranarray(w.transpose(1, 0, 2).reshape(n_features, -1))
    quadratic = np.einsum("ij,ij->j", columns, dsymm(1.0, held_out.xx, columns, lower=1))
    square_x = quadratic.reshape(n_alphas, n_targets)
    sum_x = held_out.x @ w
    product = np.einsum("ft,aft->at", held_out.xy, w)
    prediction = sum_x + held_out.n * b
    square = square_x + 2 * b * sum_x + held_out.n * b**2
    error = held_out.yy - 2 * (product + b * held_out.y) + square
    return _Inner(held_out.n, prediction, square, error)


def _nested_dual(x: np.ndarray, y: np.ndarray, split: Split, alphas: tuple[float, ...]) -> RidgeFit:
    """The same where utterances are fewer than features, with a fit of its own for each training set."""
    x_train, y_train = x[split.train], y[split.train]
    inner = np.empty((len(alphas), *y_train.shape))
    for fold in np.unique(split.inner_folds):
        held_out = split.inner_folds == fold
        inner[:, held_out] = ridge_path(x_train[~held_out], y_train[~held_out], x_train[held_out], alphas=alphas)
    errors = np.mean((inner - y_train) ** 2, axis=1)
    chosen, targets = errors.argmin(axis=0), np.arange(y.shape[1])
    held_out_predictions = inner[chosen, :, targets]
    return RidgeFit(
        prediction=ridge_path(x_train, y_train, x[split.test], alphas=alphas)[chosen, :, targets].T,
        inner_mean=held_out_predictions.mean(axis=1),
        inner_spread=held_out_predictions.std(axis=1),
        alpha=np.array(alphas)[chosen],
        inner_errors=errors,
    )


def ridge_path(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, *, alphas: tuple[float, ...]
) -> np.ndarray:
    """Predictions for every alpha from one decomposition, ``(n_alphas, n_test, n_targets)`` float64.

    Features are standardised on ``x_train``, the intercept is not penalised. The smaller of the two Gram matrices
    is decomposed: features (n_features, n_features), or utterances (n_train, n_train) where these are fewer.

    Args:
        x_train: ``(n_train, n_features)``
        y_train: ``(n_train, n_targets)``
        x_test: ``(n_test, n_features)``
        alphas: relative to the mean eigenvalue of the decomposed matrix
    """
    standardiser = Standardiser.learn(x_train)
    z_train, z_test = standardiser(x_train), standardiser(x_test)
    mean = y_train.mean(axis=0, dtype=np.float64)
    residual = y_train - mean
    n_train, n_features = z_train.shape
    dual = n_train <= n_features
    eigenvalues, vectors = np.linalg.eigh(z_train @ z_train.T if dual else z_train.T @ z_train)
    eigenvalues = np.clip(eigenvalues, 0, None)
    penalties = np.array(alphas) * (eigenvalues.mean() or 1.0)  # a layer that is constant predicts the mean
    if dual:
        left, right = z_test @ (z_train.T @ vectors), vectors.T @ residual
    else:
        left, right = z_test @ vectors, vectors.T @ (z_train.T @ residual)
    shrunk = right[None] / (eigenvalues[None, :, None] + penalties[:, None, None])
    return np.asarray(left @ shrunk + mean)


@dataclass(frozen=True)
class Standardiser:
    """Centres and scales each feature as training embeddings say; one that is constant there becomes 0."""

    mean: np.ndarray  # (n_features,) float64
    scale: np.ndarray  # (n_features,) float64

    @classmethod
    def learn(cls, train: np.ndarray) -> Standardiser:
        """From ``(n_train, n_features)``."""
        constant = np.ptp(train, axis=0) == 0
        spread = train.std(axis=0, dtype=np.float64)
        return cls(train.mean(axis=0, dtype=np.float64), np.where(constant, 0.0, 1 / np.where(constant, 1.0, spread)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """``(n, n_features)`` in float64."""
        return np.asarray((x - self.mean) * self.scale)
