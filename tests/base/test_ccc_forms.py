"""Four forms of the CCC, of arrays, of sums over speakers and of tensors twice, are one function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from layerprobe.analysis.statistics import bootstrap
from layerprobe.probe.metrics import ccc
from layerprobe.probe.regressor.loss import SMALLEST, ccc_loss
from layerprobe.probe.weighted_sum.gradient_descent import concordance

EPS = np.finfo(np.float64).eps


def of_sums(truth, prediction, groups):
    sums = bootstrap.speaker_sums(truth[:, None], prediction[:, None], groups)
    total = {name: getattr(sums, name).sum(axis=0, keepdims=True) for name in ("n", "t", "p", "tt", "pp", "tp")}
    return float(bootstrap.ccc(replace(sums, **total))[0, 0])


def of_loss(truth, prediction):
    a, b = (torch.from_numpy(v[:, None]) for v in (prediction, truth))
    return 1 - float(ccc_loss(a, b, torch.ones(1, dtype=torch.float64)))


def of_descent(truth, prediction):
    a, b = (torch.from_numpy(v[:, None]) for v in (truth, prediction))
    return float(concordance(a, b, torch.ones_like(a)))


def denominator(truth, prediction):
    return truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2


def vectors(rng):
    """Ratings and predictions of random length, scale, offset and correlation."""
    n = int(rng.integers(2, 400))
    truth = rng.normal(size=n)
    prediction = rng.uniform(-1, 1) * truth + rng.choice([0.0, 0.01, 1.0]) * rng.normal(size=n)
    scales, offsets = (
        10 ** rng.uniform(-2, 2, size=2),
        10 ** rng.uniform(-2, 3, size=2) * rng.choice([-1, 0, 1], size=2),
    )
    return truth * scales[0] + offsets[0], prediction * scales[1] + offsets[1]


def test_the_forms_agree():
    """Within rounding: a centred value is off by eps times the largest, a moment of n terms by n times that.

    The loss adds a constant to the denominator, which lowers its CCC by that proportion.
    """
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth, prediction = vectors(rng)
        n, whole = len(truth), denominator(truth, prediction)
        largest = max(np.abs(truth).max(), np.abs(prediction).max())
        tolerance = 8 * n * EPS * (1 + largest / np.sqrt(whole))
        expected = ccc(truth, prediction)
        groups = rng.integers(0, max(1, n // 3), size=n)
        assert of_sums(truth, prediction, groups) == pytest.approx(expected, abs=tolerance)
        assert of_descent(truth, prediction) == pytest.approx(expected, abs=tolerance)
        assert of_loss(truth, prediction) == pytest.approx(expected * whole / (whole + SMALLEST), abs=tolerance)


@pytest.mark.parametrize("constant", [0.1, 0.5, -3.7, 1e3])
def test_the_forms_agree_that_a_constant_has_no_concordance(constant):
    """What is left of a constant after centring is off by eps times it, so its CCC is within that of 0."""
    rng = np.random.default_rng(0)
    other = rng.normal(2, 1, size=57)
    groups = np.arange(57) // 5
    for truth, prediction in ((other, np.full(57, constant)), (np.full(57, constant), other)):
        tolerance = 8 * 57 * EPS * (1 + abs(constant))
        assert ccc(truth, prediction) == pytest.approx(0, abs=tolerance)
        for form in (lambda t, p: of_sums(t, p, groups), of_loss, of_descent):
            assert form(truth, prediction) == pytest.approx(0, abs=tolerance)


def test_two_equal_constants_are_nan_in_a_score_and_0_in_a_loss():
    same = np.full(8, 0.5)
    assert np.isnan(ccc(same, same))
    assert np.isnan(of_sums(same, same, np.arange(8) // 2))
    assert of_loss(same, same) == of_descent(same, same) == 0
