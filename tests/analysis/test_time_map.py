"""Maps over time: scores, intervals and chance levels against slow arithmetic, and what was planted is found there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.timed_run import EDGES, LAYERS, NAMES, PLANTED, SHORT, N, pooled, timed_run
from scipy.stats import binom

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.statistics.best_set import best_set
from layerprobe.analysis.statistics.bootstrap import resample_speakers
from layerprobe.analysis.statistics.permutation import holm
from layerprobe.analysis.study import study
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.analysis.time.chance import map_chance
from layerprobe.analysis.time.peaks import pair_differences
from layerprobe.analysis.time.scores import bin_bootstrap
from layerprobe.probe.metrics import ccc, pearson
from layerprobe.probe.results.run_folder import read_predictions, read_run
from layerprobe.probe.splits import speaker_groups


@pytest.fixture(scope="module")
def read(timed):
    return study(timed)


def test_bins_keep_the_order_of_the_plan_and_not_that_of_their_names():
    rows = [{"name": "10.0–10.5", "low": 10.0, "high": 10.5}, {"name": "9.5–10.0", "low": 9.5, "high": 10.0}]
    bins = TimeBins.from_plan({"kind": "onset", "bins": rows})
    assert bins == TimeBins("onset", ("10.0–10.5", "9.5–10.0"), ((10.0, 10.5), (9.5, 10.0)))
    assert bins.kept(["9.5–10.0"]).edges == ((9.5, 10.0),)
    assert not TimeBins.from_plan({"kind": "label", "bins": [{"name": "noun"}]}).has_edges
    assert TimeBins.from_plan({}) is None
    assert TimeBins.from_plan({"kind": "targets"}) is None  # targets of spans have no bins


def slow_chance(observed, null):
    """The test by the maximum of standardised scores, with the real ratings as one more permutation."""
    every = np.vstack([observed, null])
    scaled = np.array([[(v - np.mean(column)) / np.std(column) for v in column] for column in every.T]).T
    highest = [max(row) for row in scaled]
    return [sum(h >= scaled[0][cell] for h in highest[1:]) + 1 for cell in range(len(observed))]


def test_chance_of_a_map_is_the_maximum_of_standardised_scores(rng):
    deviation = np.array([0.01, 0.1, 1.0, 0.1])
    observed, null = rng.normal(size=4) * deviation + [0.02, 0.25, 0, 0], rng.normal(size=(99, 4)) * deviation
    found = map_chance(observed, null)
    np.testing.assert_allclose(found.p_adjusted * 100, slow_chance(observed, null))
    np.testing.assert_allclose(found.p_permutation * 100, [1 + np.sum(null[:, k] >= observed[k]) for k in range(4)])
    assert found.n_permutations == 99
    raw = null.max(axis=1)  # that of the cell that varies most, which would hide all others
    assert np.mean(raw >= observed[1]) > 0.3
    assert found.p_adjusted[1] <= 0.05


def test_a_score_above_the_chance_level_is_significant_and_one_below_is_not(rng):
    null = rng.normal(size=(99, 6)) * np.linspace(0.05, 1, 6)
    observed = rng.normal(size=6) * 0.01
    for cell in range(6):
        levels = []
        for step in (-1e-6, 1e-6):
            tried = observed.copy()
            for _ in range(60):  # the level depends on the score itself, through the standardisation
                tried[cell] = map_chance(tried, null).level[cell] + step
            levels.append(map_chance(tried, null).p_adjusted[cell])
        assert levels[0] > 0.05 >= levels[1]


def test_no_cell_is_above_chance_at_its_rate_where_cells_vary_unequally():
    rng, n, deviation = np.random.default_rng(1), 400, np.geomspace(0.02, 0.2, 20)
    common = 0.7  # layers and adjacent bins resemble each other
    found = 0
    for _ in range(n):
        scores = (common * rng.normal(size=(40, 1)) + np.sqrt(1 - common**2) * rng.normal(size=(40, 20))) * deviation
        found += map_chance(scores[0], scores[1:]).p_adjusted.min() <= 0.05
    assert binom.ppf(0.001, n, 0.05) <= found <= binom.ppf(0.999, n, 0.05)


def test_cells_with_other_permutations_are_tested_one_by_one(rng):
    observed, null = np.array([0.5, 0.2, np.nan]), rng.normal(size=(59, 3)) * 0.1
    null[:30, 0] = np.nan
    found = map_chance(observed, null)
    p = [1 / 30, (1 + np.sum(null[:, 1] >= 0.2)) / 60]
    np.testing.assert_allclose(found.p_permutation[:2], p)
    np.testing.assert_allclose(found.p_adjusted[:2], holm(np.array(p)))
    assert np.isnan([found.p_adjusted[2], found.level[2]]).all()
    assert map_chance(np.array([np.nan]), np.full((9, 1), np.nan)).n_permutations == 0


def test_a_level_of_cells_that_are_tested_one_by_one_counts_all_cells():
    """A cell that exceeds its level is significant by Bonferroni's method, and by Holm's, too."""
    rng, observed = np.random.default_rng(0), np.array([0.3, 0.05, np.nan, 0.0])
    null = rng.normal(size=(999, 4)) * 0.1
    null[:200, 3] = np.nan
    level = map_chance(observed, null).level
    for cell in (0, 1, 3):
        for step, is_above in ((-1e-9, False), (1e-9, True)):
            tried = observed.copy()
            tried[cell] = level[cell] + step
            assert (map_chance(tried, null).p_permutation[cell] * 3 <= 0.05) == is_above
    found = map_chance(np.tile(observed[:2], 20), rng.normal(size=(99, 40)) * 0.1 + np.where(np.eye(99, 40), np.nan, 0))
    assert np.isnan(found.level).all()  # no p-value of 99 permutations is significant among 40
    assert np.isfinite(found.p_adjusted).all()


def test_one_permutation_decides_nothing():
    found = map_chance(np.array([0.5, 0.2]), np.array([[0.1, 0.3]]))  # warnings are errors here
    assert (found.p_adjusted >= 0.5).all()
    np.testing.assert_allclose(found.level, [0.1, 0.3])


def test_a_cell_is_the_score_of_the_utterances_with_a_span_in_the_bin(timed, read):
    predictions, table = read_predictions(timed), read.time_map
    columns = predictions.columns
    assert len(table) == 2 * len(LAYERS) * len(NAMES)
    for row in table.to_dict("records"):
        own = (columns["bin"] == row["bin"]) & (columns["target"] == row["target"]) & (columns["layer"] == row["layer"])
        matched = predictions.matched[:, np.flatnonzero(own)[0]].astype(float)
        has_span = np.isfinite(matched)
        assert row["n_utterances"] == has_span.sum() == (N - SHORT if row["bin"] == NAMES[-1] else N)
        truth = predictions.ratings[:, list(predictions.targets).index(row["target"])]
        assert row["value"] == pytest.approx(ccc(truth[has_span], matched[has_span]), abs=1e-6)
        assert row["ci_low"] < row["value"] < row["ci_high"]
    scores = read_run(timed).scores
    value = pooled(scores, "ccc_matched", bin=NAMES[1], target="arousal", layer="1", control="none")
    assert table.query("bin == @NAMES[1] and target == 'arousal' and layer == '1'")["value"].item() == value.item()


def test_all_bins_are_scored_in_the_same_resamples_of_all_speakers(timed, read):
    predictions = read.bins.predictions
    found = bin_bootstrap(predictions, metric="pearson")
    groups = speaker_groups(predictions.speaker_id)
    n_speakers = len(np.unique(groups))
    counts = resample_speakers(n_speakers, rng=np.random.default_rng(0))[7].astype(int)
    rows = np.repeat(np.arange(len(groups)), counts[groups])
    for key, resampled in zip(found.keys.to_dict("records"), found.scores.resamples[7], strict=True):
        if key["target"] != "valence" or key["layer"] != "3":
            continue
        same = np.logical_and.reduce([predictions.columns[k] == v for k, v in key.items()])
        values = predictions.prediction[:, np.flatnonzero(same)[0]].astype(float)[rows]
        truth = predictions.ratings[rows, list(predictions.targets).index("valence")]
        known = np.isfinite(values)
        assert resampled == pytest.approx(pearson(truth[known], values[known]), abs=1e-6)
    assert len(found.scores.left_out) == n_speakers


def test_speakers_without_a_span_in_a_bin_do_not_count_for_its_interval(read):
    predictions = replace(read.bins.predictions, prediction=read.bins.predictions.prediction.copy())
    last = (predictions.columns["bin"] == NAMES[-1]).to_numpy()
    absent = np.isin(predictions.speaker_id, np.unique(predictions.speaker_id)[:4])
    predictions.prediction[np.ix_(absent, last)] = np.nan
    found = bin_bootstrap(predictions, metric="pearson")
    counted = found.scores.counted[(found.keys["bin"] == NAMES[-1]).to_numpy()]
    assert set(counted) == {20}
    assert set(found.scores.counted) == {20, 24}


@pytest.mark.parametrize("metric", ["ccc_matched", "rmse"])
def test_the_planted_bin_and_layer_are_the_peak_and_differ_from_the_worst(timed, metric):
    read = study(timed, metric=metric)
    for target, (layer, name) in PLANTED.items():
        peak = read.time_peak[(read.time_peak["target"] == target) & read.time_peak["is_best"].eq(True)].squeeze()
        assert (peak["layer"], peak["bin"], peak["bins"]) == (layer, name, (name,))
        cells = read.time_map[read.time_map["target"] == target]
        row = cells[cells["layer"] == layer]
        sign = -1 if metric == "rmse" else 1
        values = sign * row["value"]
        of_bin = values.set_axis(row["bin"])
        expected = of_bin[peak["better_bin"]] - of_bin[peak["worse_bin"]]
        assert peak["better_bin"] == name
        assert peak["difference"] == pytest.approx(expected, abs=1e-5)
        assert peak["p_difference"] < 0.05
        assert 0 < peak["difference_ci_low"] < peak["difference"] < peak["difference_ci_high"]
        assert peak["p_adjusted"] == 1 / 40
        above = cells["p_adjusted"] <= 0.05
        assert ((sign * cells["value"] > sign * cells["chance"]) == above).all()


def test_the_set_of_bins_is_that_of_the_best_layers_rule(read):
    names, sample = read.bin_scores.row("test", "arousal", "0")
    rows = read.time_map.query("target == 'arousal' and layer == '0'").set_index("bin")
    np.testing.assert_allclose(rows["p_not_best"][names].astype(float), best_set(sample).p_not_best)
    pairs = pair_differences(sample)
    assert pairs.estimate[0] == pytest.approx(sample.estimate[0] - sample.estimate[1])
    assert len(pairs.estimate) == 6


def test_classes_have_a_map_too(timed):
    read = study(timed, metric="uar")
    peak = read.time_peak[read.time_peak["is_best"].eq(True)].squeeze()
    assert (peak["target"], peak["layer"], peak["bin"]) == ("emotion", "1", NAMES[1])


def test_a_run_without_a_signal_has_no_cell_above_chance(tmp_path):
    read = study(timed_run(tmp_path, planted=False, seed=3))
    assert (read.time_map["p_adjusted"] > 0.05).all()
    names = {f.name for f in collect_findings(read)}
    assert {"time_peak", "time_difference"} <= names


def test_a_run_without_bins_has_no_tables_over_time(reported):
    read = study(reported)
    assert read.bin_scores is None
    assert read.time_map.empty
    assert read.time_peak.empty
    assert not any(f.name.startswith("time_") for f in collect_findings(read))


def test_the_whole_utterances_of_a_run_with_bins_are_scored_as_ever(timed, read):
    assert (read.scores["bin"] == "").all()
    assert set(read.table["layer"]) >= set(LAYERS)
    assert len(read.answers) == 2
    assert [tuple(edge) for edge in read.bin_scores.bins.edges] == list(EDGES)
