"""The error of many mixes and its gradient against a slow formula, and the start against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.weighted_sum.layers import LayerStack
from layerprobe.probe.weighted_sum.objective import LOGIT_UNIT, Basis, MixProblem, Models

N, LAYERS, DIM = 90, 4, 6


@pytest.fixture
def problem(rng):
    x = (rng.normal(size=(LAYERS, N, DIM)) * np.array([1, 30, 0.1, 2])[:, None, None] + 7).astype(np.float32)
    x[1, :, 2] = 5.0  # a constant feature
    y = rng.normal(3, 2, size=(N, 2))
    splits = fold_splits(np.arange(N) // 5, n_folds=3, n_inner_folds=2, rng=rng)
    sets = TrainingSets.from_splits(splits, N)
    stack = LayerStack(lambda layer, rows: x[layer, rows], LAYERS, sets.order)
    return x, y, sets, stack


def models_of(sets, rng, n=7):
    chosen = rng.integers(0, len(sets.members), size=n)
    penalty = np.array([0.01, 0.1, 1.0, 10.0])[rng.integers(0, 4, size=n)]
    return Models(chosen, rng.integers(0, 2, size=n), penalty, rng.normal(size=(n, LAYERS)))


def slow_value(x, y, sets, models, k, weights, head, penalty, standardise):  # noqa: PLR0913 - the definition has them
    """One model's error, straight from the definition, in float64."""
    rows = sets.order[sets.positions(sets.members[models.training_set[k]])]
    z = x[:, rows].astype(float)
    z = z - z.mean(axis=1, keepdims=True)
    std = z.std(axis=1, keepdims=True)
    scaled = np.where(std > 1e-9, z / np.where(std > 1e-9, std, 1), 0)
    z = scaled if standardise else z / np.sqrt((z**2).mean())
    t = y[rows, models.target[k]]
    t = (t - t.mean()) / t.std()
    return np.mean((np.einsum("l,lnd,d->n", weights, z, head) - t) ** 2) + penalty * np.sum(head**2)


@pytest.mark.parametrize("standardise", [True, False])
def test_values_and_gradients_are_those_of_the_definition(problem, rng, standardise):
    x, y, sets, stack = problem
    mixes = MixProblem(stack, y[sets.order], sets, standardise=standardise)
    basis, models = Basis(mixes), models_of(sets, rng)
    penalty, start = basis.absolute(models), basis.start(models)
    parameters = start + 0.3 * torch.from_numpy(rng.normal(size=start.shape)).float()
    active = torch.tensor([0, 2, 3, 6])
    value, gradient = mixes._evaluate(models, active, parameters[active], basis, penalty[active])

    def slow(k, row):
        logits = LOGIT_UNIT * row[:LAYERS]
        weights = np.exp(logits - logits.max())
        head = basis.head(models.training_set[[k]], penalty[[k]], torch.from_numpy(row[None, LAYERS:]).float())
        weights, head = weights / weights.sum(), head[:, 0].double().numpy()
        return slow_value(x, y, sets, models, k, weights, head, float(penalty[k]), standardise)

    for position, k in enumerate(active.tolist()):
        row = parameters[k].double().numpy()
        assert float(value[position]) == pytest.approx(slow(k, row), rel=2e-5)
        for i in (0, 1, LAYERS, LAYERS + 3, LAYERS + DIM - 1):
            nudge = np.zeros(len(row))
            nudge[i] = 1e-2
            slope = (slow(k, row + nudge) - slow(k, row - nudge)) / 2e-2
            assert float(gradient[position, i]) == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_the_start_is_ridge_on_the_uniform_mix(problem, rng):
    x, y, sets, stack = problem
    mixes = MixProblem(stack, y[sets.order], sets, standardise=True)
    basis = Basis(mixes)
    models = Models(np.array([0, 3]), np.array([1, 0]), np.array([0.1, 1.0]), np.zeros((2, LAYERS)))
    prediction = mixes.predict(models, basis.start(models), basis)
    for k in range(2):
        rows = sets.order[sets.positions(sets.members[models.training_set[k]])]
        mean, std = x[:, rows].mean(axis=1, keepdims=True), x[:, rows].std(axis=1, dtype=float, keepdims=True)
        z = np.where(std > 1e-6, (x - mean) / np.where(std > 1e-6, std, 1), 0).mean(axis=0)
        penalty = models.penalty[k] * np.trace(z[rows].T @ z[rows]) / DIM
        model = Ridge(alpha=penalty).fit(z[rows], y[rows, models.target[k]])
        np.testing.assert_allclose(prediction[:, k], model.predict(z[sets.order]), atol=2e-4)


def test_norms_are_of_layers_as_they_are_mixed(problem):
    _, y, sets, stack = problem
    standardised = MixProblem(stack, y[sets.order], sets, standardise=True).scaling.norm
    np.testing.assert_allclose(standardised[:, [0, 2, 3]], np.sqrt(DIM), rtol=1e-4)
    np.testing.assert_allclose(standardised[:, 1], np.sqrt(DIM - 1), rtol=1e-4)  # one feature is constant
    raw = MixProblem(stack, y[sets.order], sets, standardise=False).scaling.norm
    np.testing.assert_allclose(raw[:, 1] / raw[:, 0], 30 * np.sqrt((DIM - 1) / DIM), rtol=0.2)
