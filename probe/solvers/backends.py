"""Ridge solutions for every penalty from sums of products, and their errors on rows of which only sums are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg.blas import dsymm

from layerprobe.probe.solvers.gram import Moments, sum_moments
from layerprobe.probe.solvers.tridiagonal import Tridiagonal


@dataclass(frozen=True)
class Path:
    """Ridge solutions for every candidate, for features less a shift."""

    coefficients: np.ndarray  # (n_candidates, n_features, n_targets)
    intercepts: np.ndarray  # (n_candidates, n_targets)

    def chosen(self, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each target's coefficients ``(n_features, n_targets)`` and intercepts ``(n_targets,)``."""
        targets = np.arange(len(candidate))
        return self.coefficients[candidate, :, targets].T, self.intercepts[candidate, targets]


@dataclass(frozen=True)
class HeldOut:
    """Sums over the held-out predictions of inner folds, each ``(n_candidates, n_targets)``."""

    n: int
    prediction: np.ndarray
    square: np.ndarray
    error: np.ndarray  # squared

    def __add__(self, other: HeldOut) -> HeldOut:
        return HeldOut(
            self.n + other.n,
            self.prediction + other.prediction,
            self.square + other.square,
            self.error + other.error,
        )


class Factor(Protocol):
    """Decomposition of one training set's features, standardised and scaled, for any ratings."""

    def path(self, moments: Moments, alphas: tuple[float, ...]) -> Path:
        """Return the ridge solutions for every penalty.

        Args:
            moments: sums over the training rows
            alphas: penalties relative to the mean eigenvalue of the Gram matrix; candidates are every alpha for
                the first scale, then for the next
        """


class Algebra(Protocol):
    """Backend for products and decompositions of matrices."""

    def sums(self, x: np.ndarray, y: np.ndarray, rows: np.ndarray, *, shift: np.ndarray) -> Moments:
        """Return the sums over rows, as `probe.solvers.gram.sum_moments` does."""

    def factor(self, moments: Moments, scales: np.ndarray) -> Factor:
        """Standardise, centre, scale and decompose the features of a training set.

        Args:
            moments: sums over the training rows
            scales: ``(n_scales, n_features)`` by which standardised features are multiplied
        """

    def held_out(self, path: Path, moments: Moments) -> HeldOut:
        """Return sums over the predictions of ``path`` for rows of which only the sums are known."""


@dataclass(frozen=True)
class HostFactor:
    """Decomposition on the CPU: one tridiagonal form for each row of scales."""

    scales: np.ndarray  # (n_scales, n_features), factors of unstandardised features
    mean_eigenvalues: list[float]  # of the Gram matrices, 1 for a constant layer
    forms: list[Tridiagonal]

    def path(self, moments: Moments, alphas: tuple[float, ...]) -> Path:
        """Return the ridge solutions; see `Factor.path`."""
        mean, y_mean = moments.x / moments.n, moments.y / moments.n
        right = moments.xy - np.outer(moments.x, y_mean)
        solutions = []
        for scale, mean_eigenvalue, form in zip(self.scales, self.mean_eigenvalues, self.forms, strict=True):
            w = form.solve(right * scale[:, None], penalties=np.array(alphas) * mean_eigenvalue)
            solutions.append(w * scale[:, None])
        w = np.concatenate(solutions)
        return Path(w, y_mean - mean @ w)


class HostAlgebra:
    """Backend on the CPU: numpy and LAPACK."""

    def sums(self, x: np.ndarray, y: np.ndarray, rows: np.ndarray, *, shift: np.ndarray) -> Moments:
        """Return the sums in one pass over the rows."""
        return sum_moments(x, y, rows, shift=shift)

    def factor(self, moments: Moments, scales: np.ndarray) -> HostFactor:
        """Return one tridiagonal form for each row of ``scales``."""
        mean = moments.x / moments.n
        # symmetric; the transpose has the memory layout of the sums
        covariance = moments.xx - np.outer(moments.x, mean).T
        variance = np.maximum(np.diag(covariance) / moments.n, 0.0)
        unit = moments.scale(variance)
        mean_eigenvalues, forms = [], []
        for scale in unit * scales:
            scaled = covariance * scale
            scaled *= scale[:, None]
            # a constant layer predicts the mean
            mean_eigenvalues.append(float(np.trace(scaled)) / min(moments.n, len(scale)) or 1.0)
            forms.append(Tridiagonal.from_matrix(scaled))
        return HostFactor(unit * scales, mean_eigenvalues, forms)

    def held_out(self, path: Path, moments: Moments) -> HeldOut:
        """Return the sums from a quadratic form for each candidate."""
        w, b = path.coefficients, path.intercepts
        n_candidates, n_features, n_targets = w.shape
        columns = np.asfortranarray(w.transpose(1, 0, 2).reshape(n_features, -1))
        quadratic = np.einsum("ij,ij->j", columns, dsymm(1.0, moments.xx, columns, lower=1))
        square_x = quadratic.reshape(n_candidates, n_targets)
        sum_x = moments.x @ w
        product = np.einsum("ft,aft->at", moments.xy, w)
        prediction = sum_x + moments.n * b
        square = square_x + 2 * b * sum_x + moments.n * b**2
        error = moments.yy - 2 * (product + b * moments.y) + square
        return HeldOut(moments.n, prediction, square, error)


HOST = HostAlgebra()
