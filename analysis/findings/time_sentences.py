"""Write the sentences on time: from which bin a target is predicted best, and whether bins differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.formatting import layer_kind, p_text, shown_name
from layerprobe.analysis.statistics.permutation import exceeds_chance, is_significant
from layerprobe.analysis.time.bins import bins_text, joined_text
from layerprobe.probe.metrics import METRIC_NAMES

TIME = ("time_peak", "time_difference")


def time_sentences(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield for each encoder and target from which bin it is predicted best, if from any.

    Args:
        findings: of all encoders; differences between bins have a sentence where the target is predicted above chance
    """
    for peak in findings:
        if peak.name != "time_peak":
            continue
        above = is_above(peak)
        yield from _peak_sentences(peak, above)
        for found in findings:
            same = (found.encoder, found.target) == (peak.encoder, peak.target)
            if found.name == "time_difference" and same and above is not False and np.isfinite(found.p_value):
                yield _difference_sentence(found)


def is_above(peak: Finding) -> bool | None:
    """Return whether the best cell of a map is above chance at the 5 % level; None without a test or enough of it."""
    if not np.isfinite(peak.p_adjusted):
        return None
    return exceeds_chance(peak.p_value, peak.p_adjusted, n_permutations=peak.n_permutations)


def _peak_sentences(peak: Finding, above: bool | None) -> Iterator[str]:
    target, kind = shown_name(peak.target), layer_kind(peak.layer)
    where = bins_text(str(peak.bins_kind), [str(peak.bin)])
    score = f"{METRIC_NAMES[peak.metric]} = {peak.value}"
    p = f", Holm-adjusted {p_text(peak.p_adjusted)}" if np.isfinite(peak.p_adjusted) else ""
    if above is False:
        yield (
            f"{peak.encoder} does not predict {target} above chance from spans of any bin of time: the highest score "
            f"of all {kind}s and bins, that of {kind} {peak.layer} {where}, is {score}{p}."
        )
        return
    few = ""
    if above is None and peak.n_permutations:
        few = f"; better than in all {peak.n_permutations} permutations, too few for a test at the 5 % level"
    if peak.n_bins == 1:
        yield (
            f"{peak.encoder} predicts {target} from spans {where} best by {kind} {peak.layer} ({score}, the maximum "
            f"over {kind}s{p}{few})."
        )
        return
    yield (
        f"{peak.encoder} predicts {target} best from spans {where}, by {kind} {peak.layer} ({score}, the maximum over "
        f"{kind}s and {peak.n_bins} bins{p}{few})."
    )
    others = [name for name in peak.bins or () if name != peak.bin]
    if others:
        yield (
            f"For {target}, spans {bins_text(str(peak.bins_kind), others)} are not significantly worse in {kind} "
            f"{peak.layer} of {peak.encoder} (95 % set)."
        )
    elif peak.bins:
        yield (
            f"For {target}, spans of all other bins are significantly worse in {kind} {peak.layer} of {peak.encoder} "
            "by the probes of this run (95 % set)."
        )


def _difference_sentence(found: Finding) -> str:
    target, kind = shown_name(found.target), layer_kind(found.layer)
    numbers = f"Δ = {found.value}, Holm-adjusted {p_text(found.p_adjusted)}, for all pairs of bins"
    metric = METRIC_NAMES[found.metric]
    if is_significant(found.p_adjusted):
        better, worse = (bins_text(str(found.bins_kind), [str(name)]) for name in (found.bin, found.reference_bin))
        return (
            f"For {target}, {kind} {found.layer} of {found.encoder} scores better on spans {better} than on spans "
            f"{worse} ({metric}): {numbers}."
        )
    pair = joined_text([str(found.bin), str(found.reference_bin)])
    return (
        f"For {target}, no two bins of {kind} {found.layer} of {found.encoder} differ significantly if training "
        f"speakers vary, too ({metric}); the least p-value is that of {pair}: {numbers}."
    )
