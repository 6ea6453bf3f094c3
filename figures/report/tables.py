"""Sections and tables of a report, its table of all findings, and the tooltips of its heatmap."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from layerprobe.analysis.findings.records import NAMES, Finding
from layerprobe.analysis.formatting import NONE, layer_kind, layer_text, number_text, p_cell, range_text, shown_name
from layerprobe.analysis.statistics.estimates import INTERVAL_NAMES
from layerprobe.probe.metrics import METRIC_NAMES

INTERVAL = "95 % CI"


@dataclass(frozen=True)
class Table:
    """Cells as text; each number, interval and layer has a column of its own."""

    header: list[str]
    rows: list[list[str]]
    is_folded: bool = False  # whether it is shown on demand


@dataclass(frozen=True)
class Section:
    """One section of the page; what is empty is left out."""

    title: str
    text: list[str] = field(default_factory=list)
    figure: str = ""  # a key of the page's figures
    tables: list[Table] = field(default_factory=list)


def findings_table(findings: list[Finding]) -> Table:
    """Return a row for each finding."""
    rows = []
    for f in findings:
        estimate = number_text(f.estimate, digits=0 if f.name == "best_set" else 2)
        names = [f.encoder, shown_name(f.target), NAMES[f.name], f.detail or NONE, layer_text(f.layer)]
        numbers = [METRIC_NAMES.get(f.metric, "layers"), estimate, range_text(f.ci_low, f.ci_high)]
        rows.append([*names, *numbers, p_cell(f.p_value), p_cell(f.p_adjusted)])
    names = ["encoder", "target", "finding", "detail", "layer", "metric", "estimate", INTERVAL, "p", "p (Holm)"]
    return Table(names, rows, is_folded=True)


def cell_texts(cells: pd.DataFrame, table: pd.DataFrame, metric: str) -> list[str]:
    """Return the tooltip of each cell of the heatmap.

    Args:
        cells: rows ``encoder, control, target, layer`` in the order of the figure's cells
        table: `Study.table` of the ridge
        metric: a key of `METRIC_NAMES`
    """
    keys = ["encoder", "control", "target", "layer"]
    texts = []
    for row in cells[keys].merge(table, how="left", on=keys, validate="one_to_one").to_dict("records"):
        text = f"{row['encoder']}, {shown_name(row['target'])}, {layer_kind(row['layer'])} {row['layer']}"
        if row["control"] != "none":
            text += f" ({shown_name(row['control'])})"
        text += f": {METRIC_NAMES[metric]} {number_text(row['value'], digits=3)}"
        if np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"]):
            text += f", {INTERVAL_NAMES[row['interval']]} {range_text(row['ci_low'], row['ci_high'], digits=3)}"
        if np.isfinite(row.get("alpha", np.nan)):
            text += f", median alpha {row['alpha']:g}"
        if row["control"] == "none" and row["in_best_set"]:
            text += ", in the 95 % set of best layers"
        texts.append(text)
    return texts
