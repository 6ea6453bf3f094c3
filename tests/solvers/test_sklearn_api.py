"""The estimators: scikit-learn's checks, and the numbers of the solvers that a sweep uses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from layerprobe.probe.metrics import pearson
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge
from layerprobe.probe.solvers.sklearn_api import LayerRidge
from layerprobe.probe.splits import Split, speaker_folds
from layerprobe.probe.weighted_sum.sklearn_api import LayerWeightedSum


@parametrize_with_checks([LayerRidge(), LayerWeightedSum()])
@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.SkipTestWarning")
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


@pytest.mark.parametrize("n_features", [6, 300])
def test_ridge_predicts_what_nested_ridge_predicts(rng, n_features):
    x, groups = rng.normal(3, 2, size=(200, n_features)), np.arange(200) // 10
    y = x[:, :2] @ rng.normal(size=(2, 2)) + rng.normal(size=(200, 2))
    train, test = np.arange(150), np.arange(150, 200)
    folds = speaker_folds(groups[train], n_folds=5, rng=np.random.default_rng(0))
    (fit,) = nested_ridge(x, y, splits=[Split("0", train, test, folds)], alphas=DEFAULT_ALPHAS)
    model = LayerRidge().fit(x[train], y[train], groups=groups[train])
    np.testing.assert_allclose(model.predict(x[test]), fit.prediction, atol=1e-8)
    np.testing.assert_array_equal(model.alpha_, fit.alpha)
    alone = clone(model).fit(x[train], y[train, 1], groups=groups[train])
    np.testing.assert_allclose(alone.predict(x[test]), fit.prediction[:, 1], atol=1e-8)


def test_the_weighted_sum_finds_the_layer_and_predicts_with_it(rng):
    x = rng.normal(5, 2, size=(300, 4, 6)) * np.array([1, 100, 1, 0.1])[:, None]
    y = x[:, 2] @ rng.normal(size=6) + rng.normal(size=300)
    flat, groups = x.reshape(300, -1), np.arange(300) // 10
    model = LayerWeightedSum(n_layers=4).fit(flat[:200], y[:200], groups=groups[:200])
    assert model.layer_weights_.argmax() == 2
    assert pearson(y[200:], model.predict(flat[200:])) > 0.9
    with pytest.raises(ValueError, match="24 features can't be 5 layers of equal width"):
        LayerWeightedSum(n_layers=5).fit(flat, y)


def test_groups_must_be_as_many_as_rows_and_more_than_one():
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20.0)
    with pytest.raises(ValueError, match="groups has 5 entries and X has 20 rows"):
        LayerRidge().fit(x, y, groups=np.arange(5))
    with pytest.raises(ValueError, match="n_samples = 20 in 1 group"):
        LayerRidge().fit(x, y, groups=np.zeros(20))
