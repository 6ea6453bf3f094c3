"""Controls: what each keeps of the ratings and what it takes away, and what a probe makes of it."""

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
    dealt = CONTROLS[name](ratings, GROUPS, rng)
    assert sorted(map(tuple, dealt)) == sorted(map(tuple, ratings))
    assert np.mean(np.all(dealt == ratings, axis=1)) < 0.5


def test_within_speaker_each_keeps_its_own_ratings(rng):
    ratings = rng.normal(size=(360, 2))
    dealt = CONTROLS["permuted_within_speaker"](ratings, GROUPS, rng)
    for speaker in range(60):
        rows = speaker == GROUPS
        np.testing.assert_array_equal(np.sort(dealt[rows], axis=0), np.sort(ratings[rows], axis=0))


def test_a_speaker_has_one_random_rating(rng):
    ratings = rng.normal(4, 2, size=(360, 2))
    drawn = CONTROLS["random_per_speaker"](ratings, GROUPS, rng)
    assert len(np.unique(drawn[:, 0])) == 60
    assert all(np.ptp(drawn[speaker == GROUPS], axis=0).max() == 0 for speaker in range(60))
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [ratings.mean(), ratings.std()], atol=0.5)


def test_what_is_known_by_the_voice_alone_survives_within_speakers_and_nothing_survives_else():
    """Ratings that follow a trait of the speaker which the embedding shows, and half as much the utterance."""
    rng = np.random.default_rng(0)
    trait, moment = rng.normal(size=60)[GROUPS], rng.normal(size=360)
    x = np.stack([trait, moment, *rng.normal(size=(6, 360))], axis=1) + 0.1 * rng.normal(size=(360, 8))
    ratings = (trait + moment)[:, None]
    splits = fold_splits(GROUPS, n_folds=5, n_inner_folds=4, rng=rng)

    def held_out_correlation(y):
        prediction = np.empty(len(y))
        for split, fit in zip(splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS), strict=True):
            prediction[split.test] = fit.prediction[:, 0]
        return pearson(y[:, 0], prediction)

    assert held_out_correlation(ratings) > 0.95
    draws = {name: [held_out_correlation(c(ratings, GROUPS, rng)) for _ in range(5)] for name, c in CONTROLS.items()}
    assert np.mean(draws["permuted_within_speaker"]) == pytest.approx(2**-0.5, abs=0.1)  # trait's share of the spread
    assert abs(np.mean(draws["permuted"])) < 0.15
    assert abs(np.mean(draws["random_per_speaker"])) < 0.3
    assert abs(np.mean(draws["permuted_by_speaker"])) < 0.3


def test_by_speaker_means_go_to_other_speakers_and_rests_stay_within(rng):
    ratings = rng.normal(size=(360, 2)) + 3 * rng.normal(size=(60, 2))[GROUPS]
    dealt = CONTROLS["permuted_by_speaker"](ratings, GROUPS, rng)

    def parts(values):
        means = np.stack([values[speaker == GROUPS].mean(axis=0) for speaker in range(60)])
        return means, values - means[GROUPS]

    (means, rests), (dealt_means, dealt_rests) = parts(ratings), parts(dealt)
    order, dealt_order = np.argsort(means[:, 0]), np.argsort(dealt_means[:, 0])
    np.testing.assert_allclose(dealt_means[dealt_order], means[order], atol=1e-12)  # both targets of a speaker together
    assert np.mean(order != dealt_order) > 0.8
    for speaker in range(60):
        rows = speaker == GROUPS
        np.testing.assert_allclose(np.sort(dealt_rests[rows], axis=0), np.sort(rests[rows], axis=0), atol=1e-12)
    assert np.mean(np.abs(dealt_rests - rests) > 1e-9) > 0.5
    assert dealt.std() == pytest.approx(ratings.std(), rel=1e-9)


def test_by_speaker_without_two_utterances_of_one_is_a_permutation(rng):
    ratings = rng.normal(size=(50, 2))
    dealt = CONTROLS["permuted_by_speaker"](ratings, np.arange(50), rng)
    np.testing.assert_allclose(sorted(map(tuple, dealt)), sorted(map(tuple, ratings)))


def test_classes_of_a_speaker_go_to_another_who_may_have_more_or_fewer_utterances(rng):
    groups = np.repeat(np.arange(4), [2, 5, 9, 1])[np.random.default_rng(3).permutation(17)]
    codes = np.column_stack([10 * groups + np.arange(17) % 3, groups])  # the second says whose they were
    sources = set()
    for _ in range(20):
        dealt = classes_by_speaker(codes, groups, rng)
        taken = [np.unique(dealt[groups == s, 1]) for s in range(4)]
        assert sorted(t.item() for t in taken) == [0, 1, 2, 3]  # each takes those of one, and no two of the same
        sources.add(tuple(t.item() for t in taken))
        assert set(map(tuple, dealt)) <= set(map(tuple, codes))
        for s, source in enumerate(taken):
            own = codes[groups == source.item(), 0]
            _, _counts = np.unique(dealt[groups == s, 0], return_counts=True)
            if (groups == s).sum() >= len(own):
                assert set(dealt[groups == s, 0]) == set(own)
    assert len(sources) > 5


def test_ratings_that_only_speakers_share_are_chance_by_speaker_and_not_by_utterance():
    """Embedding and ratings follow unrelated traits of few speakers: what one draws as p, the other calls a finding.

    Held-out scores of such ratings spread as wide as their draws by speaker; draws by utterance spread far less.
    """
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(12), 30)
    spread: dict[str, list[float]] = {name: [] for name in ("none", "permuted", "permuted_by_speaker")}
    for _ in range(30):
        x = rng.normal(size=(12, 4))[groups] + 0.3 * rng.normal(size=(360, 4))
        ratings = rng.normal(size=(12, 1))[groups] + 0.3 * rng.normal(size=(360, 1))
        drawn = [ratings, *(CONTROLS[c](ratings, groups, rng) for c in ("permuted", "permuted_by_speaker"))]
        y = np.concatenate(drawn, axis=1)
        prediction = np.empty(y.shape)
        splits = fold_splits(groups, n_folds=4, n_inner_folds=3, rng=rng)
        for split, fit in zip(splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS), strict=True):
            prediction[split.test] = fit.prediction
        for k, values in enumerate(spread.values()):
            values.append(pearson(y[:, k], prediction[:, k]))
    width = {name: float(np.std(values)) for name, values in spread.items()}
    assert width["permuted_by_speaker"] == pytest.approx(width["none"], rel=0.4)
    assert width["permuted"] < 0.5 * width["none"]
