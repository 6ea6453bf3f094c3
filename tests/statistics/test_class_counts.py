"""Recall and F1 in resamples of speakers against a plain loop over their utterances."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.analysis.statistics import class_counts as sums
from layerprobe.analysis.statistics.bootstrap import resample_speakers
from layerprobe.probe import metrics


@pytest.fixture
def corpus(rng):
    """Twelve speakers with 1 to 12 utterances each, in any order; only one has class 2, and none has class 3."""
    groups = rng.permutation(np.repeat(np.arange(12), np.arange(1, 13)))
    truth = rng.choice(2, size=(len(groups), 2), p=[0.7, 0.3])
    truth[groups == 5] = 2
    return truth, np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, 4, size=truth.shape)), groups


@pytest.mark.parametrize("name", sums.COUNTED_METRICS)
def test_resamples_equal_a_plain_loop_over_utterances(corpus, rng, name):
    truth, prediction, groups = corpus
    counts = resample_speakers(12, n_resamples=100, rng=rng)
    resamples = sums.COUNTED_METRICS[name](sums.class_sums(truth, prediction, groups).resampled(counts))
    n_labelled = set()
    for k, row in enumerate(counts.astype(int)):
        rows = np.concatenate([np.flatnonzero(groups == s) for s in np.repeat(np.arange(12), row)])
        for column in range(2):
            plain = metrics.CLASS_METRICS[name](truth[rows, column], prediction[rows, column])
            assert resamples[k, column] == pytest.approx(plain, abs=1e-12)
            n_labelled.add(len(np.unique(truth[rows, column])))
    assert n_labelled == {2, 3}  # some resamples are without the speaker of class 2


@pytest.mark.parametrize("name", sums.COUNTED_METRICS)
def test_leaving_a_speaker_out_is_a_score_without_that_speaker(corpus, name):
    truth, prediction, groups = corpus
    left_out = sums.COUNTED_METRICS[name](sums.class_sums(truth, prediction, groups).without_each())
    assert left_out.shape == (12, 2)
    for speaker in range(12):
        rest = groups != speaker
        plain = metrics.CLASS_METRICS[name](truth[rest, 1], prediction[rest, 1])
        assert left_out[speaker, 1] == pytest.approx(plain, abs=1e-12)


def test_a_resample_without_utterances_has_no_score():
    counted = sums.class_sums(np.array([[0], [1]]), np.array([[0], [0]]), np.array([0, 1]))
    for score in sums.COUNTED_METRICS.values():
        assert np.isnan(score(counted.resampled(np.zeros((1, 2))))).all()
