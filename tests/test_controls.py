"""Controls: what each keeps of the ratings and what it takes away, and what a probe makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from probe.controls import CONTROLS
from probe.metrics import pearson
from probe.ridge import DEFAULT_ALPHAS, nested_ridge
from probe.splits import fold_splits

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
