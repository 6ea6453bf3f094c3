"""Names and numbers as the report and the figures write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerprobe.analysis.statistics.estimates import INTERVAL_NAMES
from layerprobe.probe.layer_names import is_stack
from layerprobe.probe.results.run_folder import CHOSEN

NONE = "–"  # text of a number that is not defined, or of a cell that does not apply


def shown_name(name: object) -> str:
    """Return the name of a target, a feature or a control in a sentence, a table or a figure.

    >>> shown_name("arousal_text_residual")
    'arousal text residual'
    """
    return str(name).replace("_", " ")


def concept_text(concept: object) -> str:
    """Return an erased concept, or several that were erased together, as a sentence or a figure shows them.

    >>> concept_text("speech_rate"), concept_text("loudness+f0")
    ('speech rate', 'loudness + f0')
    """
    return " + ".join(shown_name(name) for name in str(concept).split("+"))


def layer_text(layer: object) -> str:
    """Return a layer as a table shows it.

    >>> layer_text("3"), layer_text("cv_selected")
    ('3', 'cross-validated')
    """
    return "cross-validated" if layer == CHOSEN else str(layer)


def layer_kind(layer: str) -> str:
    """Return what a layer of an encoder, or a set of acoustic features, is called in a sentence.

    >>> layer_kind("3"), layer_kind("log_mel")
    ('layer', 'feature set')
    """
    return "layer" if is_stack([layer]) else "feature set"


def layer_ranges(layers: Sequence[str]) -> str:
    """Return layer names with consecutive numbers joined into ranges.

    >>> layer_ranges(["2", "3", "4", "7", "final"])
    '2 to 4, 7, final'
    """
    runs: list[list[str]] = []
    for layer in layers:
        follows = runs and layer.isdecimal() and runs[-1][-1].isdecimal() and int(layer) == int(runs[-1][-1]) + 1
        if follows:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(r[0] if len(r) == 1 else f"{r[0]}, {r[1]}" if len(r) == 2 else f"{r[0]} to {r[-1]}" for r in runs)


def number_text(value: float | None, *, digits: int = 2) -> str:
    """Return a number with so many decimals and the sign −, or a dash where it is not defined.

    >>> number_text(0.456), number_text(-0.25), number_text(-0.001), number_text(float("nan"))
    ('0.46', '−0.25', '0.00', '–')
    """
    if value is None or not np.isfinite(value):
        return NONE
    text = f"{abs(value):.{digits}f}"
    return f"−{text}" if value < 0 and float(text) else text


def range_text(low: float | None, high: float | None, *, digits: int = 2) -> str:
    """Return both ends of an interval or a range, or a dash where there is none.

    >>> range_text(0.1, 0.25), range_text(float("nan"), 0.25)
    ('0.10 to 0.25', '–')
    """
    ends = number_text(low, digits=digits), number_text(high, digits=digits)
    return NONE if NONE in ends else " to ".join(ends)


def value_text(estimate: float, low: float, high: float, interval: str, *, digits: int = 2) -> str:
    """Return an estimate, followed in brackets by its interval where there is one.

    >>> value_text(0.6, 0.5, 0.7, "bca_95_speakers")
    '0.60 (95 % CI over speakers 0.50 to 0.70)'
    """
    ends = range_text(low, high, digits=digits)
    text = number_text(estimate, digits=digits)
    return text if ends == NONE else f"{text} ({INTERVAL_NAMES[interval]} {ends})"


def ranged(row: dict[Any, Any], *, digits: int = 2) -> str:
    """Return the estimate of a table's row with the ends of its interval, or a dash where it is not defined.

    >>> ranged({"estimate": 0.6, "ci_low": 0.5, "ci_high": 0.7})
    '0.60 (0.50 to 0.70)'
    """
    ends = range_text(row["ci_low"], row["ci_high"], digits=digits)
    text = number_text(row["estimate"], digits=digits)
    return text if NONE in (text, ends) else f"{text} ({ends})"


def p_text(p: float) -> str:
    """Return a p-value as journals write it.

    >>> p_text(0.034), p_text(0.0004), p_text(1.0)
    ('p = .034', 'p < .001', 'p = 1')
    """
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.9995 else "p = 1"


def p_cell(p: float | None) -> str:
    """Return a p-value as a table shows it below the heading p, or a dash where nothing was tested.

    >>> p_cell(0.034), p_cell(0.0004), p_cell(float("nan"))
    ('.034', '< .001', '–')
    """
    return NONE if p is None or not np.isfinite(p) else p_text(p).removeprefix("p = ").removeprefix("p ")


def plural(noun: str) -> str:
    """Return the plural of a column's name.

    >>> plural("session"), plural("sentence_id"), plural("class"), plural("category")
    ('sessions', 'sentence_ids', 'classes', 'categories')
    """
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"
