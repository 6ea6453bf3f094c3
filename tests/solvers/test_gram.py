"""Sums over cells against the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.gram import (
    BLOCK,
    TRIANGLE,
    assign_cells,
    feature_shift,
    sum_cells,
    sum_cells_into,
    sum_moments,
)
from layerprobe.probe.splits import Split, fold_splits, manifest_split, speaker_groups


def problem(rng, n, p):
    return rng.normal(5, 2, size=(n, p)).astype(np.float32), rng.normal(size=(n, 2))


# 100 features are so many that products with ratings and features are formed together
@pytest.mark.parametrize(("n", "p"), [(7, 4), (BLOCK * 2, 4), (7, 100), (BLOCK * 2, 100)])
def test_moments_are_the_sums_of_the_rows(rng, n, p):
    x, y = problem(rng, n, p)
    rows, shift = np.flatnonzero(np.arange(n) % 3), rng.integers(-2, 6, size=p).astype(float)
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


@pytest.mark.parametrize("chosen", [{1}, {0, 2}, {0, 1, 2}])
def test_sums_into_memory_equal_new_ones_and_leave_the_cells_as_they_are(rng, chosen):
    x, y = problem(rng, 60, TRIANGLE + 6)
    shift = feature_shift(x)
    cells = {k: sum_moments(x, y, np.arange(k, 60, 3), shift=shift) for k in range(3)}
    before = {k: cell.xx.copy() for k, cell in cells.items()}
    whole, memory = sum_cells(cells, frozenset(chosen)), np.full_like(before[0], 7.0)
    into = sum_cells_into(memory, cells, frozenset(chosen))
    assert into.xx is memory
    np.testing.assert_allclose(np.tril(into.xx), np.tril(whole.xx), rtol=1e-12)
    for name in ("n", "x", "y", "xy", "yy", "low", "high"):
        np.testing.assert_array_equal(getattr(into, name), getattr(whole, name))
    for k, cell in cells.items():
        np.testing.assert_array_equal(cell.xx, before[k])


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
