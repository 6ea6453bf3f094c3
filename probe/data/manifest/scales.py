"""Rating scales that are in use, and which of them ratings fit."""

from __future__ import annotations

import numpy as np
import pandas as pd

# Of two that fit the narrower is taken. Likert scales of 5, 7 and 9 points (SAM: Bradley and Lang, 1994), and the
# ranges that continuous annotation is stored in.
USUAL_SCALES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (1.0, 7.0), (1.0, 9.0))

SCALE_TOLERANCE = 1e-9  # ratings that exceed a scale by less are at its end: a mean of floats is rounded


def usual_scale(low: float, high: float) -> tuple[float, float] | None:
    """Return the narrowest usual scale that holds all ratings, or None where none does.

    A guess: ratings from 2 to 4 may be those of a scale from 1 to 7.

    Args:
        low: the smallest rating
        high: the largest rating

    >>> usual_scale(1.2, 6.8), usual_scale(-0.4, 0.9), usual_scale(0, 100)
    ((1.0, 7.0), (-1.0, 1.0), None)
    """
    fits = ((a, b) for a, b in USUAL_SCALES if a - SCALE_TOLERANCE <= low and high <= b + SCALE_TOLERANCE)
    return next(fits, None)


def finite_numbers(cells: pd.Series[str]) -> pd.Series[float]:
    """Return the finite numbers among cells of text, with the rows' index; other cells are left out."""
    values = pd.to_numeric(cells.str.strip(), errors="coerce").astype(float)
    return values[np.isfinite(values)]


def observed_range(ratings: pd.Series[float]) -> tuple[float, float]:
    """Return the smallest and the largest rating."""
    return float(ratings.min()), float(ratings.max())
