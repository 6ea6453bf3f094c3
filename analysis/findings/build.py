"""Build a finding from a row of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.bootstrap import N_RESAMPLES
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS
from layerprobe.analysis.study import Study

BCA = (
    f"BCa bootstrap over {N_RESAMPLES:,} resamples of speakers, shared by all layers, targets and encoders; expanded "
    "percentiles for few speakers"
)
SELECTED = "per fold the layer with the lowest error on the inner folds of the training speakers"
SHIFT_METHOD = (
    "shift with the highest correlation of both profiles over relative depth, mean of the shifts of scores and of "
    "signal-to-noise r² / (1 − r²); the interval holds those of both scales, and the p-value is the larger one; "
    f"expanded percentiles of {N_RESAMPLES:,} resamples of speakers"
)
SHIFT_SOURCE = "Knapp and Carter (1976), IEEE TASSP 24; Berger (1982), Technometrics 24; Bloom (1995), Eval. Rev. 19"
LIN, EFRON = "Lin (1989), Biometrics 45", "Efron (1987), JASA 82; Hesterberg (2015), Am. Stat. 69"


def make_finding(
    name: str,
    row: Mapping[Any, Any],
    metric: str,
    *,
    method: str,
    source: str,
    interval: str | None = None,
    **fields: Any,
) -> Finding:
    """Return a finding from a row with ``encoder, target, layer, estimate`` and its ``ci_low, ci_high, p_value``.

    Args:
        name: a key of `analysis.findings.records.NAMES`
        row: of a table
        metric: a key of `METRIC_NAMES`
        method: how the estimate was computed
        source: reference of the method
        interval: BCa over speakers if None; empty where the row has no ends
        fields: further fields of `Finding`
    """
    estimate, low, high, p_value = (float(row.get(k, math.nan)) for k in ("estimate", "ci_low", "ci_high", "p_value"))
    has_interval = math.isfinite(low) and math.isfinite(high)
    return Finding(
        name=name,
        encoder=str(row["encoder"]),
        target=str(row["target"]),
        layer=str(row["layer"]),
        metric=metric,
        estimate=estimate,
        ci_low=low,
        ci_high=high,
        interval=(interval or BCA_SPEAKERS) if has_interval else "",
        method=method,
        source=source,
        p_value=p_value,
        **fields,
    )


def untested(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the row without a p-value: that a score or a depth is 0 is no hypothesis."""
    return {**row, "p_value": math.nan}


def scored(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a row of `Study.table` with an estimate; scores are tested against chance, and not one by one."""
    return untested({**row, "estimate": row["value"]})


def compared(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return the fields of a difference that name what an encoder was compared with, from a row of paired differences.

    Args:
        row: of `analysis.model_comparison.paired_differences`
    """
    reference = str(row["reference"])
    return {
        "reference": reference,
        "reference_layer": str(row["reference_layer"]),
        "detail": f"compared with {reference}",
    }


def best_of(study: Study, encoder: object, target: object) -> str:
    """Return the highest-scoring layer of an encoder for a target."""
    rows = study.table[(study.table["encoder"] == encoder) & (study.table["target"] == target)]
    rows = rows[(rows["probe"] == "ridge") & (rows["control"] == "none")]
    return best_layer(rows.set_index("layer")["value"], metric=study.metric)


def row_of(table: pd.DataFrame, layer: str) -> dict[Any, Any]:
    """Return the row of a layer."""
    return dict(table[table["layer"] == layer].iloc[0].to_dict())
