"""Prediction intervals of a trained regressor: by hand, and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.regressor.prediction_intervals import half_widths


def test_half_widths_by_hand():
    """Nine residuals: (9 + 1) * .8 = 8, so the eighth smallest; of the second target all are alike."""
    residuals = np.stack([np.array([1, -2, 3, -4, 5, -6, 7, -8, 9.0]), np.full(9, -0.5)], axis=1)
    found = half_widths(residuals, ("a", "b"), level=0.8)
    assert found == {"level": 0.8, "half_width": {"a": 8.0, "b": 0.5}}


def test_intervals_have_their_stated_coverage(rng):
    """Split conformal intervals of fresh samples, over many calibrations (Lei et al., 2018)."""
    inside = []
    for _ in range(300):
        width = half_widths(rng.standard_t(4, size=(50, 1)), ("a",))["half_width"]["a"]
        inside.append(np.mean(np.abs(rng.standard_t(4, size=200)) <= width))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.01)
