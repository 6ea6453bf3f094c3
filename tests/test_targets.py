"""What is fitted: residuals that only training rows define, classes as codes, draws of controls."""

from __future__ import annotations

import numpy as np
import pytest

from probe.controls import CONTROLS
from probe.splits import fold_splits
from probe.targets import TargetBuilder, residual, residual_targets

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


def test_dominance_has_a_residual_only_beside_arousal_and_valence():
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


def test_classes_are_one_hot_and_share_a_penalty(ratings, splits, rng):
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
def test_draws_keep_targets_and_classes_of_an_utterance_together(ratings, splits, control):
    codes = (ratings[:, :1] > 0).astype(int)
    both = builder(splits, {"emotion": 2})
    both.add_control(control, ratings, codes, GROUPS, seed=3, n_draws=2)
    targets = both.build()
    assert {f.control for f in targets.fitted} == {control}
    assert [f.seed for f in targets.fitted if f.target == "arousal"] == [0, 1]
    assert ("dominance_residual" in {f.target for f in targets.fitted}) == (control == "permuted")
    arousal = next(f for f in targets.fitted if f.target == "arousal").truth
    emotion = next(f for f in targets.fitted if f.target == "emotion").truth
    if control == "random_per_speaker":
        assert all(np.ptp(emotion[speaker == GROUPS]) == 0 for speaker in range(12))
        assert set(emotion) <= {0.0, 1.0}
    else:
        np.testing.assert_array_equal(emotion, arousal > 0)
        assert (arousal != ratings[:, 0]).any()
