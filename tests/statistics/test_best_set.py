"""The 95 % set of best layers: by hand, and on simulated corpora whose best layer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from layerprobe.analysis.statistics.best_set import best_set
from layerprobe.analysis.statistics.bootstrap import (
    METRICS,
    expanded_quantile,
    resample_speakers,
    speaker_sums,
    without_each_speaker,
)
from layerprobe.analysis.statistics.estimates import BootstrapSample

N_REPEATS = 300


def simulated(strength, rng, *, n_speakers=40, each=12, n_resamples=600, metric="pearson"):
    """Scores of layers that predict a rating with some strength each ``(n_layers,)``, and err alike and alone.

    Speakers differ in how they are rated and in how each layer errs about them, so that utterances are not independent.
    """
    groups, n_layers = np.repeat(np.arange(n_speakers), each), len(strength)

    def noise(*shape):
        return rng.normal(size=(n_speakers, *shape))[groups] + rng.normal(size=(len(groups), *shape))

    truth = noise(1)
    prediction = np.asarray(strength) * truth + 0.8 * noise(1) + 0.6 * noise(n_layers)
    sums = speaker_sums(np.broadcast_to(truth, prediction.shape), prediction, groups)
    counts = resample_speakers(n_speakers, n_resamples=n_resamples, rng=rng)
    parts = (sums.resampled(np.ones((1, n_speakers))), sums.resampled(counts), without_each_speaker(sums))
    estimate, resamples, left_out = (METRICS[metric](part) for part in parts)
    return BootstrapSample(estimate[0], resamples, left_out)


def test_a_planted_winner_is_in_the_set_of_nearly_every_corpus_and_clear_losers_are_not():
    """Layer 3's score is a little above those of adjacent layers, and far above those of 0 and 6.

    At 95 % it would be in 285 of 300 sets; fewer than the binomial's 1 % quantile, 276, refutes that.
    """
    rng = np.random.default_rng(0)
    inside = np.zeros(7)
    for _ in range(N_REPEATS):
        inside += best_set(simulated([0.2, 0.7, 0.95, 1.0, 0.95, 0.7, 0.2], rng)).is_in
    assert inside[3] >= binom.ppf(0.01, N_REPEATS, 0.95)
    assert inside[[0, 6]].max() < 0.02 * N_REPEATS
    assert inside[[1, 5]].max() < 0.5 * N_REPEATS
    assert inside[[2, 4]].min() > 0.5 * N_REPEATS  # what does not differ significantly is not excluded
    assert inside[[2, 4]].max() < inside[3]


def test_of_layers_that_are_equally_good_each_is_in_the_set_of_nearly_every_corpus():
    """Each of six is the best as much as any other; Bonferroni over the six, as above."""
    rng = np.random.default_rng(1)
    inside, wins, argmax = np.zeros(6), np.zeros(6), 0
    for _ in range(N_REPEATS):
        scores = simulated([0.8] * 6, rng)
        found = best_set(scores)
        inside += found.is_in
        wins += found.win_rate
        argmax += int(found.is_in[scores.estimate.argmax()])
    assert inside.min() >= binom.ppf(0.01 / 6, N_REPEATS, 0.95)
    assert inside.max() < N_REPEATS  # and not because nothing ever differs significantly
    assert argmax == N_REPEATS
    np.testing.assert_allclose(wins / N_REPEATS, 1 / 6, atol=0.06)


def test_few_speakers_leave_the_best_layer_in_as_often():
    rng = np.random.default_rng(2)
    inside = sum(best_set(simulated([0.9, 1.0, 0.9, 0.5], rng, n_speakers=8)).is_in[1] for _ in range(N_REPEATS))
    assert inside >= binom.ppf(0.01, N_REPEATS, 0.95)


def test_p_not_best_is_that_by_hand():
    """Two layers: one standardised difference, against the standardised differences of resamples."""
    rng = np.random.default_rng(0)
    differences = rng.normal(0.1, 0.06, size=999)
    resamples = np.column_stack([0.5 + differences, np.full(999, 0.5)])
    scores = BootstrapSample(np.array([0.6, 0.5]), resamples, np.zeros((12, 2)))
    found = best_set(scores)
    off = differences - 0.1
    wider = expanded_quantile(12) / 1.959964
    by_hand = (1 + np.sum(off / off.std() >= 0.1 / (off.std() * wider))) / 1000
    assert found.p_not_best[1] == pytest.approx(by_hand)
    assert 0.05 < by_hand < 0.12
    assert found.is_in[1]
    assert found.p_not_best[0] == pytest.approx((1 + np.sum(-off / off.std() >= -0.1 / (off.std() * wider))) / 1000)
    assert found.win_rate == pytest.approx([np.mean(differences > 0), np.mean(differences <= 0)])


def test_a_lower_error_is_the_better_one(rng):
    scores = simulated([0.2, 0.9, 0.5], rng)
    turned = scores.map(np.negative)
    plain, error = best_set(scores), best_set(turned, lower_is_better=True)
    np.testing.assert_array_equal(plain.p_not_best, error.p_not_best)
    np.testing.assert_array_equal(plain.win_rate, error.win_rate)
    assert plain.is_in.tolist() == [False, True, False]
    assert not best_set(turned).is_in[1]


def test_layers_with_equal_predictions_never_differ_significantly(rng):
    scores = simulated([0.9, 0.3], rng)
    twins = scores[np.array([0, 0, 1])]
    assert best_set(twins).is_in.tolist() == [True, True, False]
    same = scores[np.array([0, 0, 0])]
    assert best_set(same).p_not_best.tolist() == [1.0, 1.0, 1.0]


def test_win_rates_add_up_to_1_over_the_resamples_that_have_all_scores(rng):
    scores = simulated([0.8, 0.82, 0.81, 0.6], rng)
    assert best_set(scores).win_rate.sum() == pytest.approx(1)
    resamples = scores.resamples.copy()
    resamples[:20, 3] = np.nan
    lost = best_set(BootstrapSample(scores.estimate, resamples, scores.left_out))
    kept = best_set(BootstrapSample(scores.estimate, scores.resamples[20:], scores.left_out))
    np.testing.assert_array_equal(lost.p_not_best, kept.p_not_best)
    assert lost.win_rate.sum() == pytest.approx(1)
