"""The pair of bins that a difference is of: tested among all pairs, and named with its own two bins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.time_tables import label_bins

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores
from layerprobe.analysis.statistics.estimates import BootstrapSample
from layerprobe.analysis.statistics.simultaneous import max_statistic, simultaneous_margins
from layerprobe.analysis.time.maps import BinScores
from layerprobe.analysis.time.peaks import pair_differences, time_peaks

PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def peak_of(estimate, error, *, undefined=(), metric="ccc"):
    """Return the peak of a layer whose bins have these scores and standard errors, and its resamples.

    ``undefined`` has the bins without a score in a tenth of the resamples.
    """
    rng, estimate = np.random.default_rng(0), np.array(estimate)
    names = tuple(f"b{k}" for k in range(len(estimate)))
    resamples = estimate + rng.normal(size=(2000, len(names))) * error
    resamples[:200, list(undefined)] = np.nan
    left_out = estimate + rng.normal(size=(24, len(names))) * np.array(error) / 24
    same = {"encoder": "e", "target": "t", "layer": "0", "bin": names}
    sample = BootstrapSample(estimate, resamples, left_out)
    bootstrap = BootstrapScores(metric, pd.DataFrame({**same, "control": "none", "probe": "ridge"}), sample, 24)
    inside = pd.array([True] * len(names), dtype="boolean")
    table = pd.DataFrame({**same, "value": estimate, "p_adjusted": 0.01, "n_permutations": 99, "in_best_set": inside})
    given = BinScores(label_bins(*names), {"e": ["0"]}, ["t"], metric, table, bootstrap, pd.DataFrame())
    (_, sample) = given.row("e", "t", "0") or ((), None)
    return time_peaks(table, given, inflation=1.5).iloc[0], sample


def test_the_difference_is_that_of_the_pair_with_the_least_p_and_not_of_the_furthest_two():
    peak, sample = peak_of([0.55, 0.50, 0.10, -0.15], [0.25, 0.02, 0.02, 0.25])
    pairs = pair_differences(sample)
    p = max_statistic(pairs, inflation=1.5)
    assert p[PAIRS.index((0, 3))] > 0.5  # the two furthest from each other
    assert (peak["bin"], peak["better_bin"], peak["worse_bin"]) == ("b0", "b1", "b2")
    assert peak["p_difference"] == p.min() == p[PAIRS.index((1, 2))] < 0.001
    margin = simultaneous_margins(pairs, inflation=1.5)[PAIRS.index((1, 2))]
    assert peak["difference"] == pytest.approx(0.4)
    assert peak["difference_ci_low"] == pytest.approx(0.4 - margin)
    assert peak["difference_ci_high"] == pytest.approx(0.4 + margin)


def test_the_best_bin_is_not_part_of_a_difference_that_it_was_not_tested_in():
    peak, _ = peak_of([0.80, 0.50, 0.10], [0.2, 0.03, 0.03], undefined=[0])
    assert peak["bin"] == "b0"
    assert (peak["better_bin"], peak["worse_bin"], peak["difference"]) == ("b1", "b2", pytest.approx(0.4))


def test_of_pairs_with_the_same_p_the_furthest_two_are_taken():
    peak, _ = peak_of([0.1, 0.5, 0.9], [0.01, 0.01, 0.01])
    assert (peak["better_bin"], peak["worse_bin"]) == ("b2", "b0")


def test_of_errors_the_lower_one_is_the_better_bin():
    peak, _ = peak_of([1.2, 0.7, 0.9], [0.02, 0.02, 0.2], metric="rmse")
    assert (peak["better_bin"], peak["worse_bin"], peak["difference"]) == ("b1", "b0", pytest.approx(0.5))


def test_two_bins_below_0_do_not_differ_and_the_furthest_two_are_shown():
    peak, _ = peak_of([-0.02, -0.05, -0.60], [0.02, 0.02, 0.05])
    assert (peak["better_bin"], peak["worse_bin"], peak["p_difference"]) == ("b0", "b2", 1)


def test_a_layer_with_one_bin_has_a_peak_and_no_difference():
    peak, _ = peak_of([0.4], [0.02])
    assert (peak["bin"], peak["value"], peak["is_best"], peak["better_bin"]) == ("b0", 0.4, True, "")
    assert np.isnan(peak["difference"])
