"""Tidy rows behind the figures over time, with the columns of the CSV that is saved next to them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.analysis.study import Study
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.figures.errors import NothingToPlotError
from layerprobe.probe.layer_names import is_stack, relative_depth

INTERVAL = ["ci_low", "ci_high", "interval"]
TESTS = ["p_permutation", "p_adjusted", "chance", "n_permutations", "in_best_set", "p_not_best"]
COLUMNS = [
    "encoder", "target", "layer", "relative_depth", "bin", "bin_low", "bin_high", "metric", "value", *INTERVAL, *TESTS,
    "n_utterances", "n_speakers",
]  # fmt: skip


def time_bins(study: Study) -> TimeBins:
    """Return the bins of a study, in order.

    Raises:
        NothingToPlotError: if it has none
    """
    if study.bin_scores is None or study.time_map.empty:
        raise NothingToPlotError(
            "LP795",
            f"{study.folders[0]} has no scores over time for these targets. Sweep a cache of spans with --by position.",
        )
    return study.bin_scores.bins


def time_table(study: Study) -> pd.DataFrame:
    """Return the score of each layer in each bin of time.

    Returns:
        ``encoder, target, layer, relative_depth, bin``, the ends ``bin_low, bin_high`` of the bin (a fraction of the
        utterance, or seconds; NaN for labels), ``metric, value``, the 95 % interval ``ci_low, ci_high, interval``, and
        ``p_permutation, p_adjusted, chance, n_permutations, in_best_set, p_not_best, n_utterances, n_speakers`` as of
        `analysis.time.maps.time_map`

    Raises:
        NothingToPlotError: if no run was swept by bins of time
    """
    bins, rows = time_bins(study), study.time_map
    ends = dict(zip(bins.names, bins.edges, strict=True)) if bins.has_edges else {}
    low, high = ([ends.get(name, (np.nan, np.nan))[k] for name in rows["bin"]] for k in (0, 1))
    depths: dict[tuple[str, str], float] = {}
    for encoder, names in study.layers.items():
        if is_stack(names):
            depths |= {(encoder, name): float(d) for name, d in zip(names, relative_depth(names), strict=True)}
    depth = [depths.get(pair, np.nan) for pair in zip(rows["encoder"], rows["layer"], strict=True)]
    return rows.assign(bin_low=low, bin_high=high, relative_depth=depth, metric=study.metric)[COLUMNS]
