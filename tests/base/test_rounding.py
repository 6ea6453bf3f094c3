"""What counts as rounding: a standard deviation relative to a mean, and what is left of a target."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.metrics import METRICS, MomentMatching, RatingMoments, ccc, pearson, r2
from layerprobe.probe.vectors import is_rounding, residual_is_rounding, varies_by_rounding

RATINGS = np.array([1.0, 2.0, 4.0, 5.0, 3.0, 6.0])


@pytest.mark.parametrize("level", [4.0, -1e6, 1e-5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_in_the_last_place_are_rounding_and_a_hundred_of_them_in_float32_are_not(level, dtype):
    ulp = np.spacing(np.array(level, dtype=dtype))
    values = np.array(level, dtype=dtype) + ulp * np.array([0, 1, -1, 2, 0], dtype=dtype)
    assert np.ptp(values) > 0
    assert varies_by_rounding(values)
    wide = np.array(level, dtype=np.float32) * np.array([1, 1 + 1e-5, 1 - 1e-5], dtype=np.float32)
    assert not varies_by_rounding(wide)


def test_ratings_that_differ_in_the_twelfth_digit_are_constant():
    assert varies_by_rounding(np.array([4.0, 4.000000000001, 3.999999999999]))
    assert not varies_by_rounding(np.array([4.0, 4.0001, 4.0]))
    assert not varies_by_rounding(np.array([0.0, 1e-30]))  # the scale of numbers around 0 is their own


def test_each_column_is_judged_alone():
    columns = np.column_stack([np.full(5, 1000.0), 1000 + 1e-13 * np.arange(5), np.arange(5.0)])
    assert varies_by_rounding(columns).tolist() == [True, True, False]
    assert is_rounding(np.array([1e-9, 1e-3]), np.array([4.0, 4.0]), np.float64).tolist() == [True, False]


def test_a_residual_under_a_millionth_of_the_variance_is_rounding():
    noise = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    assert residual_is_rounding(1e-3 * RATINGS.std() * 0.9 * noise, RATINGS)
    assert not residual_is_rounding(1e-3 * RATINGS.std() * 1.2 * noise, RATINGS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_metrics_treat_a_prediction_of_rounding_as_constant(dtype):
    level = np.array(4, dtype=dtype)
    prediction = level + np.sign(RATINGS - 3.5).astype(dtype) * np.spacing(level)
    assert np.ptp(prediction) > 0
    assert np.corrcoef(RATINGS, prediction)[0, 1] > 0.8
    assert ccc(RATINGS, prediction) == 0
    assert np.isnan(pearson(RATINGS, prediction))
    assert r2(RATINGS, prediction) == pytest.approx(r2(RATINGS, np.full(6, 4.0)), abs=1e-6)
    for name in ("ccc", "pearson", "r2"):  # of ratings, too
        swapped = METRICS[name](prediction, RATINGS)
        assert np.isnan(swapped) or swapped == 0
    assert np.isnan(ccc(prediction, prediction))


def test_moment_matching_does_not_scale_rounding_to_the_variance_of_ratings():
    prediction = 4 + 1e-15 * np.sign(RATINGS - 3.5)
    matched = MomentMatching.learn(RATINGS, prediction)
    assert (matched.scale, matched.offset) == (0.0, pytest.approx(3.5))
    (moments,) = RatingMoments.of_columns(RATINGS[:, None])
    assert MomentMatching.from_moments(moments, mean=4.0, std=1e-8).scale == 0
    assert MomentMatching.from_moments(moments, mean=4.0, std=1e-4).scale == pytest.approx(RATINGS.std() / 1e-4)
