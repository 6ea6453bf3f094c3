"""The sections of a report on time: the heatmap of layers and bins with a table of peaks, and the curves."""

from __future__ import annotations

from layerprobe.analysis.formatting import NONE, number_text, p_cell, range_text, shown_name
from layerprobe.analysis.study import Study
from layerprobe.figures.report.tables import INTERVAL, Section, Table

TEXT = (
    "Spans of an utterance are averaged in each bin of time, and the rating of the utterance is predicted from them by "
    "a fit of its own for each bin, with the same folds of speakers in all. An encoder reads the whole utterance, so "
    "that a span may carry what was spoken before or after it.",
    "The table has the best bin of each layer; its p-value is corrected for all layers and bins. The difference is "
    "that of the two bins with the least p-value of all pairs; its interval and p-value hold for all pairs of bins at "
    "once, and for other training speakers. A bin that fewer utterances reach trains on fewer of them, and scores "
    "lower for that alone.",
)


def time_sections(study: Study) -> list[Section]:
    """Return the sections, which have no content where no run was swept by bins of time."""
    if study.time_map.empty:
        return []
    rows = []
    for row in study.time_peak.to_dict("records"):
        names = [row["encoder"], shown_name(row["target"]), str(row["layer"]), str(row["bin"])]
        score = [number_text(row["value"]), range_text(row["ci_low"], row["ci_high"]), p_cell(row["p_adjusted"])]
        ends = range_text(row["difference_ci_low"], row["difference_ci_high"])
        difference = [number_text(row["difference"]), ends, p_cell(row["p_difference"])]
        compared = f"{row['better_bin']} with {row['worse_bin']}" if row["better_bin"] else NONE
        rows.append([*names, *score, ", ".join(row["bins"]) or NONE, compared, *difference])
    header = ["encoder", "target", "layer", "best bin", "score", INTERVAL, "p", "95 % set", "compared"]
    table = Table([*header, "difference", INTERVAL, "p (difference)"], rows, is_folded=len(rows) > 30)
    return [
        Section("When", list(TEXT), figure="time-map", tables=[table]),
        Section("Curves over time", figure="time-curve"),
    ]
