"""The section of a report on erasure: the figure, and what each concept removes from the highest-scoring layer."""

from __future__ import annotations

from typing import Any

from layerprobe.analysis.findings.erasure_sentences import percent_text
from layerprobe.analysis.formatting import NONE, concept_text, number_text, p_cell, range_text, shown_name
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.study import Study
from layerprobe.figures.report.tables import INTERVAL, Section, Table

TEXT = (
    "A layer may predict a target only through another property of speech, such as arousal through loudness. What the "
    "layer linearly encodes of a concept is erased by the training speakers of each fold, and the target is probed "
    "again. Erasing any directions may lower a score, so random directions of the same rank are erased, too: a concept "
    "counts only for what it removes beyond these.",
    "The table has the highest-scoring layer of each target, chosen by its score with nothing erased. Removed is the "
    "fraction of R², above 100 % where the score without the concept is worse than that of the mean rating; it is not "
    "defined where the layer does not predict the target above chance, or R² is less than three standard errors above "
    "0. The difference is the score without random "
    "directions minus that without the concept; its p-value is adjusted for all layers and concepts of the encoder and "
    "target, and those of the statements above, which are on this layer alone, for the concepts.",
    "A low score without a concept does not show that the encoder uses the concept for the target: both may have a "
    "common cause. A score that stays does not show that the concept plays no part: what a layer encodes of it in "
    "other ways than linearly is not erased. The last columns are Pearson's r of the concept itself in unseen "
    "speakers, before and after it was erased; refitted is that of a probe of other unseen speakers, which finds what "
    "the training speakers do not determine.",
)


def erasure_sections(study: Study) -> list[Section]:
    """Return the section; none where no concept was erased.

    Args:
        study: of one or several runs
    """
    rows = []
    for _, part in study.erasure.groupby(["encoder", "target", "concept"], sort=False):
        known = part[part["plain"].notna()]
        if known.empty:
            continue
        layer = best_layer(known.set_index("layer")["plain"], metric=study.metric)
        rows.append(_cells(known[known["layer"] == layer].iloc[0].to_dict()))
    if not rows:
        return []
    header = ["encoder", "target", "without", "layer", "plain", "score", INTERVAL, "removed (%)", INTERVAL, "rank"]
    header += ["removed by random directions (%)", "difference", INTERVAL, "p (adjusted)", "concept alone"]
    header += ["concept r before", "concept r", "concept r, refitted"]
    return [
        Section("Through what", list(TEXT), figure="erasure", tables=[Table(header, rows, is_folded=len(rows) > 30)])
    ]


def _cells(row: dict[Any, Any]) -> list[str]:
    names = [row["encoder"], shown_name(row["target"]), concept_text(row["concept"]), row["layer"]]
    score = [
        number_text(row["plain"]),
        number_text(row["erased"]),
        range_text(row["erased_ci_low"], row["erased_ci_high"]),
    ]
    ends = range_text(100 * row["fraction_ci_low"], 100 * row["fraction_ci_high"], digits=0)
    fraction = [percent_text(row["fraction"]), ends, number_text(row["concept_rank"], digits=0)]
    difference = [
        *(percent_text(row["fraction_random"]), number_text(row["beyond_random"])),
        *(range_text(row["beyond_random_ci_low"], row["beyond_random_ci_high"]), p_cell(row["p_adjusted"])),
    ]
    decoded = [number_text(row[name]) for name in ("concept_r_before", "concept_r", "concept_r_refit")]
    return [*map(str, names), *score, *fraction, *difference, number_text(row["concept_alone"]) or NONE, *decoded]
