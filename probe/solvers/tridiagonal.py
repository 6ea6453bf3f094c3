"""Solutions for many penalties from one tridiagonalisation of a symmetric matrix, each at linear cost.

The matrix is Q T Q' with T tridiagonal, so (matrix + alpha I)^-1 B is Q (T + alpha I)^-1 Q' B. Half the work of the
eigenvectors, and as exact (Golub and Van Loan, 2013, section 8.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from layerprobe.probe.exceptions import InputError


@dataclass(frozen=True)
class Tridiagonal:
    """Decomposition Q T Q' of a symmetric matrix ``(n, n)`` with T tridiagonal."""

    reflectors: np.ndarray  # (n, n), of Q, below the first subdiagonal; in the memory layout of Fortran
    tau: np.ndarray  # (n - 1,), their scales
    diagonal: np.ndarray  # (n,), of T
    off: np.ndarray  # (n - 1,), the off-diagonal of T

    @classmethod
    def from_matrix(cls, matrix: np.ndarray, *, overwrite: bool = False) -> Tridiagonal:
        """Decompose ``(n, n)`` float64, positive semi-definite up to rounding; the lower triangle is read.

        Args:
            matrix: the matrix
            overwrite: whether its memory may be used, if its columns are contiguous
        """
        n = len(matrix)
        if n == 1:
            return cls(np.empty((1, 1)), np.empty(0), matrix[0].copy(), np.empty(0))
        work = int(lapack.dsytrd_lwork(n, lower=1)[0])
        reflectors, diagonal, off, tau, info = lapack.dsytrd(matrix, lower=1, lwork=work, overwrite_a=overwrite)
        _check_info(info, "dsytrd")
        return cls(reflectors, tau, diagonal, off)

    def solve(self, right: np.ndarray, *, penalties: np.ndarray) -> np.ndarray:
        """Solve ``(matrix + penalty I) w = right`` for every penalty, ``(n_penalties, n, n_right)``.

        Each solution is contiguous in memory.

        Args:
            right: ``(n, n_right)``
            penalties: ``(n_penalties,)``, positive

        Raises:
            InputError: if a penalty is too small for the rounding of the matrix
        """
        n, n_right = right.shape
        if n == 1:
            return np.asarray(right / (self.diagonal + penalties[:, None, None]))
        turned = self._multiply(right, transposed=True)
        solved = np.empty((n, len(penalties) * n_right), order="F")
        for k, penalty in enumerate(penalties):
            solution = solve_tridiagonal(self.diagonal, self.off, turned, penalty=penalty)
            solved[:, k * n_right : (k + 1) * n_right] = solution
        w = self._multiply(solved, transposed=False)
        return np.asarray(w.T.reshape(len(penalties), n_right, n).transpose(0, 2, 1))

    def orthogonal(self, *, overwrite: bool = False) -> np.ndarray:
        """Return Q, ``(n, n)``, whose products are faster than those of its reflectors for many columns.

        Args:
            overwrite: whether the memory of the reflectors may be used; `solve` is then no longer possible
        """
        n = len(self.diagonal)
        if n == 1:
            return np.eye(1)
        work = int(lapack.dorghr_lwork(n)[0])  # the reflectors are stored as those of a Hessenberg form are
        q, info = lapack.dorghr(self.reflectors, self.tau, lwork=work, overwrite_a=overwrite)
        _check_info(info, "dorghr")
        return np.asarray(q)

    def _multiply(self, columns: np.ndarray, *, transposed: bool) -> np.ndarray:
        """Return the product of Q, or of its transpose, and columns ``(n, k)``; the first row stays as it is."""
        n = len(self.diagonal)
        # rows from the second on, without a copy: in memory the first of each column follows the last of the one before
        below = self.reflectors.reshape(-1, order="F")[1 : 1 + n * (n - 1)].reshape(n, n - 1, order="F")
        turned, trans = np.array(columns, order="F"), "T" if transposed else "N"
        rest = np.asfortranarray(turned[1:])
        work = int(lapack.dormqr("L", trans, below, self.tau, rest, -1)[1][0])
        turned[1:], _, info = lapack.dormqr("L", trans, below, self.tau, rest, work, overwrite_c=True)
        _check_info(info, "dormqr")
        return turned


def solve_tridiagonal(diagonal: np.ndarray, off: np.ndarray, right: np.ndarray, *, penalty: float) -> np.ndarray:
    """Solve ``(T + penalty I) u = right`` for one penalty, ``(n, n_right)``.

    Args:
        diagonal: of T, ``(n,)``
        off: off-diagonal of T, ``(n - 1,)``
        right: ``(n, n_right)``
        penalty: positive

    Raises:
        InputError: if the penalty is too small for the rounding of T
    """
    if len(diagonal) == 1:
        return np.asarray(right / (diagonal + penalty))
    _, _, solution, info = lapack.dptsv(diagonal + penalty, off, right)
    check_penalty(info, penalty)
    return np.asarray(solution)


def solve_positive(matrix: np.ndarray, right: np.ndarray, penalty: float) -> np.ndarray:
    """Solve ``(matrix + penalty I) w = right`` for one penalty by a Cholesky decomposition, ``(n, n_right)``.

    Args:
        matrix: as of `Tridiagonal.from_matrix`; its memory is used
        right: ``(n, n_right)``
        penalty: positive

    Raises:
        InputError: if the penalty is too small for the rounding of the matrix
    """
    np.einsum("ii->i", matrix)[:] += penalty
    return solve_penalised(matrix, right, penalty)


def solve_penalised(matrix: np.ndarray, right: np.ndarray, penalty: float) -> np.ndarray:
    """Solve ``matrix w = right``, where the matrix holds a penalty already, ``(n, n_right)``.

    Args:
        matrix: as of `solve_positive`
        right: ``(n, n_right)``, float64, or float32 for substitutions in float32
        penalty: which the error names

    Raises:
        InputError: if the penalty is too small for the rounding of the matrix
    """
    factor, info = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    check_penalty(info, penalty)
    substitute, routine = (lapack.dpotrs, "dpotrs") if right.dtype == np.float64 else (lapack.spotrs, "spotrs")
    solution, info = substitute(factor, right, lower=1)
    _check_info(info, routine)
    return np.asarray(solution)


def check_penalty(info: int, penalty: float) -> None:
    """Check what LAPACK returns of a positive definite matrix to which a penalty was added.

    Raises:
        InputError: if the matrix was not positive definite up to rounding
    """
    if info:
        raise InputError("LP563", f"penalty {penalty:.2g} is lost in the rounding of the data. Ask for greater alphas.")


def _check_info(info: int, routine: str) -> None:
    """Raise an error, under ``python -O``, too, if a routine of LAPACK reports that it failed."""
    if info != 0:
        raise np.linalg.LinAlgError(f"{routine} of LAPACK failed: info is {info}")
