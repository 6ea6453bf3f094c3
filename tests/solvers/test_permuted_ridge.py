"""Hundreds of permutations against the ridge of the ratings, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.backends import HOST
from layerprobe.probe.solvers.permuted_ridge import PermutedRidge
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge, ridge_path
from layerprobe.probe.solvers.torch_backend import DeviceAlgebra
from layerprobe.probe.splits import fold_splits, manifest_split

N = 300
GROUPS = np.arange(N) // 10


def problem(rng, p):
    """A layer with an offset, a large, a constant and a collinear feature; columns of no, little and much signal."""
    x = rng.normal(size=(N, p)) @ rng.normal(size=(p, p)) / np.sqrt(p) + rng.normal(size=p)
    x[:, 0] = 100 * x[:, 0] + 500
    x[:, 1] = 3.25
    x[:, 2] = 2 * x[:, 3] - 1
    signal = x[:, 4:8] @ rng.normal(size=(4, 3))
    y = np.concatenate(
        [rng.normal(size=(N, 20)), signal + 3 * rng.normal(size=(N, 3)), signal + 0.2 * rng.normal(size=(N, 3))], axis=1
    )
    return x.astype(np.float32), y + 4


def splits_of(kind, rng):
    if kind == "manifest":
        parts = np.where(GROUPS < 20, "train", np.where(GROUPS < 27, "test", "none"))
        return manifest_split(GROUPS, parts, GROUPS.astype(str), test="test", n_inner_folds=3, rng=rng)
    return fold_splits(GROUPS, n_folds=kind, n_inner_folds=3, rng=rng)


@pytest.mark.parametrize("kind", [2, 5, "manifest"])
@pytest.mark.parametrize("p", [12, 60, 140])
def test_a_permutation_is_fitted_as_the_ratings_are(rng, kind, p):
    (x, y), splits = problem(rng, p), splits_of(kind, rng)
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS)
    ridge.fit(y[:, :2])
    shared = np.arange(26)
    shared[[3, 20, 25]] = 3  # no, little and much signal
    ours = ridge.fit_permuted(y, shared=shared, of_split=np.full(26, -1))
    for fit, one in zip(ours, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS, shared=shared), strict=True):
        # another penalty only where float32 can't distinguish their errors, or the search ended before a second dip
        same = fit.alpha == one.alpha
        assert np.mean(same) > 0.95
        np.testing.assert_allclose(fit.inner_error, one.inner_error, rtol=2e-3)
        # float32 keeps seven digits; the offset and the collinear pair cost three of them
        np.testing.assert_allclose(fit.prediction[:, same], one.prediction[:, same], atol=1e-4 * y.std())
        for name in ("inner_mean", "inner_std"):
            np.testing.assert_allclose(getattr(fit, name)[same], getattr(one, name)[same], atol=1e-4)
        known = np.isfinite(fit.inner_errors)
        np.testing.assert_allclose(fit.inner_errors[known], one.inner_errors[known], rtol=2e-3, atol=1e-4)


def test_noise_tries_a_part_of_the_grid_and_a_signal_goes_down_to_its_penalty(rng):
    (x, y), splits = problem(rng, 140), splits_of(5, rng)
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS)
    ridge.fit(y[:, :2])
    for fit in ridge.fit_permuted(y, shared=np.arange(26), of_split=np.full(26, -1)):
        n_tried = np.isfinite(fit.inner_errors).sum(axis=0)
        assert n_tried[:20].mean() < 9
        assert n_tried[23:].min() > 9
        assert n_tried[:20].mean() < n_tried[20:].mean()
        assert np.isfinite(fit.inner_errors[-3:]).all()  # from the strongest down


def test_of_few_features_the_whole_grid_is_tried(rng):
    (x, y), splits = problem(rng, 60), splits_of(5, rng)
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS)
    ridge.fit(y[:, :2])
    fits = ridge.fit_permuted(y, shared=np.arange(26), of_split=np.full(26, -1))
    assert all(np.isfinite(fit.inner_errors).all() for fit in fits)


@pytest.mark.parametrize("first", [18, 24])  # 24: so few ratings that only chosen penalties are solved
def test_the_ratings_themselves_are_fitted_bit_for_bit_as_without_permutations(rng, first):
    (x, y), splits = problem(rng, 20), splits_of(5, rng)
    ours = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS).fit(y[:, first:])
    for fit, one in zip(ours, nested_ridge(x, y[:, first:], splits=splits, alphas=DEFAULT_ALPHAS), strict=True):
        np.testing.assert_array_equal(fit.prediction, one.prediction)
        np.testing.assert_array_equal(fit.inner_errors, one.inner_errors)


@pytest.mark.parametrize("p", [20, 400])
def test_permutations_need_no_fit_to_the_ratings_before(rng, p):
    (x, y), splits = problem(rng, p), splits_of(5, rng)
    after, alone = (PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS) for _ in range(2))
    after.fit(y[:, :2])
    choices = {"shared": np.arange(26), "of_split": np.where(np.arange(26) < 20, -1, 1)}
    pairs = zip(after.fit_permuted(y, **choices), alone.fit_permuted(y, **choices), strict=True)
    for k, (one, other) in enumerate(pairs):
        np.testing.assert_array_equal(other.prediction, one.prediction)
        assert np.isnan(one.prediction[:, 20:]).all() == (k != 1)


def test_a_column_for_one_split_is_fitted_there_and_nowhere_else(rng):
    (x, y), splits = problem(rng, 20), splits_of(5, rng)
    of_split = np.concatenate([np.full(16, -1), np.tile(np.arange(5), 2)])
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS)
    ridge.fit(y[:, :2])
    every = ridge.fit_permuted(y, shared=np.arange(26), of_split=np.full(26, -1))
    for k, (fit, one) in enumerate(
        zip(ridge.fit_permuted(y, shared=np.arange(26), of_split=of_split), every, strict=True)
    ):
        mine = (of_split == -1) | (of_split == k)
        np.testing.assert_allclose(fit.prediction[:, mine], one.prediction[:, mine], atol=1e-5)
        np.testing.assert_array_equal(fit.alpha[mine], one.alpha[mine])
        assert np.isnan(fit.prediction[:, ~mine]).all()
        assert np.isnan(fit.alpha[~mine]).all()


def test_no_held_out_rating_changes_the_prediction_of_a_permutation(rng):
    (x, y), splits = problem(rng, 20), splits_of("manifest", rng)
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS)
    ridge.fit(y[:, :2])
    (before,) = ridge.fit_permuted(y, shared=np.arange(26), of_split=np.full(26, -1))
    changed = y.copy()
    changed[splits[0].test] *= -50
    (after,) = ridge.fit_permuted(changed, shared=np.arange(26), of_split=np.full(26, -1))
    np.testing.assert_array_equal(after.alpha, before.alpha)
    # the mean of all rows cancels in float32 only
    np.testing.assert_allclose(after.prediction, before.prediction, atol=1e-3)


@pytest.mark.parametrize(("p", "algebra"), [(400, HOST), (20, DeviceAlgebra("cpu"))])
def test_where_the_host_decomposes_no_features_a_permutation_is_fitted_by_the_same_code(rng, p, algebra):
    x, splits = rng.normal(size=(N, p)).astype(np.float32), splits_of(5, rng)
    y = rng.normal(size=(N, 4))
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS, algebra=algebra)
    ridge.fit(y[:, :2])
    ours = ridge.fit_permuted(y, shared=np.arange(4), of_split=np.full(4, -1))
    for fit, one in zip(ours, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS, algebra=algebra), strict=True):
        np.testing.assert_array_equal(fit.prediction, one.prediction)


def test_gram_matrices_of_utterances_are_decomposed_once_for_all_splits_ratings_and_permutations(rng, monkeypatch):
    x, y = problem(rng, 400)
    splits = fold_splits(GROUPS, n_folds=4, n_inner_folds=3, rng=rng)  # whose inner folds are the other folds
    shared, of_split = np.array([0, 0, *range(2, 26)]), np.full(26, -1)
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS)
    ridge.fit(y[:, :2])
    ours = ridge.fit_permuted(y, shared=shared, of_split=of_split)
    assert len(ridge._ridge.dual._kept) == 4 + 6  # outer training sets, and one for each pair of folds
    monkeypatch.setattr("layerprobe.probe.solvers.dual_ridge.KEPT_BYTES", 0)
    anew = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS).fit_permuted(y, shared=shared, of_split=of_split)
    for k, (fit, other) in enumerate(zip(ours, anew, strict=True)):
        np.testing.assert_array_equal(fit.prediction, other.prediction)
        split, errors = splits[k], np.zeros((len(DEFAULT_ALPHAS), 26))
        for fold in np.unique(split.inner_folds):
            train, out = (split.train[(split.inner_folds == fold) == held] for held in (False, True))
            path = ridge_path(x[train], y[train], x[out], alphas=DEFAULT_ALPHAS)
            errors += ((path - y[out]) ** 2).sum(axis=1)
        np.testing.assert_allclose(fit.inner_errors, errors / len(split.train), rtol=1e-9)
        alpha = fit.alpha[5]
        path = ridge_path(x[split.train], y[split.train], x[split.test], alphas=(alpha,))
        np.testing.assert_allclose(fit.prediction[:, 5], path[0, :, 5], rtol=1e-9)
