"""Write the sentence on depth: whether valence lies deeper than arousal, and what shift the corpus could detect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.formatting import number_text, p_text, range_text, shown_name
from layerprobe.analysis.layers.depth import MEASURES, SHIFT
from layerprobe.analysis.layers.shift import REACH
from layerprobe.analysis.statistics.estimates import INTERVAL_NAMES
from layerprobe.analysis.statistics.permutation import is_significant

HYPOTHESIS = "as de Oliveira et al. (2023) found for HuBERT"


def depth_sentences(findings: Sequence[Finding], predicted: Mapping[str, bool | None]) -> Iterator[str]:
    """Yield the sentences on depth of an encoder, judged by the shift and its Holm-adjusted p-value.

    Args:
        findings: of one encoder
        predicted: for each target whether the encoder predicts it above chance; None without a permutation test
    """
    differences = [f for f in findings if f.name == "depth_difference"]
    for found in differences:
        if found.measure != SHIFT or found.control != "none" or found.deeper is None or found.shallower is None:
            continue
        targets = (found.deeper, found.shallower)
        names = " and ".join(map(shown_name, targets))
        unpredicted = [shown_name(t) for t in targets if predicted.get(t) is False]
        if unpredicted:
            yield (
                f"The depths of {names} in {found.encoder} can't be compared, because it does not predict "
                f"{' and '.join(unpredicted)} above chance."
            )
        elif not np.isfinite(found.ci_low):
            yield (
                f"The depths of {names} in {found.encoder} can't be compared: their profiles over layers are too flat "
                "or too unlike for a shift to be defined, or speakers are fewer than three."
            )
        else:
            of_pair = [f for f in differences if f.target == found.target]
            yield _verdict(found, [f for f in of_pair if f.control == "none"])
            yield from _beyond_random(of_pair, names)


def differs(finding: Finding) -> bool:
    """Return whether the 95 % interval excludes 0 and the p-value is at most .05 after Holm's correction."""
    p = finding.p_adjusted if np.isfinite(finding.p_adjusted) else finding.p_value
    return (finding.ci_low > 0 or finding.ci_high < 0) and is_significant(p)


def _verdict(found: Finding, measures: Sequence[Finding]) -> str:
    """Return whether the targets of a shift differ, with measures that contradict it."""
    first, second = shown_name(found.deeper), shown_name(found.shallower)
    if not differs(found):
        return (
            f"In {found.encoder}, the depths of {first} and {second} do not differ significantly "
            f"({shift_numbers(found)}); {detectable_text(found)}."
        )
    contrary = [f for f in measures if differs(f) and f.estimate * found.estimate < 0]
    if found.estimate > 0:
        result = f"{first} lies deeper than {second}, {HYPOTHESIS}"
    else:
        result = f"{first} lies shallower than {second}, contrary to the hypothesis"
    but = ", and ".join(
        f"the {MEASURES[f.measure or '']} differs significantly the other way ({_other(f)})" for f in contrary
    )
    return f"In {found.encoder}, {result} ({shift_numbers(found)}){'; but ' if but else ''}{but}."


def _beyond_random(differences: Sequence[Finding], names: str) -> Iterator[str]:
    """Whether the shift is that of the randomly initialised encoder."""
    for found in differences:
        if found.measure == SHIFT and found.control == "difference" and np.isfinite(found.ci_low):
            larger = "is larger than" if found.estimate > 0 else "is smaller than"
            verdict = larger if differs(found) else "does not differ significantly from"
            yield (
                f"The difference of depths of {names} in {found.encoder} {verdict} that in the randomly initialised "
                f"encoder ({shift_numbers(found)})."
            )


def shift_numbers(found: Finding) -> str:
    """Return the shift in blocks and on relative depth, with its interval and its p-value.

    An interval that reaches the largest shift that is fitted has no end there.
    """
    n_blocks = found.n_blocks or 1
    ends = found.ci_low * n_blocks, found.ci_high * n_blocks
    interval = f"{INTERVAL_NAMES[found.interval]} {range_text(*ends, digits=1)}"
    largest = ", the largest that was fitted" if abs(found.estimate) >= REACH and found.control == "none" else ""
    return (
        f"shift of the profile over layers {number_text(found.estimate * n_blocks, digits=1)} of {n_blocks} blocks"
        f"{largest}, {interval}; on relative depth {number_text(found.estimate)}, "
        f"{range_text(found.ci_low, found.ci_high)}; {_p(found)}"
    )


def detectable_text(found: Finding) -> str:
    """Return what shift the corpus detects with a power of .8."""
    if found.detectable is None or not np.isfinite(found.detectable):
        return "what shift the corpus could have detected is not known"
    if found.detectable > REACH:
        return "even a shift of half of the encoder would be detected with a power below .8"
    blocks = number_text(found.detectable * (found.n_blocks or 1), digits=1)
    return f"a shift of {blocks} blocks ({number_text(found.detectable)}) would be detected with a power of .8"


def _other(found: Finding) -> str:
    return f"Δ = {found.value}, {_p(found)}"


def _p(found: Finding) -> str:
    adjusted = np.isfinite(found.p_adjusted)
    return f"Holm-adjusted {p_text(found.p_adjusted)}" if adjusted else p_text(found.p_value)
