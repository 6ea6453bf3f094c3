"""The Finding record and findings.json; every sentence of a report is made from a record."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

NAMES = {
    "best_layer": "best layer",
    "best_set": "layers not told from the best",
    "chosen_layer": "layer chosen inside the training speakers",
    "weighted_sum": "weighted sum",
    "chance": "chance: the best layer on permuted ratings, in 95 % of permutations at most",
    "random_weights": "best layer of random weights",
    "above_random": "above the same layer with random weights",
    "selectivity": "above a control",
    "regret": "given away by a usual choice",
    "depth": "depth",
    "depth_difference": "depth difference",
    "unique": "unique share of the variance",
    "fused": "encoders together",
    "adds": "added to another encoder",
    "group": "score of a group",
    "transfer": "from one corpus to another",
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
    low: float  # NaN where there is no interval
    high: float
    spread: str  # what low and high are
    method: str
    source: str
    about: str = ""  # which choice, measure, control, source or group
    p: float = float("nan")  # of chance alone, NaN where nothing was tested
    p_adjusted: float = float("nan")  # Holm (1979), over all findings of the same name and kind

    @property
    def value(self) -> str:
        """The estimate with its spread, in words."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"{self.estimate:.2f}"
        return f"{self.estimate:.2f} ({self.spread} {self.low:.2f} to {self.high:.2f})"


def write_findings(path: Path, findings: list[Finding], *, fingerprint: str) -> None:
    """Write the records with the run's fingerprint; what is not known is null."""
    records = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(f).items()}
        for f in findings
    ]
    content = {"fingerprint": fingerprint, "findings": records}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
