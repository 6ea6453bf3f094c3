"""Solving for many penalties at once against a plain solve for each."""

from __future__ import annotations

import numpy as np
import pytest

from probe.errors import InputError
from probe.tridiagonal import solve_for_penalties

PENALTIES = np.array([1e-3, 1.0, 50.0])


@pytest.mark.parametrize("n", [1, 2, 3, 40, 130])
@pytest.mark.parametrize("rank", [1, 1000])
def test_solutions_equal_a_plain_solve_for_each_penalty(rng, n, rank):
    half = rng.normal(size=(n, min(n, rank)))
    matrix, right = half @ half.T, rng.normal(size=(n, 4))
    lower = np.tril(matrix) + np.triu(np.full((n, n), 1e9), 1)  # only the lower triangle may be read
    solved = solve_for_penalties(lower, right, penalties=PENALTIES)
    assert solved.shape == (3, n, 4)
    for penalty, ours in zip(PENALTIES, solved, strict=True):
        np.testing.assert_allclose(ours, np.linalg.solve(matrix + penalty * np.eye(n), right), rtol=1e-7, atol=1e-9)


def test_what_is_given_is_left_as_it_was(rng):
    matrix, right = np.diag(rng.uniform(1, 2, size=5)), rng.normal(size=(5, 2))
    before = matrix.copy(), right.copy()
    solve_for_penalties(matrix, right, penalties=PENALTIES)
    np.testing.assert_array_equal(matrix, before[0])
    np.testing.assert_array_equal(right, before[1])


def test_a_penalty_below_the_rounding_is_refused():
    matrix = np.diag([1.0, -1e-3, 1.0])
    with pytest.raises(
        InputError, match=r"^penalty 0\.0001 is lost in the rounding of the data\. Ask for greater alphas"
    ):
        solve_for_penalties(matrix, np.ones((3, 1)), penalties=np.array([1e-4]))
