"""Tables of layer-wise scores, with ranges over folds, seeds and permutations, and with confidence intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from layerprobe.analysis.statistics.bootstrap_scores import KEYS
from layerprobe.analysis.statistics.estimates import BCA_SPEAKERS, INTERVAL_NAMES
from layerprobe.probe.metrics import LOWER_IS_BETTER
from layerprobe.probe.results.run_folder import POOLED
from layerprobe.probe.tasks.controls import CONTROLS


def layer_scores(scores: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """Return one row per encoder, control, condition, probe, target and layer, in the order of the run.

    Args:
        scores: tidy rows of `probe.results.run_folder.SCORE_COLUMNS`
        metric: a key of `METRIC_NAMES`

    Returns:
        the columns of `KEYS` and

        * ``value``: score over all held-out utterances, mean over seeds or permutations
        * ``fold_min``, ``fold_max``: range over the test folds of the mean over seeds
        * ``seed_min``, ``seed_max``: range of the pooled score over seeds of the probe
        * ``draw_min``, ``draw_max``: range of the pooled score over the permutations, or random ratings, of a control
          task

        NaN where a range does not apply: rows of a control task have ``draw_*`` alone, all others have no ``draw_*``

    Raises:
        ValueError: if the table has no such metric
    """
    rows = scores[scores["metric"] == metric]
    if rows.empty:
        raise ValueError(f"no score is called {metric!r}; choose one of {', '.join(sorted(set(scores['metric'])))}")
    is_pooled = rows["fold"] == POOLED
    pooled = rows[is_pooled].groupby(KEYS, sort=False)["value"]
    folds = rows[~is_pooled].groupby([*KEYS, "fold"], sort=False)["value"].mean().groupby(KEYS, sort=False)
    value = pooled.mean()
    is_control_task = value.index.get_level_values("control").isin(list(CONTROLS))
    ranges = {"fold": folds, "seed": pooled, "draw": pooled}
    columns = {"value": value}
    for name, groups in ranges.items():
        applies = is_control_task if name == "draw" else ~is_control_task
        for end, values in (("min", groups.min()), ("max", groups.max())):
            columns[f"{name}_{end}"] = values.reindex(value.index).where(applies)
    return pd.DataFrame(columns).reset_index()


def with_intervals(table: pd.DataFrame, intervals: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of `layer_scores` with confidence intervals where there are any.

    Args:
        table: as `layer_scores` returns it
        intervals: rows of `KEYS` with ``ci_low, ci_high``, as `BootstrapScores.table` returns them

    Returns:
        the same rows with ``ci_low`` and ``ci_high``, NaN where there is no interval, and ``interval``, how it was
        made: ``bca_95_speakers``, or empty where there is none
    """
    if intervals is None or intervals.empty:
        return table.assign(ci_low=np.nan, ci_high=np.nan, interval="")
    merged = table.merge(intervals[[*KEYS, "ci_low", "ci_high"]], how="left", on=KEYS)
    known = merged["ci_low"].notna() & merged["ci_high"].notna()
    ends = {name: merged[name].where(known) for name in ("ci_low", "ci_high")}
    return merged.assign(**ends, interval=np.where(known, BCA_SPEAKERS, ""))


def score_range(rows: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float], str]:
    """Return the ends of the range that a figure shows around each score, and its name for a legend.

    Args:
        rows: rows of `with_intervals`

    Returns:
        the confidence interval where a row has one, else the range over test folds; and ``95 % CI over speakers`` or
        ``range over folds``, whichever the first row has that has either
    """
    low, high = (rows[f"ci_{end}"].fillna(rows[f"fold_{other}"]) for end, other in (("low", "min"), ("high", "max")))
    name = next((INTERVAL_NAMES[str(k)] for k in rows["interval"].dropna()), INTERVAL_NAMES[""])
    return low, high, name


def best_layer(values: pd.Series[float], *, metric: str) -> str:
    """Return the highest-scoring layer, of an error the lowest; NaN is never the best.

    Args:
        values: scores, indexed by layer name
        metric: a key of `METRIC_NAMES`

    >>> best_layer(pd.Series({"0": 0.2, "1": 0.5, "final": 0.4}), metric="ccc")
    '1'
    """
    return str((-values if metric in LOWER_IS_BETTER else values).idxmax())
