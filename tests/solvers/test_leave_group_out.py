"""Penalties chosen by leaving inner folds out of one fit, against refitting every inner fold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.leave_group_out import (
    LEAVE_GROUP_OUT,
    OF_RATINGS,
    REFIT,
    Search,
    choose_inner_selection,
    fit_split,
    inner_selection_of,
)
from layerprobe.probe.solvers.permuted_ridge import PermutedRidge
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, Bands, NestedRidge, nested_ridge
from layerprobe.probe.splits import Split, fold_splits

N, N_SPEAKERS = 120, 10
SPEAKERS = np.arange(N) * N_SPEAKERS // N


def problem(rng, p, n_targets=4):
    """A layer with offsets, unequal variances and, where it is wide enough, a constant and a collinear feature."""
    x = rng.normal(size=(N, p)) @ (rng.normal(size=(p, p)) / np.sqrt(p)) * 10 ** rng.uniform(-2, 2, p)
    x += rng.normal(size=p) * 3
    if p > 3:
        x[:, 1], x[:, 2] = 3.25, 2 * x[:, 3] - 1
    noise = 10 ** np.linspace(-1, 1, n_targets)
    return x, (x[:, :1] - x[:, :1].mean()) / x[:, 0].std() + noise * rng.normal(size=(N, n_targets)) + 4


def splits_of(rng):
    """Speakers held out in turn, with training rows in no order."""
    splits = fold_splits(SPEAKERS, n_folds=N_SPEAKERS, n_inner_folds=3, rng=rng)
    shuffled = []
    for split in splits:
        order = rng.permutation(len(split.train))
        shuffled.append(Split(split.name, split.train[order], split.test, split.inner_folds[order]))
    return shuffled


def by_scikit_learn(x, y, split, alphas, scales=None):
    """Inner predictions of every alpha, ``(n_alphas, n_train, n_targets)``, and predictions of the test rows.

    Features are standardised on all outer training rows, and the penalty is that of the fit to them.
    """
    scaler = StandardScaler().fit(x[split.train])
    z, z_test = scaler.transform(x[split.train]), scaler.transform(x[split.test])
    if scales is not None:
        z, z_test = z * scales, z_test * scales
    mean_eigenvalue = (z**2).sum() / min(z.shape) or 1.0
    inner = np.empty((len(alphas), len(split.train), y.shape[1]))
    test = np.empty((len(alphas), len(split.test), y.shape[1]))
    for k, alpha in enumerate(alphas):
        ridge = Ridge(alpha=alpha * mean_eigenvalue, solver="svd")  # to rounding
        for fold in np.unique(split.inner_folds):
            out = split.inner_folds == fold
            inner[k, out] = ridge.fit(z[~out], y[split.train][~out]).predict(z[out])
        test[k] = ridge.fit(z, y[split.train]).predict(z_test)
    return inner, test


@pytest.mark.parametrize("p", [1, 5, 11, 12, 13, 60, 107, 108, 109, 200])
def test_each_inner_error_is_that_of_refitting_the_other_inner_folds(rng, p):
    # fewer features than utterances of a fold, than training utterances (108), and more
    (x, y), split = problem(rng, p), splits_of(rng)[3]
    fit = fit_split(
        x,
        y,
        split,
        alphas=DEFAULT_ALPHAS,
        scales=np.ones((1, p)),
        shared=None,
        search=OF_RATINGS,
        inner_predictions=True,
    )
    inner, test = by_scikit_learn(x, y, split, DEFAULT_ALPHAS)
    errors = np.mean((inner - y[split.train]) ** 2, axis=1)
    np.testing.assert_allclose(fit.inner_errors, errors, rtol=1e-8)
    chosen, targets = errors.argmin(axis=0), np.arange(y.shape[1])
    np.testing.assert_array_equal(fit.alpha, np.array(DEFAULT_ALPHAS)[chosen])
    np.testing.assert_allclose(fit.inner_prediction, inner[chosen, :, targets].T, atol=1e-8)
    np.testing.assert_allclose(fit.inner_mean, inner[chosen, :, targets].mean(axis=1), atol=1e-8)
    np.testing.assert_allclose(fit.inner_std, inner[chosen, :, targets].std(axis=1), atol=1e-8)
    np.testing.assert_allclose(fit.prediction, test[chosen, :, targets].T, atol=1e-8)


@pytest.mark.parametrize("p", [7, 90, 150])
def test_the_whole_nested_procedure_is_that_of_loops_over_outer_and_inner_speakers(rng, p):
    (x, y), splits = problem(rng, p), splits_of(rng)
    alphas = DEFAULT_ALPHAS[::4]
    fits = nested_ridge(x, y, splits=splits, alphas=alphas)  # takes leaving out by itself
    for split, fit in zip(splits, fits, strict=True):
        inner, test = by_scikit_learn(x, y, split, alphas)
        chosen = np.mean((inner - y[split.train]) ** 2, axis=1).argmin(axis=0)
        np.testing.assert_array_equal(fit.alpha, np.array(alphas)[chosen])
        np.testing.assert_allclose(fit.prediction, test[chosen, :, np.arange(y.shape[1])].T, atol=1e-8)


@pytest.mark.parametrize("widths", [[6, 4], [70, 90]])
def test_bands_have_a_fit_for_each_ratio_and_shared_penalties_are_chosen_by_their_sum(rng, widths):
    (x, y), split = problem(rng, sum(widths)), splits_of(rng)[0]
    alphas, bands = (0.01, 0.1, 1.0, 10.0), Bands.side_by_side(widths, decades=(-1.0, 0.0, 1.0))
    shared = np.array([5, 2, 5, 7])
    (fit,) = nested_ridge(
        x, y, splits=[split], alphas=alphas, bands=bands, shared=shared, inner_selection=LEAVE_GROUP_OUT
    )
    of_scales = [by_scikit_learn(x, y, split, alphas, scales) for scales in bands.scales]
    inner, test = (np.concatenate(arrays) for arrays in zip(*of_scales, strict=True))
    errors = np.mean((inner - y[split.train]) ** 2, axis=1)
    np.testing.assert_allclose(fit.inner_errors, errors, rtol=1e-8)
    errors[:, [0, 2]] = errors[:, [0, 2]].sum(axis=1, keepdims=True)
    chosen = errors.argmin(axis=0)
    np.testing.assert_array_equal(fit.ratio, chosen // 4)
    np.testing.assert_array_equal(fit.alpha, np.array(alphas)[chosen % 4])
    np.testing.assert_allclose(fit.prediction, test[chosen, :, np.arange(4)].T, atol=1e-8)


def test_no_held_out_utterance_changes_a_fit(rng):
    (x, y), split = problem(rng, 40), splits_of(rng)[2]
    (before,) = nested_ridge(x, y, splits=[split], alphas=DEFAULT_ALPHAS)
    x[split.test], y[split.test] = 1e4 * rng.normal(size=(len(split.test), 40)), -50
    (after,) = nested_ridge(x, y, splits=[split], alphas=DEFAULT_ALPHAS)
    np.testing.assert_array_equal(after.inner_errors, before.inner_errors)
    np.testing.assert_array_equal(after.alpha, before.alpha)


@pytest.mark.parametrize("p", [1, 20, 200])
def test_a_constant_layer_predicts_the_mean_of_the_training_rows(rng, p):
    y, split = rng.normal(size=(N, 2)), splits_of(rng)[0]
    (fit,) = nested_ridge(np.full((N, p), 7.0), y, splits=[split], alphas=DEFAULT_ALPHAS)
    np.testing.assert_allclose(fit.prediction, np.tile(y[split.train].mean(axis=0), (len(split.test), 1)), atol=1e-12)


@pytest.mark.parametrize("p", [5, 60, 140, 160])
def test_a_permutation_is_fitted_as_the_ratings_are_without_a_fit_to_them(rng, p):
    (x, y), splits = problem(rng, p, n_targets=30), splits_of(rng)
    shared, of_split = np.arange(30), np.full(30, -1)
    shared[[3, 8]], of_split[[4, 5]] = 3, [0, 7]
    fits = PermutedRidge(x.astype(np.float32), splits=splits, alphas=DEFAULT_ALPHAS).fit_permuted(
        y, shared=shared, of_split=of_split
    )
    ours = nested_ridge(x.astype(np.float32), y, splits=splits, alphas=DEFAULT_ALPHAS, shared=shared)
    for k, (fit, one) in enumerate(zip(fits, ours, strict=True)):
        here = (of_split == -1) | (of_split == k)
        same = here & (fit.alpha == one.alpha)
        assert same.sum() >= 0.9 * here.sum()
        np.testing.assert_allclose(fit.prediction[:, same], one.prediction[:, same], atol=1e-4 * y.std())
        np.testing.assert_allclose(fit.inner_error[same], one.inner_error[same], rtol=1e-3)
        for name in ("inner_mean", "inner_std"):
            np.testing.assert_allclose(getattr(fit, name)[same], getattr(one, name)[same], atol=1e-4 * y.std())
        assert np.isnan(fit.prediction[:, ~here]).all()
        assert np.isnan(fit.alpha[~here]).all()


@pytest.mark.parametrize("inner_selection", [LEAVE_GROUP_OUT, REFIT])
@pytest.mark.parametrize("p", [8, 150])
def test_a_split_without_a_target_has_no_results(rng, p, inner_selection):
    (x, y), splits = problem(rng, p), splits_of(rng)[:2]
    ridge = PermutedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS, inner_selection=inner_selection)
    one, other = ridge.fit_permuted(y, shared=np.arange(4), of_split=np.ones(4, dtype=int))
    assert np.isnan(one.prediction).all()
    assert np.isfinite(other.prediction).all()


def test_the_search_of_a_permutation_ends_where_the_error_has_risen_twice_and_that_of_a_rating_tries_all(rng):
    x, split, noise = problem(rng, 60)[0], splits_of(rng)[0], rng.normal(size=(N, 3))
    choices = {"alphas": DEFAULT_ALPHAS, "scales": np.ones((1, 60)), "shared": None}
    fit = fit_split(x, noise, split, search=Search(rises=2, dtype=np.float32), **choices)
    whole = fit_split(x, noise, split, search=OF_RATINGS, **choices)
    assert np.isfinite(whole.inner_errors).all()
    tried = np.isfinite(fit.inner_errors)
    assert tried[-3:].all()  # from the strongest down
    assert not tried[0].any()
    np.testing.assert_allclose(fit.inner_errors[tried], whole.inner_errors[tried], rtol=1e-4)
    np.testing.assert_array_equal(fit.alpha, whole.alpha)


@pytest.mark.parametrize(
    ("corpus", "n_utterances", "n_folds", "selection"),
    [
        ("EMO-DB", 535, 10, LEAVE_GROUP_OUT),
        ("RAVDESS", 1440, 24, LEAVE_GROUP_OUT),
        ("CREMA-D", 7442, 91, LEAVE_GROUP_OUT),
        ("675 of 15 speakers", 675, 15, LEAVE_GROUP_OUT),
        ("IEMOCAP by speaker", 5531, 10, REFIT),
        ("5 folds", 535, 5, REFIT),
    ],
)
def test_many_short_folds_are_left_out_and_others_refitted(corpus, n_utterances, n_folds, selection):
    fold = np.arange(n_utterances) * n_folds // n_utterances
    splits = [Split(str(k), np.flatnonzero(fold != k), np.flatnonzero(fold == k), fold[fold != k]) for k in range(3)]
    assert inner_selection_of(splits) == selection, corpus
    # the plan knows numbers alone
    assert choose_inner_selection(n_folds - 1, n_utterances / n_folds) == selection


def test_a_selection_that_is_requested_is_taken_and_an_unknown_one_refused(rng):
    x, splits = problem(rng, 20)[0], splits_of(rng)
    assert NestedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS, inner_selection=REFIT).inner_selection == REFIT
    with pytest.raises(InputError, match=r"inner_selection 'loo' is unknown; choose from refit, leave_group_out\."):
        NestedRidge(x, splits=splits, alphas=DEFAULT_ALPHAS, inner_selection="loo")


@pytest.mark.parametrize("p", [40, 200])
def test_a_penalty_that_rounding_hides_is_refused(rng, p):
    x, split = rng.normal(size=(N, p)), splits_of(rng)[0]
    x[split.train[30:]] = x[split.train[:1]]  # few different rows: fits without a penalty are not unique
    with pytest.raises(InputError, match=r"is lost in the rounding of the data\. Ask for greater alphas\."):
        nested_ridge(x, rng.normal(size=(N, 1)), splits=[split], alphas=(1e-30,))
