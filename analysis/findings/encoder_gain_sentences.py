"""Write the sentences on two encoders with the same layers: which layers changed, and whether a target moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from layerprobe.analysis.findings.depth_sentences import detectable_text, differs, shift_numbers
from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.formatting import layer_ranges, p_text, shown_name
from layerprobe.probe.metrics import METRIC_NAMES


def encoder_gain_sentences(
    findings: Sequence[Finding], predicted: Mapping[tuple[str, str], bool | None]
) -> Iterator[str]:
    """Yield for each pair of encoders and target what changed in which layers, and whether the target moved.

    Args:
        findings: of all encoders
        predicted: for each encoder and target whether it is predicted above chance, without which depth means nothing;
            None without a permutation test
    """
    for found in findings:
        if found.name == "encoder_gain" and np.isfinite(found.ci_low):
            yield _gain_sentence(found)
        elif found.name == "encoder_shift":
            yield _shift_sentence(found, predicted)


def _gain_sentence(found: Finding) -> str:
    target, metric = shown_name(found.target), METRIC_NAMES[found.metric]
    numbers = f"Δ = {found.value}, {p_text(found.p_adjusted)} adjusted for all layers and for the training speakers"
    better, worse = found.layers or (), found.worse_layers or ()
    if not better and not worse:
        return (
            f"For {target}, no layer of {found.encoder} differs significantly from the same layer of "
            f"{found.reference} ({metric}); the clearest difference is that of layer {found.layer}: {numbers}."
        )
    first, second = ((better, "better"), (worse, "worse"))[:: 1 if found.estimate > 0 else -1]
    if not first[0]:  # the clearest difference is never the other way, except by the conservative p-value
        first, second = second, first
    one = len(first[0]) == 1
    text = (
        f"For {target}, layer{'s' * (not one)} {layer_ranges(first[0])} of {found.encoder} score{'s' * one} {first[1]} "
        f"than the same layer{'s' * (not one)} of {found.reference} ({metric})"
    )
    if second[0]:
        text += f", and layer{'s' * (len(second[0]) > 1)} {layer_ranges(second[0])} {second[1]}"
    return f"{text}; the clearest difference is that of layer {found.layer}: {numbers}."


def _shift_sentence(found: Finding, predicted: Mapping[tuple[str, str], bool | None]) -> str:
    target, pair = shown_name(found.target), f"{found.encoder} and {found.reference}"
    encoders = found.encoder, str(found.reference)
    unpredicted = [e for e in encoders if predicted.get((e, found.target)) is False]
    if unpredicted:
        return (
            f"The depths of {target} in {pair} can't be compared, because {' and '.join(unpredicted)} "
            f"{'do' if len(unpredicted) > 1 else 'does'} not predict it above chance."
        )
    if not np.isfinite(found.ci_low):
        return (
            f"The depths of {target} in {pair} can't be compared: the profiles over layers are too flat or too unlike "
            "for a shift to be defined, or speakers are fewer than three."
        )
    if differs(found):
        where = "deeper" if found.estimate > 0 else "shallower"
        return f"In {found.encoder}, {target} lies {where} than in {found.reference} ({shift_numbers(found)})."
    return (
        f"The depths of {target} in {pair} do not differ significantly ({shift_numbers(found)}); "
        f"{detectable_text(found)}."
    )
