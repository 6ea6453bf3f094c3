"""The table of answers as HTML, with the best layers as a strip over relative depth, for reports and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

import numpy as np

from layerprobe.analysis.answer_formats import COMPARISONS, notes
from layerprobe.analysis.answers import Answer
from layerprobe.analysis.formatting import NONE, layer_ranges, number_text, p_text, range_text, shown_name
from layerprobe.probe.layer_names import describe_layers
from layerprobe.probe.metrics import METRIC_NAMES

STRIP = 132, 16  # pixels, width and height
MARGIN = 4.0  # pixels left and right of the first and the last layer
YES, NO, UNKNOWN = "✓", "✗", "?"


def answers_html(found: Sequence[Answer]) -> str:
    """Return a table with a group of rows for each target and a row for each encoder; names of users are escaped."""
    known = {f: name for f, name in COMPARISONS.items() if any(np.isfinite(getattr(a, f)) for a in found)}
    header = ["encoder", _score_name(found), "95 % CI", "above chance", "above random init."]
    header += ["95 % set over relative depth", "highest-scoring layer", *known.values()]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = [f'<table class="answers"><thead><tr>{head}</tr></thead>']
    for target, group in groupby(found, key=lambda a: a.target):
        title = f'<tr><th scope="rowgroup" colspan="{len(header)}">{escape(shown_name(target))}</th></tr>'
        rows = "".join(_row(answer, list(known)) for answer in group)
        lines.append(f'<tbody data-target="{escape(target)}">{title}{rows}</tbody>')
    return "\n".join([*lines, "</table>"])


def notebook_html(title: str, found: Sequence[Answer]) -> str:
    """Return a line of text, the table of answers and its notes, for notebooks."""
    return f"<div><p>{escape(title)}</p>{answers_html(found)}<p><small>{escape(notes_text(found))}</small></p></div>"


def notes_text(found: Sequence[Answer]) -> str:
    """Return the notes below the table, as text with the signs of its columns."""
    return " ".join(notes(found, above_chance=YES, above_random=YES, unknown=f"the mark is {UNKNOWN}"))


def strip_svg(answer: Answer) -> str:
    """Return a small SVG of all layers over relative depth: those of the 95 % set are filled, the best has a ring.

    It is empty for features without depth. Answers that are not above chance are shown pale.
    """
    if not answer.depths:
        return ""
    width, height = STRIP
    depths = np.array(answer.depths) / max(1.0, max(answer.depths))
    x = MARGIN + depths * (width - 2 * MARGIN)
    half = min(5.0, max(0.8, 0.42 * (width - 2 * MARGIN) / max(1, len(x) - 1)))
    marks = [f'<line x1="0" x2="{width}" y1="8" y2="8" stroke="currentColor" stroke-opacity=".3"/>']
    for name, place in zip(answer.layers, x, strict=True):
        inside = name in answer.best_set
        top, size = (3, 10) if inside else (6.5, 3)
        colour = 'fill="var(--accent, #0072b2)"' if inside else 'fill="currentColor" fill-opacity=".45"'
        marks.append(f'<rect x="{place - half:.1f}" y="{top}" width="{2 * half:.1f}" height="{size}" {colour}/>')
    best = x[answer.layers.index(answer.best_layer)]
    marks.append(f'<path d="M{best - 4:.1f} 0h8l-4 5z" fill="currentColor"/>')
    best_set = layer_ranges(answer.best_set) or NONE
    text = f"95 % set: {best_set} of layers {describe_layers(answer.layers)}; highest-scoring layer {answer.best_layer}"
    pale = ' opacity=".4"' if answer.above_chance is False else ""
    return (
        f'<svg role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}"{pale} '
        f'aria-label="{escape(text)}"><title>{escape(text)}</title>{"".join(marks)}</svg>'
    )


def _score_name(found: Sequence[Answer]) -> str:
    return METRIC_NAMES[found[0].metric] if found else "score"


def _row(answer: Answer, known: Sequence[str]) -> str:
    score = number_text(answer.score)
    cells = [
        f'<td class="number">{f"<strong>{score}</strong>" if answer.is_best else score}</td>',
        f'<td class="number">{range_text(answer.ci_low, answer.ci_high)}</td>',
        _mark(answer.above_chance, answer.p_chance),
        _mark(answer.above_random, answer.p_random),
        f"<td>{strip_svg(answer) or NONE}</td>",
        f'<td class="number">{escape(answer.best_layer)}</td>',
    ]
    cells += [f'<td class="number">{number_text(getattr(answer, f))}</td>' for f in known]
    name = f'<th scope="row">{escape(answer.encoder)}</th>'
    keys = f'data-encoder="{escape(answer.encoder)}" data-target="{escape(answer.target)}"'
    return f"<tr {keys}>{name}{''.join(cells)}</tr>"


def _mark(above: bool | None, p: float) -> str:
    """Return a cell with a sign and the adjusted p-value; the sign does not rely on colour."""
    if not np.isfinite(p):
        return f"<td>{NONE}</td>"
    sign, word = {True: (YES, "yes"), False: (NO, "no"), None: (UNKNOWN, "too few permutations")}[above]
    return f'<td class="mark"><span aria-label="{word}" role="img">{sign}</span> <small>{p_text(p)}</small></td>'
