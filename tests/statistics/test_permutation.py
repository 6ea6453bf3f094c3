"""Chance: p-values that hold what they promise, also where utterances of one speaker resemble each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.held_out import CONDITION
from scipy.stats import kstest

from layerprobe.analysis.statistics.permutation import holm, max_statistic_p, permutation_table
from layerprobe.probe.metrics import pearson
from layerprobe.probe.solvers.ridge import nested_ridge
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.tasks.controls import CONTROLS

N_SPEAKERS, EACH, N_LAYERS, DIM, N_PERMUTATIONS = 20, 6, 4, 3, 39


def p_of_nothing(rng, control):
    """The best layer's p-value where ratings and embeddings both depend on the speaker, and not on each other."""
    groups = np.repeat(np.arange(N_SPEAKERS), EACH)
    ratings = (1.5 * rng.normal(size=N_SPEAKERS)[groups] + rng.normal(size=len(groups)))[:, None]
    voices = rng.normal(size=(N_SPEAKERS, N_LAYERS, DIM))[groups]
    layers = voices + 0.7 * rng.normal(size=voices.shape)
    splits = fold_splits(groups, n_folds=4, n_inner_folds=3, rng=rng)
    permuted = [CONTROLS[control](ratings, groups, rng) for _ in range(N_PERMUTATIONS)]
    y = np.column_stack([ratings, *permuted])
    scores = np.empty((y.shape[1], N_LAYERS))
    for layer in range(N_LAYERS):
        predicted = np.empty_like(y)
        fits = nested_ridge(layers[:, layer], y, splits=splits, alphas=(0.1, 1.0, 10.0))
        for split, fit in zip(splits, fits, strict=True):
            predicted[split.test] = fit.prediction
        scores[:, layer] = [pearson(y[:, k], predicted[:, k]) for k in range(y.shape[1])]
    return max_statistic_p(scores[0], scores[1:]).min()


@pytest.mark.long
def test_under_the_null_the_max_statistic_p_value_is_uniform():
    """Kolmogorov-Smirnov on 300 corpora; each of the 40 possible p-values is randomised within its fortieth."""
    rng = np.random.default_rng(0)
    p = np.array([p_of_nothing(rng, "permuted_by_speaker") for _ in range(300)])
    randomised = p - rng.uniform(size=len(p)) / (N_PERMUTATIONS + 1)
    assert kstest(randomised, "uniform").pvalue > 0.05
    assert abs(np.mean(p <= 0.05) - 0.05) < 0.04  # three standard deviations


@pytest.mark.long
def test_p_values_from_permuted_utterances_are_not_uniform():
    """The reason for keeping speakers together: as few speakers agree by accident or disagree, p is near 0 or 1."""
    rng = np.random.default_rng(0)
    p = np.array([p_of_nothing(rng, "permuted") for _ in range(300)])
    assert kstest(p, "uniform").pvalue < 1e-4
    assert np.mean(p <= 0.05) > 0.05 + 0.038  # three standard deviations


def test_a_p_value_counts_permutations_whose_best_layer_is_as_good():
    null = np.array([[0.2, 0.1], [0.0, 0.3], [0.1, 0.1], [0.5, 0.0]])
    np.testing.assert_allclose(max_statistic_p(np.array([0.3, 0.6]), null), [3 / 5, 1 / 5])


def scores(rows):
    base = {"encoder": "e", "probe": "ridge", "target": "t", "fold": "pooled"} | CONDITION
    names = ("control", "seed", "layer", "metric", "value")
    return pd.DataFrame([base | dict(zip(names, row, strict=True)) for row in rows])


def test_the_table_takes_the_permutations_that_keep_speakers_together():
    real = [("none", 0, "0", "ccc", 0.3), ("none", 0, "1", "ccc", 0.5)]
    kept = [("permuted_by_speaker", s, k, "ccc", v) for s, v in enumerate((0.4, 0.6)) for k in ("0", "1")]
    loose = [("permuted", s, k, "ccc", 0.0) for s in range(9) for k in ("0", "1")]
    table = permutation_table(scores(real + kept + loose), metric="ccc").set_index("layer")
    assert table["p_permutation"].tolist() == [1.0, pytest.approx(2 / 3)]
    assert set(table["control"]) == {"permuted_by_speaker"}
    assert set(table["n_permutations"]) == {2}
    assert table["chance"].tolist() == [pytest.approx(0.59)] * 2  # 95 % of the way from .4 to .6
    only = permutation_table(scores(real + loose), metric="ccc")
    assert only["p_permutation"].tolist() == [0.1, 0.1]
    assert permutation_table(scores(real), metric="ccc").empty


def test_a_low_error_is_far_from_chance():
    rows = [("none", 0, "0", "rmse", 0.5)] + [("permuted", s, "0", "rmse", 1.0 + s / 10) for s in range(4)]
    (row,) = permutation_table(scores(rows), metric="rmse").to_dict("records")
    assert row["p_permutation"] == 0.2
    assert 1.0 <= row["chance"] <= 1.05


def test_corrections_equal_those_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.5])), [0.04, 0.09, 0.09, 0.5])
