"""Depths by hand, and planted ones found: deep where deep, alike where alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.simulated_corpus import simulated

from layerprobe.analysis.layers.depth import contrasts, depths, expected_layer, headroom, jackknifed, score_centre
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores

N_LAYERS = 13
LAYERS = {"e": [str(k) for k in range(N_LAYERS)]}
NO_WEIGHTS = pd.DataFrame(columns=["encoder", "probe", "target", "control", "fold", "seed", "layer", "weight"])
TARGETS = ["arousal", "valence"]


def contrast(rng, *, arousal, valence, n_resamples=400, probe="ridge"):
    predictions = simulated(rng, {"arousal": list(arousal), "valence": list(valence)}, probe=probe)
    bootstrap = bootstrap_scores(predictions, metric="pearson", n_resamples=n_resamples)
    return contrasts(depths(bootstrap, NO_WEIGHTS, layers=LAYERS, targets=TARGETS)).iloc[0]


def test_valence_planted_deep_and_arousal_shallow_differ_with_the_right_sign():
    rng = np.random.default_rng(0)
    rising = np.linspace(3.0, 1.0, N_LAYERS)
    found = [contrast(rng, arousal=rising[::-1], valence=rising) for _ in range(100)]
    assert sum(row["ci_low"] > 0 for row in found) >= 98
    assert sum(row["ci_high"] < 0 for row in found) == 0
    turned = contrast(rng, arousal=rising, valence=rising[::-1])
    assert turned["ci_high"] < 0
    assert turned["p_value"] < 0.01


@pytest.mark.long
def test_planted_alike_the_interval_covers_zero_at_its_rate():
    """Of 400 corpora 95 % are 380 with a standard deviation of 4.4."""
    rng = np.random.default_rng(1)
    noise = np.linspace(1.5, 1.0, N_LAYERS)
    found = [contrast(rng, arousal=noise, valence=noise) for _ in range(400)]
    covered = np.mean([row["ci_low"] <= 0 <= row["ci_high"] for row in found])
    assert 0.92 <= covered <= 0.98
    agree = [(row["p_value"] < 0.05) == (row["ci_low"] > 0 or row["ci_high"] < 0) for row in found]
    assert np.mean(agree) > 0.985


def test_a_centre_of_scores_is_weighed_by_what_lies_above_chance():
    depth = np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(score_centre(np.array([[0.2, 0.6, -0.3], [0.1, 0.1, 0.1]]), depth), [0.375, 0.5])
    assert np.isnan(score_centre(np.array([-0.1, -0.2, 0.0]), depth))


def test_the_expected_layer_weighs_gains_over_layer_0():
    depth = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    rising = np.array([0.2, 0.3, 0.3, 0.25, 0.5])  # gains .1 at .25 and .2 at 1; the loss is noise
    assert expected_layer(rising, depth) == pytest.approx((0.1 * 0.25 + 0.2 * 1.0) / 0.3)
    assert headroom(rising) == pytest.approx(0.3)
    assert np.isnan(expected_layer(np.full(5, 0.4), depth))


def test_the_jackknife_corrects_for_speakers_that_folds_have_in_common():
    """By hand: folds .4, .5, .6 have a variance of 2/3 × .02, and Student's t with 2 degrees is 4.303."""
    found = jackknifed(np.array([0.4, 0.5, 0.6]))
    assert found.estimate == pytest.approx(0.5)
    assert found.ci_high - found.estimate == pytest.approx(4.3027 * np.sqrt(2 / 3 * 0.02), rel=1e-4)
    assert np.isnan(jackknifed(np.array([0.4])).ci_low)


def test_the_jackknife_of_a_mean_equals_its_standard_error(rng):
    """A mean left out group by group: the jackknife's error is the textbook's error of the groups' means."""
    groups = rng.normal(size=(8, 30))
    left_out = np.array([np.delete(groups, k, axis=0).mean() for k in range(8)])
    found = jackknifed(left_out)
    error = groups.mean(axis=1).std(ddof=1) / np.sqrt(8)
    assert (found.ci_high - found.ci_low) / 2 == pytest.approx(2.3646 * error, rel=1e-3)


def test_weights_have_a_centre_of_each_fold():
    rows = [
        {"encoder": "e", "probe": "weighted_sum", "target": target, "control": "none", "fold": fold, "seed": seed,
         "layer": str(k), "weight": w}
        for target, deep in (("arousal", 0.2), ("valence", 0.8)) for fold in "abc" for seed in (0, 1)
        for k, w in enumerate((1 - deep - 0.1 * seed, deep + 0.1 * seed))
    ]  # fmt: skip
    bootstrap = bootstrap_scores(
        simulated(np.random.default_rng(0), {t: [1.0, 1.0] for t in TARGETS}), metric="ccc", n_resamples=20
    )
    found = depths(bootstrap, pd.DataFrame(rows), layers={"e": ["0", "1"]}, targets=TARGETS)
    centre = {d.target: d for d in found if d.measure == "weight_centre"}
    np.testing.assert_allclose(centre["arousal"].folds, 0.25)  # mean of seeds
    assert centre["valence"].less(centre["arousal"]).estimate == pytest.approx(0.6)


def test_trained_and_random_weights_are_compared_resample_by_resample(rng):
    noise = {"arousal": [1.0, 2.0, 3.0, 2.0, 2.0, 2.0], "valence": [3.0, 2.0, 1.0, 2.0, 2.0, 2.0]}
    both = simulated(rng, noise)
    untrained = both.columns["layer"].astype(int) >= 3
    both.columns["control"] = np.where(untrained, "random_init", "none")
    both.columns["layer"] = [str(int(k) % 3) for k in both.columns["layer"]]
    bootstrap = bootstrap_scores(both, metric="pearson", n_resamples=400)
    table = contrasts(depths(bootstrap, NO_WEIGHTS, layers={"e": ["0", "1", "2"]}, targets=TARGETS))
    value = table.set_index("control")["estimate"]
    assert value["difference"] == pytest.approx(value["none"] - value["random_init"])
    assert table.set_index("control").loc["difference", "ci_low"] > 0


def test_an_expected_layer_has_its_headroom(rng):
    noise = {"arousal": [2.0, 1.5, 1.0], "valence": [1.0, 1.0, 1.0]}
    bootstrap = bootstrap_scores(simulated(rng, noise, probe="cumulative_mix"), metric="pearson", n_resamples=400)
    found = {d.target: d for d in depths(bootstrap, NO_WEIGHTS, layers={"e": ["0", "1", "2"]}, targets=TARGETS)}
    assert found["arousal"].measure == "expected_layer"
    assert found["arousal"].headroom.ci_low > 0.05
    assert 0.5 <= found["arousal"].estimate().estimate <= 1


def test_features_side_by_side_have_no_depth(rng):
    bootstrap = bootstrap_scores(simulated(rng, {"arousal": [1.0, 1.0]}), metric="ccc", n_resamples=20)
    assert depths(bootstrap, NO_WEIGHTS, layers={"e": ["f0", "loudness"]}, targets=["arousal"]) == []
