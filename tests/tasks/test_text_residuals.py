"""Text residuals: held out for training rows, from all training rows for test rows."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, ridge_path
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.tasks.text_residuals import text_residuals

N = 200
GROUPS = np.arange(N) // 5


def by_hand(features, ratings, split):
    """One fit at a time."""
    inner = np.empty((len(DEFAULT_ALPHAS), len(split.train)))
    for fold in np.unique(split.inner_folds):
        out = split.inner_folds == fold
        train, held_out = split.train[~out], split.train[out]
        inner[:, out] = ridge_path(features[train], ratings[train], features[held_out], alphas=DEFAULT_ALPHAS)[:, :, 0]
    best = ((inner - ratings[split.train, 0]) ** 2).mean(axis=1).argmin()
    test = ridge_path(features[split.train], ratings[split.train], features[split.test], alphas=DEFAULT_ALPHAS)[
        best, :, 0
    ]
    return ratings[split.train, 0] - inner[best], ratings[split.test, 0] - test


@pytest.mark.parametrize("n_features", [30, 400])
@pytest.mark.parametrize("n_folds", [2, 4])
def test_the_residual_is_that_of_one_fit_at_a_time(rng, n_features, n_folds):
    """More rows than features, and fewer."""
    features = rng.poisson(0.5, size=(N, n_features)).astype(np.float32)
    ratings = features[:, :3].sum(axis=1, keepdims=True) + rng.normal(size=(N, 1)) + 4
    splits = fold_splits(GROUPS, n_folds=n_folds, n_inner_folds=3, rng=rng)
    rest = text_residuals(features, ratings, splits=splits, alphas=DEFAULT_ALPHAS)
    for k, split in enumerate(splits):
        train, test = by_hand(features, ratings, split)
        np.testing.assert_allclose(rest[split.train, k, 0], train, atol=1e-5)
        np.testing.assert_allclose(rest[split.test, k, 0], test, atol=1e-5)


@pytest.mark.parametrize("n_features", [100, 400])
def test_random_features_leave_the_ratings_their_standard_deviation_on_training_rows_too(rng, n_features):
    """A fit to the training rows themselves would leave less than half of it, with 150 rows and 100 features."""
    features, ratings = rng.normal(size=(N, n_features)).astype(np.float32), rng.normal(size=(N, 1))
    splits = fold_splits(GROUPS, n_folds=4, n_inner_folds=3, rng=rng)
    rest = text_residuals(features, ratings, splits=splits, alphas=DEFAULT_ALPHAS)
    for k, split in enumerate(splits):
        for rows in (split.train, split.test):
            assert rest[rows, k, 0].std() == pytest.approx(ratings[rows, 0].std(), rel=0.1)


def test_test_ratings_change_neither_training_residuals_nor_predictions_of_test_rows(rng):
    features, ratings = rng.normal(size=(N, 20)).astype(np.float32), rng.normal(size=(N, 1))
    ratings[:, 0] += features[:, 0]
    (split, *_) = splits = fold_splits(GROUPS, n_folds=4, n_inner_folds=3, rng=rng)
    before = text_residuals(features, ratings, splits=splits, alphas=DEFAULT_ALPHAS)[:, 0, 0]
    changed = ratings.copy()
    changed[split.test] += 100
    after = text_residuals(features, changed, splits=splits, alphas=DEFAULT_ALPHAS)[:, 0, 0]
    np.testing.assert_allclose(after[split.train], before[split.train], atol=1e-6)
    np.testing.assert_allclose(after[split.test], before[split.test] + 100, atol=1e-6)
