"""Mixes from moments: the moments are those of the definition, and fits are those of the solver of small layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from layerprobe.probe.metrics import ccc
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.weighted_sum import large, moments, reduced
from layerprobe.probe.weighted_sum.large import LargeMixer, make_mixer
from layerprobe.probe.weighted_sum.layers import CompactStack
from layerprobe.probe.weighted_sum.moments import LayerMoments
from layerprobe.probe.weighted_sum.reduced import LOGIT_UNIT, Mixes, _Objective, fit_weights
from layerprobe.probe.weighted_sum.solver import Mixer

N, LAYERS, DIM = 400, 4, 10
PENALTIES = (0.1, 100.0)


@pytest.fixture
def layers(rng):
    """Layers that each add to the one below, at scales that differ a hundredfold, and ratings of two of them."""
    added = rng.normal(size=(LAYERS, N, DIM)) * np.arange(1, DIM + 1) ** -0.5
    x = added.cumsum(axis=0)
    y = np.stack([x[2, :, :4].sum(axis=1), x[0, :, 1:5].sum(axis=1)], axis=1)
    y = y / y.std(axis=0) + 0.5 * rng.normal(size=y.shape) + 3
    x = x * np.array([1, 30, 0.3, 5])[:, None, None] + 7
    x[1, :, 2] = 5.0  # a constant feature
    splits = fold_splits(np.arange(N) // 5, n_folds=4, n_inner_folds=3, rng=rng)
    return x.astype(np.float32), y, splits


def reader(x):
    return lambda layer, rows: x[layer, rows]


def learn_moments(x, y, splits, *, standardise=True):
    sets = TrainingSets.from_splits(splits, len(y))
    stack = CompactStack(reader(x), len(x), sets.order)
    return LayerMoments(stack, y[sets.order], sets, standardise=standardise), sets


def scaled_layers(x, rows, *, standardise):
    z = x.astype(float) - x[:, rows].mean(axis=1, keepdims=True, dtype=float)
    std = x[:, rows].std(axis=1, keepdims=True, dtype=float)
    if standardise:
        return np.where(std > 1e-6, z / np.where(std > 1e-6, std, 1), 0)
    return z / np.sqrt((z[:, rows] ** 2).mean())


@pytest.mark.parametrize("standardise", [True, False])
def test_moments_are_those_of_the_definition(layers, monkeypatch, standardise):
    monkeypatch.setattr(moments, "LEADING", 6)
    x, y, splits = layers
    found, sets = learn_moments(x, y, splits, standardise=standardise)
    basis = found.basis.double().numpy()
    np.testing.assert_allclose(basis.T @ basis, np.eye(DIM), atol=1e-5)
    for s in (sets.outer[0], sets.inner[1][0][0]):
        rows = sets.order[sets.positions(sets.members[s])]
        z = scaled_layers(x, rows, standardise=standardise)[:, rows] @ basis
        t = (y[rows] - y[rows].mean(axis=0)) / y[rows].std(axis=0)
        of_set, pair = found.of_set(s, LAYERS), 0
        for second in range(LAYERS):  # pairs of the lowest layers come first
            for first in range(second + 1):
                block = z[first, :, :6].T @ z[second, :, :6] / len(rows)
                tail = (z[first, :, 6:] * z[second, :, 6:]).mean(axis=0)
                largest = np.abs(block).max()
                np.testing.assert_allclose(of_set.blocks[pair], block, atol=0.15 * largest)  # one scale for all sets
                np.testing.assert_allclose(of_set.tails[pair], tail, atol=0.2 * np.abs(tail).max())
                pair += 1
        np.testing.assert_allclose(of_set.cross, np.einsum("lnk,nt->lkt", z, t) / len(rows), atol=5e-3)
        uniform = z.mean(axis=0)
        assert of_set.unit == pytest.approx((uniform**2).sum() / len(rows) / DIM, rel=0.05)
        assert found.of_set(s, 2).blocks.equal(of_set.blocks[:3])


@pytest.mark.parametrize("penalties", [{}, {"square": 0.3}])
def test_the_reduced_error_and_its_gradient_are_those_of_the_definition(layers, rng, penalties):
    x, y, splits = layers
    found, sets = learn_moments(x, y, splits)
    of_set = found.of_set(sets.outer[0], LAYERS)
    mixes = Mixes(np.array([0, 1, 1]), torch.tensor([0.1, 0.1, 0.5]), np.zeros((3, LAYERS)), **penalties)
    objective = _Objective(of_set, mixes)
    logits = 0.2 * torch.from_numpy(rng.normal(size=(2, LAYERS))).float()
    active = torch.tensor([0, 2])
    value, gradient = objective(active, logits)
    rows = sets.order[sets.positions(sets.members[sets.outer[0]])]
    z = scaled_layers(x, rows, standardise=True)[:, rows]
    for k, (target, penalty) in enumerate(((0, 0.1), (1, 0.5))):
        weights = torch.softmax(LOGIT_UNIT * logits[k], dim=0).double().numpy()
        mix, t = np.einsum("l,lnf->nf", weights, z), y[rows, target]
        t = (t - t.mean()) / t.std()
        head = np.linalg.solve(mix.T @ mix / len(rows) + penalty * np.eye(DIM), mix.T @ t / len(rows))
        least = np.mean((mix @ head - t) ** 2) + penalty * head @ head
        least += penalties.get("square", 0) * ((weights - 1 / LAYERS) ** 2).sum()
        assert float(value[k]) == pytest.approx(least, abs=0.01)
        for i in range(LAYERS):
            nudge = torch.zeros_like(logits)
            nudge[k, i] = 1e-2
            slope = (objective(active, logits + nudge)[0][k] - objective(active, logits - nudge)[0][k]) / 2e-2
            assert float(gradient[k, i]) == pytest.approx(float(slope), rel=0.05, abs=5e-3)


def test_a_penalty_on_the_weights_moves_them_towards_equality(layers):
    x, y, splits = layers
    found, sets = learn_moments(x, y, splits)
    of_set, largest = found.of_set(sets.outer[0], LAYERS), []
    for square in (0.0, 0.1, 10.0):
        mixes = Mixes(np.array([0]), torch.tensor([0.1]), np.zeros((1, LAYERS)), square=square)
        largest.append(float(fit_weights(of_set, mixes, max_iterations=50, tolerance=1e-6).max()))
    assert largest == sorted(largest, reverse=True)
    assert largest[0] > 0.8
    assert largest[-1] < 0.3


def solved(solver, x, y, splits, *, learns=True, **choices):
    mixer = solver(reader(x), len(x), y, splits=splits, **choices)
    chosen = mixer.choose(PENALTIES, max_iterations=60, seed=0, learns=learns)
    (fits,) = mixer.fit(chosen.penalty, max_iterations=60, seeds=(0,), learns=learns)
    return chosen, fits


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("learns", [True, False])
def test_fits_are_those_of_the_solver_of_small_layers(layers, monkeypatch, learns, standardise):
    monkeypatch.setattr(moments, "LEADING", 6)
    x, y, splits = layers
    slow = solved(Mixer, x, y, splits, learns=learns, standardise=standardise)
    fast = solved(LargeMixer, x, y, splits, learns=learns, standardise=standardise)
    np.testing.assert_array_equal(fast[0].penalty, slow[0].penalty)
    for k, (split, a, b) in enumerate(zip(splits, slow[1], fast[1], strict=True)):
        if standardise:  # else several layers have the same information, and the error hardly depends on the weights
            np.testing.assert_allclose(b.layer_weights, a.layer_weights, atol=0.06)
            np.testing.assert_allclose(b.contributions, a.contributions, atol=0.06)
        for t in range(2):
            scores = [ccc(y[split.test, t], f.prediction[:, t]) for f in (a, b)]
            assert scores[0] == pytest.approx(scores[1], abs=0.008)
            inner = [ccc(y[split.train, t], f[0].inner_prediction[k][:, t]) for f in (slow, fast)]
            assert inner[0] == pytest.approx(inner[1], abs=0.008)


@pytest.mark.parametrize("searched", [2, 64])
def test_cumulative_mixes_are_those_of_the_lowest_layers_alone(layers, monkeypatch, searched):
    monkeypatch.setattr(moments, "LEADING", 6)
    monkeypatch.setattr(reduced, "SEARCHED", searched)
    monkeypatch.setattr(large, "INNER_STEPS", large.STEPS)
    monkeypatch.setattr(large, "REFINED_BYTES", 0)  # few mixes at a time, of different numbers of layers
    x, y, splits = layers
    mixer = LargeMixer(reader(x), LAYERS, y, splits=splits)
    grids = {"weight_penalties": (0.0, 0.1), "max_iterations": 60, "seed": 0}
    whole = mixer.choose(PENALTIES, **grids)
    together = mixer.cumulative(whole, max_iterations=60, seed=0)
    alone = super(LargeMixer, mixer).cumulative(whole, max_iterations=60, seed=0)
    assert len(together) == LAYERS
    for n_layers, ((fits, inner), (fits_alone, inner_alone)) in enumerate(zip(together, alone, strict=True), 1):
        np.testing.assert_array_equal(inner.penalty, whole.penalty)
        for k, (fit, expected) in enumerate(zip(fits, fits_alone, strict=True)):
            assert fit.layer_weights.shape == (2, n_layers)
            np.testing.assert_allclose(fit.layer_weights, expected.layer_weights, atol=2e-3)
            np.testing.assert_allclose(fit.contributions, expected.contributions, atol=2e-3)
            np.testing.assert_allclose(fit.prediction, expected.prediction, atol=2e-3)
            np.testing.assert_allclose(inner.inner_prediction[k], inner_alone.inner_prediction[k], atol=2e-3)


def test_penalties_that_few_refined_candidates_choose_are_those_of_all(layers, monkeypatch):
    monkeypatch.setattr(moments, "LEADING", 6)
    x, y, splits = layers
    grids = {"weight_penalties": (0.0, 0.1, 1.0), "max_iterations": 60, "seed": 0}
    mixer, refined = LargeMixer(reader(x), LAYERS, y, splits=splits), []
    predict = mixer._predict
    monkeypatch.setattr(mixer, "_predict", lambda keys, *a, **k: (refined.append(len(keys)), predict(keys, *a, **k))[1])
    few = mixer.choose((0.001, *PENALTIES), **grids)
    assert refined[1] < refined[0] / 2
    monkeypatch.setattr(large, "REFINED_CANDIDATES", 9)
    every = mixer.choose((0.001, *PENALTIES), **grids)
    np.testing.assert_array_equal(few.penalty, every.penalty)
    np.testing.assert_array_equal(few.weight_penalty, every.weight_penalty)
    for k in range(len(splits)):
        np.testing.assert_allclose(few.inner_prediction[k], every.inner_prediction[k], atol=1e-3)
        np.testing.assert_allclose(few.inner_weights[k], every.inner_weights[k], atol=1e-3)


def test_the_uniform_mix_is_ridge_on_the_mean_of_standardised_layers(layers, monkeypatch):
    monkeypatch.setattr(moments, "LEADING", 6)
    monkeypatch.setattr(large, "STEPS", 8)
    x, y, splits = layers
    chosen, fits = solved(LargeMixer, x, y, splits, learns=False)
    for k, (split, fit) in enumerate(zip(splits, fits, strict=True)):
        scaled = [StandardScaler().fit(layer[split.train].astype(float)).transform(layer) for layer in x.astype(float)]
        mean = np.mean(scaled, axis=0)
        for t in range(2):
            penalty = chosen.penalty[k, t] * (mean[split.train] ** 2).sum() / DIM
            model = Ridge(alpha=penalty).fit(mean[split.train], y[split.train, t])
            np.testing.assert_allclose(fit.prediction[:, t], model.predict(mean[split.test]), atol=0.02)


def test_layers_that_are_read_again_give_what_layers_in_memory_give(layers, monkeypatch):
    x, y, splits = layers
    monkeypatch.setattr("layerprobe.probe.weighted_sum.layers.READ_ROWS", 90)
    monkeypatch.setattr(large, "REFINED_BYTES", 0)  # few mixes at a time
    _, kept = solved(LargeMixer, x, y, splits)
    _, again = solved(LargeMixer, x, y, splits, memory=0)
    for a, b in zip(kept, again, strict=True):
        np.testing.assert_allclose(b.prediction, a.prediction, atol=1e-4)
        np.testing.assert_allclose(b.layer_weights, a.layer_weights, atol=1e-4)


def test_no_held_out_rating_is_seen_and_held_out_embeddings_only_choose_coordinates(layers):
    x, y, splits = layers
    split = splits[0]
    _, (before,) = solved(LargeMixer, x, y, [split])
    y = y.copy()
    y[split.test] = -100
    _, (after,) = solved(LargeMixer, x, y, [split])
    np.testing.assert_array_equal(after.layer_weights, before.layer_weights)
    np.testing.assert_array_equal(after.prediction, before.prediction)
    x = x.copy()
    x[:, split.test[1:]] *= 1.5
    _, (moved,) = solved(LargeMixer, x, y, [split])
    np.testing.assert_allclose(moved.layer_weights, before.layer_weights, atol=0.02)
    np.testing.assert_allclose(moved.prediction[0], before.prediction[0], rtol=0.02)


def test_the_weights_of_the_lowest_layers_are_the_least_error_of_a_grid(layers):
    """Two layers with overlapping information: the least lies inside, where a search that saturates does not stop."""
    x, y, splits = layers
    part = LargeMixer(reader(x), LAYERS, y, splits=splits).first(2)
    (fits,) = part.fit(np.full((len(splits), 2), 0.1), max_iterations=60, seeds=(0,))
    grid = np.linspace(0, 1, 101)
    for split, fit in zip(splits, fits, strict=True):
        rows = split.train
        z, t = scaled_layers(x[:2], rows, standardise=True)[:, rows], y[rows, 0]
        t = (t - t.mean()) / t.std()
        penalty = 0.1 * (z.mean(axis=0) ** 2).sum() / len(rows) / DIM

        def error(weight, z=z, t=t, penalty=penalty):
            mix = weight * z[0] + (1 - weight) * z[1]
            head = np.linalg.solve(mix.T @ mix / len(t) + penalty * np.eye(DIM), mix.T @ t / len(t))
            return np.mean((mix @ head - t) ** 2) + penalty * head @ head

        assert error(fit.layer_weights[0, 0]) <= min(map(error, grid)) * 1.002
        np.testing.assert_allclose(fit.contributions.sum(axis=1), 1, rtol=1e-5)


def test_only_large_layers_are_fitted_from_moments(layers, monkeypatch):
    x, y, splits = layers
    assert type(make_mixer(reader(x), LAYERS, y, splits=splits)) is Mixer
    monkeypatch.setattr(large, "MEMORY", x.nbytes - 1)
    assert type(make_mixer(reader(x), LAYERS, y, splits=splits)) is LargeMixer
