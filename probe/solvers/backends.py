"""Ridge solutions for every penalty from sums of products, and their errors on rows of which only sums are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg.blas import dsyr, dtrmm

from layerprobe.probe.solvers.gram import Moments, lower_blocks, sum_moments
from layerprobe.probe.solvers.tridiagonal import Tridiagonal, solve_positive

FEW = 3  # Cholesky decompositions that take less time than one tridiagonal form and its solutions for every penalty


@dataclass(frozen=True)
class Path:
    """Ridge solutions for every candidate, for features less a shift."""

    coefficients: np.ndarray  # (n_candidates, n_features, n_targets), quickest if in memory features are adjacent
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
            moments: sums over the training rows; ``xx`` is overwritten and serves the result as memory
            scales: ``(n_scales, n_features)`` by which standardised features are multiplied
        """

    def solve(
        self, moments: Moments, scales: np.ndarray, alphas: tuple[float, ...], chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients ``(n_features, n_targets)`` and intercepts ``(n_targets,)`` of one candidate per target.

        Faster than `factor` where no more than `FEW` candidates are chosen.

        Args:
            moments: sums over the training rows; ``xx`` is overwritten
            scales: as of `factor`
            alphas: as of `Factor.path`
            chosen: ``(n_targets,)``, numbers of candidates, as of `Factor.path`
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
        w = np.concatenate(solutions) if len(solutions) > 1 else solutions[0]
        return Path(w, y_mean - w.transpose(0, 2, 1) @ mean)


class HostAlgebra:
    """Backend on the CPU: numpy and LAPACK."""

    def sums(self, x: np.ndarray, y: np.ndarray, rows: np.ndarray, *, shift: np.ndarray) -> Moments:
        """Return the sums in one pass over the rows."""
        return sum_moments(x, y, rows, shift=shift)

    def factor(self, moments: Moments, scales: np.ndarray) -> HostFactor:
        """Return one tridiagonal form for each row of ``scales``."""
        scales = _unit(moments) * scales
        mean_eigenvalues, forms = [], []
        for k, scale in enumerate(scales):
            scaled, mean_eigenvalue = _scaled(moments, scale, overwrite=k == len(scales) - 1)
            mean_eigenvalues.append(mean_eigenvalue)
            forms.append(Tridiagonal.from_matrix(scaled, overwrite=True))
        return HostFactor(scales, mean_eigenvalues, forms)

    def solve(
        self, moments: Moments, scales: np.ndarray, alphas: tuple[float, ...], chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the solutions from a Cholesky decomposition for each of the candidates that are chosen."""
        scales, mean, y_mean = _unit(moments) * scales, moments.x / moments.n, moments.y / moments.n
        right = moments.xy - np.outer(moments.x, y_mean)
        w = np.empty_like(right)
        candidates = np.unique(chosen)
        for candidate in candidates:
            scale, targets = scales[candidate // len(alphas)], chosen == candidate
            scaled, mean_eigenvalue = _scaled(moments, scale, overwrite=candidate == candidates[-1])
            penalty = alphas[candidate % len(alphas)] * mean_eigenvalue
            w[:, targets] = solve_positive(scaled, right[:, targets] * scale[:, None], penalty) * scale[:, None]
        return w, y_mean - mean @ w

    def held_out(self, path: Path, moments: Moments) -> HeldOut:
        """Return the sums from a quadratic form for each candidate."""
        w, b = path.coefficients.transpose(0, 2, 1), path.intercepts
        n_candidates, n_targets, n_features = w.shape
        columns = w.reshape(-1, n_features).T
        # from one triangle L of a symmetric matrix: w' (L + L' - diagonal) w
        turned = dtrmm(2.0, moments.xx, columns, lower=1)
        turned -= np.diag(moments.xx)[:, None] * columns
        square_x = np.einsum("ij,ij->j", columns, turned).reshape(n_candidates, n_targets)
        sum_x = w @ moments.x
        product = np.einsum("atf,tf->at", w, np.ascontiguousarray(moments.xy.T))
        prediction = sum_x + moments.n * b
        square = square_x + 2 * b * sum_x + moments.n * b**2
        error = moments.yy - 2 * (product + b * moments.y) + square
        return HeldOut(moments.n, prediction, square, error)


def _unit(moments: Moments) -> np.ndarray:
    """Return what standardises each feature, ``(n_features,)``."""
    squares = np.diag(moments.xx) - moments.x * (moments.x / moments.n)
    return moments.scale(np.maximum(squares / moments.n, 0.0))


def _scaled(moments: Moments, scale: np.ndarray, *, overwrite: bool) -> tuple[np.ndarray, float]:
    """Return the Gram matrix of centred, scaled features, and its mean eigenvalue, 1 for a constant layer.

    Only the lower triangle is filled. Columns are contiguous, and the memory is the caller's.
    """
    scaled = moments.xx if overwrite else np.empty_like(moments.xx)
    for rows, columns in lower_blocks(len(scale)):
        block = scaled[rows, columns]
        np.multiply(moments.xx[rows, columns], scale[columns], out=block)
        block *= scale[rows, None]
    mean = moments.x / moments.n * scale
    scaled = dsyr(-moments.n, mean, a=scaled, lower=1, overwrite_a=1)
    # a constant layer predicts the mean
    return scaled, float(np.trace(scaled)) / min(moments.n, len(scale)) or 1.0


HOST = HostAlgebra()
