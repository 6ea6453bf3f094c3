"""The table of answers as text for a paper: LaTeX with booktabs, Markdown, and CSV with every field."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from layerprobe.analysis.answers import Answer, answer_frame
from layerprobe.analysis.formatting import NONE, layer_ranges, number_text, range_text, shown_name
from layerprobe.probe.metrics import METRIC_NAMES

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "−": "$-$", "≤": r"$\le$", "–": "--", "*": r"\textsuperscript{*}", "†": r"\textsuperscript{\dag}",
}  # fmt: skip
COMPARISONS = {  # field of an answer: its heading
    "random_init": "random init.",
    "chance": "chance",
    "acoustic": "acoustic",
    "text": "text",
    "one_rater": "one rater",
    "ceiling": "ceiling",
}
ABOVE_CHANCE, ABOVE_RANDOM = "*", "†"  # signs behind a score


def latex_table(found: Sequence[Answer]) -> str:
    r"""Return a ``table`` environment with a booktabs ``tabular`` and notes; text of users is escaped.

    It needs ``\usepackage{booktabs}``, and no other package.
    """
    header = _header(found)
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex_text(caption(found))}}}",
        r"\label{tab:layerprobe}",
        rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
        r"\toprule",
        " & ".join(latex_text(name) for name in header) + r" \\",
    ]
    for target, group in groupby(found, key=lambda a: a.target):
        lines.append(r"\midrule")
        for k, answer in enumerate(group):
            cells = [latex_text(cell) for cell in _cells(answer, header)]
            cells[0] = latex_text(shown_name(target)) if k == 0 else ""
            cells[2] = rf"\textbf{{{cells[2]}}}" if answer.is_best else cells[2]
            lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\par\smallskip\footnotesize {latex_text(' '.join(notes(found)))}"]
    return "\n".join([*lines, r"\end{table}", ""])


def markdown_table(found: Sequence[Answer]) -> str:
    """Return a table in GitHub's Markdown, with its caption above and its notes below; text of users is escaped."""
    header = _header(found)
    lines = [_markdown(caption(found)), "", _pipes(header), _pipes(["---"] * 2 + ["---:"] * (len(header) - 2))]
    for answer in found:
        cells = [_markdown(cell) for cell in _cells(answer, header)]
        cells[2] = f"**{cells[2]}**" if answer.is_best else cells[2]
        lines.append(_pipes(cells))
    return "\n".join([*lines, "", _markdown(" ".join(notes(found))), ""])


def csv_table(found: Sequence[Answer]) -> str:
    """Return the fields of `Answer` as CSV, unrounded; sets of layers are joined by blanks."""
    return answer_frame(list(found)).to_csv(index=False, lineterminator="\n")


FORMATS: dict[str, Callable[[Sequence[Answer]], str]] = {
    "latex": latex_table,
    "markdown": markdown_table,
    "csv": csv_table,
}


def caption(found: Sequence[Answer]) -> str:
    """Return what the table shows, in one sentence."""
    metric = METRIC_NAMES[found[0].metric] if found else "Score"
    return (
        f"{metric[:1].upper()}{metric[1:]} on unseen speakers at the layer selected by cross-validation, with its "
        "95 % confidence interval, and the highest-scoring layer with the layers that are not significantly worse "
        "(95 % set)."
    )


def notes(
    found: Sequence[Answer],
    *,
    above_chance: str = ABOVE_CHANCE,
    above_random: str = ABOVE_RANDOM,
    unknown: str = "no mark could be given",
) -> list[str]:
    """Return the sentences below the table, each of what the table has.

    Args:
        found: answers
        above_chance: sign of a score above chance
        above_random: sign of a score above random initialisation
        unknown: what a score has in place of the sign where permutations were too few
    """
    n = min((a.n_permutations for a in found if a.n_permutations), default=0)
    sentences = []
    if n:
        sentences.append(
            f"{above_chance} above chance (p ≤ .05 in {n} permutations, corrected for layers, and by Holm's method for "
            "targets and encoders); chance is the 95th percentile of the maximum over layers."
        )
    if any(a.above_chance is None and a.n_permutations for a in found):
        sentences.append(f"Permutations were too few for a corrected p-value of .05 where {unknown}.")
    if any(np.isfinite(a.p_random) for a in found):
        sentences.append(
            f"{above_random} above random initialisation (highest-scoring layer of each, paired bootstrap over "
            "speakers, p ≤ .05 by Holm's method)."
        )
    if any(a.is_best for a in found):
        sentences.append("Bold: no encoder is significantly better for the target.")
    if any(a.layer != "cv_selected" for a in found):
        sentences.append("Where no layer was selected by cross-validation, the score is the maximum over layers.")
    return sentences


def latex_text(text: str) -> str:
    r"""Return text with LaTeX's special characters escaped.

    >>> print(latex_text("a_b & 5 %"))
    a\_b \& 5 \%
    """
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda found: SPECIAL[found.group()], text)


def marks(answer: Answer) -> str:
    """Return the signs that stand behind a score: above chance, and above random initialisation."""
    return (ABOVE_CHANCE if answer.above_chance else "") + (ABOVE_RANDOM if answer.above_random else "")


def _header(found: Sequence[Answer]) -> list[str]:
    known = [name for field, name in COMPARISONS.items() if any(np.isfinite(getattr(a, field)) for a in found)]
    return ["target", "encoder", "score", "95 % CI", "highest-scoring layer", "95 % set", *known]


def _cells(answer: Answer, header: Sequence[str]) -> list[str]:
    compared = [number_text(getattr(answer, field)) for field, name in COMPARISONS.items() if name in header]
    inside = layer_ranges(answer.best_set) or NONE
    names = [shown_name(answer.target), answer.encoder, number_text(answer.score) + marks(answer)]
    return [*names, range_text(answer.ci_low, answer.ci_high), answer.best_layer, inside, *compared]


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", text)


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
