"""Splits: no speaker is ever on both sides, outer or inner."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.mdl import speaker_portions
from layerprobe.probe.splits import (
    SpeakerKFold,
    Split,
    assert_disjoint,
    fold_splits,
    manifest_split,
    speaker_folds,
    speaker_groups,
)


def corpora():
    """Speaker ids of many shapes: balanced, unbalanced, one utterance each, with unknown speakers."""
    rng = np.random.default_rng(3)
    yield np.repeat([f"s{i}" for i in range(20)], 5)
    yield rng.choice([f"s{i}" for i in range(30)], size=400, p=rng.dirichlet(np.full(30, 0.3)) * 0.7 + 0.01)
    yield np.array([f"s{i}" for i in range(40)])
    yield np.where(rng.random(300) < 0.4, "Unknown", rng.choice([f"s{i}" for i in range(25)], size=300))


@pytest.mark.parametrize("speaker_ids", list(corpora()))
@pytest.mark.parametrize("n_folds", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_is_on_both_sides(speaker_ids, n_folds, seed):
    groups = speaker_groups(speaker_ids)
    splits = fold_splits(groups, n_folds=n_folds, n_inner_folds=3, rng=np.random.default_rng(seed))
    for split in splits:
        known = [set(speaker_ids[rows]) - {"Unknown"} for rows in (split.train, split.test)]
        assert not known[0] & known[1]
        inner = [
            set(speaker_ids[split.train[split.inner_folds == k]]) - {"Unknown"} for k in np.unique(split.inner_folds)
        ]
        assert len(inner) == (3 if n_folds == 2 else n_folds - 1)
        assert sum(map(len, inner)) == len(set.union(*inner))
        assert sorted([*split.train, *split.test]) == list(range(len(speaker_ids)))
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(len(speaker_ids)))


def one_manifest_split(groups, rng):
    speakers = np.unique(groups)
    parts = np.where(rng.permutation(len(speakers)) % 3 == 0, "test", "train")[np.searchsorted(speakers, groups)]
    return manifest_split(groups, parts, groups.astype(str), test="test", n_inner_folds=3, rng=rng)


def portions_as_splits(groups, rng):
    portion = speaker_portions(groups, rng=rng)
    return [
        Split(str(k), np.flatnonzero(portion < k), np.flatnonzero(portion == k), portion[portion < k])
        for k in range(1, portion.max() + 1)
    ]


def folds_as_splits(groups, rng):
    folds = speaker_folds(groups, n_folds=4, rng=rng)
    return [Split(str(k), np.flatnonzero(folds != k), np.flatnonzero(folds == k), folds[folds != k]) for k in range(4)]


# Every function of the project that splits utterances; a new one is added here
SPLITTERS = {
    "fold_splits": lambda groups, rng: fold_splits(groups, n_folds=4, n_inner_folds=3, rng=rng),
    "manifest_split": one_manifest_split,
    "speaker_folds": folds_as_splits,
    "speaker_portions": portions_as_splits,
}


def test_every_splitter_is_tried():
    """Every function of the package that takes groups and a generator and assigns rows is in `SPLITTERS`."""
    found = set()
    for path in (Path(__file__).parents[2] / "probe").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                names = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]}
                if {"groups", "rng"} <= names and "ratings" not in names and "codes" not in names and "y" not in names:
                    found.add(node.name)
    assert found == set(SPLITTERS)


@pytest.mark.parametrize("name", SPLITTERS)
@pytest.mark.parametrize("speaker_ids", list(corpora()))
def test_a_speaker_on_both_sides_is_impossible(name, speaker_ids):
    groups = speaker_groups(speaker_ids)
    for seed in range(10):
        splits = SPLITTERS[name](groups, np.random.default_rng(seed))
        assert splits
        for split in splits:
            assert_disjoint(split, groups)
            assert not set(groups[split.train]) & set(groups[split.test])
            assert len(split.train)
            assert len(split.test)
    with pytest.raises(AssertionError, match="a speaker trains and tests"):
        assert_disjoint(Split("x", np.array([0, 1]), np.array([1]), np.array([0, 1])), groups)


def test_folds_are_nearly_equal_where_speakers_allow_it(rng):
    groups = np.repeat(np.arange(50), rng.integers(1, 20, size=50))
    sizes = np.bincount(speaker_folds(groups, n_folds=5, rng=rng))
    assert np.ptp(sizes) <= 20


def test_equal_seeds_give_equal_folds_and_others_do_not(rng):
    groups = np.repeat(np.arange(30), 4)
    folds = [speaker_folds(groups, n_folds=5, rng=np.random.default_rng(s)) for s in (0, 0, 1)]
    assert (folds[0] == folds[1]).all()
    assert (folds[0] != folds[2]).any()


def test_few_training_speakers_get_an_inner_fold_each_and_one_is_refused(rng):
    four, two = (np.repeat(np.arange(n), 5) for n in (4, 2))
    for split in fold_splits(four, n_folds=4, n_inner_folds=4, rng=rng):
        assert sorted(set(split.inner_folds)) == [0, 1, 2]
    with pytest.raises(
        InputError, match=r"^Holding out 0 leaves one speaker to train on, .* Add speakers\. \[LP\d{3}\]$"
    ):
        fold_splits(two, n_folds=2, n_inner_folds=4, rng=rng)


def test_an_unknown_speaker_is_a_group_of_its_own():
    groups = speaker_groups(np.array(["Unknown", "a", "Unknown", "a", "unknown 0"]))
    assert groups[1] == groups[3]
    assert len(set(groups)) == 4


def test_too_few_speakers_are_refused_with_their_number(rng):
    with pytest.raises(
        InputError, match=r"^1 speaker with 9 utterances can't be split into 5 speaker-disjoint folds\."
    ):
        speaker_folds(np.zeros(9, dtype=int), n_folds=5, rng=rng)
    with pytest.raises(
        InputError, match=r"^3 speakers with 3 utterances .* Ask for fewer folds, or add speakers\. \[LP\d{3}\]$"
    ):
        speaker_folds(np.arange(3), n_folds=4, rng=rng)
    with pytest.raises(InputError, match="1 folds leave nothing to train on"):
        speaker_folds(np.arange(3), n_folds=1, rng=rng)


def test_the_manifests_split_is_kept(rng):
    speakers = np.repeat([f"s{i}" for i in range(12)], 3)
    names = np.repeat(["train", "development", "test1"], 12)
    (split,) = manifest_split(speaker_groups(speakers), names, speakers, test="test1", n_inner_folds=2, rng=rng)
    assert split.name == "test1"
    assert split.train.tolist() == list(range(12))
    assert split.test.tolist() == list(range(24, 36))


def test_a_speaker_on_both_sides_of_the_manifests_split_is_refused(rng):
    speakers = np.array(["a", "b", "c", "c", "d", "Unknown"])
    names = np.array(["train", "train", "train", "test", "test", "test"])
    with pytest.raises(InputError, match=r"^1 speakers are in both train and test, c first\."):
        manifest_split(speaker_groups(speakers), names, speakers, test="test", n_inner_folds=2, rng=rng)
    with pytest.raises(InputError, match="split 'test2' has no rated utterance"):
        manifest_split(speaker_groups(speakers), names, speakers, test="test2", n_inner_folds=2, rng=rng)


def test_the_run_time_check_can_fail():
    groups = np.array([0, 0, 1, 2])
    with pytest.raises(AssertionError, match="trains and tests"):
        assert_disjoint(Split("x", np.array([0, 2]), np.array([1, 3]), np.array([0, 1])), groups)
    with pytest.raises(AssertionError, match="two inner folds"):
        assert_disjoint(Split("x", np.array([0, 1, 2]), np.array([3]), np.array([0, 1, 1])), groups)


@pytest.mark.parametrize("speaker_ids", list(corpora()))
@pytest.mark.parametrize("n_splits", [2, 5])
def test_speaker_k_fold_gives_the_folds_of_a_sweep(speaker_ids, n_splits):
    for seed in range(3):
        splits = fold_splits(
            speaker_groups(speaker_ids), n_folds=n_splits, n_inner_folds=3, rng=np.random.default_rng(seed)
        )
        folds = list(SpeakerKFold(n_splits, seed=seed).split(speaker_ids, groups=list(speaker_ids)))
        assert len(folds) == len(splits) == n_splits
        for (train, test), split in zip(folds, splits, strict=True):
            np.testing.assert_array_equal(train, split.train)
            np.testing.assert_array_equal(test, split.test)


def test_speaker_k_fold_serves_cross_validation_and_grid_search_of_scikit_learn(rng):
    x, speakers = rng.normal(size=(60, 4)), np.repeat([f"s{i}" for i in range(12)], 5)
    y = x[:, 0] + 0.1 * rng.normal(size=60)
    folds = SpeakerKFold(n_splits=3, seed=1)
    scores = cross_val_score(Ridge(alpha=1.0), x, y, groups=speakers, cv=folds)
    by_hand = [
        Ridge(alpha=1.0).fit(x[train], y[train]).score(x[test], y[test]) for train, test in folds.split(x, y, speakers)
    ]
    np.testing.assert_array_equal(scores, by_hand)
    search = GridSearchCV(Ridge(), {"alpha": [1.0, 1e6]}, cv=folds).fit(x, y, groups=speakers)
    assert search.n_splits_ == 3
    assert search.best_params_ == {"alpha": 1.0}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, "SpeakerKFold needs the speaker of each row: give groups=frame['speaker_id']."),
        (["a", "b"], "groups has 2 entries and X has 3 rows; give one speaker per row."),
        ([["a"], ["b"], ["c"]], "groups has shape (3, 1); give one speaker per row, in one dimension."),
        (
            ["a", np.nan, None],
            "groups lacks the speaker of 2 rows, the first at position 1; "
            "write 'Unknown' where a speaker is not known.",
        ),
        (
            ["a", "b", "b"],
            "2 speakers with 3 utterances can't be split into 3 speaker-disjoint folds. Ask for fewer folds, or add "
            "speakers.",
        ),
    ],
)
def test_speaker_k_fold_refuses_groups_that_do_not_fit(groups, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)} \\[LP\\d{{3}}\\]$"):
        next(SpeakerKFold(n_splits=3).split(np.zeros((3, 2)), groups=groups))
