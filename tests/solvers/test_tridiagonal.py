"""Solving for many penalties at once against a plain solve for each."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.tridiagonal import Tridiagonal, solve_positive, solve_tridiagonal

PENALTIES = np.array([1e-3, 1.0, 50.0])


@pytest.mark.parametrize("n", [1, 2, 3, 40, 130])
@pytest.mark.parametrize("rank", [1, 1000])
def test_solutions_equal_a_plain_solve_for_each_penalty(rng, n, rank):
    half = rng.normal(size=(n, min(n, rank)))
    matrix, right = half @ half.T, rng.normal(size=(n, 4))
    lower = np.tril(matrix) + np.triu(np.full((n, n), 1e9), 1)  # only the lower triangle may be read
    solved = Tridiagonal.from_matrix(lower).solve(right, penalties=PENALTIES)
    assert solved.shape == (3, n, 4)
    for penalty, ours in zip(PENALTIES, solved, strict=True):
        np.testing.assert_allclose(ours, np.linalg.solve(matrix + penalty * np.eye(n), right), rtol=1e-7, atol=1e-9)


def test_what_is_given_is_left_as_it_was(rng):
    matrix, right = np.diag(rng.uniform(1, 2, size=5)), rng.normal(size=(5, 2))
    before = matrix.copy(), right.copy()
    Tridiagonal.from_matrix(matrix).solve(right, penalties=PENALTIES)
    np.testing.assert_array_equal(matrix, before[0])
    np.testing.assert_array_equal(right, before[1])


def test_a_penalty_below_the_rounding_is_refused():
    matrix = np.diag([1.0, -1e-3, 1.0])
    with pytest.raises(
        InputError, match=r"^penalty 0\.0001 is lost in the rounding of the data\. Ask for greater alphas"
    ):
        Tridiagonal.from_matrix(matrix).solve(np.ones((3, 1)), penalties=np.array([1e-4]))


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_the_form_is_the_matrix_turned(rng, n):
    half = rng.normal(size=(n, n))
    matrix = half @ half.T
    form = Tridiagonal.from_matrix(matrix)
    q, t = form.orthogonal(), np.diag(form.diagonal) + np.diag(form.off, 1) + np.diag(form.off, -1)
    np.testing.assert_allclose(q @ t @ q.T, matrix, atol=1e-10 * np.trace(matrix))
    np.testing.assert_allclose(q @ q.T, np.eye(n), atol=1e-12)
    np.testing.assert_array_equal(form.orthogonal(), q)  # the reflectors are still there
    np.testing.assert_array_equal(form.orthogonal(overwrite=True), q)


@pytest.mark.parametrize("n", [1, 2, 40])
def test_a_solution_for_one_penalty_equals_a_plain_solve(rng, n):
    half = rng.normal(size=(n, n))
    matrix, right = half @ half.T, rng.normal(size=(n, 3))
    expected = np.linalg.solve(matrix + 0.5 * np.eye(n), right)
    lower = np.asfortranarray(np.tril(matrix) + np.triu(np.full((n, n), 1e9), 1))  # only the lower triangle may be read
    np.testing.assert_allclose(solve_positive(lower, right, 0.5), expected, rtol=1e-8, atol=1e-10)
    form = Tridiagonal.from_matrix(matrix)
    u = solve_tridiagonal(form.diagonal, form.off, form.orthogonal().T @ right, penalty=0.5)
    np.testing.assert_allclose(form.orthogonal() @ u, expected, rtol=1e-8, atol=1e-10)


def test_one_penalty_below_the_rounding_is_refused():
    with pytest.raises(InputError, match=r"^penalty 0\.0001 is lost in the rounding of the data"):
        solve_positive(np.asfortranarray(np.diag([1.0, -1e-3, 1.0])), np.ones((3, 1)), 1e-4)
