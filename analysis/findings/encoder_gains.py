"""Findings about what changed between two encoders with the same layers: gains of layers, and shifts of depth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layerprobe.analysis.encoder_pairs import EncoderComparison, compare_encoders
from layerprobe.analysis.findings.build import BCA, SHIFT_METHOD, SHIFT_SOURCE, make_finding
from layerprobe.analysis.findings.records import Finding
from layerprobe.analysis.layers.depth import INTERVALS, SHIFT
from layerprobe.analysis.statistics.permutation import is_significant
from layerprobe.analysis.study import Study

GAIN_METHOD = (
    "paired difference of the same layer of two encoders, at the layer where it is largest over its standard error; "
    "the p-value is adjusted for the layers by the maximum statistic over resamples of speakers, "
    f"and of scores below 0 it takes 0, except of errors and metrics of classes; {BCA}"
)
GAIN_SOURCE = "Romano and Wolf (2005), Econometrica 73; Efron (1987), JASA 82"


def encoder_gain_findings(study: Study, found: EncoderComparison | None = None) -> Iterator[Finding]:
    """The largest gain of each pair of encoders and target with all layers that differ, and the shift of depth.

    Args:
        study: of one or several runs
        found: gains and shifts; those of all encoders with the same architecture and layers if None
    """
    found = compare_encoders(study) if found is None else found
    for (_, reference, _), rows in found.gains.groupby(["encoder", "reference", "target"], sort=False):
        known = rows[rows["statistic"].notna() & rows["p_layers"].notna()]
        if known.empty:
            continue
        best = known.iloc[int(known["statistic"].abs().to_numpy().argmax())].to_dict()
        is_sure = np.array([is_significant(p) for p in rows["p_adjusted"]], dtype=bool)
        better, worse = (tuple(map(str, rows["layer"][is_sure & side])) for side in (
            (rows["estimate"] > 0).to_numpy(), (rows["estimate"] < 0).to_numpy()
        ))  # fmt: skip
        yield make_finding(
            "encoder_gain",
            {**best, "p_value": best["p_layers"]},
            study.metric,
            method=GAIN_METHOD,
            source=GAIN_SOURCE,
            detail=f"compared with {reference}",
            p_adjusted=float(best["p_adjusted"]),
            layers=better,
            worse_layers=worse,
            reference=str(reference),
            reference_layer=str(best["layer"]),
        )
    for row in found.shifts.to_dict("records"):
        detectable = float(row["detectable"])
        yield make_finding(
            "encoder_shift",
            {**row, "layer": "all"},
            study.shift_metric,
            interval=INTERVALS[SHIFT],
            method=SHIFT_METHOD,
            source=SHIFT_SOURCE,
            detail=f"compared with {row['reference']}",
            p_adjusted=float(row["p_adjusted"]),
            reference=str(row["reference"]),
            measure=SHIFT,
            n_blocks=int(row["n_blocks"]),
            detectable=detectable if np.isfinite(detectable) else None,
        )
