"""Tables of a study by hand, as `analysis.answers` reads them: two encoders with three layers, acoustic features."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import KEYS, BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.probe.results.run_folder import CHOSEN

LAYERS = {"a_b & co": ["0", "1", "2"], "other": ["0", "1", "2"], "acoustic": ["pitch", "loudness"]}
SCORES = {  # of each encoder's layers, and of the layer selected by cross-validation
    ("a_b & co", "none"): [0.2, 0.5, 0.4, 0.45],
    ("a_b & co", "random_init"): [0.3, 0.1, 0.2, np.nan],
    ("other", "none"): [0.1, 0.2, 0.6, 0.58],
    ("acoustic", "none"): [0.15, 0.35, 0.33],
}


@dataclass
class HandStudy:
    """What `analysis.answers.Tables` needs, with numbers that can be checked by eye."""

    p_permutation: dict[str, float] = field(default_factory=lambda: {"a_b & co": 0.01, "other": 0.02, "acoustic": 0.4})
    p_difference: float = 0.03
    n_permutations: int = 99
    layers: dict[str, list[str]] = field(default_factory=lambda: dict(LAYERS))
    metric: str = "ccc_matched"
    targets: tuple[str, ...] = ("arousal",)
    lower_is_better: bool = False

    @property
    def table(self) -> pd.DataFrame:
        rows = []
        for (encoder, control), values in SCORES.items():
            for layer, value in zip(self.layers[encoder], values, strict=False):
                inside = control == "none" and value >= 0.4
                rows.append(_row(encoder, control, layer) | {"value": value, "in_best_set": inside})
        for baseline, value in (("text_only", 0.12), ("single_rater", 0.7), ("duration_loudness", 0.31)):
            rows.append(_row("", "none", "") | {"baseline": baseline, "value": value, "in_best_set": False})
        return pd.DataFrame(rows)

    @property
    def bootstrap(self) -> BootstrapScores:
        keys, values = [], []
        for (encoder, control), scores in SCORES.items():
            names = [*self.layers[encoder], CHOSEN]
            for layer, value in zip(names, scores, strict=True):
                if np.isfinite(value):
                    keys.append(_row(encoder, control, layer))
                    values.append(value)
        noise = np.random.default_rng(0).normal(scale=0.02, size=(400, 1))
        estimate = np.array(values)
        left_out = estimate + np.linspace(-0.002, 0.002, 20)[:, None]
        return BootstrapScores(
            self.metric, pd.DataFrame(keys)[KEYS], BootstrapSample(estimate, estimate + noise, left_out), 20
        )

    @property
    def permutations(self) -> pd.DataFrame:
        common = {"target": "arousal", "chance": 0.25, "n_permutations": self.n_permutations, "control": "permuted"}
        return pd.DataFrame(
            [
                {"encoder": encoder, **common, "layer": layer, "p_permutation": p if k == 1 else 0.9}
                for encoder, p in self.p_permutation.items()
                for k, layer in enumerate(self.layers[encoder])
            ]
        )

    @property
    def gain_over_best_random(self) -> pd.DataFrame:
        row = {"encoder": "a_b & co", "target": "arousal", "layer": "1", "reference_layer": "0"}
        return pd.DataFrame([{**row, "value": 0.2, "ci_low": 0.1, "ci_high": 0.3, "p_value": 0.001}])

    @property
    def encoder_differences(self) -> pd.DataFrame:
        row = {"target": "arousal", "encoder": "other", "reference": "a_b & co", "estimate": 0.13}
        return pd.DataFrame([{**row, "ci_low": 0.02, "ci_high": 0.24, "p_value": self.p_difference}])

    @property
    def contrasts(self) -> pd.DataFrame:
        common = {"measure": "score_centre", "deeper": "valence", "shallower": "arousal", "control": "none"}
        common |= {"detectable": np.nan}
        rows = [("a_b & co", 0.3, 0.1, 0.5, 0.01, 0.02), ("other", 0.05, -0.1, 0.2, 0.5, 0.5)]
        ends = ("encoder", "estimate", "ci_low", "ci_high", "p_value", "p_adjusted")
        return pd.DataFrame(
            [{**common, "name": "valence − arousal", **dict(zip(ends, row, strict=True))} for row in rows]
        )


def _row(encoder: str, control: str, layer: str) -> dict[str, object]:
    fixed = {"baseline": "", "train_corpus": "", "covariates": "", "probe": "ridge", "target": "arousal"}
    return dict.fromkeys(KEYS, "") | {"encoder": encoder, "control": control, "layer": layer} | fixed
