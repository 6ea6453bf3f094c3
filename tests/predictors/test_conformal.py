"""Intervals hold the rating of an utterance of a new speaker as often as they state."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.simulated_speakers import (
    SpeakerErrors,
    coverage_of_refitted_heads,
    hierarchical_half_width,
    pooled_half_width,
)

from layerprobe.probe.predictors.conformal import half_width, reachable_level


def test_one_utterance_of_each_speaker_gives_the_textbook_rank(rng):
    errors = np.array([0.5, -4.0, 1.0, -3.0, 2.0, 0.25, 6.0, 1.5, 5.0])
    # by hand: of nine errors, sorted .25 .5 1 1.5 2 3 4 5 6, those of ranks .9 * 10 and .75 * 10
    assert half_width(errors, np.arange(9), level=0.9, rng=rng) == pytest.approx(6.0)
    assert half_width(errors, np.arange(9), level=0.75, rng=rng) == pytest.approx(4.5)


def test_a_speaker_with_many_utterances_weighs_as_much_as_another(rng):
    errors, speakers = np.arange(1.0, 20.0), np.arange(19)
    once = half_width(errors, speakers, level=0.9, rng=rng)
    assert once == pytest.approx(18.0)
    again = np.concatenate([errors, np.full(2000, 1.0)])
    assert half_width(again, np.concatenate([speakers, np.zeros(2000)]), level=0.9, rng=rng) == pytest.approx(once)


@pytest.mark.parametrize(("n_speakers", "level"), [(1, 0.5), (4, 0.8), (8, 8 / 9), (9, 0.9), (24, 0.9)])
def test_few_speakers_reach_the_highest_level_that_they_can(rng, n_speakers, level):
    assert reachable_level(n_speakers) == pytest.approx(level)
    errors, speakers = rng.normal(size=3 * n_speakers), np.repeat(np.arange(n_speakers), 3)
    assert np.isfinite(half_width(errors, speakers, level=reachable_level(n_speakers), rng=rng))
    assert half_width(errors, speakers, level=(n_speakers + 0.1) / (n_speakers + 1), rng=rng) == float("inf")


def test_errors_that_are_not_finite_are_refused(rng):
    with pytest.raises(ValueError, match="1 of 2 errors are not finite"):
        half_width(np.array([1.0, np.nan]), np.array([0, 1]), level=0.5, rng=rng)
    with pytest.raises(ValueError, match="0 of 0 errors"):
        half_width(np.empty(0), np.empty(0), level=0.5, rng=rng)


@pytest.mark.parametrize("kind", ["bias", "scale", "talkative"])
def test_nine_in_ten_ratings_of_new_speakers_are_held_and_not_where_utterances_are_pooled(rng, kind):
    simulated = SpeakerErrors(kind)
    found = []
    for _ in range(150):
        errors, speakers = simulated.draw(24, rng)
        width = half_width(errors, speakers, level=0.9, rng=rng)
        found.append([simulated.coverage(w, rng) for w in (width, pooled_half_width(errors, level=0.9))])
    ours, pooled = np.mean(found, axis=0)
    assert 0.88 <= ours <= 0.92
    if kind == "talkative":  # who err less than the others, and whose utterances are most of all
        assert pooled < 0.8


def test_the_weights_of_hierarchical_conformal_prediction_hold_more_with_few_speakers(rng):
    simulated = SpeakerErrors("bias")
    found = []
    for _ in range(100):
        errors, speakers = simulated.draw(12, rng)
        widths = (
            half_width(errors, speakers, level=0.9, rng=rng),
            hierarchical_half_width(errors, speakers, level=0.9),
        )
        found.append([simulated.coverage(width, rng) for width in widths])
    ours, weighted = np.mean(found, axis=0)
    assert 0.89 < ours < 0.945 < weighted


def test_heads_refitted_on_all_speakers_hold_what_errors_of_the_folds_promise(rng):
    assert 0.88 <= np.mean([coverage_of_refitted_heads(24, rng) for _ in range(40)]) <= 0.93
