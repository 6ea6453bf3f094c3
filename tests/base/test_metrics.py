"""Metrics by hand, and the moment-matched score against direct optimisation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from layerprobe.probe.metrics import (
    CLASS_METRICS,
    LOWER_IS_BETTER,
    METRIC_NAMES,
    METRICS,
    RATING_METRICS,
    MomentMatching,
    ccc,
    pearson,
    r2,
    rmse,
)


def test_ccc_divides_by_n_and_not_by_n_minus_1():
    # by hand: 2 * 0.5 / (1 + 0.25 + 0.25); dividing by n - 1 would give 8 / 11
    assert ccc(np.array([0.0, 2.0]), np.array([0.0, 1.0])) == pytest.approx(2 / 3)


def test_ccc_of_constants():
    truth = np.array([1.0, 2.0, 3.0])
    assert ccc(truth, np.full(3, 0.1)) == 0
    assert np.isnan(ccc(np.full(3, 0.1), np.full(3, 0.1)))  # whose variance is 1.9e-34, not 0
    assert ccc(np.full(3, 0.1), np.full(3, 0.2)) == 0


def test_ccc_depends_on_scale_and_shift(rng):
    truth = rng.normal(size=100)
    assert ccc(truth, truth) == pytest.approx(1)
    assert ccc(truth, -truth + 2 * truth.mean()) == pytest.approx(-1)
    # a calibrated least-squares prediction with correlation r has CCC 2r^2 / (1 + r^2)
    noisy = truth + rng.normal(size=100)
    slope = np.polyfit(noisy, truth, 1)
    r = pearson(truth, noisy)
    assert ccc(truth, np.polyval(slope, noisy)) == pytest.approx(2 * r**2 / (1 + r**2))


def test_pearson_and_rmse_by_hand(rng):
    a, b = rng.normal(size=50), rng.normal(size=50)
    assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert np.isnan(pearson(a, np.ones(50)))
    assert rmse(np.array([0.0, 0.0]), np.array([3.0, 4.0])) == pytest.approx(np.sqrt(12.5))


def test_matching_mean_and_standard_deviation_is_the_best_line_for_ccc(rng):
    truth = rng.normal(4, 1.3, size=200)
    prediction = 0.2 * truth + rng.normal(0, 0.3, size=200) - 7
    matched = ccc(truth, MomentMatching.learn(truth, prediction)(prediction))
    found = minimize(lambda p: -ccc(truth, p[0] * prediction + p[1]), x0=(1.0, 0.0), method="Nelder-Mead", tol=1e-10)
    assert matched == pytest.approx(-found.fun, abs=1e-7)
    assert matched == pytest.approx(pearson(truth, prediction))


def test_a_constant_prediction_is_matched_to_the_mean():
    match = MomentMatching.learn(np.array([1.0, 3.0]), np.array([5.0, 5.0]))
    assert match(np.array([9.0, 5.0])).tolist() == [2.0, 2.0]


def test_one_registry_has_every_metric_with_its_range_and_direction(rng):
    assert list(METRICS) == ["ccc_matched", "ccc", "pearson", "rmse", "r2", "uar", "macro_f1"]
    assert list(RATING_METRICS) == ["ccc", "pearson", "rmse", "r2"]
    assert list(CLASS_METRICS) == ["uar", "macro_f1"]
    assert METRIC_NAMES["ccc_matched"] == "moment-matched CCC"
    assert {"rmse"} == LOWER_IS_BETTER
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.formula
        assert metric.source[-1] == ")"  # ends in a year
        truth = rng.integers(0, 3, size=50)
        best = metric.range[1] if metric.higher_is_better else metric.range[0]
        assert metric(truth, truth) == pytest.approx(best)
        for _ in range(20):
            assert metric.range[0] <= metric(truth, rng.integers(0, 4, size=50)) <= metric.range[1]


def test_the_explained_proportion_of_variance_is_that_by_hand():
    truth = np.array([1.0, 2.0, 3.0, 6.0])  # mean 3, squares 4 + 1 + 0 + 9
    assert r2(truth, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(1 - 4 / 14)
    assert r2(truth, np.full(4, 3.0)) == 0
    assert r2(truth, -truth) < 0
    assert np.isnan(r2(np.ones(3), truth[:3]))


def test_the_matched_head_is_the_best_that_any_gain_and_offset_reach(rng):
    """For a fixed direction, against a search over both (Nelder and Mead, 1965)."""
    prediction = rng.normal(2, 3, size=200)
    truth = 0.4 * prediction + rng.normal(size=200) + 3
    matched = MomentMatching.learn(truth, prediction)
    found = minimize(
        lambda head: -ccc(truth, head[0] * prediction + head[1]), (1.0, 0.0), method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 10_000},
    )  # fmt: skip
    assert ccc(truth, matched(prediction)) == pytest.approx(-found.fun, abs=1e-9)
    np.testing.assert_allclose([matched.scale, matched.offset], found.x, rtol=1e-4)
    assert ccc(truth, matched(prediction)) == pytest.approx(pearson(truth, prediction), abs=1e-12)


def test_descent_on_the_ccc_loss_ends_in_the_least_squares_direction_with_moments_matched(rng):
    """So no probe here needs gradient descent on CCC: the linear head that maximises it is known in closed form."""
    x = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    truth = x @ rng.normal(size=5) + 3 * rng.normal(size=300) + 2
    design = np.column_stack([x, np.ones(300)])
    least_squares = design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    closed = MomentMatching.learn(truth, least_squares)(least_squares)
    for start in range(3):
        first = np.random.default_rng(start).normal(size=6)
        found = minimize(lambda w: 1 - ccc(truth, design @ w), first, method="BFGS", options={"gtol": 1e-9})
        assert ccc(truth, closed) >= 1 - found.fun - 1e-10
        np.testing.assert_allclose(design @ found.x, closed, atol=1e-3)
