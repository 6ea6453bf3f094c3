"""The penalty on uneven weights: its optimum, planted layers, intervals, and what must not change the weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import t as student

from layerprobe.probe.splits import Split
from layerprobe.probe.weighted_sum.large import LargeMixer
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, WEIGHT_PENALTIES, Chosen, Mixer

N, LAYERS, DIM = 240, 6, 8


def simulated(seed, carrying, *, n=N, n_layers=LAYERS, dim=DIM, r=0.6):
    """Adjacent layers that correlate by .95, and a rating of equal fractions of some of them: rows, layers, features.

    The best possible correlation with the rating is ``r``; there are 24 speakers.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * np.arange(1, dim + 1) ** -0.5
    layers = [rng.normal(size=(n, dim)) @ spectrum.T]
    for _ in range(n_layers - 1):
        layers.append(0.95 * layers[-1] + np.sqrt(1 - 0.95**2) * rng.normal(size=(n, dim)) @ spectrum.T)
    signal = sum(one / one.std() for one in (layers[k] @ rng.normal(size=dim) for k in carrying))
    return np.stack(layers, axis=1), r * signal / signal.std() + np.sqrt(1 - r**2) * rng.normal(size=n)


def mixer_of(x, y, kind=Mixer):
    """A mixer whose last quarter of rows is held out; inner folds divide the 24 speakers of the others."""
    train = np.arange(3 * len(y) // 4)
    split = Split("last", train, np.arange(len(train), len(y)), train % 24 % 4)
    return kind(lambda k, rows: x[rows, k].astype(np.float32), x.shape[1], y[:, None], splits=[split])


def fitted(x, y, *, weight_penalties=WEIGHT_PENALTIES, penalties=(0.1, 1.0), seed=0, kind=Mixer):
    mixer = mixer_of(x, y, kind)
    chosen = mixer.choose(penalties, weight_penalties=weight_penalties, max_iterations=60, seed=seed)
    ((fit,),) = mixer.fit(chosen.penalty, weight_penalty=chosen.weight_penalty, max_iterations=100, seeds=(seed,))
    return chosen, fit


def distance(weights, carrying):
    """Total variation between weights and equal fractions of the carrying layers."""
    truth = np.isin(np.arange(len(weights)), carrying) / len(carrying)
    return np.abs(weights - truth).sum() / 2


@pytest.mark.parametrize("kind", [Mixer, LargeMixer])
@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_weights_minimise_the_penalised_error_as_a_general_solver_finds_it(kind, strength):
    x, y = simulated(0, (1, 4))
    train = np.arange(3 * N // 4)
    z = (x[train] - x[train].mean(axis=0)) / x[train].std(axis=0)
    t = (y[train] - y[train].mean()) / y[train].std()
    uniform = z.mean(axis=1)
    penalty = 0.1 * np.linalg.eigvalsh(uniform.T @ uniform / len(train)).mean()

    def objective(logits):
        w = softmax(logits)
        mix = np.einsum("nlf,l->nf", z, w)
        head = np.linalg.solve(mix.T @ mix / len(t) + penalty * np.eye(DIM), mix.T @ t / len(t))
        error = np.mean((t - mix @ head) ** 2) + penalty * head @ head
        return error + strength * ((w - 1 / LAYERS) ** 2).sum()

    found = minimize(objective, np.zeros(LAYERS), method="L-BFGS-B", options={"ftol": 1e-13})
    _, fit = fitted(x, y, weight_penalties=(strength,), penalties=(0.1,), kind=kind)
    assert objective(np.log(fit.layer_weights[0])) == pytest.approx(found.fun, rel=2e-3)  # where a search ends
    assert objective(np.zeros(LAYERS)) > found.fun * 1.004
    if strength > 0.02:
        np.testing.assert_allclose(fit.layer_weights[0], softmax(found.x), atol=0.04)


def test_planted_layers_are_recovered_better_than_without_the_penalty():
    off = {"with": [], "without": []}
    for carrying in ((1, 2, 3, 4), tuple(range(LAYERS))):
        for seed in range(3):
            x, y = simulated(seed, carrying)
            off["with"].append(distance(fitted(x, y)[1].layer_weights[0], carrying))
            off["without"].append(distance(fitted(x, y, weight_penalties=(0.0,))[1].layer_weights[0], carrying))
    assert np.mean(off["with"]) < np.mean(off["without"]) - 0.1, off


def test_a_single_planted_layer_is_still_the_one_with_the_largest_weight():
    x, y = simulated(0, (2,), r=0.9)
    _, fit = fitted(x, y)
    assert fit.layer_weights[0].argmax() == 2
    assert fit.layer_weights[0, 2] > 0.5


def test_nothing_of_held_out_speakers_changes_penalties_or_weights():
    x, y = simulated(1, (1, 4))
    chosen, fit = fitted(x, y)
    other, rated = x.copy(), y.copy()
    other[3 * N // 4 :] += 3.0
    rated[3 * N // 4 :] = -rated[3 * N // 4 :] + 5
    chosen_again, again = fitted(other, rated)
    np.testing.assert_array_equal(chosen_again.weight_penalty, chosen.weight_penalty)
    np.testing.assert_array_equal(chosen_again.penalty, chosen.penalty)
    np.testing.assert_allclose(again.layer_weights, fit.layer_weights, atol=1e-4)
    np.testing.assert_allclose(chosen_again.half_widths(), chosen.half_widths(), atol=1e-3)


def test_equal_layers_have_equal_weights():
    x, y = simulated(0, (2,))
    same = np.repeat(x[:, 2:3], 4, axis=1)
    _, fit = fitted(same, y)
    np.testing.assert_allclose(fit.layer_weights[0], 0.25, atol=0.02)


def test_constant_layers_and_a_single_layer_have_weights_that_are_finite():
    x, y = simulated(0, (2,))
    x[:, 0] = 7.0
    _, fit = fitted(x, y)
    assert fit.layer_weights[0].sum() == pytest.approx(1, abs=1e-5)
    assert fit.contributions[0, 0] == 0
    chosen, one = fitted(x[:, 2:3], y)
    assert one.layer_weights[0, 0] == pytest.approx(1)
    np.testing.assert_allclose(chosen.half_widths()[0], 0, atol=1e-6)


def test_a_fit_repeats_to_the_bit():
    x, y = simulated(0, (1, 4))
    (first, fit), (second, again) = (fitted(x, y) for _ in range(2))
    np.testing.assert_array_equal(fit.layer_weights, again.layer_weights)
    np.testing.assert_array_equal(fit.prediction, again.prediction)
    np.testing.assert_array_equal(first.half_widths(), second.half_widths())


def test_intervals_are_those_of_a_jackknife_by_hand(rng):
    weights = rng.dirichlet(np.ones(3), size=(4, 2))  # folds, targets
    (half,) = Chosen(np.ones((1, 2)), np.ones((1, 2)), [np.zeros((5, 2))], [weights]).half_widths()
    for target, layer in np.ndindex(2, 3):
        folds = weights[:, target, layer]
        variance = 3 / 4 * sum((w - folds.mean()) ** 2 for w in folds)
        assert half[target, layer] == pytest.approx(student.ppf(0.975, 3) * variance**0.5)


def test_every_pair_of_penalties_is_a_candidate():
    x, y = simulated(0, (1, 4))
    errors = {}
    mixer = mixer_of(x, y)
    rows = np.arange(3 * N // 4)
    for head in (0.1, 1.0):
        for strength in (0.0, 0.1):
            one = mixer.choose((head,), weight_penalties=(strength,), max_iterations=60, seed=0)
            errors[head, strength] = np.mean((one.inner_prediction[0][:, 0] - y[rows]) ** 2)
    chosen = mixer.choose((0.1, 1.0), weight_penalties=(0.0, 0.1), max_iterations=60, seed=0)
    assert (chosen.penalty[0, 0], chosen.weight_penalty[0, 0]) == min(errors, key=errors.get)
    assert len(DEFAULT_PENALTIES) > 1
