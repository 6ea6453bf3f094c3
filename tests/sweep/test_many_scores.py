"""Scores of hundreds of permutations at once are those of the metrics, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.results.predictions import HeldOutPrediction, ProbeResults, SweepData, prediction_scores
from layerprobe.probe.splits import Split

N = 60


def column(truth, prediction, matched, *, seed, control="permuted", nominal=False):
    keys = {"encoder": "e", "probe": "ridge", "layer": "0", "target": "t", "control": control, "seed": seed}
    short = (values.astype(np.float32) for values in (prediction, matched))
    return HeldOutPrediction(keys, truth, *short, [1.0, 1.0], nominal=nominal)


def test_scores_of_permutations_are_those_of_the_metrics_one_by_one(rng, monkeypatch):
    """With columns among them that need the metrics: a constant, a missing rating, classes, and the ratings."""
    monkeypatch.setattr("layerprobe.probe.results.predictions.SCORED_VALUES", 3 * N)  # several batches
    rows = np.arange(N)
    splits = [Split(str(k), rows[rows % 2 != k], rows[rows % 2 == k], np.zeros(N // 2)) for k in range(2)]
    data = SweepData(rows, rows, rows, np.empty((N, 0)), np.empty((N, 0)), splits)
    columns = []
    for seed in range(10):
        truth = rng.normal(3.0, 1.0, N)
        columns.append(column(truth, 0.1 * truth + rng.normal(size=N), rng.normal(3.0, 1.0, N), seed=seed))
    columns[2] = column(columns[2].truth, np.full(N, 3.0), np.full(N, 3.0), seed=2)
    missing = np.where(rows == 7, np.nan, columns[4].truth)
    columns[4] = column(missing, columns[4].prediction, columns[4].matched, seed=4)
    columns[6] = column(rows % 3 * 1.0, rng.integers(0, 3, N), np.full(N, np.nan), seed=6, nominal=True)
    columns[8] = column(columns[8].truth, columns[8].prediction, columns[8].matched, seed=8, control="none")
    found = ProbeResults.from_columns(columns, data).scores
    expected = [row for one in columns for row in prediction_scores(one, splits)]
    assert [{k: v for k, v in row.items() if k != "value"} for row in found] == [
        {k: v for k, v in row.items() if k != "value"} for row in expected
    ]
    values = [row["value"] for row in expected]
    assert [row["value"] for row in found] == pytest.approx(values, rel=1e-12, nan_ok=True)
