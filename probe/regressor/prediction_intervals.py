"""Prediction intervals of a trained regressor, by split conformal prediction (Lei et al., 2018)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LEVEL = 0.9  # coverage of the prediction intervals


def half_widths(residuals: np.ndarray, targets: tuple[str, ...], *, level: float = LEVEL) -> dict[str, Any]:
    """Return the half-widths of prediction intervals from residuals (split conformal: Lei et al., 2018).

    Args:
        residuals: ``(n_utterances, n_targets)`` of utterances that were not trained on
        targets: names of the targets
        level: coverage, the fraction of ratings within the interval
    """
    n = len(residuals)
    rank = min(n, math.ceil((n + 1) * level)) - 1
    widths = np.sort(np.abs(residuals), axis=0)[rank]
    return {"level": level, "half_width": dict(zip(targets, map(float, widths), strict=True))}
