"""The batched search against scipy's, one problem at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der

from layerprobe.probe.solvers.lbfgs import minimise


def quadratics(rng, n_problems=5, n=8):
    roots = rng.normal(size=(n_problems, n, n))
    return roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(n), rng.normal(size=(n_problems, n))


def evaluate_quadratics(matrices, right):
    a, b = torch.from_numpy(matrices), torch.from_numpy(right)

    def evaluate(which, x):
        product = torch.einsum("kij,kj->ki", a[which], x)
        return 0.5 * (x * product).sum(dim=1) - (b[which] * x).sum(dim=1), product - b[which]

    return evaluate


def test_quadratics_end_at_the_solution_of_their_equations(rng):
    matrices, right = quadratics(rng)
    start = torch.from_numpy(rng.normal(size=right.shape))
    found = minimise(evaluate_quadratics(matrices, right), start, max_iterations=200, tolerance=1e-14)
    assert found.converged.all()
    np.testing.assert_allclose(found.parameters, np.linalg.solve(matrices, right[:, :, None])[:, :, 0], atol=1e-5)


def test_a_problem_ends_alike_alone_and_among_others(rng):
    matrices, right = quadratics(rng)
    start = torch.from_numpy(rng.normal(size=right.shape))
    together = minimise(evaluate_quadratics(matrices, right), start, max_iterations=50, tolerance=1e-9)
    for k in range(len(right)):
        one = slice(k, k + 1)
        alone = minimise(evaluate_quadratics(matrices[one], right[one]), start[one], max_iterations=50, tolerance=1e-9)
        np.testing.assert_allclose(together.parameters[one], alone.parameters, atol=1e-9)


def test_a_curved_valley_is_followed_as_scipy_follows_it(rng):
    start = rng.normal(size=(4, 5))

    def evaluate(which, x):
        return (
            torch.tensor([rosen(row) for row in x.numpy()]),
            torch.from_numpy(np.stack([rosen_der(row) for row in x.numpy()])),
        )

    found = minimise(evaluate, torch.from_numpy(start), max_iterations=300, tolerance=1e-12)
    for row, value in zip(start, found.values, strict=True):
        theirs = minimize(rosen, row, jac=rosen_der, method="L-BFGS-B").fun
        assert value <= theirs + 1e-6


def test_what_has_not_converged_when_iterations_run_out_is_reported(rng):
    matrices, right = quadratics(rng)
    start = torch.zeros(*right.shape, dtype=torch.float64)
    found = minimise(evaluate_quadratics(matrices, right), start, max_iterations=1, tolerance=1e-14)
    assert not found.converged.any()
    at_start = evaluate_quadratics(matrices, right)(torch.arange(5), start)[0]
    assert (found.values < at_start).all()


@pytest.mark.parametrize("start", [0.0, 3.0])
def test_a_problem_that_stands_at_its_minimum_stays_there(start):
    def evaluate(which, x):
        return ((x - 3) ** 2).sum(dim=1), 2 * (x - 3)

    found = minimise(evaluate, torch.tensor([[3.0], [start]]), max_iterations=20, tolerance=1e-6)
    np.testing.assert_allclose(found.parameters, 3.0, atol=1e-3)
    assert found.parameters[0].item() == 3.0
