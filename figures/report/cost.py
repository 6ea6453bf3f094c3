"""The report's section on score against cost."""

from __future__ import annotations

import pandas as pd

from layerprobe.analysis.cost.sentences import amount_text, candidate_text, cost_sentences, factor_text
from layerprobe.analysis.formatting import number_text, p_cell, range_text, shown_name
from layerprobe.analysis.study import Study
from layerprobe.figures.report.tables import INTERVAL, Section, Table
from layerprobe.figures.tables import NothingToPlotError, cost_rows

TITLE = "Score against cost"


def cost_section(study: Study) -> Section:
    """Return the section, without content where costs were not compared.

    Its table has the candidates on the Pareto front, the cheapest that suffices, and the lowest layers that suffice for
    their encoders.
    """
    try:
        table = cost_rows(study)
    except NothingToPlotError:
        return Section(TITLE)
    return Section(TITLE, cost_sentences(table), figure="cost", tables=[Table(*_table(table))])


def _table(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    by = str(table["cheapest_by"].iloc[0])
    shown = table[table[f"on_front_{by}"] | table["is_cheapest"] | table["is_smallest_layer"]]
    rows = [
        [
            *(
                shown_name(r["target"]),
                candidate_text(r),
                number_text(r["value"]),
                range_text(r["ci_low"], r["ci_high"]),
            ),
            *(amount_text(r["multiply_adds"]), amount_text(r["parameters"]), factor_text(r["real_time_factor"])),
            *(number_text(r[f"front_rate_{by}"]), number_text(r["behind_best"]), number_text(r["behind_at_most"])),
            p_cell(r["p_not_best"]),
        ]
        for r in shown.to_dict("records")
    ]
    header = ["target", "candidate", "score", INTERVAL, "multiply-adds per second", "parameters", "real-time factor"]
    return [*header, "on the front", "behind the best", "at most", "p"], rows
