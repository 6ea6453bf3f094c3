"""The speaker bootstrap against a plain loop, scipy, and the truth of simulated speakers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from layerprobe.analysis.statistics.bootstrap import (
    METRICS,
    bca_interval,
    resample_speakers,
    speaker_sums,
    without_each_speaker,
)
from layerprobe.probe import metrics

PLAIN = {**metrics.METRICS, "ccc_matched": metrics.ccc}


def corpus(rng, *, n_speakers=20, each=12, n_columns=3):
    groups = rng.permutation(np.repeat(np.arange(n_speakers), each))
    offset = rng.normal(size=(n_speakers, 1))[groups]
    truth = 4 + rng.normal(size=(len(groups), n_columns)) + offset
    return truth, 0.5 * truth + rng.normal(size=truth.shape) + 0.5 * offset, groups


@pytest.mark.parametrize("name", METRICS)
def test_resamples_equal_a_plain_loop_over_utterances(rng, name):
    truth, prediction, groups = corpus(rng)
    counts = resample_speakers(20, n_resamples=50, rng=rng)
    resamples = METRICS[name](speaker_sums(truth, prediction, groups).resampled(counts))
    for k, row in enumerate(counts.astype(int)):
        rows = np.concatenate([np.flatnonzero(groups == s) for s in np.repeat(np.arange(20), row)])
        for column in range(3):
            plain = PLAIN[name](truth[rows, column], prediction[rows, column])
            assert resamples[k, column] == pytest.approx(plain, abs=1e-10)


def test_a_resample_holds_as_many_speakers_as_there_are_each_equally_often(rng):
    counts = resample_speakers(30, n_resamples=4000, rng=rng)
    assert set(counts.sum(axis=1)) == {30.0}
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    assert counts[:, 0].var() == pytest.approx(29 / 30, abs=0.08)  # of a binomial with n = 30, p = 1 / 30


def test_constants_score_as_in_the_metrics(rng):
    truth, prediction, groups = corpus(rng, n_columns=2)
    prediction[:, 0] = 3.3
    sums = speaker_sums(truth, prediction, groups).resampled(resample_speakers(20, n_resamples=5, rng=rng))
    assert (METRICS["ccc"](sums)[:, 0] == 0).all()
    assert np.isnan(METRICS["pearson"](sums)[:, 0]).all()
    same = speaker_sums(np.full((240, 1), 2.0), np.full((240, 1), 2.0), groups)
    assert np.isnan(METRICS["ccc"](same)).all()


def test_intervals_equal_those_of_scipy_where_speakers_are_single_numbers():
    """One utterance a speaker, the mean as the score, so many speakers that nothing is expanded."""
    rng = np.random.default_rng(5)
    values = rng.exponential(size=60)
    theirs = scipy_bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", random_state=np.random.default_rng(1)
    ).confidence_interval
    counts = resample_speakers(60, n_resamples=20_000, rng=rng)
    resamples = (counts @ values / 60)[:, None]
    left_out = ((values.sum() - values) / 59)[:, None]
    estimate = np.array([values.mean()])
    ours = bca_interval(estimate, resamples, left_out, n_speakers=1e12)
    assert ours.ci_low[0] == pytest.approx(theirs.low, abs=0.01)
    assert ours.ci_high[0] == pytest.approx(theirs.high, abs=0.01)


def test_leaving_a_speaker_out_is_a_score_without_that_speaker(rng):
    truth, prediction, groups = corpus(rng)
    left_out = METRICS["ccc"](without_each_speaker(speaker_sums(truth, prediction, groups)))
    for speaker in (0, 7, 19):
        rest = groups != speaker
        plain = metrics.ccc(truth[rest, 1], prediction[rest, 1])
        assert left_out[speaker, 1] == pytest.approx(plain, abs=1e-10)


def test_the_speaker_interval_covers_the_truth_and_that_of_utterances_does_not():
    """Speakers differ in how they are rated and how they are predicted; 500 corpora of 40 speakers.

    The truth is the score over so many speakers that it no longer moves. Of 500, 95 % are 475 with a standard
    deviation of 5.
    """
    rng = np.random.default_rng(0)

    def simulated(n_speakers):
        groups = np.repeat(np.arange(n_speakers), 15)
        level, error = (rng.normal(size=(n_speakers, 1))[groups] for _ in range(2))
        truth = level + rng.normal(size=(len(groups), 1))
        return truth, 0.6 * truth + 0.7 * error + 0.5 * rng.normal(size=truth.shape), groups

    expected = float(METRICS["ccc"](speaker_sums(*simulated(100_000)).resampled(np.ones((1, 100_000))))[0, 0])
    covered = {"speakers": 0, "utterances": 0}
    for _ in range(500):
        truth, prediction, groups = simulated(40)
        for name, units in (("speakers", groups), ("utterances", np.arange(len(groups)))):
            sums = speaker_sums(truth, prediction, units)
            n = len(sums.n)
            resamples = METRICS["ccc"](sums.resampled(resample_speakers(n, n_resamples=400, rng=rng)))
            estimate = METRICS["ccc"](sums.resampled(np.ones((1, n))))[0]
            interval = bca_interval(estimate, resamples, METRICS["ccc"](without_each_speaker(sums)))
            covered[name] += int(interval.ci_low[0] <= expected <= interval.ci_high[0])
    assert 0.92 <= covered["speakers"] / 500 <= 0.98
    assert covered["utterances"] / 500 < 0.75
