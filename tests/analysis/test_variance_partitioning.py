"""The partition of variance: sums that hold, and two sources whose shares are planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.held_out import CONDITION
from helpers.simulated_corpus import simulated

from layerprobe.analysis.layers.variance_partitioning import COLUMNS, variance_partition
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.probe.metrics import r2
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, Bands, nested_ridge
from layerprobe.probe.splits import fold_splits


@pytest.fixture(scope="module")
def planted():
    """Ratings of three equal parts: what the voice alone says, what the words alone say, what both say."""
    rng = np.random.default_rng(0)
    run = simulated(rng, {"valence": [1.0, 1.0, 1.0]}, n_speakers=100, each=20)
    n = len(run.speaker_id)
    parts = rng.normal(size=(3, n))
    y = parts.sum(axis=0)[:, None]
    voice = np.column_stack([parts[0], parts[2], rng.normal(size=(n, 20))])
    words = np.column_stack([parts[1], parts[2], rng.normal(size=(n, 30))])
    groups = np.unique(run.speaker_id, return_inverse=True)[1]
    splits = fold_splits(groups, n_folds=4, n_inner_folds=3, rng=rng)
    predicted = np.empty((n, 3), dtype=np.float32)
    bands = (None, None, Bands.side_by_side([22, 32]))
    for k, (x, of) in enumerate(zip((voice, words, np.hstack([voice, words])), bands, strict=True)):
        fits = nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS, bands=of)
        for split, fit in zip(splits, fits, strict=True):
            predicted[split.test, k] = fit.prediction[:, 0]
    common = {"target": "valence", "control": "none", "seed": 0} | CONDITION
    columns = [
        {"encoder": "e", "probe": "ridge", "layer": "3"},
        {"encoder": "", "probe": "ridge", "layer": "", "baseline": "covariates_only", "covariates": "text"},
        {"encoder": "e", "probe": "banded_ridge", "layer": "3", "covariates": "text"},
    ]
    columns = [common | column for column in columns]
    return replace(run, ratings=y, columns=pd.DataFrame(columns), prediction=predicted, matched=predicted)


def test_shares_are_differences_of_r2_with_intervals_about_them(planted):
    (row,) = variance_partition(bootstrap_scores(planted, metric="r2")).to_dict("records")
    layer, covariate, joint = (r2(planted.ratings[:, 0], planted.prediction[:, k].astype(float)) for k in range(3))
    assert row["layer_alone"] == pytest.approx(layer)
    assert row["unique_layer"] == pytest.approx(joint - covariate)
    assert row["unique_covariates"] == pytest.approx(joint - layer)
    assert row["unique_layer"] + row["unique_covariates"] + row["shared"] == pytest.approx(row["with_covariates"])
    for share in COLUMNS:
        assert row[f"{share}_ci_low"] < row[share] < row[f"{share}_ci_high"]


def test_planted_thirds_are_found(planted):
    (row,) = variance_partition(bootstrap_scores(planted, metric="r2")).to_dict("records")
    for share in ("unique_layer", "unique_covariates", "shared"):
        assert row[share] == pytest.approx(1 / 3, abs=0.04)
        assert row[f"{share}_ci_low"] < 1 / 3 < row[f"{share}_ci_high"]


def test_without_a_source_beside_there_are_no_shares(planted, rng):
    assert variance_partition(bootstrap_scores(simulated(rng, {"valence": [1.0]}), metric="r2", n_resamples=9)).empty
    with pytest.raises(ValueError, match="variance partitioning needs scores of r2, not of ccc"):
        variance_partition(bootstrap_scores(planted, metric="ccc", n_resamples=9))
