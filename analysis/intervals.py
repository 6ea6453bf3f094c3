"""Intervals of a run's scores over draws of its speakers, from the held-out predictions that it kept."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.bootstrap import METRICS, N_DRAWS, bca_interval, draw_speakers, speaker_sums, without_each_speaker
from probe.score_table import Predictions
from probe.splits import speaker_groups

KEYS = ["encoder", "control", "probe", "target", "layer"]
SEED = 0  # of the draws, which are the same for every picture of a run


def score_intervals(predictions: Predictions, *, metric: str, n_draws: int = N_DRAWS) -> pd.DataFrame:
    """95 % intervals (BCa over whole speakers) of every column that is no draw of a control.

    Args:
        predictions: held-out predictions of a run
        metric: a key of `analysis.bootstrap.METRICS`; of others there are no intervals, and the table is empty
        n_draws: of speakers, the same for all columns

    Returns:
        ``encoder, control, probe, target, layer, low, high``, means over seeds
    """
    columns = predictions.columns.copy()
    if metric not in METRICS:
        return pd.DataFrame(columns=[*KEYS, "low", "high"])
    values = predictions.matched if metric == "ccc_matched" else predictions.prediction
    known = np.isfinite(values).all(axis=0)
    columns, values = columns[known].reset_index(drop=True), values[:, known].astype(np.float64)
    place = {str(name): k for k, name in enumerate(predictions.targets)}
    truth = predictions.ratings[:, [place[t] for t in columns["target"]]]
    groups = speaker_groups(predictions.speaker_id)
    sums, n_speakers = speaker_sums(truth, values, groups), len(np.unique(groups))
    if n_speakers < 3:
        return pd.DataFrame(columns=[*KEYS, "low", "high"])
    score = METRICS[metric]
    counts = draw_speakers(n_speakers, n_draws=n_draws, rng=np.random.default_rng(SEED))
    estimate = score(sums.drawn(np.ones((1, n_speakers))))[0]
    interval = bca_interval(estimate, score(sums.drawn(counts)), score(without_each_speaker(sums)))
    table = columns[KEYS].assign(low=interval.low, high=interval.high)
    means: pd.DataFrame = table.groupby(KEYS, sort=False)[["low", "high"]].mean()
    return means.reset_index()
