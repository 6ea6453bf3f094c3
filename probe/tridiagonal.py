"""One symmetric matrix, many penalties: tridiagonalised once, then each penalty is a solution of linear cost.

The matrix is Q T Q' with T tridiagonal, so (matrix + alpha I)^-1 B is Q (T + alpha I)^-1 Q' B. Half the work of the
eigenvectors, and as exact (Golub and Van Loan, 2013, section 8.3).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from probe.errors import InputError


def solve_for_penalties(matrix: np.ndarray, right: np.ndarray, *, penalties: np.ndarray) -> np.ndarray:
    """Solutions of ``(matrix + penalty I) w = right`` for every penalty, ``(n_penalties, n, n_right)``.

    Args:
        matrix: ``(n, n)`` float64, positive semi-definite but for rounding; the lower triangle is read
        right: ``(n, n_right)``
        penalties: ``(n_penalties,)``, positive

    Raises:
        InputError: if a penalty is too small for the rounding of the matrix
    """
    n, n_right = right.shape
    if n == 1:
        return np.asarray(right / (matrix[0, 0] + penalties[:, None, None]))
    work = int(lapack.dsytrd_lwork(n, lower=1)[0])
    reflectors, diagonal, off, tau, info = lapack.dsytrd(matrix, lower=1, lwork=work)
    assert info == 0, f"dsytrd: {info}"
    q = np.asfortranarray(reflectors[1:, :-1])
    turned = _multiply(q, tau, right, transposed=True)
    solved = np.empty((n, len(penalties) * n_right), order="F")
    for k, penalty in enumerate(penalties):
        _, _, solution, info = lapack.dptsv(diagonal + penalty, off, turned)
        if info:
            raise InputError(f"penalty {penalty:.2g} is lost in the rounding of the data. Ask for greater alphas.")
        solved[:, k * n_right : (k + 1) * n_right] = solution
    w = _multiply(q, tau, solved, transposed=False)
    return np.ascontiguousarray(w.reshape(n, len(penalties), n_right).transpose(1, 0, 2))


def _multiply(q: np.ndarray, tau: np.ndarray, columns: np.ndarray, *, transposed: bool) -> np.ndarray:
    """Q or its transpose times columns; the first row of Q is that of the identity."""
    trans = "T" if transposed else "N"
    below = np.asfortranarray(columns[1:])
    work = int(lapack.dormqr("L", trans, q, tau, below, -1)[1][0])
    product, _, info = lapack.dormqr("L", trans, q, tau, below, work, overwrite_c=True)
    assert info == 0, f"dormqr: {info}"
    return np.concatenate([columns[:1], product])
