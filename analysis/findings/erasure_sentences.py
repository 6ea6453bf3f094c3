"""Write the sentences on erasure: through which concepts a layer predicts a target, and through which it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.formatting import concept_text, layer_kind, layer_ranges, number_text, p_text, shown_name
from layerprobe.analysis.statistics.permutation import is_significant
from layerprobe.probe.metrics import METRIC_NAMES

ERASURE = ("erasure",)


def erasure_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield for each encoder and target what the concepts remove, those that remove more than random directions first.

    Args:
        findings: of all encoders
    """
    yield from (text for text, _ in erasure_statements(findings))


def erasure_statements(findings: Sequence[Finding]) -> Iterator[tuple[str, Finding]]:
    """Yield each sentence of `erasure_sentences` with the finding that it states, or the first of several."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.name in ERASURE:
            groups.setdefault((finding.encoder, finding.target), []).append(finding)
    for group in groups.values():
        if not group[0].is_above_chance:
            yield _not_predicted(group[0]), group[0]
            continue
        sure = [f for f in group if is_significant(f.p_adjusted)]
        yield from ((_effect(f), f) for f in sure)
        if others := [f for f in group if f not in sure and np.isfinite(f.p_adjusted)]:
            yield _no_effect(others), others[0]


def _place(finding: Finding) -> str:
    return f"{layer_kind(finding.layer)} {finding.layer} of {finding.encoder}"


def _not_predicted(finding: Finding) -> str:
    return (
        f"The highest-scoring {_place(finding)} does not predict {shown_name(finding.target)} above chance, so that "
        "there is nothing that erasing a concept could remove a fraction of."
    )


def _effect(finding: Finding) -> str:
    """Return the sentence on a concept that removes more, or less, than random directions."""
    target, concept = shown_name(finding.target), concept_text(finding.concept)
    rank = "of the same rank" if finding.rank is None else f"of rank {finding.rank}"
    if finding.fraction is None:
        metric = METRIC_NAMES[finding.metric]
        removes = (
            f"worsens {metric} of {target} at {_place(finding)} by {number_text(finding.removed)}; random directions "
            f"{rank} worsen it by {number_text(finding.removed_random)}"
        )
    else:
        ends = [percent_text(end) for end in (finding.fraction_ci_low, finding.fraction_ci_high)]
        interval = "" if None in (finding.fraction_ci_low, finding.fraction_ci_high) else f" [{', '.join(ends)}]"
        removes = (
            f"removes {percent_text(finding.fraction)} %{interval} of the R² of {target} at {_place(finding)}; random "
            f"directions {rank} remove {percent_text(finding.fraction_random)} %"
        )
    less = "" if finding.estimate > 0 else ", which is more"
    others = [layer for layer in finding.layers or () if layer != finding.layer]
    also = ""
    if others and not less:
        several = layer_kind(others[0]) + ("s" if len(others) > 1 else "")
        also = (
            f" It removes more than these in {several} {layer_ranges(others)}, too (adjusted for layers and concepts)."
        )
    difference = f"Δ = {finding.value}, Holm-adjusted {p_text(finding.p_adjusted)}"
    return f"Erasing {concept} {removes}{less} ({METRIC_NAMES[finding.metric]}: {difference}).{also}"


def _no_effect(findings: Sequence[Finding]) -> str:
    names = [concept_text(f.concept) for f in findings]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return (
        f"Erasing {listed} does not change the score of {shown_name(findings[0].target)} at {_place(findings[0])} "
        "significantly more or less than random directions of the same rank do."
    )


def percent_text(fraction: float | None) -> str:
    """Return a fraction in per cent without decimals, or a dash where it is not defined.

    >>> percent_text(0.984), percent_text(1.05), percent_text(-0.021), percent_text(None)
    ('98', '105', '−2', '–')
    """
    return number_text(None if fraction is None else 100 * fraction, digits=0)
