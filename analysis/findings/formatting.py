"""Names and numbers as the report and the figures write them."""

from __future__ import annotations

from typing import Any

import numpy as np

ALPHA = 0.05  # what p-values are held against


def shown_name(name: object) -> str:
    """The name of a target, a feature or a control in a sentence, a table or a figure.

    >>> shown_name("arousal_text_residual")
    'arousal beyond text'
    """
    return str(name).replace("_", " ")


def ranged(row: dict[Any, Any], *, digits: int = 2) -> str:
    """An estimate with its interval, if it has one; a dash where it is not defined."""
    if not np.isfinite(row["estimate"]):
        return "–"
    text = f"{row['estimate']:.{digits}f}"
    known = np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"])
    return f"{text} ({row['ci_low']:.{digits}f} to {row['ci_high']:.{digits}f})" if known else text


def p_text(p: float) -> str:
    """A p-value as journals write it.

    >>> p_text(0.034), p_text(0.0004), p_text(1.0)
    ('p = .034', 'p < .001', 'p = 1')
    """
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.9995 else "p = 1"
