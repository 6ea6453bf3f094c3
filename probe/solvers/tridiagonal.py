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

    # (n, n - 1), of Q without its first row and column, which are the identity's; the last row has no meaning
    reflectors: np.ndarray
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
            return cls(np.empty((0, 0)), np.empty(0), matrix[0].copy(), np.empty(0))
        work = int(lapack.dsytrd_lwork(n, lower=1)[0])
        reflectors, diagonal, off, tau, info = lapack.dsytrd(matrix, lower=1, lwork=work, overwrite_a=overwrite)
        _check_info(info, "dsytrd")
        # rows from the second on, without a copy: in memory the first of each column follows the last of the one before
        below = reflectors.reshape(-1, order="F")[1 : 1 + n * (n - 1)].reshape(n, n - 1, order="F")
        return cls(below, tau, diagonal, off)

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
        turned = _multiply(self.reflectors, self.tau, right, transposed=True)
        solved = np.empty((n, len(penalties) * n_right), order="F")
        for k, penalty in enumerate(penalties):
            solution = solve_tridiagonal(self.diagonal, self.off, turned, penalty=penalty)
            solved[:, k * n_right : (k + 1) * n_right] = solution
        w = _multiply(self.reflectors, self.tau, solved, transposed=False)
        return np.asarray(w.T.reshape(len(penalties), n_right, n).transpose(0, 2, 1))

    def orthogonal(self) -> np.ndarray:
        """Return Q, ``(n, n)``, whose products are faster than those of its reflectors for many columns."""
        n = len(self.diagonal)
        q = np.eye(n, order="F")
        if n > 1:
            reflectors = np.asfortranarray(self.reflectors[:-1])
            work = int(lapack.dorgqr(reflectors, self.tau, -1)[1][0])
            below, _, info = lapack.dorgqr(reflectors, self.tau, work, overwrite_a=True)
            _check_info(info, "dorgqr")
            q[1:, 1:] = below
        return q


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
    if info:
        raise _lost(penalty)
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
    factor, info = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    if info:
        raise _lost(penalty)
    solution, info = lapack.dpotrs(factor, right, lower=1)
    _check_info(info, "dpotrs")
    return np.asarray(solution)


def solve_shifted(diagonal: np.ndarray, off: np.ndarray, right: np.ndarray, *, shift: np.ndarray) -> np.ndarray:
    """Solve ``(T + shift I) u = right``, where each column may have a different shift.

    Elimination passes down and up once for all columns together, row by row (Golub and Van Loan, 2013, section 4.3).

    Args:
        diagonal: of T, ``(n,)``, or ``(n, …)`` if columns have different T
        off: off-diagonal of T, ``(n - 1,)``, or ``(n - 1, …)``
        right: ``(n, …)``
        shift: positive, of any shape that broadcasts with ``right[0]`` and ``diagonal[0]``

    Returns:
        ``(n, …)``, the broadcast shape of ``right[0]`` and ``shift``
    """
    n = len(diagonal)
    pivot, factor = np.empty((2, n, *np.broadcast_shapes(diagonal.shape[1:], shift.shape)))
    pivot[0] = diagonal[0] + shift
    u = np.empty((n, *np.broadcast_shapes(right.shape[1:], shift.shape)))
    u[0], step = right[0], np.empty(u.shape[1:])
    for i in range(1, n):
        factor[i] = off[i - 1] / pivot[i - 1]
        pivot[i] = diagonal[i] + shift - off[i - 1] * factor[i]
        np.multiply(u[i - 1], factor[i], out=step)
        np.subtract(right[i], step, out=u[i])
    u /= pivot
    for i in range(n - 1, 0, -1):
        np.multiply(u[i], factor[i], out=step)
        u[i - 1] -= step
    return u


def _lost(penalty: float) -> InputError:
    return InputError(f"penalty {penalty:.2g} is lost in the rounding of the data. Ask for greater alphas.")


def _multiply(q: np.ndarray, tau: np.ndarray, columns: np.ndarray, *, transposed: bool) -> np.ndarray:
    """Multiply Q or its transpose by columns; the first row of Q is that of the identity."""
    trans = "T" if transposed else "N"
    below = np.asfortranarray(columns[1:])
    work = int(lapack.dormqr("L", trans, q, tau, below, -1)[1][0])
    product, _, info = lapack.dormqr("L", trans, q, tau, below, work, overwrite_c=True)
    _check_info(info, "dormqr")
    return np.concatenate([columns[:1], product])


def _check_info(info: int, routine: str) -> None:
    """Raise an error, under ``python -O``, too, if a routine of LAPACK reports that it failed."""
    if info != 0:
        raise np.linalg.LinAlgError(f"{routine} of LAPACK failed: info is {info}")
