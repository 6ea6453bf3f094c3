"""Sums over cells against the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.gram import BLOCK, assign_cells, feature_shift, sum_moments
from layerprobe.probe.splits import Split, fold_splits, manifest_split, speaker_groups


def problem(rng, n, p):
    return rng.normal(5, 2, size=(n, p)).astype(np.float32), rng.normal(size=(n, 2))


@pytest.mark.parametrize("n", [7, BLOCK + 5])
def test_moments_are_the_sums_of_the_rows(rng, n):
    x, y = problem(rng, n, 4)
    rows, shift = np.flatnonzero(np.arange(n) % 3), np.array([5.0, 0.0, 1.0, -2.0])
    moments, z = sum_moments(x, y, rows, shift=shift), x[rows].astype(float) - shift
    assert moments.n == len(rows)
    np.testing.assert_allclose(np.tril(moments.xx), np.tril(z.T @ z), rtol=1e-9)
    np.testing.assert_allclose(moments.xy, z.T @ y[rows], rtol=1e-9)
    np.testing.assert_allclose(moments.x, z.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(moments.yy, (y[rows] ** 2).sum(axis=0))
    np.testing.assert_array_equal([moments.low, moments.high], [z.min(axis=0), z.max(axis=0)])


def test_moments_add_up(rng):
    x, y = problem(rng, 50, 3)
    shift = feature_shift(x)
    parts = sum_moments(x, y, np.arange(20), shift=shift).plus(sum_moments(x, y, np.arange(20, 50), shift=shift))
    whole = sum_moments(x, y, np.arange(50), shift=shift)
    for name in ("n", "x", "y", "xy", "yy", "low", "high"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.tril(parts.xx), np.tril(whole.xx), rtol=1e-10)


def test_a_shift_is_not_moved_by_an_outlier(rng):
    x, _ = problem(rng, 1000, 3)
    before = feature_shift(x)
    x[::100] = 1e9
    assert np.abs(feature_shift(x) - before).max() < 0.5


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_training_sets_are_whole_cells(rng, n_folds):
    groups = np.repeat(np.arange(24), 3)
    splits = fold_splits(groups, n_folds=n_folds, n_inner_folds=3, rng=rng)
    cell, folds = assign_cells(splits, len(groups))
    assert len(np.unique(cell)) == (6 if n_folds == 2 else n_folds)  # with two folds each is split into three
    for split, inner in zip(splits, folds, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(np.isin(cell, list(set().union(*inner)))), split.train)
        for fold, cells in enumerate(inner):
            np.testing.assert_array_equal(
                np.flatnonzero(np.isin(cell, list(cells))), split.train[split.inner_folds == fold]
            )


def test_rows_that_no_split_trains_on_are_in_no_cell(rng):
    speakers = np.array([f"s{i // 4}" for i in range(40)])
    names = np.where(np.arange(40) < 28, "train", np.where(np.arange(40) < 36, "test", "none"))
    splits: list[Split] = manifest_split(
        speaker_groups(speakers), names, speakers, test="test", n_inner_folds=3, rng=rng
    )
    cell, _ = assign_cells(splits, 40)
    assert (cell[28:] == -1).all()
    assert (cell[:28] >= 0).all()
