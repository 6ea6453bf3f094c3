"""The bin of time that predicts a target best in each layer, and whether bins differ at all."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.analysis.statistics.simultaneous import max_statistic, simultaneous_margins
from layerprobe.analysis.time.maps import BinScores
from layerprobe.probe.metrics import CLASS_METRICS, LOWER_IS_BETTER

PEAK_COLUMNS = [
    "encoder", "target", "layer", "bin", "value", "ci_low", "ci_high", "interval", "bins", "p_adjusted", "chance",
    "n_permutations", "better_bin", "worse_bin", "difference", "difference_ci_low", "difference_ci_high",
    "p_difference", "is_best",
]  # fmt: skip


def time_peaks(table: pd.DataFrame, given: BinScores, *, inflation: float) -> pd.DataFrame:
    """Return the best bin of each layer, the bins that are not significantly worse, and whether bins differ.

    Args:
        table: of `analysis.time.maps.time_map`
        given: what the map was made from
        inflation: factor of the standard errors of differences, for the training speakers (`training_inflation`)

    Returns:
        `PEAK_COLUMNS`, a row for each encoder, target and layer. ``value, ci_low, ci_high, interval, p_adjusted,
        chance, n_permutations`` are those of the best bin, a maximum that is optimistic, and ``bins`` is a tuple of the
        95 % set. ``difference``, missing where a layer has one bin, is of the two bins with the least ``p_difference``
        of all pairs (of several, the two furthest from each other): that of ``better_bin`` minus that of ``worse_bin``,
        above 0 whatever the metric. Its interval and ``p_difference`` hold for all pairs at once, so that choosing one
        does not count as a result, and where it is not significant, no pair is. The bins are those with an interval,
        which the best one may lack. For ``p_difference`` a score below 0 counts as 0 (`_tested`). ``is_best`` marks the
        layer with the best cell
    """
    rows = []
    for (encoder, target), part in table.groupby(["encoder", "target"], sort=False):
        best_cell = best_layer(part["value"].astype(float), metric=given.metric)
        for layer, cells in part.groupby("layer", sort=False):
            own = cells.set_index("bin")
            best = best_layer(own["value"].astype(float), metric=given.metric)
            inside = own["in_best_set"].eq(True).fillna(False)
            row = {name: own[name].loc[best] for name in PEAK_COLUMNS if name in own}
            row |= {"encoder": encoder, "target": target, "layer": layer, "bin": best}
            row |= {"bins": tuple(map(str, own.index[inside])), "is_best": best_cell in map(str, cells.index)}
            rows.append({**row, **_difference(given, str(encoder), str(target), str(layer), inflation=inflation)})
    return pd.DataFrame(rows, columns=PEAK_COLUMNS)


def _difference(given: BinScores, encoder: str, target: str, layer: str, *, inflation: float) -> dict[str, object]:
    """Return the difference of two bins with the least p-value, of those of all pairs of bins."""
    found = given.row(encoder, target, layer)
    if found is None:
        return {"better_bin": "", "worse_bin": "", "difference": np.nan}
    names, sample = found
    pairs = pair_differences(sample)
    p = max_statistic(pairs, inflation=inflation, tested=_tested(sample, pairs, given.metric))
    size = np.abs(pairs.estimate)
    chosen = int(np.lexsort((-size, np.where(np.isfinite(p), p, np.inf)))[0])
    estimate, margin = float(size[chosen]), float(simultaneous_margins(pairs, inflation=inflation)[chosen])
    first, second = (names[int(side[chosen])] for side in _pairs(len(names)))
    is_first = (pairs.estimate[chosen] >= 0) != given.lower_is_better
    return {
        "better_bin": first if is_first else second,
        "worse_bin": second if is_first else first,
        "difference": estimate,
        "difference_ci_low": estimate - margin,
        "difference_ci_high": estimate + margin,
        "p_difference": float(p[chosen]),
    }


def pair_differences(sample: BootstrapSample) -> BootstrapSample:
    """Return the paired differences of all pairs of ``(n,)`` scores, ``(n (n − 1) / 2,)``, first minus second."""
    first, second = _pairs(len(sample.estimate))
    return sample[first] - sample[second]


def _tested(sample: BootstrapSample, pairs: BootstrapSample, metric: str) -> np.ndarray:
    """Return the differences that are tested, those of scores of at least 0; errors and metrics of classes as they are.

    A bin that carries nothing scores below 0 by chance, and no worse than the mean rating; see
    `analysis.layers.encoder_gains`.
    """
    if metric in LOWER_IS_BETTER or metric in CLASS_METRICS:
        return pairs.estimate
    first, second = _pairs(len(sample.estimate))
    floored = np.maximum(sample.estimate, 0.0)
    return np.where(pairs.estimate == 0, 0.0, floored[first] - floored[second])


def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.array(side) for side in zip(*combinations(range(n), 2), strict=True))
    return first, second
