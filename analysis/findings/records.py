"""The Finding record and findings.json; every sentence of a report is made from a record."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from layerprobe.analysis.statistics.estimates import INTERVAL_NAMES

NAMES = {
    "highest_scoring_layer": "best layer",
    "best_set": "layers not told from the best",
    "cv_selected_layer": "layer chosen inside the training speakers",
    "weighted_sum": "weighted sum",
    "chance": "chance: the best layer on permuted ratings, in 95 % of permutations at most",
    "random_init": "best layer of random weights",
    "gain_over_random": "above the same layer with random weights",
    "selectivity": "above a control",
    "regret": "given away by a usual choice",
    "depth": "depth",
    "depth_difference": "depth difference",
    "unique_variance": "unique share of the variance",
    "fusion": "encoders together",
    "fusion_gain": "added to another encoder",
    "subgroup": "score of a group",
    "cross_corpus": "from one corpus to another",
}


@dataclass(frozen=True)
class Finding:
    """One answer with its interval, how it was found, and whose method that is."""

    name: str  # a key of `NAMES`
    encoder: str
    target: str
    layer: str
    metric: str
    estimate: float
    ci_low: float  # NaN where there is no interval
    ci_high: float
    interval: str  # how it was made, a key of `INTERVAL_NAMES`; empty where there is none
    method: str
    source: str
    detail: str = ""  # which choice, measure, control, source or group
    p_value: float = float("nan")  # of chance alone, NaN where nothing was tested
    p_adjusted: float = float("nan")  # Holm (1979), over all findings of the same name and kind

    @property
    def value(self) -> str:
        """The estimate with its spread, in words."""
        if not (math.isfinite(self.ci_low) and math.isfinite(self.ci_high)):
            return f"{self.estimate:.2f}"
        return f"{self.estimate:.2f} ({INTERVAL_NAMES[self.interval]} {self.ci_low:.2f} to {self.ci_high:.2f})"


def write_findings(path: Path, findings: list[Finding], *, fingerprint: str) -> None:
    """Write the records with the run's fingerprint; what is not known is null."""
    records = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(f).items()}
        for f in findings
    ]
    content = {"fingerprint": fingerprint, "findings": records}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
