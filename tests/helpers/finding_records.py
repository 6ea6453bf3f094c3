"""Findings with plain values."""

from __future__ import annotations

from layerprobe.analysis.findings.records import Finding

NAN = float("nan")


def finding(name="highest_scoring_layer", estimate=0.6, ci_low=0.5, ci_high=0.7, **fields):
    plain = {"encoder": "e", "target": "arousal", "layer": "1", "metric": "ccc_matched", "interval": "bca_95_speakers"}
    values = {**plain, "method": "m", "source": "s", **fields}
    return Finding(name, **values, estimate=estimate, ci_low=ci_low, ci_high=ci_high)
