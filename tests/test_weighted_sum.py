"""The weighted sum: finds the planted layer, is indifferent to scale, and sees no held-out speaker."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from probe.metrics import pearson
from probe.splits import fold_splits
from probe.weighted_sum import DEFAULT_PENALTIES, fit_weighted_sum

SETTINGS = {"penalties": DEFAULT_PENALTIES, "max_iterations": 100}


@pytest.fixture
def planted(rng):
    """Target 0 in layer 3, target 1 in layer 1, of five layers whose scales differ a thousandfold."""
    x = rng.normal(size=(300, 5, 8))
    y = np.stack([x[:, 3, :2].sum(axis=1), x[:, 1, 2:4].sum(axis=1)], axis=1) + 0.3 * rng.normal(size=(300, 2))
    split = fold_splits(np.repeat(np.arange(60), 5), n_folds=4, n_inner_folds=3, rng=rng)[0]
    return (x * np.array([1000, 1, 30, 0.1, 5])[:, None] + 7).astype(np.float32), y + 4, split


def test_weights_lie_on_the_planted_layer_whatever_its_scale(planted):
    x, y, split = planted
    fit = fit_weighted_sum(x, y, split=split, seed=0, **SETTINGS)
    assert fit.layer_weights.argmax(axis=1).tolist() == [3, 1]
    assert fit.layer_weights.max(axis=1).min() > 0.6
    np.testing.assert_allclose(fit.layer_weights.sum(axis=1), 1)
    for target in range(2):
        assert pearson(y[split.test, target], fit.prediction[:, target]) > 0.9
        assert pearson(y[split.train, target], fit.inner_prediction[:, target]) > 0.9


def test_one_layer_is_the_ridge_of_scikit_learn(rng):
    x = rng.normal(size=(200, 1, 6)).astype(np.float32)
    y = x[:, 0, :1] + rng.normal(size=(200, 1))
    split = fold_splits(np.repeat(np.arange(40), 5), n_folds=4, n_inner_folds=3, rng=rng)[0]
    fit = fit_weighted_sum(x, y, split=split, penalties=(0.1,), max_iterations=300, seed=0)
    scaler = StandardScaler().fit(x[split.train, 0])
    model = Ridge(alpha=0.1 * len(split.train)).fit(scaler.transform(x[split.train, 0]), y[split.train])
    expected = model.predict(scaler.transform(x[split.test, 0])).reshape(-1, 1)
    np.testing.assert_allclose(fit.prediction, expected, atol=1e-3)
    assert fit.layer_weights.tolist() == [[1.0]]


def test_nothing_fitted_sees_a_held_out_rating_or_embedding(planted):
    x, y, split = planted
    before = fit_weighted_sum(x, y, split=split, seed=0, **SETTINGS)
    x, y = x.copy(), y.copy()
    y[split.test] = -100
    x[split.test[1:]] = 1e5
    after = fit_weighted_sum(x, y, split=split, seed=0, **SETTINGS)
    np.testing.assert_array_equal(after.layer_weights, before.layer_weights)
    np.testing.assert_allclose(after.prediction[0], before.prediction[0], rtol=1e-5)


def test_seeds_repeat_and_differ(planted):
    x, y, split = planted
    first, again, other = (fit_weighted_sum(x, y, split=split, seed=s, **SETTINGS) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.prediction, again.prediction)
    assert (first.layer_weights != other.layer_weights).any()


def test_targets_that_are_not_there_get_strong_penalties(planted, rng):
    x, _, split = planted
    noise = rng.normal(size=(300, 24))
    fit = fit_weighted_sum(x, noise, split=split, seed=0, **SETTINGS)
    assert np.mean(fit.penalty >= 10) > 0.5
    found = [pearson(noise[split.test, t], fit.prediction[:, t]) for t in range(24)]
    assert abs(np.mean(found)) < 0.15
