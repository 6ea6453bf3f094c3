"""The estimators: scikit-learn's checks, and the numbers of the solvers that a sweep uses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from layerprobe.probe.metrics import pearson
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge
from layerprobe.probe.solvers.sklearn_api import LayerRidge
from layerprobe.probe.splits import SpeakerKFold, Split, speaker_folds
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


def test_speakers_reach_the_inner_folds_through_cross_validation_and_grid_search(rng):
    """Ratings are a level per speaker, which the first features encode, so that inner folds by row choose otherwise."""
    speakers = np.repeat(np.arange(24), 8)
    x = np.column_stack([np.eye(24)[speakers], rng.normal(size=(192, 4))])
    y = rng.normal(size=24)[speakers] + 0.5 * x[:, 24] + 0.3 * rng.normal(size=192)
    folds = SpeakerKFold(3)
    expected = [
        LayerRidge().fit(x[train], y[train], groups=speakers[train]).score(x[test], y[test])
        for train, test in folds.split(x, groups=speakers)
    ]
    scores = cross_val_score(LayerRidge(), x, y, groups=speakers, params={"groups": speakers}, cv=folds)
    np.testing.assert_array_equal(scores, expected)
    assert (cross_val_score(LayerRidge(), x, y, groups=speakers, cv=folds) != scores).any()
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(LayerRidge().set_fit_request(groups=True), {"n_folds": [5]}, cv=folds)
        search.fit(x, y, groups=speakers)
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(expected), abs=1e-12)
