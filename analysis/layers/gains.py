"""Gains of trained layers over random initialisation: over the same layer, and over the best untrained layer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample, Estimate

ENDS = ["value", "ci_low", "ci_high", "p_value"]


def gains_over_random(
    bootstrap: BootstrapScores, *, layers: dict[str, list[str]], targets: list[str], lower_is_better: bool = False
) -> pd.DataFrame:
    """Return the gain of each layer over the same layer with random initialisation.

    Args:
        bootstrap: scores of trained and untrained encoders, in the same resamples
        layers: for each encoder its layers in order
        targets: in order
        lower_is_better: whether the metric is an error

    Returns:
        ``encoder, target, layer, value, ci_low, ci_high, p_value``; above 0 where training made the layer better
    """
    rows = []
    for encoder, names in layers.items():
        for target in targets:
            trained, untrained = _pair(bootstrap, encoder, target, names)
            if trained is None or untrained is None:
                continue
            gain = untrained - trained if lower_is_better else trained - untrained
            for layer, found in zip(names, gain.estimated(), strict=True):
                rows.append({"encoder": encoder, "target": target, "layer": layer, **_ends(found)})
    return pd.DataFrame(rows, columns=["encoder", "target", "layer", *ENDS])


def gains_over_best_random(
    bootstrap: BootstrapScores, *, layers: dict[str, list[str]], targets: list[str], lower_is_better: bool = False
) -> pd.DataFrame:
    """Return the gain of the highest-scoring trained layer over the highest-scoring untrained layer.

    Both are maxima over as many layers, so neither has an advantage; the untrained encoder may score highest at another
    depth than the trained one. Arguments as of `gains_over_random`.

    Returns:
        ``encoder, target, layer, reference_layer, value, ci_low, ci_high, p_value``, a row per encoder and target
    """
    rows, sign = [], -1.0 if lower_is_better else 1.0
    for encoder, names in layers.items():
        for target in targets:
            trained, untrained = _pair(bootstrap, encoder, target, names)
            if trained is None or untrained is None or not _all_finite(trained, untrained):
                continue
            best, reference = (int(np.argmax(sign * sample.estimate)) for sample in (trained, untrained))
            pair = trained[best], untrained[reference]
            found = (pair[1] - pair[0] if lower_is_better else pair[0] - pair[1]).one()
            label = {"encoder": encoder, "target": target, "layer": names[best], "reference_layer": names[reference]}
            rows.append({**label, **_ends(found)})
    return pd.DataFrame(rows, columns=["encoder", "target", "layer", "reference_layer", *ENDS])


def _pair(
    bootstrap: BootstrapScores, encoder: str, target: str, names: list[str]
) -> tuple[BootstrapSample | None, BootstrapSample | None]:
    labels = {"encoder": encoder, "target": target, "probe": "ridge"}
    return bootstrap.of(names, **labels, control="none"), bootstrap.of(names, **labels, control="random_init")


def _ends(found: Estimate) -> dict[str, float]:
    return {"value": found.estimate, "ci_low": found.ci_low, "ci_high": found.ci_high, "p_value": found.p_value}


def _all_finite(*samples: BootstrapSample) -> bool:
    return all(bool(np.isfinite(sample.estimate).all()) for sample in samples)
