"""Ridge as a linear smoother of its training rows, whose folds are left out exactly without refitting.

Predictions of the training rows are H y. With a fold F left out, the residuals of its rows are
(I - H_FF)^-1 (y - H y)_F, exactly and for any penalty (Cook and Weisberg, 1982; Pahikkala et al., 2012, for whole
folds). H is that of all training rows, with the intercept, so one decomposition serves every fold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, lapack

from layerprobe.probe.solvers.tridiagonal import Tridiagonal, check_penalty, solve_penalised

# Rows for each feature from which eigenvectors pay: a pass over all rows for each penalty is then longer than the
# difference between eigenvectors and a tridiagonal form.
EIGEN_RATIO = 4


@dataclass(frozen=True)
class Smoother:
    """Decomposition Q T Q' of the smaller Gram matrix of some training rows, with T tridiagonal or diagonal.

    With fewer rows than features it is that of rows, to which a multiple of the vector of ones is added: its eigenvalue
    0 would hide the others at a small penalty.
    """

    z: np.ndarray  # (n, n_features) features with a mean of 0, rows sorted by fold
    folds: list[slice]  # rows of each fold
    q: np.ndarray  # (k, k), k is n or n_features
    diagonal: np.ndarray  # (k,), of T
    off: np.ndarray | None  # (k - 1,), the off-diagonal of T; None where T is diagonal
    turned_rows: np.ndarray  # (k, n): Q', or Q'z' with more rows than features
    mean_eigenvalue: float  # of the Gram matrix, 1 for constant features

    @classmethod
    def from_rows(cls, z: np.ndarray, folds: list[slice]) -> Smoother:
        """Decompose features ``(n, n_features)`` float64 with a mean of 0, rows sorted by fold."""
        n, n_features = z.shape
        is_dual = n <= n_features
        gram = blas.dsyrk(1.0, z.T, trans=int(is_dual), lower=1)  # a view of z in the memory layout of Fortran
        mean_eigenvalue = float(np.trace(gram)) / len(gram) or 1.0
        if is_dual:
            gram += mean_eigenvalue / n
        if len(gram) == 1 or n >= EIGEN_RATIO * n_features:
            diagonal, q = np.linalg.eigh(gram)
            diagonal, off = np.maximum(diagonal, 0.0), None
        else:
            form = Tridiagonal.from_matrix(gram, overwrite=True)
            diagonal, off, q = form.diagonal, form.off, form.orthogonal(overwrite=True)
        rows = q.T if is_dual else (z @ q).T
        if off is not None:
            rows = np.ascontiguousarray(rows)  # elimination adds one row to the next
        return cls(z, folds, q, diagonal, off, rows, mean_eigenvalue)

    @property
    def is_dual(self) -> bool:
        """Whether the Gram matrix is that of rows."""
        n, n_features = self.z.shape
        return bool(n <= n_features)

    def turned(self, centred: np.ndarray) -> np.ndarray:
        """Return ratings ``(n, n_targets)`` with a mean of 0 as right-hand sides in the basis, ``(k, n_targets)``."""
        return np.asarray(self.turned_rows @ centred)

    def residuals(self, penalties: np.ndarray, centred: np.ndarray, turned: np.ndarray) -> np.ndarray:
        """Return the residuals of the training rows for some penalties, ``(n, n_penalties, n_targets)``.

        In the basis of rows they are divided by the penalty.

        Args:
            penalties: ``(n_penalties,)`` positive, absolute
            centred: ratings with a mean of 0, ``(n, n_targets)``, float64, or float32 for products in float32
            turned: the same in the basis, ``(k, n_targets)``
        """
        solved = np.empty((len(turned), len(penalties), turned.shape[1]), dtype=centred.dtype)
        for i, penalty in enumerate(penalties.tolist()):
            solved[:, i] = self._solved(penalty, turned)
        rows = self.turned_rows if centred.dtype == np.float64 else self._short_rows
        smooth = (rows.T @ solved.reshape(len(turned), -1)).reshape(len(centred), *solved.shape[1:])
        return smooth if self.is_dual else np.subtract(centred[:, None], smooth, out=smooth)

    def left_out(self, penalty: float, residuals: np.ndarray) -> np.ndarray:
        """Return the residuals of each fold's rows, predicted by a fit to the other folds, ``(n, n_targets)``.

        Args:
            penalty: positive, absolute
            residuals: of the fit to all rows, from `residuals`, ``(n, n_targets)``

        Raises:
            InputError: if the penalty is too small for the rounding of the data
        """
        found, columns = np.empty_like(residuals), self._eliminated(penalty)
        for fold in self.folds:
            found[fold] = self._refitted_without(columns(fold), penalty, residuals[fold])
        return found

    def coefficients(self, penalties: np.ndarray, turned: np.ndarray) -> np.ndarray:
        """Return coefficients ``(n_features, n_targets)`` of the fits to all training rows.

        Args:
            penalties: ``(n_targets,)`` absolute, one for each target
            turned: ratings in the basis, ``(k, n_targets)``
        """
        solved = np.empty_like(turned)
        for penalty in np.unique(penalties).tolist():
            columns = np.flatnonzero(penalties == penalty)
            solved[:, columns] = self._solved(penalty, turned[:, columns])
        w = self.q @ solved
        return np.asarray(self.z.T @ w if self.is_dual else w)

    @functools.cached_property
    def _short_rows(self) -> np.ndarray:
        return self.turned_rows.astype(np.float32)

    def _solved(self, penalty: float, turned: np.ndarray) -> np.ndarray:
        """Return (T + penalty I)^-1 times right-hand sides ``(k, n_targets)``."""
        pivot, factor = self._pivots(penalty)
        return np.asarray(turned / pivot[:, None] if factor is None else lapack.dpttrs(pivot, factor, turned)[0])

    def _pivots(self, penalty: float) -> tuple[np.ndarray, np.ndarray | None]:
        """Return D and the off-diagonal of L, None for zeros, of T + penalty I = L D L'."""
        if self.off is None:
            return self.diagonal + penalty, None
        pivot, factor, info = lapack.dpttrf(self.diagonal + penalty, self.off)
        check_penalty(info, penalty)
        return pivot, factor

    def _eliminated(self, penalty: float) -> Callable[[slice], np.ndarray]:
        """Return a function that gives a fold's columns of D^-1/2 L^-1 times the turned rows, until the next call."""
        pivot, factor = self._pivots(penalty)
        root = np.sqrt(pivot)
        if factor is None:
            inverse = (1 / root)[:, None]
            return lambda fold: self.turned_rows[:, fold] * inverse
        rows = np.divide(self.turned_rows, root[:, None], out=self._eliminated_rows)
        views, ratios = list(rows), (-factor * root[:-1] / root[1:]).tolist()
        for above, row, ratio in zip(views, views[1:], ratios, strict=False):
            blas.daxpy(above, row, a=ratio)  # in place, for all columns at once
        return lambda fold: rows[:, fold]

    @functools.cached_property
    def _eliminated_rows(self) -> np.ndarray:
        """Memory that each penalty's elimination overwrites: new pages would take as long as the elimination."""
        return np.empty_like(self.turned_rows)

    def _refitted_without(self, columns: np.ndarray, penalty: float, residuals: np.ndarray) -> np.ndarray:
        """Return residuals of a fold whose rows were in training as they are without it, ``(n_fold, n_targets)``.

        Args:
            columns: ``(k, n_fold)``, from `_eliminated`
            penalty: absolute
            residuals: of the fold, ``(n_fold, n_targets)``, divided by the penalty in the basis of rows
        """
        n = len(self.z)
        if self.is_dual:  # (I - H) / penalty; ones are an eigenvector of all
            return solve_penalised(columns.T @ columns - 1 / (n * (self.mean_eigenvalue + penalty)), residuals, penalty)
        if len(columns) >= columns.shape[1]:
            return solve_penalised(np.eye(columns.shape[1]) - 1 / n - columns.T @ columns, residuals, penalty)
        u = np.concatenate([columns, np.full((1, columns.shape[1]), n**-0.5)])  # H = u'u
        u_short = u.astype(residuals.dtype, copy=False)  # (I - u'u)^-1 = I + u' (I - uu')^-1 u
        inner = solve_penalised(np.eye(len(u)) - u @ u.T, u_short @ residuals, penalty)
        return np.asarray(residuals + u_short.T @ inner)
