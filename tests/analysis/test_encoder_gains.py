"""Gains and shifts between two encoders with the same layers, against scores worked out from the predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.encoder_gains import ENCODERS, N_FOLDS, bump, deeper, fractions, outcome, simulated_pair, stronger
from scipy.stats import binom

from layerprobe.analysis.layers.encoder_gains import EncoderPair, encoder_gains, encoder_shifts
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.statistics.simultaneous import training_inflation
from layerprobe.probe.metrics import pearson, rmse

LAYERS = [str(k) for k in range(9)]
CHOICES = {"layers": dict.fromkeys(ENCODERS, LAYERS), "targets": ["valence"]}
PAIR = [EncoderPair("tuned", "frozen")]
INFLATION = training_inflation([1] * N_FOLDS, [N_FOLDS - 1] * N_FOLDS)


@pytest.fixture(scope="module")
def predictions():
    return simulated_pair(np.random.default_rng(0), (bump, deeper(4, 8)))


@pytest.mark.parametrize(("name", "metric", "sign"), [("pearson", pearson, 1), ("rmse", rmse, -1)])
def test_a_gain_is_the_difference_of_the_scores_of_one_layer(predictions, name, metric, sign):
    bootstrap = bootstrap_scores(predictions, metric=name, n_resamples=300)
    gains = encoder_gains(bootstrap, PAIR, **CHOICES, inflation=INFLATION, lower_is_better=sign < 0)
    truth, columns = predictions.ratings[:, 0], predictions.columns
    for row in gains.to_dict("records"):
        scores = {
            encoder: metric(truth, predictions.prediction[:, k].astype(float))
            for encoder in ENCODERS
            for k in np.flatnonzero((columns["encoder"] == encoder) & (columns["layer"] == row["layer"]))
        }
        assert row["estimate"] == pytest.approx(sign * (scores["tuned"] - scores["frozen"]), abs=1e-6)
        assert row["ci_low"] <= row["estimate"] <= row["ci_high"]
        assert row["p_value"] <= row["p_layers"] <= row["p_adjusted"]
    gain = gains.set_index("layer")["estimate"]
    assert gain["1"] < 0 < gain["7"]


def test_several_targets_and_pairs_are_one_family(predictions):
    second = replace(predictions, columns=predictions.columns.assign(target="arousal"), targets=np.array(["arousal"]))
    bootstrap = bootstrap_scores(predictions, metric="pearson", n_resamples=300)
    both = bootstrap.joined(bootstrap_scores(second, metric="pearson", n_resamples=300))
    one = encoder_gains(bootstrap, PAIR, **CHOICES, inflation=INFLATION)
    two = encoder_gains(both, PAIR, **CHOICES | {"targets": ["valence", "arousal"]}, inflation=INFLATION)
    assert list(two["target"].unique()) == ["valence", "arousal"]
    # the second target is a copy, so that the maximum over both is the same
    np.testing.assert_allclose(two["p_adjusted"], np.tile(one["p_adjusted"], 2))
    shifts = encoder_shifts(both, PAIR, **CHOICES | {"targets": ["valence", "arousal"]})
    np.testing.assert_allclose(shifts["p_adjusted"], np.minimum(1, 2 * shifts["p_value"]))


def test_equal_encoders_have_neither_gain_nor_shift(predictions):
    frozen = predictions.columns["encoder"].eq("frozen").to_numpy()
    copied = predictions.prediction.copy()
    copied[:, ~frozen] = copied[:, frozen]
    bootstrap = bootstrap_scores(replace(predictions, prediction=copied), metric="pearson", n_resamples=300)
    gains = encoder_gains(bootstrap, PAIR, **CHOICES, inflation=INFLATION)
    assert (gains["estimate"] == 0).all()
    assert (gains["p_adjusted"] == 1).all()
    (shift,) = encoder_shifts(bootstrap, PAIR, **CHOICES).to_dict("records")
    assert (shift["estimate"], shift["p_value"]) == (0, 1)


def test_a_target_that_moved_by_four_blocks_is_found_there(predictions):
    bootstrap = bootstrap_scores(predictions, metric="pearson")
    (shift,) = encoder_shifts(bootstrap, PAIR, **CHOICES).to_dict("records")
    (back,) = encoder_shifts(bootstrap, [EncoderPair("frozen", "tuned")], **CHOICES).to_dict("records")
    assert shift["estimate"] * shift["n_blocks"] == pytest.approx(4, abs=1)
    assert shift["p_value"] < 0.01
    assert shift["ci_low"] > 0
    assert back["estimate"] == pytest.approx(-shift["estimate"], abs=0.1)


def test_a_gain_of_all_layers_is_no_shift():
    differs, moved, shift = outcome(simulated_pair(np.random.default_rng(1), (bump, stronger(2.5))))
    assert differs
    assert not moved
    assert abs(shift) < 0.1


@pytest.mark.parametrize("metric", ["pearson", "ccc", "rmse"])
def test_a_layer_that_scores_below_the_mean_rating_is_no_evidence_of_a_gain(metric):
    """Predictions of about the mean of the training speakers fall as held-out ratings rise: their score is negative."""
    simulated, rng = simulated_pair(np.random.default_rng(2), (bump, bump)), np.random.default_rng(3)
    truth, columns = simulated.ratings, simulated.columns
    noise = rng.normal(size=simulated.prediction.shape)
    opposite = np.where(columns["encoder"] == "frozen", -2.0, 0.0)  # times the rating
    changed = replace(simulated, prediction=(opposite * truth + noise).astype(np.float32))
    bootstrap = bootstrap_scores(changed, metric=metric, n_resamples=300)
    gains = encoder_gains(bootstrap, PAIR, **CHOICES, inflation=INFLATION, lower_is_better=metric == "rmse")
    assert (gains["ci_low"] > 0.2).all()  # the scores differ
    assert (gains["p_adjusted"] <= 0.05).all() if metric == "rmse" else (gains["p_adjusted"] > 0.05).all()
    first, second = (columns.index[(columns["encoder"] == e) & (columns["layer"] == "4")][0] for e in ENCODERS[::-1])
    scores = bootstrap.scores.estimate[[first, second]]
    error = (bootstrap.scores.resamples[:, first] - bootstrap.scores.resamples[:, second]).std()
    tested = scores[1] - scores[0] if metric == "rmse" else max(scores[0], 0) - max(scores[1], 0)
    assert gains["statistic"][4] == pytest.approx(tested / error, abs=1e-6)


def test_features_and_three_layers_have_no_shift(predictions):
    bootstrap = bootstrap_scores(predictions, metric="pearson", n_resamples=100)
    few = {"layers": dict.fromkeys(ENCODERS, LAYERS[:3]), "targets": ["valence"]}
    assert encoder_shifts(bootstrap, PAIR, **few).empty
    assert len(encoder_gains(bootstrap, PAIR, **few, inflation=INFLATION)) == 3
    assert encoder_gains(bootstrap, [], **few, inflation=INFLATION).empty


@pytest.mark.long
def test_null_pairs_differ_and_have_moved_as_seldom_as_the_level_states():
    n = 60
    layers, moved, shift = fractions(n, (bump, bump), seed=5, n_resamples=400)
    assert layers <= binom.ppf(0.99, n, 0.05)
    assert moved <= binom.ppf(0.99, n, 0.05)
    assert abs(shift) <= 0.25
    _, found, _ = fractions(20, (bump, deeper(4, 8)), seed=6, n_resamples=400)
    assert found >= 15
