"""Estimates with their resamples: functions are applied to each resample, and p-values agree with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t as student

from layerprobe.analysis.statistics.bootstrap import bca_interval, bca_p_value, resample_speakers
from layerprobe.analysis.statistics.estimates import BootstrapSample


def means(values, *, n_resamples=500, rng):
    """The mean over speakers of each column ``(n_speakers, n)``."""
    n = len(values)
    resamples = resample_speakers(n, n_resamples=n_resamples, rng=rng) @ values / n
    return BootstrapSample(values.mean(axis=0), resamples, (values.sum(axis=0) - values) / (n - 1))


def test_functions_and_differences_are_those_of_each_resample(rng):
    first, second = (means(rng.normal(size=(8, 3)), n_resamples=20, rng=rng) for _ in range(2))
    less, best = first - second, first.map(lambda scores: scores.max(axis=-1))
    for name in ("resamples", "left_out"):
        a, b = getattr(first, name), getattr(second, name)
        for k in range(len(a)):
            np.testing.assert_array_equal(getattr(less, name)[k], a[k] - b[k])
            assert getattr(best, name)[k] == max(a[k])
    np.testing.assert_array_equal(less.estimate, first.estimate - second.estimate)
    assert best.estimate == max(first.estimate)
    np.testing.assert_array_equal(first[np.array([2, 0])].resamples, first.resamples[:, [2, 0]])
    assert first[1].one() == first.estimated()[1]


def test_a_paired_difference_is_narrower_than_the_intervals_of_two(rng):
    speakers = rng.normal(size=(30, 1))
    scores = means(speakers + 0.1 * rng.normal(size=(30, 2)), rng=rng)
    difference, alone = (scores[0] - scores[1]).one(), scores[0].one()
    assert difference.ci_high - difference.ci_low < 0.3 * (alone.ci_high - alone.ci_low)


def test_an_interval_without_skew_is_student_s(rng):
    """Of a mean over many speakers BCa, expanded, is t's interval but for the noise of 20,000 resamples."""
    values = rng.normal(0.1, 1, size=(40, 1))
    found = means(values, n_resamples=20_000, rng=rng).one()
    error = values.std(ddof=1) / np.sqrt(40)
    reach = student.ppf(0.975, 39) * error
    # an end is a quantile at .025, whose standard error is sqrt(.025 * .975 / 20,000) / .058 of a standard deviation
    assert found.ci_low == pytest.approx(values.mean() - reach, abs=0.1 * error)
    assert found.ci_high == pytest.approx(values.mean() + reach, abs=0.1 * error)
    assert found.p_value == pytest.approx(2 * student.sf(abs(values.mean()) / error, 39), abs=0.03)


@pytest.mark.parametrize("n_speakers", [3, 5, 8, 10, 40])
@pytest.mark.parametrize("skewed", [False, True])
def test_p_is_below_5_percent_where_the_95_percent_interval_leaves_the_null_out(n_speakers, skewed):
    """Of 1,000 means, except for nulls next to the two resamples between which an interval's end is interpolated.

    Of under eight speakers the resamples may all lie on one side of a null that p doesn't call impossible, because an
    interval can't end beyond them: p is then the more careful of the two.
    """
    rng = np.random.default_rng(n_speakers)
    values = rng.exponential(size=(n_speakers, 1000)) if skewed else rng.normal(1, 1, size=(n_speakers, 1000))
    scores = means(values - rng.uniform(0, 2, size=1000), n_resamples=2000, rng=rng)
    arguments = scores.estimate, scores.resamples, scores.left_out
    interval, p = bca_interval(*arguments), bca_p_value(*arguments)
    outside = (interval.ci_low > 0) | (interval.ci_high < 0)
    below, low, high = (np.sum(scores.resamples < end, axis=0) for end in (0.0, interval.ci_low, interval.ci_high))
    clear = (np.abs(below - low) > 1) & (np.abs(below - high) > 1)
    within = clear & (below > 0) & (below < 2000)
    assert within.sum() > 400
    assert np.array_equal((p < 0.05)[within], outside[within])
    assert not np.any((p < 0.05) & ~outside & clear)
    if n_speakers >= 8:
        assert np.mean((p < 0.05) == outside) > 0.98
    assert 0.05 < outside.mean() < 0.95
    assert p.min() >= 1 / 2001
    assert p.max() <= 1


def test_a_p_value_is_that_of_bca_by_hand():
    """Resamples 1 to 999 about an estimate of 400, of 10 speakers whose scores without each in turn are given."""
    resamples, left_out = np.arange(1.0, 1000.0)[:, None], np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 5.0])[:, None]
    off = np.array([0.4] * 9 + [-3.6])  # the mean is 1.4
    skew = np.sum(off**3) / (6 * np.sum(off**2) ** 1.5)
    bias = norm.ppf(399.5 / 999)
    reached = norm.ppf(49.5 / 999) - bias  # at a null of 50
    z = reached / (1 + skew * reached) - bias
    expected = 2 * student.sf(abs(z) * np.sqrt(9 / 10), 9)
    assert bca_p_value(np.array([400.0]), resamples, left_out, null=50.0) == pytest.approx(expected)


def test_a_null_beyond_all_resamples_has_the_least_p_and_one_in_the_middle_1():
    """Where the null is beyond all resamples, their number alone limits the p-value."""
    resamples, left_out = np.arange(-49.0, 50)[:, None], np.array([[-1.0], [1.0]]).repeat(500, axis=0)

    def p(null, n_speakers=1e9):
        return float(bca_p_value(np.zeros(1), resamples, left_out, null=null, n_speakers=n_speakers)[0])

    # half a resample of 99 lies beyond: two-sided 1 / 99, of which 1 / 100 is the lowest possible
    assert [p(100.0), p(-100.0)] == pytest.approx([1 / 99, 1 / 99])
    assert p(0.0) == pytest.approx(1)
    assert p(100.0, 4) > 0.05  # Student's tails
    lone = np.r_[np.zeros(99), -1.0][:, None]  # of one speaker unlike all others: skew takes p below the least
    assert bca_p_value(np.zeros(1), resamples, lone, null=-100.0, n_speakers=1e9) == 1 / 100


def test_up_to_5_percent_of_resamples_may_be_undefined(rng):
    scores = means(rng.normal(2, 1, size=(20, 1)), n_resamples=200, rng=rng)
    few, many, lost = (scores.resamples.copy() for _ in range(3))
    few[:10], many[:11] = np.nan, np.nan
    kept = BootstrapSample(scores.estimate, few, scores.left_out).one()
    assert kept == BootstrapSample(scores.estimate, scores.resamples[10:], scores.left_out).one()
    assert kept.is_known
    unknown = BootstrapSample(scores.estimate, many, scores.left_out).one()
    assert unknown.estimate == pytest.approx(2, abs=1)
    assert np.isnan([unknown.ci_low, unknown.ci_high, unknown.p_value]).all()
    gone = scores.left_out.copy()
    gone[3] = np.nan
    assert not BootstrapSample(scores.estimate, lost, gone).one().is_known


def test_fewer_than_three_speakers_have_no_interval(rng):
    for n, known in ((2, False), (3, True)):
        assert means(rng.normal(size=(n, 1)), rng=rng).one().is_known is known
