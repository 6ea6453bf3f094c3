"""The small figure next to the first table: difference of depths with its interval, a row for each encoder."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from layerprobe.analysis.answers import DepthAnswer
from layerprobe.analysis.formatting import number_text, p_text, range_text

WIDTH, LANE, LEFT, RIGHT = 300, 40, 8, 8  # pixels
LONGEST = 30  # characters of a name, so that it ends before the value
AXIS = 34  # pixels below the last row


def depth_svg(found: Sequence[DepthAnswer]) -> str:
    """Return an SVG with the colours of the page, so that it is readable in light and dark; empty without answers.

    The axis is symmetric around 0 and ends at 1 or below, the largest difference of relative depths.
    """
    if not found:
        return ""
    known = [abs(v) for a in found for v in (a.estimate, a.ci_low, a.ci_high) if np.isfinite(v)]
    furthest = min(1.0, max([0.2, *known]))
    height = LANE * len(found) + AXIS

    def x(value: float) -> float:
        clipped = max(-furthest, min(furthest, value))
        return LEFT + (clipped / furthest + 1) / 2 * (WIDTH - LEFT - RIGHT)

    marks = [f'<line x1="{x(0)}" x2="{x(0)}" y1="0" y2="{height - AXIS + 4}" class="zero"/>']
    for k, one in enumerate(found):
        y, pale = LANE * k + 28, ' opacity=".4"' if one.unknown else ""
        marks.append(f'<text x="{LEFT}" y="{y - 14}">{escape(_name(one.encoder))}</text>')
        marks.append(f'<text x="{WIDTH - RIGHT}" y="{y - 14}" text-anchor="end">{_value(one)}</text>')
        if np.isfinite(one.ci_low) and np.isfinite(one.ci_high):
            ends = f'x1="{x(one.ci_low):.1f}" x2="{x(one.ci_high):.1f}" y1="{y}" y2="{y}"'
            marks.append(f'<line {ends} class="interval"{pale}/>')
        if np.isfinite(one.estimate):
            marks.append(f'<circle cx="{x(one.estimate):.1f}" cy="{y}" r="4" class="point"{pale}/>')
    base = height - AXIS + 16
    for value, anchor in ((-furthest, "start"), (0.0, "middle"), (furthest, "end")):
        marks.append(f'<text x="{x(value):.1f}" y="{base}" text-anchor="{anchor}">{number_text(value)}</text>')
    names = found[0].name.split(" − ")
    marks.append(f'<text x="{LEFT}" y="{base + 12}">← {escape(names[-1])} deeper</text>')
    marks.append(f'<text x="{WIDTH - RIGHT}" y="{base + 12}" text-anchor="end">{escape(names[0])} deeper →</text>')
    label = "; ".join(f"{a.encoder}: {number_text(a.estimate)} ({range_text(a.ci_low, a.ci_high)})" for a in found)
    return (
        f'<svg class="depth" role="img" viewBox="0 0 {WIDTH} {height}" aria-label="{escape(label)}">{"".join(marks)}'
        "</svg>"
    )


def _name(encoder: str) -> str:
    """Return the name of an encoder, cut where it would reach the value at the right."""
    return encoder if len(encoder) <= LONGEST else f"{encoder[: LONGEST - 1]}…"


def _value(one: DepthAnswer) -> str:
    """Return the estimate and p-value as the figure shows them."""
    if one.unknown:
        return "not comparable"
    p = f", {p_text(one.p_value)}" if np.isfinite(one.p_value) else ""
    return escape(f"{number_text(one.estimate)}{p}")
