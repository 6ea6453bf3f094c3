"""Targets: residuals that only training rows define, classes as codes, control tasks."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.splits import fold_splits
from layerprobe.probe.tasks.controls import CONTROLS
from layerprobe.probe.tasks.targets import TargetBuilder, control_rng, residual, residual_targets

N = 60
GROUPS = np.arange(N) // 5


@pytest.fixture
def ratings(rng):
    arousal, valence = rng.normal(size=(2, N))
    return np.column_stack([arousal, valence, 2 * arousal - valence + 0.1 * rng.normal(size=N)])


@pytest.fixture
def splits(rng):
    return fold_splits(GROUPS, n_folds=3, n_inner_folds=2, rng=rng)


def builder(splits, classes=None):
    return TargetBuilder(("arousal", "valence", "dominance"), ("dominance",), classes or {}, splits)


def test_dominance_has_a_residual_only_with_arousal_and_valence():
    assert residual_targets(("arousal", "valence", "dominance")) == ("dominance",)
    assert residual_targets(("dominance", "valence")) == ()


def test_a_residual_is_what_a_line_fitted_to_training_rows_leaves(ratings, splits):
    train = splits[0].train
    rest = residual(ratings[:, 2], ratings[:, :2], train)
    design = np.column_stack([np.ones(N), ratings[:, :2]])
    np.testing.assert_allclose(design[train].T @ rest[train], 0, atol=1e-10)  # the normal equations
    changed = ratings.copy()
    changed[splits[0].test] *= -3
    np.testing.assert_array_equal(residual(changed[:, 2], changed[:, :2], train)[train], rest[train])


def test_each_split_has_a_residual_of_its_own_and_is_compared_with_it(ratings, splits):
    both = builder(splits)
    both.add(ratings, np.empty((N, 0), dtype=int), control="none", seed=0)
    targets = both.build()
    fitted = targets.fitted[-1]
    assert (fitted.target, fitted.by_split, len(fitted.columns)) == ("dominance_residual", True, 3)
    for split, column in zip(splits, fitted.columns, strict=True):
        expected = residual(ratings[:, 2], ratings[:, :2], split.train)
        np.testing.assert_allclose(targets.y[:, column], expected, atol=1e-12)
        np.testing.assert_array_equal(fitted.truth[split.test], targets.y[split.test, column])


def test_classes_are_one_hot_with_one_penalty(ratings, splits, rng):
    codes = rng.integers(0, 3, size=(N, 1))
    both = builder(splits, {"emotion": 4})
    both.add(ratings, codes, control="none", seed=0)
    targets = both.build()
    fitted = targets.fitted[-1]
    assert (fitted.target, fitted.n_classes) == ("emotion", 4)
    np.testing.assert_array_equal(targets.y[:, fitted.columns], np.eye(4)[codes[:, 0]])
    assert len(set(targets.shared[fitted.columns])) == 1
    assert len(set(targets.shared)) == targets.y.shape[1] - 3


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_keep_targets_and_classes_of_an_utterance_together(ratings, splits, control):
    codes = (ratings[:, :1] > 0).astype(int)
    both = builder(splits, {"emotion": 2})
    rng = control_rng(control, 3)
    for number in range(2):
        both.add_control(control, ratings, codes, GROUPS, rng=rng, seed=number)
    targets = both.build()
    assert {f.control for f in targets.fitted} == {control}
    assert [f.seed for f in targets.fitted if f.target == "arousal"] == [0, 1]
    assert ("dominance_residual" in {f.target for f in targets.fitted}) == (
        control in ("permuted", "permuted_by_speaker")
    )
    arousal = next(f for f in targets.fitted if f.target == "arousal").truth
    emotion = next(f for f in targets.fitted if f.target == "emotion").truth
    if control == "random_per_speaker":
        assert all(np.ptp(emotion[speaker == GROUPS]) == 0 for speaker in range(12))
        assert set(emotion) <= {0.0, 1.0}
    elif control == "permuted_by_speaker":  # ratings change there, classes can't
        assert sorted(emotion) == sorted(codes[:, 0])
    else:
        np.testing.assert_array_equal(emotion, arousal > 0)
        assert (arousal != ratings[:, 0]).any()


def test_text_residuals_have_a_column_for_each_split_and_are_permuted_as_they_are(ratings, splits, rng):
    rest, no_codes = rng.normal(size=(N, 3, 2)), np.empty((N, 0), dtype=int)
    both = TargetBuilder(("arousal", "valence", "dominance"), (), {}, splits, text_residuals=("arousal", "dominance"))
    both.add(ratings, no_codes, control="none", seed=0, text_residuals=rest)
    for control in ("permuted", "permuted_within_speaker"):
        both.add_control(control, ratings, no_codes, GROUPS, rng=control_rng(control, 3), seed=0, text_residuals=rest)
    targets = both.build()
    names = [f.target for f in targets.fitted if f.control == "none"]
    assert names == ["arousal", "valence", "dominance", "arousal_text_residual", "dominance_text_residual"]
    last = targets.fitted[4]
    assert last.by_split
    np.testing.assert_array_equal(targets.y[:, last.columns], rest[:, :, 1])
    np.testing.assert_array_equal(targets.of_split[last.columns], [0, 1, 2])
    assert (targets.of_split[targets.fitted[0].columns] == -1).all()
    for k, split in enumerate(splits):
        np.testing.assert_array_equal(last.truth[split.test], rest[split.test, k, 1])
    assert {f.control for f in targets.fitted if f.target.endswith("_text_residual")} == {"none", "permuted"}
    permuted = {f.target: f for f in targets.fitted if f.control == "permuted"}
    permuted_rows = np.column_stack(
        [permuted["dominance"].truth, targets.y[:, permuted["dominance_text_residual"].columns]]
    )
    kept = np.column_stack([ratings[:, 2], rest[:, :, 1]])
    assert sorted(map(tuple, permuted_rows)) == sorted(
        map(tuple, kept)
    )  # an utterance's own rating and residuals together


def test_permutations_of_a_control_do_not_change_between_versions(ratings, splits):
    """By hand: a change here changes every published chance level."""
    both = builder(splits)
    rng, expected = control_rng("permuted", 3), np.random.default_rng([3, 1])
    for number in range(2):
        both.add_control("permuted", ratings, np.empty((N, 0), dtype=int), GROUPS, rng=rng, seed=number)
    permuted = [f.truth for f in both.build().fitted if f.target == "arousal"]
    for truth in permuted:
        np.testing.assert_array_equal(truth, ratings[expected.permutation(N), 0])
    assert list(CONTROLS)[:3] == ["permuted", "permuted_within_speaker", "random_per_speaker"]
