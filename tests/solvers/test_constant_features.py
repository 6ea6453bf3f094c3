"""Features that vary by rounding alone: every solver treats them as it treats constant ones."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.backends import HOST
from layerprobe.probe.solvers.logistic import nested_logistic
from layerprobe.probe.solvers.mlp import fit_mlp
from layerprobe.probe.solvers.permuted_ridge import PermutedRidge
from layerprobe.probe.solvers.ridge import Bands, fit_ridge, nested_ridge
from layerprobe.probe.solvers.standardiser import Standardiser
from layerprobe.probe.solvers.torch_backend import DeviceAlgebra
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.weighted_sum import gradient_descent
from layerprobe.probe.weighted_sum.large import LargeMixer
from layerprobe.probe.weighted_sum.solver import Mixer

N, ALPHAS = 96, (1e-2, 1.0, 1e2)
SPLITS = fold_splits(np.arange(N) % 8, n_folds=3, n_inner_folds=2, rng=np.random.default_rng(0))
LEVELS = (1000.0, -3.0)  # of the features that are constant, or nearly


def layer(dtype, *, exact, n_features=4):
    """Features of which two are constant: exactly, or but for units in the last place that repeat the ratings."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, n_features))
    y = x[:, :1] + rng.normal(size=(N, 1))
    for level in LEVELS:
        noise = 0.0 if exact else np.sign(y) * np.spacing(np.abs(np.array(level, dtype=dtype))).astype(np.float64)
        x = np.column_stack([x, level + noise * np.ones((N, 1))])
    return x.astype(dtype), y


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def pair(request):
    return layer(request.param, exact=True)[0], *layer(request.param, exact=False)


def test_the_features_of_these_tests_vary_by_rounding(pair):
    constant, nearly, y = pair
    assert (np.ptp(constant, axis=0)[-2:] == 0).all()
    assert (np.ptp(nearly, axis=0)[-2:] > 0).all()
    assert abs(np.corrcoef(nearly[:, -1], y[:, 0])[0, 1]) > 0.7  # what a probe would find there


def test_they_are_standardised_to_zero(pair):
    _, nearly, _ = pair
    z = Standardiser.learn(nearly)(nearly)
    assert (z[:, -2:] == 0).all()
    assert z[:, 0].std() == pytest.approx(1)


@pytest.mark.parametrize("algebra", [HOST, DeviceAlgebra("cpu")], ids=["host", "device"])
def test_ridge_predicts_as_if_they_were_constant(pair, algebra):
    constant, nearly, y = pair
    for bands in (None, Bands.side_by_side([4, 2], decades=(-1.0, 1.0))):
        fits = [
            nested_ridge(x, y, splits=SPLITS, alphas=ALPHAS, bands=bands, algebra=algebra) for x in (constant, nearly)
        ]
        for expected, found in zip(*fits, strict=True):
            np.testing.assert_allclose(found.prediction, expected.prediction, atol=1e-6)


def test_ridge_of_utterances_predicts_as_if_they_were_constant():
    (constant, y), (nearly, _) = (layer(np.float32, exact=e, n_features=2 * N) for e in (True, False))
    for expected, found in zip(
        *(nested_ridge(x, y, splits=SPLITS, alphas=ALPHAS) for x in (constant, nearly)), strict=True
    ):
        np.testing.assert_allclose(found.prediction, expected.prediction, atol=1e-6)
    for expected, found in zip(*(fit_ridge(x, y, alpha=np.ones(1)) for x in (constant, nearly)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_permuted_ridge_predicts_as_if_they_were_constant(pair):
    constant, nearly, y = pair
    predictions = []
    for x in (constant, nearly):
        ridge = PermutedRidge(x, splits=SPLITS, alphas=ALPHAS)
        ridge.fit(y)
        (first, *_) = ridge.fit_permuted(y, shared=np.zeros(1, dtype=int), of_split=np.array([-1]))
        predictions.append(first.prediction)
    np.testing.assert_allclose(*predictions, atol=1e-5)


def test_logistic_regression_predicts_as_if_they_were_constant():
    (constant, y), (nearly, _) = (layer(np.float32, exact=e) for e in (True, False))
    codes = (y[:, 0] > 0).astype(int)
    fits = [nested_logistic(x, codes, n_classes=2, splits=SPLITS, penalties=(0.1, 1.0)) for x in (constant, nearly)]
    for expected, found in zip(*fits, strict=True):
        np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)


def test_a_perceptron_predicts_as_if_they_were_constant():
    (constant, y), (nearly, _) = (layer(np.float32, exact=e) for e in (True, False))
    fits = [fit_mlp(x, y, splits=SPLITS[:1], seed=0, hidden=4, max_epochs=3) for x in (constant, nearly)]
    np.testing.assert_allclose(fits[1][0].prediction, fits[0][0].prediction, atol=1e-4)


@pytest.mark.parametrize("standardise", [True, False])
def test_the_weighted_sum_predicts_as_if_they_were_constant(standardise):
    (constant, y), (nearly, _) = (layer(np.float32, exact=e) for e in (True, False))
    predictions = []
    for x in (constant, nearly):
        mixer = Mixer(lambda _, rows, x=x: x[rows], 2, y, splits=SPLITS, standardise=standardise)
        ((fit, *_),) = mixer.fit(np.full((3, 1), 0.1), max_iterations=20, seeds=(0,))
        predictions.append(fit.prediction)
    np.testing.assert_allclose(*predictions, atol=1e-3)


def test_a_layer_of_rounding_predicts_the_mean_in_every_mix(monkeypatch):
    monkeypatch.setattr(gradient_descent, "MAX_EPOCHS", 3)
    monkeypatch.setattr(gradient_descent, "MAX_STEPS", 9)
    rng = np.random.default_rng(3)
    y = rng.normal(size=(N, 1)) + 4
    x = np.float32(1000) + np.sign(y - 4).astype(np.float32) * np.float32(6e-5) * np.ones((1, 4), dtype=np.float32)
    assert np.ptp(x) > 0
    for standardise in (True, False):
        for solver in (Mixer, LargeMixer):
            mixer = solver(lambda _, rows: x[rows], 2, y, splits=SPLITS, standardise=standardise)
            ((fit, *_),) = mixer.fit(np.full((3, 1), 0.1), max_iterations=5, seeds=(0,))
            np.testing.assert_allclose(fit.prediction, y[SPLITS[0].train].mean(), atol=1e-5)
    runs = gradient_descent.replay(lambda _, rows: x[rows], 2, y, splits=SPLITS[:1], seeds=(0,))
    assert np.ptp(runs[0][0].prediction) < 1e-3


def test_a_constant_rating_up_to_rounding_has_no_standard_deviation():
    x, _ = layer(np.float32, exact=True)
    y = 4 + 1e-12 * np.random.default_rng(2).normal(size=(N, 1))
    (fit,) = fit_mlp(x, y, splits=SPLITS[:1], seed=0, hidden=4, max_epochs=2)
    np.testing.assert_allclose(fit.prediction, 4, atol=1e-9)
