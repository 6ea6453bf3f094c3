"""Tests of ridge on erased embeddings: what Woodbury's identity gives is what erasing and then fitting gives."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.erased_ridge import INNER_FOLDS, SplitRidge
from layerprobe.probe.solvers.leace import Eraser, fit_leace
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge
from layerprobe.probe.splits import Split, fold_splits

ALPHAS = (1e-4, 1e-2, 1.0, 100.0)


def made(rng, n, d):
    """Return embeddings, a concept of two columns that is in them, two targets, and splits by speaker."""
    z = rng.normal(size=(n, 2))
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3 * z @ rng.normal(size=(2, d)) + 2.0
    y = np.column_stack([z[:, 0] + 0.3 * rng.normal(size=n), x[:, 0] - x[:, 1] + rng.normal(size=n)])
    return x, z, y, fold_splits(np.arange(n) // 4, n_folds=4, n_inner_folds=3, rng=rng)


def direct(x, y, split, eraser):
    """Erase, then fit every penalty on every inner fold by normal equations, and refit: slow and obvious."""
    mean, std = x[split.train].mean(axis=0), x[split.train].std(axis=0)
    z = (x - mean) / std
    erased = eraser(z) if eraser else z

    def fitted(train, test, alpha):
        centre, level = erased[train].mean(axis=0), y[train].mean(axis=0)
        rows, before = erased[train] - centre, z[train] - z[train].mean(axis=0)
        scale = np.square(before).sum() / min(len(train), x.shape[1])
        w = np.linalg.solve(rows.T @ rows + alpha * scale * np.eye(x.shape[1]), rows.T @ (y[train] - level))
        return (erased[test] - centre) @ w + level

    errors = np.zeros((len(ALPHAS), y.shape[1]))
    for fold in np.unique(split.inner_folds):
        inside, out = split.train[split.inner_folds != fold], split.train[split.inner_folds == fold]
        errors += [np.square(fitted(inside, out, alpha) - y[out]).sum(axis=0) for alpha in ALPHAS]
    chosen = errors.argmin(axis=0)
    columns = [fitted(split.train, split.test, ALPHAS[c])[:, t] for t, c in enumerate(chosen)]
    return errors / len(split.train), np.column_stack(columns)


@pytest.mark.parametrize("shape", [(160, 12), (64, 90)])
@pytest.mark.parametrize("kind", ["leace", "random", "none"])
def test_it_equals_erasing_and_then_fitting(rng, shape, kind):
    x, concept, y, splits = made(rng, *shape)
    for split in splits:
        ridge = SplitRidge(x, split, alphas=ALPHAS)
        z = ridge.standardiser(x)
        if kind == "leace":
            directions, eraser = ridge.leace(concept), fit_leace(z[split.train], concept[split.train])
        else:
            directions = ridge.random(3, rng) if kind == "random" else None
            eraser = directions and Eraser(
                np.zeros(x.shape[1]), ridge.basis @ directions.read, ridge.basis @ directions.write
            )
        errors, prediction = direct(x, y, split, eraser)
        fit = ridge.fit(y, erased=directions)
        np.testing.assert_allclose(fit.inner_errors, errors, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(fit.prediction, prediction, rtol=1e-8, atol=1e-8)
        plain = ridge.fit(y)
        assert kind == "none" or np.abs(plain.prediction - prediction).max() > 1e-2


@pytest.mark.parametrize("shape", [(200, 40), (60, 90), (64, 50)])
def test_with_nothing_erased_it_is_the_plain_ridge(rng, shape):
    """Exactly, for features of mean 0 and standard deviation 1 in each fold, which no inner set standardises anew."""
    n, d = shape
    splits = fold_splits(np.arange(n) // 4, n_folds=5, n_inner_folds=4, rng=rng)
    x, signs = np.empty((n, d)), np.array([-1.0, 1.0])
    for split in splits:
        m = len(split.test)
        x[split.test] = rng.permuted(np.repeat(signs, m // 2)[:, None].repeat(d, axis=1), axis=0)
    y = x[:, :3] @ rng.normal(size=(3, 2)) + 2 * rng.normal(size=(n, 2))
    plain = nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS)
    for split, expected in zip(splits, plain, strict=True):
        fit = SplitRidge(x, split, alphas=DEFAULT_ALPHAS).fit(y)
        np.testing.assert_allclose(fit.inner_errors, expected.inner_errors, rtol=1e-8)
        np.testing.assert_array_equal(fit.alpha, expected.alpha)
        np.testing.assert_allclose(fit.prediction, expected.prediction, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", [(200, 100), (384, 256)])
def test_with_nothing_erased_it_chooses_the_penalties_of_the_plain_ridge(rng, shape):
    n, d = shape
    x = rng.normal(size=(n, d))
    y = x[:, :5].sum(axis=1, keepdims=True) + 3 * rng.normal(size=(n, 2))
    splits = fold_splits(np.arange(n) % 20, n_folds=5, n_inner_folds=4, rng=rng)
    plain = nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS)
    found = [SplitRidge(x, split, alphas=DEFAULT_ALPHAS).fit(y).alpha for split in splits]
    assert sum((a == b.alpha).sum() for a, b in zip(found, plain, strict=True)) >= 9  # of 10


def test_moments_of_inner_predictions_are_those_of_the_rows(rng):
    x, concept, y, splits = made(rng, 120, 10)
    ridge = SplitRidge(x, splits[0], alphas=(1.0,))
    directions = ridge.leace(concept)
    fit = ridge.fit(y, erased=directions)
    predictions = np.empty((len(splits[0].train), 2))
    for fold in np.unique(splits[0].inner_folds):
        out = splits[0].inner_folds == fold
        inner = Split("", splits[0].train[~out], splits[0].train[out], splits[0].inner_folds[~out])
        rows, test = ridge.train[~out], ridge.train[out]
        erased = [a - a @ directions.read @ directions.write.T for a in (rows, test)]
        centre, level = erased[0].mean(axis=0), y[inner.train].mean(axis=0)
        scale = np.square(rows - rows.mean(axis=0)).sum() / min(rows.shape)  # at a relative penalty of 1
        gram = (erased[0] - centre).T @ (erased[0] - centre) + scale * np.eye(len(centre))
        right = (erased[0] - centre).T @ (y[inner.train] - level)
        predictions[out] = (erased[1] - centre) @ np.linalg.solve(gram, right) + level
    np.testing.assert_allclose(fit.inner_mean, predictions.mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(fit.inner_std, predictions.std(axis=0), rtol=1e-8)


def test_nothing_of_the_test_speakers_is_used(rng):
    x, concept, y, splits = made(rng, 120, 10)
    before = SplitRidge(x, splits[0], alphas=ALPHAS)
    moved = [a.copy() for a in (x, concept, y)]
    for a in moved:
        a[splits[0].test] += 5 * rng.normal(size=a[splits[0].test].shape)
    after = SplitRidge(moved[0], splits[0], alphas=ALPHAS)
    directions = before.leace(concept), after.leace(moved[1])
    np.testing.assert_array_equal(directions[0].read, directions[1].read)
    fits = before.fit(y, erased=directions[0]), after.fit(moved[2], erased=directions[1])
    np.testing.assert_array_equal(fits[0].inner_errors, fits[1].inner_errors)
    for row in (0, 5):  # a test row's prediction depends on the row itself alone
        x_row = x.copy()
        x_row[splits[0].test[row]] += 1.0
        moved_row = SplitRidge(x_row, splits[0], alphas=ALPHAS).fit(y, erased=directions[0])
        others = np.arange(len(splits[0].test)) != row
        np.testing.assert_allclose(moved_row.prediction[others], fits[0].prediction[others], rtol=1e-12)


def test_targets_of_one_group_have_one_penalty(rng):
    x, concept, y, splits = made(rng, 120, 10)
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    fit = ridge.fit(y, shared=np.array([0, 0]), erased=ridge.leace(concept))
    assert fit.alpha[0] == fit.alpha[1]


def test_many_inner_folds_are_joined(rng):
    x, _, y, _ = made(rng, 120, 10)
    split = Split("", np.arange(100), np.arange(100, 120), np.arange(100) // 5)
    few = Split("", np.arange(100), np.arange(100, 120), np.arange(100) // 20)
    assert len(np.unique(split.inner_folds)) == 20 > len(np.unique(few.inner_folds)) == INNER_FOLDS
    fits = [SplitRidge(x, s, alphas=ALPHAS).fit(y) for s in (split, few)]
    np.testing.assert_array_equal(fits[0].inner_errors, fits[1].inner_errors)


def test_erasing_every_direction_predicts_the_mean(rng):
    x, _, y, splits = made(rng, 120, 10)
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    fit = ridge.fit(y, erased=ridge.random(10, rng))
    np.testing.assert_allclose(fit.prediction, np.tile(y[splits[0].train].mean(axis=0), (len(splits[0].test), 1)))


@pytest.mark.parametrize("kind", ["concept", "random"])
def test_a_constant_layer_predicts_the_mean(rng, kind):
    _, concept, y, splits = made(rng, 120, 10)
    ridge = SplitRidge(np.ones((120, 10)), splits[0], alphas=ALPHAS)
    directions = ridge.leace(concept) if kind == "concept" else ridge.random(2, rng)
    assert directions.rank == 0
    fit = ridge.fit(y, erased=directions)
    np.testing.assert_allclose(fit.prediction, np.tile(y[splits[0].train].mean(axis=0), (len(splits[0].test), 1)))


def test_codes_of_classes_are_erased_as_indicators_are(rng):
    x, _, y, splits = made(rng, 120, 10)
    codes = rng.integers(0, 3, size=120)
    codes[::10] = -1
    indicators = np.where(codes[:, None] >= 0, codes[:, None] == np.arange(3), np.nan)
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    fits = [ridge.fit(y, erased=ridge.leace(concept)) for concept in (codes, indicators)]
    np.testing.assert_allclose(fits[0].prediction, fits[1].prediction, rtol=1e-8)
    assert ridge.leace(codes).rank == 2


def test_each_concept_has_a_largest_rank(rng):
    x, concept, _, splits = made(rng, 160, 12)
    ridge, many = SplitRidge(x, splits[0], alphas=ALPHAS), rng.integers(0, 9, size=160)
    assert ridge.leace(many, concept).rank == 10
    assert ridge.leace(many, concept, most=4).rank == 6


def test_a_column_that_does_not_vary_is_no_direction(rng):
    x, concept, _, splits = made(rng, 160, 12)
    constant = np.full((160, 1), 0.1)  # whose standard deviation is rounding: 1.4e-17
    assert constant[splits[0].train].std() > 0
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    both, one = ridge.leace(np.hstack([concept, constant])), ridge.leace(concept)
    assert both.rank == 2
    np.testing.assert_allclose(both.read @ both.write.T, one.read @ one.write.T, atol=1e-9)


def test_each_concept_is_erased_by_the_rows_that_have_it(rng):
    x, concept, _, splits = made(rng, 160, 12)
    first, second = concept[:, :1].copy(), rng.integers(0, 2, size=160)
    first[::3], second[1::5] = np.nan, -1
    split = splits[0]
    ridge = SplitRidge(x, split, alphas=ALPHAS)
    erased = ridge.leace(first, second)
    assert erased.rank == 2
    rows = ridge.train - ridge.train @ erased.read @ erased.write.T
    for values in (first[:, 0], np.where(second < 0, np.nan, second)):
        known = np.isfinite(values[split.train])
        covariance = (rows[known] - rows[known].mean(axis=0)).T @ values[split.train][known]
        np.testing.assert_allclose(covariance, 0, atol=1e-9)


@pytest.mark.parametrize("shape", [(160, 12), (64, 90)])
def test_random_directions_are_alike_in_all_folds(rng, shape):
    x, _, _, splits = made(rng, *shape)
    ridges = [SplitRidge(x, split, alphas=ALPHAS) for split in splits]
    first, second, other = (
        ridge.basis @ ridge.random(1, np.random.default_rng(seed)).write
        for ridge, seed in ((ridges[0], 5), (ridges[1], 5), (ridges[1], 6))
    )
    cosine = [abs(float(np.corrcoef(first[:, 0], a[:, 0])[0, 1])) for a in (second, other)]
    assert cosine[0] > 0.75 > cosine[1]


def test_random_directions_are_as_many_and_orthonormal_when_whitened(rng):
    x, _, _, splits = made(rng, 64, 90)
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    found = ridge.random(3, rng)
    np.testing.assert_allclose(found.write.T @ found.read, np.eye(3), atol=1e-12)
    whitened = found.read * np.sqrt(ridge.whitening.variances)[:, None]
    np.testing.assert_allclose(whitened.T @ whitened, np.eye(3), atol=1e-12)
    assert ridge.random(99, rng).rank == len(splits[0].train) - 1


def test_one_class_alone_is_no_direction(rng):
    x, concept, _, splits = made(rng, 160, 12)
    codes = np.where(np.arange(160) % 3 == 0, -1, 0)
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    assert [ridge.leace(codes).rank, ridge.leace(codes, concept).rank] == [0, 2]
