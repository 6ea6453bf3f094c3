"""Stacking: weights against an independent solver, of planted layers, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import Split
from layerprobe.probe.weighted_sum.stacking import MAX_GROUPS, error_moments, simplex_weights, stack


def by_descent(moments, penalty):
    n = len(moments)
    c = moments + penalty * np.trace(moments) / n * np.eye(n)
    c /= np.trace(c)
    found = minimize(
        lambda w: w @ c @ w,
        np.full(n, 1 / n),
        jac=lambda w: 2 * c @ w,
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return found.x


def predictions_of(rng, *, n=300, n_layers=8, carrying=(5,)):
    """Predictions by layers that follow on each other, with the rating in some of them, and 30 speakers."""
    p = np.cumsum(rng.normal(size=(n, n_layers)), axis=1)
    return p, p[:, list(carrying)].mean(axis=1) + rng.normal(size=n), np.arange(n) % 30


@pytest.mark.parametrize("penalty", [0.0, 0.01, 1.0])
def test_weights_are_those_of_a_general_solver(rng, penalty):
    p, y, speakers = predictions_of(rng)
    moments = error_moments(p - y[:, None], speakers).sum(axis=0)
    weights = simplex_weights(moments, penalty)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights, by_descent(moments, penalty), atol=1e-5)


def test_moments_are_summed_over_the_rows_of_each_speaker(rng):
    errors, speakers = rng.normal(size=(40, 3)), np.array(["b", "a", "c", "a"] * 10)
    moments = error_moments(errors, speakers)
    for k, name in enumerate("abc"):
        rows = errors[speakers == name]
        np.testing.assert_allclose(moments[k], rows.T @ rows)
    many = error_moments(rng.normal(size=(MAX_GROUPS + 7, 2)), np.arange(MAX_GROUPS + 7))
    assert many.shape == (MAX_GROUPS, 2, 2)


@pytest.mark.parametrize("carrying", [(5,), (1, 6)])
def test_the_carrying_layers_have_most_of_the_weight_and_are_in_their_intervals(rng, carrying):
    p, y, speakers = predictions_of(rng, n=600, carrying=carrying)
    fit = stack(p, y, speakers, rng=np.random.default_rng(0))
    assert set(np.argsort(fit.weights)[-len(carrying) :].tolist()) == set(carrying)
    assert fit.weights[list(carrying)].sum() > 0.8
    assert (fit.low <= fit.weights).all()
    assert (fit.weights <= fit.high).all()
    for k in carrying:
        assert fit.low[k] < 1 / len(carrying) + 0.1
        assert fit.high[k] > 1 / len(carrying) - 0.1


def test_equal_layers_share_their_weight_and_so_do_layers_without_any_signal(rng):
    p, y, speakers = predictions_of(rng)
    twice = np.column_stack([p[:, 5], p[:, 5], p[:, 5]])
    np.testing.assert_allclose(stack(twice, y, speakers, rng=rng).weights, 1 / 3, atol=1e-4)
    np.testing.assert_allclose(stack(np.zeros_like(p), y, speakers, rng=rng).weights, 1 / 8, atol=1e-4)
    np.testing.assert_allclose(stack(np.tile(y[:, None], 4), y, speakers, rng=rng).weights, 1 / 4)


def test_a_constant_layer_has_no_weight_next_to_one_that_predicts(rng):
    p, y, speakers = predictions_of(rng)
    p[:, 0] = y.mean() + 20
    fit = stack(p, y, speakers, rng=rng)
    assert fit.weights[0] < 1e-3
    assert fit.contributions[0] == pytest.approx(0, abs=1e-12)
    assert fit.contributions.sum() == pytest.approx(1)


def test_a_single_layer_has_all_the_weight(rng):
    p, y, speakers = predictions_of(rng)
    fit = stack(p[:, :1], y, speakers, rng=rng)
    assert (fit.weights, fit.low, fit.high, fit.contributions) == (1, 1, 1, 1)


def test_the_order_of_rows_and_the_names_of_speakers_change_no_weight_beyond_rounding(rng):
    p, y, speakers = predictions_of(rng)
    order = rng.permutation(len(y))
    first = stack(p, y, speakers, rng=np.random.default_rng(0))
    again = stack(p, y, speakers, rng=np.random.default_rng(0))
    moved = stack(p[order], y[order], np.array([f"s{s:02d}" for s in speakers])[order], rng=np.random.default_rng(0))
    np.testing.assert_array_equal(first.weights, again.weights)
    np.testing.assert_allclose(first.weights, moved.weights, atol=1e-9)


def simulated(rng, carrying, *, n=600, n_layers=9, dim=16):
    """Layers whose neighbours correlate by .95, and a rating of equal shares of some of them (best possible r .6)."""
    spectrum = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * np.arange(1, dim + 1) ** -0.5
    layers = [rng.normal(size=(n, dim)) @ spectrum.T]
    for _ in range(n_layers - 1):
        layers.append(0.95 * layers[-1] + np.sqrt(1 - 0.95**2) * rng.normal(size=(n, dim)) @ spectrum.T)
    direction = rng.normal(size=dim)
    signal = sum(one / one.std() for one in (layers[k] @ direction for k in carrying))
    return np.stack(layers), 0.6 * signal / signal.std() + 0.8 * rng.normal(size=n), np.arange(n) % 30


def stacked(layers, y, speakers):
    """Stack the layers' ridges, in five folds of the speakers."""
    split = Split("all", np.arange(len(y)), np.arange(0), speakers % 5)
    fits = [inner_predictions(x, y, split) for x in layers]
    return stack(np.stack(fits, axis=1), y, speakers, rng=np.random.default_rng(0)).weights


def inner_predictions(x, y, split):
    from layerprobe.probe.solvers.ridge import NestedRidge

    alphas = (0.01, 0.1, 1.0, 10.0)
    (fit,) = NestedRidge(x, splits=[split], alphas=alphas).fit(y[:, None], inner_predictions=True)
    (same,) = nested_ridge(x, y[:, None], splits=[split], alphas=alphas)
    assert fit.alpha == same.alpha
    return fit.inner_prediction[:, 0]


def test_planted_layers_are_recovered_better_than_by_the_softmax_mix():
    from layerprobe.probe.weighted_sum.solver import Mixer

    off = {"stacking": [], "softmax": []}
    for carrying in ((2, 3, 4, 5, 6), tuple(range(9))):
        for seed in range(3):
            layers, y, speakers = simulated(np.random.default_rng(seed), carrying)
            truth = np.isin(np.arange(9), carrying) / len(carrying)
            split = Split("all", np.arange(len(y)), np.arange(0), speakers % 5)
            mixer = Mixer(lambda k, rows, layers=layers: layers[k, rows], 9, y[:, None], splits=[split])
            penalty = mixer.choose((0.1, 1.0), max_iterations=60, seed=0).penalty
            ((fit,),) = mixer.fit(penalty, max_iterations=60, seeds=(0,))
            off["softmax"].append(np.abs(fit.layer_weights[0] - truth).sum() / 2)
            off["stacking"].append(np.abs(stacked(layers, y, speakers) - truth).sum() / 2)
    assert np.mean(off["stacking"]) < np.mean(off["softmax"]) - 0.1, off
