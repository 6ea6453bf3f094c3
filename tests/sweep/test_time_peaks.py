"""The span that stands out: by hand, invariant to what ratings' scale is, and calibrated where nothing does."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.time.peak_span import peak_span


def test_a_peak_is_the_highest_span_of_its_utterance_by_hand():
    prediction = np.array([1.0, 5.0, 2.0, 10.0, 10.5, 12.0])
    utterance = np.array([4, 4, 4, 9, 9, 9])
    found = peak_span(prediction, np.empty((6, 0)), utterance)
    assert found.span.tolist() == [1, 5]
    assert found.utterance.tolist() == [4, 9]
    # deviations from the medians 2 and 10.5: -1, 3, 0, -.5, 0, 1.5; their median absolute deviation .75
    np.testing.assert_allclose(found.deviation, np.array([3.0, 1.5]) / (1.4826 * 0.75))
    assert np.isnan(found.p_value).all()


def test_p_counts_permutations_with_as_large_a_deviation(rng):
    prediction, permuted = rng.normal(size=40), rng.normal(size=(40, 19))
    utterance = np.repeat(np.arange(8), 5)
    found = peak_span(prediction, permuted, utterance)
    every = np.column_stack([prediction, permuted]).reshape(8, 5, 20)
    deviations = every - np.median(every, axis=1, keepdims=True)
    largest = deviations.max(axis=1)
    expected = (1 + (largest[:, 1:] >= largest[:, :1]).sum(axis=1)) / 20
    np.testing.assert_allclose(found.p_value, expected)


def test_the_level_of_utterances_changes_nothing_and_the_unit_of_ratings_no_deviation(rng):
    prediction, permuted = rng.normal(size=60), rng.normal(size=(60, 9))
    utterance = np.tile(np.arange(12), 5)
    level = rng.normal(size=12)[utterance]
    first = peak_span(prediction, permuted, utterance)
    second = peak_span(100 * (prediction + 7 * level), 100 * (permuted - level[:, None]), utterance)
    np.testing.assert_array_equal(first.span, second.span)
    np.testing.assert_array_equal(first.p_value, second.p_value)
    np.testing.assert_allclose(first.deviation, second.deviation)


def test_spans_without_a_prediction_and_utterances_of_one_span_have_no_peak():
    found = peak_span(np.array([1.0, np.nan, 3.0, 2.0]), np.empty((4, 0)), np.array([0, 0, 1, 1]))
    assert found.utterance.tolist() == [1]
    assert peak_span(np.ones(2), np.empty((2, 0)), np.arange(2)).span.size == 0


@pytest.mark.parametrize("planted", [False, True])
def test_utterances_have_low_p_values_at_their_rate_without_and_often_with_a_planted_span(rng, planted):
    """24 speakers with 3 utterances of 6 spans in each of 10 corpora; targets at a span, or at random."""
    low, n = 0, 0
    for _ in range(10):
        speaker = np.repeat(np.arange(24), 18)
        utterance = np.repeat(np.arange(72), 6)
        x, y = rng.normal(size=(432, 8)), np.zeros(432)
        at = np.arange(72) * 6 + rng.integers(6, size=72)
        y[at] = 1
        if planted:
            x[at, 0] += 4
        splits = fold_splits(speaker, n_folds=4, n_inner_folds=3, rng=rng)
        order = [np.argsort(rng.random(72), kind="stable") for _ in range(19)]
        permuted = np.stack([y.reshape(72, 6)[k].ravel() for k in order], axis=1)
        columns = np.column_stack([y, permuted])
        fits = nested_ridge(x, columns, splits=splits, alphas=DEFAULT_ALPHAS)
        prediction = np.empty_like(columns)
        for split, fit in zip(splits, fits, strict=True):
            prediction[split.test] = fit.prediction
        found = peak_span(prediction[:, 0], prediction[:, 1:], utterance)
        low += int((found.p_value <= 0.05).sum())
        n += len(found.p_value)
        if planted:
            assert np.mean(found.span == at) > 0.9
    rate = low / n
    assert rate > 0.8 if planted else rate < 0.1  # the 72 utterances of a corpus have one fit in common: not binomial
