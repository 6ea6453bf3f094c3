"""What each layer says about each target, from tidy scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.probe.metrics import LOWER_IS_BETTER
from layerprobe.probe.results.run_folder import CONDITIONS, POOLED

KEYS = ["encoder", "control", *CONDITIONS, "probe", "target", "layer"]
FOLDS, SPEAKERS = "folds", "95 % over speakers"  # what a range of scores is


def layer_scores(scores: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """One row per encoder, control, probe, target and layer.

    Args:
        scores: tidy rows ``encoder, probe, layer, target, control, fold, seed, metric, value``
        metric: a key of `METRIC_NAMES`

    Returns:
        ``value``, the score over all held-out utterances, and ``lowest`` and ``highest`` over the folds, each a
        mean over seeds; ``seed_min`` and ``seed_max``, the range over seeds of the pooled score

    Raises:
        ValueError: if the table has no such metric
    """
    rows = scores[scores["metric"] == metric]
    if rows.empty:
        raise ValueError(f"no score is called {metric!r}; choose one of {', '.join(sorted(set(scores['metric'])))}")
    keys = KEYS
    is_pooled = rows["fold"] == POOLED
    by_seed = rows[is_pooled].groupby(keys, sort=False)["value"]
    folds = rows[~is_pooled].groupby([*keys, "fold"], sort=False)["value"].mean().groupby(keys, sort=False)
    columns = {
        "value": by_seed.mean(),
        "lowest": folds.min(),
        "highest": folds.max(),
        "seed_min": by_seed.min(),
        "seed_max": by_seed.max(),
    }
    return pd.DataFrame(columns).reindex(columns["value"].index).reset_index()  # in the run's own order


def with_intervals(table: pd.DataFrame, intervals: pd.DataFrame | None) -> pd.DataFrame:
    """`layer_scores` whose ``lowest`` and ``highest`` are interval ends where there are any.

    Args:
        table: as `layer_scores` gives it
        intervals: rows ``encoder, control, probe, target, layer, low, high``, as of `analysis.intervals`

    Returns:
        the same rows with ``spread``, which says what ``lowest`` and ``highest`` are
    """
    if intervals is None or intervals.empty:
        return table.assign(spread=FOLDS)
    merged = table.merge(intervals, how="left", on=KEYS)
    known = merged["low"].notna() & merged["high"].notna()
    merged["lowest"] = merged["low"].where(known, merged["lowest"])
    merged["highest"] = merged["high"].where(known, merged["highest"])
    merged["spread"] = np.where(known, SPEAKERS, FOLDS)
    return merged.drop(columns=["low", "high"])


def best_layer(values: pd.Series[float], *, metric: str) -> str:
    """The layer with the best value; ``values`` is indexed by layer name, NaN never wins.

    >>> best_layer(pd.Series({"0": 0.2, "1": 0.5, "final": 0.4}), metric="ccc")
    '1'
    """
    return str((-values if metric in LOWER_IS_BETTER else values).idxmax())
