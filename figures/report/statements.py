"""Sentences of a report in groups by target, each with the record, the figure and the method that it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from layerprobe.analysis.findings.erasure_sentences import ERASURE, erasure_statements
from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.findings.sentences import headlines, predicts_above_chance
from layerprobe.analysis.findings.time_sentences import TIME
from layerprobe.analysis.formatting import shown_name

SHOWN = 6  # statements of a group that are shown at once; the others on demand
SECTIONS = {  # title of the section with the figure or table of a finding
    "highest_scoring_layer": "Heatmap",
    "cv_selected_layer": "Heatmap",
    "chance": "Controls",
    "best_set": "Layer selection",
    "regret": "Layer selection",
    "gain_over_random": "Gain over random initialisation",
    "gain_over_best_random": "Gain over random initialisation",
    "gain_over_acoustic": "Controls",
    "unique_variance": "Variance partitioning",
    "depth_difference": "Depth",
    "encoder_difference": "Encoder comparison",
    "encoder_gain": "Gain over another encoder",
    "encoder_shift": "Gain over another encoder",
    "fusion_gain": "Fusion",
    "erasure": "Through what",
    "time_peak": "When",
    "time_difference": "When",
}
ENCODERS: dict[str, Callable[[Finding], tuple[str | None, ...]]] = {  # whose chance levels a sentence needs
    "depth_difference": lambda f: (f.encoder,),
    "encoder_shift": lambda f: (f.encoder, f.reference),
}


@dataclass(frozen=True)
class Statement:
    """One sentence and the finding that it states."""

    text: str
    record: int  # index of the finding
    section: str  # title of its section


@dataclass(frozen=True)
class Group:
    """Statements on one target, or on what several targets or encoders have in common."""

    title: str
    shown: list[Statement]
    folded: list[Statement]


def statement_groups(findings: Sequence[Finding]) -> list[Group]:
    """Return the statements of `headlines` in groups: each target, most certain encoder first, then depth and encoders.

    Encoders that do not predict a target above chance have one statement together, in the last group.

    Args:
        findings: of a study, in their order in the table of all findings
    """
    number = {id(f): k for k, f in enumerate(findings)}
    groups, below, used = [], [], set()
    for target in dict.fromkeys(f.target for f in findings if f.name == "highest_scoring_layer"):
        parts = [
            [f for f in findings if f.encoder == encoder and f.target == target and f.name not in (*TIME, *ERASURE)]
            for encoder in dict.fromkeys(f.encoder for f in findings)
        ]
        statements: list[Statement] = []
        for part in sorted((p for p in parts if p), key=_uncertainty):
            used |= set(headlines(part))
            if predicts_above_chance(part) is False:
                below.append(part)
            else:
                statements += _statements(part, number)
        groups.append(_group(shown_name(target).capitalize(), statements))
    of_encoders = ("encoder_difference", "encoder_gain", "encoder_shift", "fusion_gain")
    for title, names in (("Depth", ("depth_difference",)), ("Encoders", of_encoders)):
        statements = [s for s in _of_names(findings, names, number) if s.text not in used]
        groups.append(_group(title, statements))
    groups.append(_group("When", list(_over_time(findings, number))))
    through = [Statement(text, number[id(f)], SECTIONS[f.name]) for text, f in erasure_statements(findings)]
    groups.append(_group("Through what", through))
    if below:
        groups.append(_group("Not above chance", [_below_chance(below, number)]))
    return [group for group in groups if group.shown]


def _group(title: str, statements: list[Statement]) -> Group:
    return Group(title, statements[:SHOWN], statements[SHOWN:])


def _uncertainty(findings: Sequence[Finding]) -> tuple[float, float]:
    """Return a key that is low for certain findings: the p-value against chance, then the lower end of the score."""
    chance, scores = (
        [f for f in findings if f.name in names]
        for names in (("chance",), ("cv_selected_layer", "highest_scoring_layer"))
    )
    p = chance[0].p_adjusted if chance and np.isfinite(chance[0].p_adjusted) else 1.0
    low = next((f.ci_low for f in scores if np.isfinite(f.ci_low)), -np.inf)
    return p, -low


def _statements(findings: list[Finding], number: dict[int, int]) -> Iterator[Statement]:
    """The sentences on one encoder and target; a sentence states the most specific finding that it needs."""
    general = ["highest_scoring_layer", "chance", "cv_selected_layer"]  # other sentences need these, too
    names = dict.fromkeys(f.name for f in findings)
    names_in_order = [*(n for n in names if n not in general), *(n for n in reversed(general) if n in names)]
    without = {name: set(headlines([f for f in findings if f.name != name])) for name in names}
    for text in headlines(findings):
        name = next((n for n in names_in_order if text not in without[n]), "highest_scoring_layer")
        source = next((f for f in findings if f.name == name), findings[0])
        yield Statement(text, number[id(source)], SECTIONS.get(name, "All findings"))


def _of_names(findings: Sequence[Finding], names: Sequence[str], number: dict[int, int]) -> Iterator[Statement]:
    """The sentences that need one finding of some names, such as a difference between two encoders."""
    context = [f for f in findings if f.name in ("chance", "highest_scoring_layer")]
    base = set(headlines(context))
    for finding in findings:
        if finding.name in names:
            encoders = ENCODERS[finding.name](finding) if finding.name in ENCODERS else ()
            kept = [f for f in context if f.encoder in encoders]
            for text in headlines([*kept, finding]):
                if text not in base:
                    yield Statement(text, number[id(finding)], SECTIONS[finding.name])


def _over_time(findings: Sequence[Finding], number: dict[int, int]) -> Iterator[Statement]:
    """The sentences on bins of time; those on the difference of bins need the best one, too."""
    for peak in findings:
        if peak.name != "time_peak":
            continue
        first = list(headlines([peak]))
        yield from (Statement(text, number[id(peak)], SECTIONS[peak.name]) for text in first)
        for found in findings:
            if found.name == "time_difference" and (found.encoder, found.target) == (peak.encoder, peak.target):
                texts = [text for text in headlines([peak, found]) if text not in first]
                yield from (Statement(text, number[id(found)], SECTIONS[found.name]) for text in texts)


def _below_chance(parts: Sequence[Sequence[Finding]], number: dict[int, int]) -> Statement:
    """One sentence on all encoders and targets that are not above chance."""
    encoders: dict[str, list[str]] = {}
    for part in parts:
        encoders.setdefault(shown_name(part[0].target), []).append(part[0].encoder)
    texts = "; ".join(f"{target} ({', '.join(names)})" for target, names in encoders.items())
    first = next(f for f in parts[0] if f.name == "chance")
    return Statement(f"Not predicted above chance: {texts}.", number[id(first)], SECTIONS["chance"])
