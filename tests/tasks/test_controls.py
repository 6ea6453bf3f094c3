"""Control tasks: what each keeps of the ratings, and how probes score on it."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.metrics import pearson
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.tasks.controls import CONTROLS, classes_by_speaker

GROUPS = np.repeat(np.arange(60), 6)[np.random.default_rng(1).permutation(360)]


@pytest.mark.parametrize("name", ["permuted", "permuted_within_speaker"])
def test_permutations_keep_every_rating_and_each_utterance_s_targets_together(rng, name):
    ratings = rng.normal(size=(360, 2))
    permuted = CONTROLS[name](ratings, GROUPS, rng)
    assert sorted(map(tuple, permuted)) == sorted(map(tuple, ratings))
    assert np.mean(np.all(permuted == ratings, axis=1)) < 0.5


def test_within_speaker_each_keeps_its_own_ratings(rng):
    ratings = rng.normal(size=(360, 2))
    permuted = CONTROLS["permuted_within_speaker"](ratings, GROUPS, rng)
    for speaker in range(60):
        rows = speaker == GROUPS
        np.testing.assert_array_equal(np.sort(permuted[rows], axis=0), np.sort(ratings[rows], axis=0))


def test_a_speaker_has_one_random_rating(rng):
    ratings = rng.normal(4, 2, size=(360, 2))
    levels = CONTROLS["random_per_speaker"](ratings, GROUPS, rng)
    assert len(np.unique(levels[:, 0])) == 60
    assert all(np.ptp(levels[speaker == GROUPS], axis=0).max() == 0 for speaker in range(60))
    np.testing.assert_allclose([levels.mean(), levels.std()], [ratings.mean(), ratings.std()], atol=0.5)


def test_a_trait_of_the_speaker_is_predicted_within_speakers_and_nothing_under_other_controls():
    """Ratings are the sum of a trait of the speaker and a state of the utterance, both encoded in the embedding."""
    rng = np.random.default_rng(0)
    trait, state = rng.normal(size=60)[GROUPS], rng.normal(size=360)
    x = np.stack([trait, state, *rng.normal(size=(6, 360))], axis=1) + 0.1 * rng.normal(size=(360, 8))
    ratings = (trait + state)[:, None]
    splits = fold_splits(GROUPS, n_folds=5, n_inner_folds=4, rng=rng)

    def held_out_correlation(y):
        prediction = np.empty(len(y))
        for split, fit in zip(splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS), strict=True):
            prediction[split.test] = fit.prediction[:, 0]
        return pearson(y[:, 0], prediction)

    assert held_out_correlation(ratings) > 0.95
    scores = {name: [held_out_correlation(c(ratings, GROUPS, rng)) for _ in range(5)] for name, c in CONTROLS.items()}
    # the trait is half of the variance
    assert np.mean(scores["permuted_within_speaker"]) == pytest.approx(2**-0.5, abs=0.1)
    assert abs(np.mean(scores["permuted"])) < 0.15
    assert abs(np.mean(scores["random_per_speaker"])) < 0.3
    assert abs(np.mean(scores["permuted_by_speaker"])) < 0.3


def test_by_speaker_means_go_to_other_speakers_and_deviations_stay_within(rng):
    ratings = rng.normal(size=(360, 2)) + 3 * rng.normal(size=(60, 2))[GROUPS]
    permuted = CONTROLS["permuted_by_speaker"](ratings, GROUPS, rng)

    def parts(values):
        means = np.stack([values[speaker == GROUPS].mean(axis=0) for speaker in range(60)])
        return means, values - means[GROUPS]

    (means, rests), (permuted_means, permuted_rests) = parts(ratings), parts(permuted)
    order, permuted_order = np.argsort(means[:, 0]), np.argsort(permuted_means[:, 0])
    np.testing.assert_allclose(
        permuted_means[permuted_order], means[order], atol=1e-12
    )  # both targets of a speaker together
    assert np.mean(order != permuted_order) > 0.8
    for speaker in range(60):
        rows = speaker == GROUPS
        np.testing.assert_allclose(np.sort(permuted_rests[rows], axis=0), np.sort(rests[rows], axis=0), atol=1e-12)
    assert np.mean(np.abs(permuted_rests - rests) > 1e-9) > 0.5
    assert permuted.std() == pytest.approx(ratings.std(), rel=1e-9)


def test_by_speaker_without_two_utterances_of_one_is_a_permutation(rng):
    ratings = rng.normal(size=(50, 2))
    permuted = CONTROLS["permuted_by_speaker"](ratings, np.arange(50), rng)
    np.testing.assert_allclose(sorted(map(tuple, permuted)), sorted(map(tuple, ratings)))


def test_classes_of_a_speaker_go_to_another_that_may_have_more_or_fewer_utterances(rng):
    groups = np.repeat(np.arange(4), [2, 5, 9, 1])[np.random.default_rng(3).permutation(17)]
    codes = np.column_stack([10 * groups + np.arange(17) % 3, groups])  # the second is the speaker
    sources = set()
    for _ in range(20):
        permuted = classes_by_speaker(codes, groups, rng)
        taken = [np.unique(permuted[groups == s, 1]) for s in range(4)]
        assert sorted(t.item() for t in taken) == [0, 1, 2, 3]  # each takes those of one, and no two of the same
        sources.add(tuple(t.item() for t in taken))
        assert set(map(tuple, permuted)) <= set(map(tuple, codes))
        for s, source in enumerate(taken):
            source_classes = codes[groups == source.item(), 0]
            _, _counts = np.unique(permuted[groups == s, 0], return_counts=True)
            if (groups == s).sum() >= len(source_classes):
                assert set(permuted[groups == s, 0]) == set(source_classes)
    assert len(sources) > 5


def test_ratings_that_differ_between_speakers_only_are_chance_by_speaker_and_not_by_utterance():
    """Embedding and ratings follow unrelated traits of few speakers, so permuting utterances gives false positives.

    Held-out scores of such ratings vary as much as their permutations by speaker; those by utterance vary far less.
    """
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(12), 30)
    scores: dict[str, list[float]] = {name: [] for name in ("none", "permuted", "permuted_by_speaker")}
    for _ in range(30):
        x = rng.normal(size=(12, 4))[groups] + 0.3 * rng.normal(size=(360, 4))
        ratings = rng.normal(size=(12, 1))[groups] + 0.3 * rng.normal(size=(360, 1))
        columns = [ratings, *(CONTROLS[c](ratings, groups, rng) for c in ("permuted", "permuted_by_speaker"))]
        y = np.concatenate(columns, axis=1)
        prediction = np.empty(y.shape)
        splits = fold_splits(groups, n_folds=4, n_inner_folds=3, rng=rng)
        for split, fit in zip(splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS), strict=True):
            prediction[split.test] = fit.prediction
        for k, values in enumerate(scores.values()):
            values.append(pearson(y[:, k], prediction[:, k]))
    width = {name: float(np.std(values)) for name, values in scores.items()}
    assert width["permuted_by_speaker"] == pytest.approx(width["none"], rel=0.4)
    assert width["permuted"] < 0.5 * width["none"]
