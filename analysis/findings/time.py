"""Findings over time: the bin that predicts a target best, and whether bins differ."""

from __future__ import annotations

import math
from collections.abc import Iterator

from layerprobe.analysis.findings.build import BCA, make_finding
from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.statistics.bootstrap import N_RESAMPLES
from layerprobe.analysis.statistics.estimates import SIMULTANEOUS_SPEAKERS
from layerprobe.analysis.study import Study
from layerprobe.analysis.time.bins import bins_text

PEAK_METHOD = (
    "maximum over layers and bins, which is optimistic; the p-value is of the largest standardised score of all layers "
    f"and bins on permuted ratings, with the same permutation in all; {BCA}"
)
PEAK_SOURCE = "Westfall and Young (1993); Nichols and Holmes (2002), Human Brain Mapping 15"
DIFFERENCE_METHOD = (
    "the two bins of the highest-scoring layer with the least p-value of all pairs, better minus worse; interval and "
    "p-value hold for all pairs of its bins and for the training speakers, by the maximum statistic over "
    f"{N_RESAMPLES:,} resamples of speakers"
)
DIFFERENCE_SOURCE = "Romano and Wolf (2005), Econometrica 73; Nadeau and Bengio (2003), Mach. Learn. 52"


def time_findings(study: Study) -> Iterator[Finding]:
    """Yield for each encoder and target the best cell of its map, and whether bins of that layer differ.

    Args:
        study: of one or several runs; one without bins of time has no such findings
    """
    if study.bin_scores is None:
        return
    bins = study.bin_scores.bins
    for row in study.time_peak[study.time_peak["is_best"].eq(True)].to_dict("records"):
        tested = int(row["n_permutations"]) > 0
        yield make_finding(
            "time_peak",
            {**row, "estimate": row["value"], "p_value": row["p_adjusted"]},
            study.metric,
            method=PEAK_METHOD,
            source=PEAK_SOURCE,
            detail=bins_text(bins.kind, [str(row["bin"])]),
            bins=tuple(row["bins"]),
            n_bins=len(bins.names),
            n_permutations=int(row["n_permutations"]) if tested else None,
            bins_kind=bins.kind,
            bin=str(row["bin"]),
        )
        if not math.isfinite(row["difference"]):
            continue
        better, worse = str(row["better_bin"]), str(row["worse_bin"])
        ends = {"ci_low": row["difference_ci_low"], "ci_high": row["difference_ci_high"]}
        yield make_finding(
            "time_difference",
            {**row, **ends, "estimate": row["difference"], "p_value": row["p_difference"]},
            study.metric,
            interval=SIMULTANEOUS_SPEAKERS,
            method=DIFFERENCE_METHOD,
            source=DIFFERENCE_SOURCE,
            detail=f"{better} compared with {worse}",
            reference_bin=worse,
            bins_kind=bins.kind,
            bin=better,
        )
