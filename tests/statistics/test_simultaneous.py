"""The maximum statistic against a loop over resamples, and what it promises where nothing differs from 0."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.analysis.statistics.simultaneous import max_statistic, simultaneous_margins, training_inflation


def sample(estimate, resamples, n_speakers=20):
    return BootstrapSample(np.array(estimate), resamples, np.tile(estimate, (n_speakers, 1)))


@pytest.mark.parametrize("inflation", [1.0, 1.5])
def test_it_is_the_fraction_of_resamples_whose_largest_deviation_is_larger(rng, inflation):
    estimate = [0.5, -0.4, 0.02]
    resamples = np.array(estimate) + rng.normal(size=(200, 3)) * [0.2, 0.1, 0.1]
    error = resamples.std(axis=0)
    expected = []
    for k in range(3):
        ratio = abs(estimate[k]) / (error[k] * np.sqrt(20 / 19) * inflation)
        found = norm.isf(t.sf(ratio, 19))
        largest = [max(abs(row[j] - estimate[j]) / error[j] for j in range(3)) for row in resamples]
        expected.append((1 + sum(value >= found for value in largest)) / 201)
    p = max_statistic(sample(estimate, resamples), inflation=inflation)
    np.testing.assert_allclose(p, expected)
    assert p[1] < p[0] < p[2]


def test_a_score_that_never_varies_has_p_1_and_one_that_is_not_defined_none(rng):
    resamples = np.column_stack([np.zeros(100), np.full(100, np.nan), 1 + 0.1 * rng.normal(size=100)])
    p = max_statistic(sample([0.0, 0.3, 1.0], resamples))
    assert p[0] == 1
    assert np.isnan(p[1])
    assert p[2] == pytest.approx(1 / 101)
    assert max_statistic(sample([0.0], np.zeros((50, 1)))).tolist() == [1.0]
    assert np.isnan(max_statistic(sample([1.0], np.ones((50, 1)), n_speakers=2))).all()


def test_two_sided_errors_are_controlled_over_correlated_scores(rng):
    rejected = 0
    for _ in range(200):
        x = rng.normal(size=(40, 1)) + rng.normal(size=(40, 8))  # speakers by scores, whose mean is 0
        resamples = x[rng.integers(40, size=(300, 40))].mean(axis=1)
        rejected += max_statistic(BootstrapSample(x.mean(axis=0), resamples, x)).min() <= 0.05
    assert rejected <= binom.ppf(0.99, 200, 0.05)


def test_training_speakers_widen_by_the_ratio_of_both_sets():
    assert training_inflation([1] * 10, [9] * 10) == pytest.approx(np.sqrt(1 + 10 / 9))
    assert training_inflation([30], [60]) == pytest.approx(np.sqrt(1.5))


@pytest.mark.parametrize("inflation", [1.0, 1.5])
def test_simultaneous_intervals_exclude_0_where_the_adjusted_p_value_is_significant(inflation):
    rng = np.random.default_rng(3)
    error = np.geomspace(0.01, 0.3, 60)
    estimate = error * rng.uniform(0, 14, size=60)
    off = error * (0.5 * rng.normal(size=(2000, 1)) + rng.normal(size=(2000, 60)))
    sample = BootstrapSample(estimate, estimate + off, np.zeros((12, 60)))
    margins = simultaneous_margins(sample, inflation=inflation)
    significant = max_statistic(sample, inflation=inflation) <= 0.05
    assert 5 < significant.sum() < 55
    assert ((estimate > margins) == significant).all()
    np.testing.assert_allclose(margins, inflation * simultaneous_margins(sample))
    half = np.quantile(np.max(np.abs(off) / off.std(axis=0), axis=1), 0.95) * off.std(axis=0)
    many = BootstrapSample(estimate, estimate + off, np.zeros((10**5, 60)))  # of many speakers nothing is expanded
    np.testing.assert_allclose(simultaneous_margins(many), half, rtol=1e-3)


def test_a_score_that_does_not_vary_has_no_margin_and_an_unknown_one_has_none():
    resamples = np.column_stack([np.full(200, 0.3), np.full(200, np.nan)])
    margins = simultaneous_margins(BootstrapSample(np.array([0.3, np.nan]), resamples, np.zeros((9, 2))))
    assert margins[0] == 0
    assert np.isnan(margins[1])
