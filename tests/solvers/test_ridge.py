"""Ridge against textbook normal equations and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge, ridge_path
from layerprobe.probe.solvers.standardiser import Standardiser
from layerprobe.probe.splits import fold_splits

ALPHAS = (1e-3, 0.1, 1.0, 30.0)


def problem(n, p, rng):
    """Embeddings with an offset, a feature a thousand times larger, a constant and a collinear one."""
    x = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) / np.sqrt(p) + rng.normal(size=p)
    x[:, 0] = 1000 * x[:, 0] + 5e4
    x[:, 1] = 3.25
    x[:, 2] = x[:, 3] * 2 - 1
    y = x[:, 4:7] @ rng.normal(size=(3, 2)) + rng.normal(size=(n, 2)) + 4
    return x.astype(np.float32), y


def absolute(x_train, alpha):
    """The penalty that a relative one stands for, from the trace: the sum of eigenvalues."""
    z = StandardScaler().fit_transform(x_train.astype(float))
    return alpha * (z**2).sum() / min(z.shape)


@pytest.mark.parametrize(("n", "p"), [(30, 80), (79, 80), (80, 80), (81, 80), (400, 20)])
def test_predictions_equal_the_normal_equations_and_scikit_learn(n, p, rng):
    x, y = problem(n + 50, p, rng)
    ours = ridge_path(x[:n], y[:n], x[n:], alphas=ALPHAS)
    for k, alpha in enumerate(ALPHAS):
        scaler = StandardScaler().fit(x[:n].astype(float))
        z, z_test = scaler.transform(x[:n].astype(float)), scaler.transform(x[n:].astype(float))
        penalty = absolute(x[:n], alpha)
        b = np.linalg.solve(z.T @ z + penalty * np.eye(p), z.T @ (y[:n] - y[:n].mean(axis=0)))
        np.testing.assert_allclose(ours[k], z_test @ b + y[:n].mean(axis=0), atol=1e-6)
        sklearn = Ridge(alpha=penalty).fit(z, y[:n]).predict(z_test)
        np.testing.assert_allclose(ours[k], sklearn, atol=1e-6)


@pytest.mark.parametrize("n_features", [3, 300])
def test_a_constant_layer_predicts_the_mean_of_the_training_ratings(rng, n_features):
    y = rng.normal(3, 1, size=(40, 2))
    path = ridge_path(np.full((40, n_features), 7.0), y, np.full((5, n_features), 7.0), alphas=(1e-4, 1.0))
    np.testing.assert_allclose(path, np.broadcast_to(y.mean(axis=0), (2, 5, 2)), rtol=1e-12)


def by_scikit_learn(x, y, split, target):
    """Return alpha, moments of the inner held-out predictions, and predictions, one fit at a time."""
    errors, held_outs = [], []
    for alpha in ALPHAS:
        held_out = np.empty(len(split.train))
        for fold in np.unique(split.inner_folds):
            fit, inner = split.inner_folds != fold, split.inner_folds == fold
            rows = split.train[fit]
            model = make_pipeline(StandardScaler(), Ridge(absolute(x[rows], alpha)))
            held_out[inner] = model.fit(x[rows], y[rows, target]).predict(x[split.train[inner]])
        errors.append(np.mean((held_out - y[split.train, target]) ** 2))
        held_outs.append(held_out)
    best = int(np.argmin(errors))
    model = make_pipeline(StandardScaler(), Ridge(absolute(x[split.train], ALPHAS[best])))
    prediction = model.fit(x[split.train].astype(float), y[split.train, target]).predict(x[split.test].astype(float))
    return ALPHAS[best], held_outs[best].mean(), held_outs[best].std(), prediction, errors


@pytest.mark.parametrize(("n_folds", "p"), [(2, 12), (3, 12), (5, 12), (3, 140), (3, 90)])
@pytest.mark.parametrize("exact", [True, False])
def test_nested_choice_and_predictions_equal_one_fit_at_a_time(rng, n_folds, p, exact, monkeypatch):
    """Primal and dual, in float64 and with float32 products: within 1e-4 of the ratings' standard deviation."""
    if not exact:
        monkeypatch.setattr("layerprobe.probe.solvers.gram.EXACT_FLOPS", 0)
    x, y = problem(150, p, rng)
    splits = fold_splits(np.repeat(np.arange(30), 5), n_folds=n_folds, n_inner_folds=3, rng=rng)
    for split, ours in zip(splits, nested_ridge(x, y, splits=splits, alphas=ALPHAS), strict=True):
        for target in range(2):
            alpha, mean, std, prediction, errors = by_scikit_learn(x, y, split, target)
            assert ours.alpha[target] == alpha
            tolerance = (1e-4 if exact else 1e-3) * y[:, target].std()  # scikit-learn fits float32 here as it comes
            np.testing.assert_allclose(ours.inner_errors[:, target], errors, rtol=2e-3)
            np.testing.assert_allclose(ours.prediction[:, target], prediction, atol=tolerance)
            np.testing.assert_allclose([ours.inner_mean[target], ours.inner_std[target]], [mean, std], atol=1e-3)


