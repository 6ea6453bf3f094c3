"""Findings about erasure: what a concept removes from the highest-scoring layer beyond random directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from layerprobe.analysis.findings.build import BCA, make_finding
from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.formatting import concept_text
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.permutation import is_significant
from layerprobe.analysis.study import Study

REFERENCE = "random directions"
METHOD = (
    "score without random directions minus score without the concept, erased linearly (LEACE) by the training speakers "
    "of each fold, at the highest-scoring layer; interval and p-value include the variance over random directions, and "
    f"the p-value that over training speakers; {BCA}"
)
SOURCE = (
    "Belrose et al. (2023), NeurIPS 36; Satterthwaite (1946), Biom. Bull. 2; Nadeau and Bengio (2003), Mach. Learn. 52"
)


def erasure_findings(study: Study) -> Iterator[Finding]:
    """Yield for each encoder, target and concept what it removes from the layer that scores highest as it is.

    The layer is chosen by its plain score, so that it is not chosen by what is removed.

    Args:
        study: of one or several runs; one without erased concepts has no such findings
    """
    for (_, _, concept), rows in study.erasure.groupby(["encoder", "target", "concept"], sort=False):
        known = rows[rows["plain"].notna()]
        if known.empty:
            continue
        layer = best_layer(known.set_index("layer")["plain"], metric=study.metric)
        row: dict[Any, Any] = known[known["layer"] == layer].iloc[0].to_dict()
        is_sure = np.array([is_significant(p) for p in rows["p_adjusted"].astype(float)], dtype=bool)
        more = is_sure & (rows["beyond_random"].astype(float) > 0).to_numpy()
        ends = {name: float(row[f"beyond_random_{name}"]) for name in ("ci_low", "ci_high")}
        fractions: dict[str, Any] = {
            name: _known(row[name]) for name in ("fraction", "fraction_ci_low", "fraction_ci_high", "fraction_random")
        }
        rank = row["concept_rank"]
        yield make_finding(
            "erasure",
            {**row, **ends, "estimate": row["beyond_random"]},
            study.metric,
            method=METHOD,
            source=SOURCE,
            detail=f"without {concept_text(concept)}",
            layers=tuple(map(str, rows["layer"][more])),
            reference=REFERENCE,
            concept=str(concept),
            rank=int(rank) if np.isfinite(rank) else None,
            removed=_known(row["removed"]),
            removed_random=_known(row["removed_random"]),
            is_above_chance=bool(row["is_above_chance"]),
            **fractions,
        )


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
