"""Sentences on a table of costs, one for each target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from layerprobe.analysis.formatting import layer_kind, layer_ranges, number_text, shown_name
from layerprobe.probe.cost.settings import COSTS
from layerprobe.probe.results.run_folder import CHOSEN, TRAINED

SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
MEANING = (
    "Not significantly worse is not equal: the differences are those from the highest-scoring candidate, each with an "
    "upper 95 % bound that holds for all candidates together."
)
NOT_COUNTED = "The recogniser that makes transcripts is not part of any cost; nor are reading files and pooling."


def cost_sentences(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each target, then what they mean and what is not known.

    Args:
        table: of `analysis.cost.table.cost_table`
    """
    found = [_sentence(rows) for _, rows in table.groupby("target", sort=False)]
    found += [MEANING] if table["in_best_set"].notna().any() else []
    found.append(NOT_COUNTED)
    return [*found, *dict.fromkeys(reason for reason in table["reason"] if reason)]


def measured_sentence(table: pd.DataFrame) -> list[str]:
    """Return a sentence on where times were measured, none if they were not.

    Args:
        table: of `analysis.cost.table.cost_table`
    """
    timed = table[table["real_time_factor"].notna()]
    if timed.empty:
        return []
    precisions = ", ".join(dict.fromkeys(timed["precision"]))
    return [f"Real-time factors (RTF): {machine_text(timed)}, {precisions}, median of passes in turn."]


def machine_text(table: pd.DataFrame) -> str:
    """Return processor, threads and duration with which times of a table were measured."""
    processor, threads, seconds = (table[name].iloc[0] for name in ("processor", "threads", "seconds"))
    plural = "s" if int(threads) > 1 else ""
    return f"{processor}, one process, {threads} thread{plural}, {seconds} s of audio"


def candidate_text(row: dict[Any, Any]) -> str:
    """Return what a candidate is called in a sentence.

    >>> candidate_text({"encoder": "embedded", "probe": "ridge", "layer": "3"})
    'layer 3 of embedded'
    """
    encoder, probe, layer = row["encoder"], row["probe"], str(row["layer"])
    if probe == TRAINED:
        return f"the regressor {encoder}"
    if probe == "ridge":
        return f"{layer_kind(layer)} {shown_name(layer)} of {encoder}"
    return f"the {shown_name(probe)} of {encoder}" if layer != CHOSEN else f"{encoder}, fused"


def amount_text(value: float, *, digits: int = 1) -> str:
    """Return a large number with a letter for its power of a thousand.

    >>> amount_text(1.23e9), amount_text(513.0), amount_text(float("nan"))
    ('1.2 G', '513', '–')
    """
    for scale, letter in SCALES:
        if np.isfinite(value) and value >= scale:
            return f"{value / scale:.{digits}f} {letter}"
    return number_text(value, digits=0)


def factor_text(value: float) -> str:
    """Return a real-time factor with two significant digits.

    >>> factor_text(0.00412), factor_text(1.5), factor_text(0.0000039), factor_text(float("nan"))
    ('.0041', '1.5', '3.9e-06', '–')
    """
    if not np.isfinite(value):
        return number_text(value)
    if 0 < value < 1e-4:
        return f"{value:.1e}"
    return np.format_float_positional(value, precision=2, fractional=False, trim="-").removeprefix("0") or "0"


def _costs_text(row: dict[Any, Any]) -> str:
    texts = []
    if np.isfinite(row["multiply_adds"]):
        texts.append(f"{amount_text(row['multiply_adds'])} multiply-adds per second")
    if np.isfinite(row["parameters"]):
        texts.append(f"{amount_text(row['parameters'])} parameters")
    if np.isfinite(row["real_time_factor"]):
        texts.append(f"RTF {factor_text(row['real_time_factor'])}")
    return ", ".join(texts)


def _sentence(rows: pd.DataFrame) -> str:
    target, by = shown_name(rows["target"].iloc[0]), str(rows["cheapest_by"].iloc[0])
    if rows["p_not_best"].isna().all():
        return (
            f"{target}: which candidates are not significantly worse than the best is not known: too few speakers, or "
            "a score that is not defined."
        )
    priced, inside = rows[rows[by].notna()], rows[rows["is_cheapest"]]
    top = rows.sort_values("behind_best", kind="stable").iloc[0].to_dict()
    if inside.empty:
        text = f"{target}: every candidate with a known cost is significantly worse than the best"
        text += f" ({candidate_text(top)})"
    else:
        row = inside.iloc[0].to_dict()
        text = f"{target}: {candidate_text(row)} ({_score_text(row)}, {_costs_text(row)}) is the cheapest of "
        text += f"{len(priced)} candidates{' with a known cost' * (len(priced) < len(rows))} "
        ends = f"difference {number_text(row['behind_best'])}, at most {number_text(row['behind_at_most'])}"
        if row["behind_best"] == 0:
            text += "that is not significantly worse than the best, and has the highest score itself"
        else:
            text += f"that is not significantly worse than the best ({candidate_text(top)}, {ends})"
    others = rows[rows["in_best_set"].eq(True) & rows[by].isna()]
    if len(others):
        text += (
            f"; not significantly worse{' either' * (not inside.empty)}, with unknown {COSTS[by]}: {_listed(others)}"
        )
    own = rows[rows["is_smallest_layer"]].to_dict("records")
    names = ", ".join(f"{candidate_text(one)} ({number_text(one['value'])})" for one in own)
    return f"{text}. Lowest in the 95 % set of its own encoder: {names}." if own else f"{text}."


def _score_text(row: dict[Any, Any]) -> str:
    score = number_text(row["value"])
    return (
        score if np.isnan(row["ci_low"]) else f"{score} [{number_text(row['ci_low'])}, {number_text(row['ci_high'])}]"
    )


def _listed(rows: pd.DataFrame) -> str:
    """Return several candidates, the layers of an encoder together."""
    names = []
    for encoder, group in rows[rows["probe"] == "ridge"].groupby("encoder", sort=False):
        layers = list(group["layer"])
        kind = layer_kind(layers[0]) + "s" * (len(layers) > 1)
        names.append(f"{kind} {shown_name(layer_ranges(layers))} of {encoder}")
    return " and ".join([*names, *map(candidate_text, rows[rows["probe"] != "ridge"].to_dict("records"))])
