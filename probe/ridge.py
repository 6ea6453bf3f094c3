"""Ridge regression of all targets on one layer, alpha chosen per target inside the training speakers.

Penalties are relative to the mean eigenvalue of what is fitted, so one grid suits every layer, width and corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.splits import Split

# Half decades. The largest eigenvalue is at most min(n_train, n_features) times the mean one.
DEFAULT_ALPHAS = tuple(float(f"{a:.4g}") for a in np.logspace(-4, 4, 17))


@dataclass(frozen=True)
class RidgeFit:
    """What one split gives for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    inner_prediction: np.ndarray  # (n_train, n_targets), of training speakers held out by the inner folds
    alpha: np.ndarray  # (n_targets,), relative as in the grid


def nested_ridge(x: np.ndarray, y: np.ndarray, *, split: Split, alphas: tuple[float, ...]) -> RidgeFit:
    """Choose alpha by squared error on the inner folds, refit on all training speakers, predict the held-out ones.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)``
        y: ratings, ``(n_utterances, n_targets)``, finite
        split: rows of ``x`` and ``y``
        alphas: relative penalties, rising
    """
    x_train, y_train = x[split.train], y[split.train]
    inner = np.empty((len(alphas), *y_train.shape))
    for fold in np.unique(split.inner_folds):
        held_out = split.inner_folds == fold
        inner[:, held_out] = ridge_path(x_train[~held_out], y_train[~held_out], x_train[held_out], alphas=alphas)
    chosen = np.mean((inner - y_train) ** 2, axis=1).argmin(axis=0)
    targets = np.arange(y.shape[1])
    outer = ridge_path(x_train, y_train, x[split.test], alphas=alphas)
    return RidgeFit(
        prediction=outer[chosen, :, targets].T,
        inner_prediction=inner[chosen, :, targets].T,
        alpha=np.array(alphas)[chosen],
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
