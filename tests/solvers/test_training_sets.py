"""Training sets as slices against the splits' own rows."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import fold_splits, manifest_split, speaker_groups


def cases(rng):
    groups = rng.integers(0, 20, size=120)
    names = np.array([f"s{g}" for g in groups], dtype=object)
    parts = np.where(groups < 10, "train", np.where(groups < 15, "test", "test2"))
    return {
        "5 folds": (fold_splits(groups, n_folds=5, n_inner_folds=4, rng=rng), 15),
        "2 folds": (fold_splits(groups, n_folds=2, n_inner_folds=3, rng=rng), 8),
        "the manifest's": (
            manifest_split(speaker_groups(names), parts, names, test="test", n_inner_folds=4, rng=rng),
            5,
        ),
    }


@pytest.mark.parametrize("case", ["5 folds", "2 folds", "the manifest's"])
def test_sets_hold_the_rows_of_the_splits(rng, case):
    splits, n_sets = cases(rng)[case]
    sets = TrainingSets.from_splits(splits, 120)
    assert len(sets.members) == n_sets  # 5 outer and 10 inner sets, each shared by two splits
    used = np.unique(np.concatenate([np.concatenate([s.train, s.test]) for s in splits]))
    assert sorted(sets.order.tolist()) == used.tolist()

    def rows(cells):
        return set(sets.order[sets.positions(cells)].tolist())

    for k, split in enumerate(splits):
        assert rows(sets.members[sets.outer[k]]) == set(split.train.tolist())
        for fold, (without, cells) in zip(np.unique(split.inner_folds), sets.inner[k], strict=True):
            assert rows(cells) == set(split.train[split.inner_folds == fold].tolist())
            assert rows(sets.members[without]) == set(split.train[split.inner_folds != fold].tolist())


def test_thinned_sets_are_parts_of_the_whole_ones(rng):
    splits, _ = cases(rng)["5 folds"]
    sets = TrainingSets.from_splits(splits, 120)
    thin, places = sets.thinned(40)
    assert 40 <= len(thin.order) <= 45
    np.testing.assert_array_equal(thin.order, sets.order[places])
    for member in sets.members:
        assert set(thin.order[thin.positions(member)]) <= set(sets.order[sets.positions(member)])
        assert len(thin.positions(member)) >= len(sets.positions(member)) // 3
