"""Records of findings with plain values."""

from __future__ import annotations

from layerprobe.analysis.findings.records import Finding

NAN = float("nan")


def finding(name="best_layer", estimate=0.6, low=0.5, high=0.7, **fields):
    of = {"encoder": "e", "target": "arousal", "layer": "1", "metric": "ccc_matched", "spread": "95 % over speakers"}
    return Finding(name, **{**of, "method": "m", "source": "s", **fields}, estimate=estimate, low=low, high=high)