def test_one_speaker_in_each_fold_is_fitted_as_it_is(rng):
    x, y = problem(60, 8, rng)
    splits = fold_splits(np.repeat(np.arange(4), 15), n_folds=4, n_inner_folds=4, rng=rng)
    for split, ours in zip(splits, nested_ridge(x, y, splits=splits, alphas=ALPHAS), strict=True):
        alpha, _, _, prediction, errors = by_scikit_learn(x, y, split, 0)
        assert ours.alpha[0] == alpha
        np.testing.assert_allclose(ours.inner_errors[:, 0], errors, rtol=2e-3)
        np.testing.assert_allclose(ours.prediction[:, 0], prediction, atol=1e-4 * y.std())


def test_float32_products_stay_within_a_ten_thousandth_of_the_ratings_standard_deviation(rng, monkeypatch):
    """Against a float64 reference, at every penalty, with an outlying feature, an offset and a collinear pair."""
    x, y = problem(3000, 60, rng)
    (split,) = fold_splits(np.repeat(np.arange(300), 10), n_folds=5, n_inner_folds=4, rng=rng)[:1]
    monkeypatch.setattr("layerprobe.probe.solvers.gram.EXACT_FLOPS", 0)
    for alpha in ALPHAS:
        (ours,) = nested_ridge(x, y, splits=[split], alphas=(alpha,))
        reference = ridge_path(
            x[split.train].astype(float), y[split.train], x[split.test].astype(float), alphas=(alpha,)
        )
        assert np.abs(ours.prediction - reference[0]).max() < 1e-4 * y.std()


def test_shared_inner_fits_equal_those_made_for_each_split(rng):
    x, y = problem(300, 20, rng)
    splits = fold_splits(np.repeat(np.arange(60), 5), n_folds=5, n_inner_folds=4, rng=rng)
    together = nested_ridge(x, y, splits=splits, alphas=ALPHAS)
    for split, shared in zip(splits, together, strict=True):
        (alone,) = nested_ridge(x, y, splits=[split], alphas=ALPHAS)
        np.testing.assert_allclose(shared.prediction, alone.prediction, atol=1e-9)
        np.testing.assert_allclose(shared.inner_errors, alone.inner_errors, rtol=1e-9)


def test_the_grid_search_of_scikit_learn_agrees_where_penalties_can_be_shared(rng):
    """With equal inner folds the relative grid is a constant factor, and GridSearchCV applies as it is."""
    n, p = 120, 8
    x = rng.normal(size=(n, p))
    y = x @ rng.normal(size=(p, 1)) + 3 * rng.normal(size=(n, 1))
    split = fold_splits(np.arange(n), n_folds=2, n_inner_folds=3, rng=rng)[0]
    (ours,) = nested_ridge(x, y, splits=[split], alphas=DEFAULT_ALPHAS)
    factor = 40  # utterances in two inner folds of three
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()),
        {"ridge__alpha": np.array(DEFAULT_ALPHAS) * factor},
        cv=PredefinedSplit(split.inner_folds),
        scoring="neg_mean_squared_error",
    ).fit(x[split.train], y[split.train, 0])
    assert ours.alpha[0] == pytest.approx(search.best_params_["ridge__alpha"] / factor)


def test_nothing_fitted_sees_a_held_out_rating_or_embedding(rng):
    x, y = problem(100, 10, rng)
    split = fold_splits(np.repeat(np.arange(20), 5), n_folds=4, n_inner_folds=3, rng=rng)[1]
    (before,) = nested_ridge(x, y, splits=[split], alphas=ALPHAS)
    y_changed, x_changed = y.copy(), x.copy()
    y_changed[split.test] = 1e6
    x_changed[split.test[1:]] = 1e6
    (after,) = nested_ridge(x_changed, y_changed, splits=[split], alphas=ALPHAS)
    np.testing.assert_array_equal(after.alpha, before.alpha)
    # the constant that is taken off before products are formed is a median of all rows; it drops out but for rounding
    np.testing.assert_allclose(after.inner_errors, before.inner_errors, rtol=1e-8)
    np.testing.assert_allclose(after.inner_mean, before.inner_mean, rtol=1e-8)
    np.testing.assert_allclose(after.prediction[0], before.prediction[0], rtol=1e-8)


def test_targets_do_not_touch_each_other(rng):
    x, y = problem(100, 10, rng)
    split = fold_splits(np.repeat(np.arange(20), 5), n_folds=4, n_inner_folds=3, rng=rng)[0]
    (both,), (alone,) = (nested_ridge(x, part, splits=[split], alphas=ALPHAS) for part in (y, y[:, 1:]))
    np.testing.assert_allclose(both.prediction[:, 1:], alone.prediction, atol=1e-10)
    assert both.alpha[1] == alone.alpha[0]


def test_a_constant_feature_becomes_zero_and_never_infinite():
    train = np.array([[0.1, 1.0], [0.1, 1.0], [0.1, 4.0]])
    standardiser = Standardiser.learn(train)
    assert standardiser(train)[:, 0].tolist() == [0, 0, 0]
    assert standardiser(np.array([[0.2, 2.0]])).tolist() == [[0.0, 0.0]]


def test_constant_embeddings_give_the_mean():
    predicted = ridge_path(np.ones((6, 3)), np.arange(6.0)[:, None], np.ones((2, 3)), alphas=ALPHAS)
    np.testing.assert_allclose(predicted, 2.5)
