"""Gains over random initialisation and over acoustic features, against differences worked out from the predictions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers.simulated_corpus import simulated

from layerprobe.analysis.layers.gains import gains_over_best_random, gains_over_random
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.study import Study
from layerprobe.probe.metrics import ccc, rmse

NOISE = {"none": [2.0, 0.5, 1.2], "random_init": [0.9, 3.0, 2.5]}
LAYERS = {"e": ["0", "1", "2"]}


def joined(*parts):
    """Predictions of the same utterances side by side."""
    columns = pd.concat([p.columns for p in parts], ignore_index=True)
    values = {k: np.concatenate([getattr(p, k) for p in parts], axis=1) for k in ("prediction", "matched")}
    return replace(parts[0], columns=columns, **values)


@pytest.fixture(scope="module")
def predictions():
    """A trained encoder whose layer 1 is the best, and the untrained one, whose layer 0 is: with the same ratings."""
    return joined(
        *(simulated(np.random.default_rng(3), {"arousal": n}, control=c, n_speakers=20) for c, n in NOISE.items())
    )


@pytest.mark.parametrize(("name", "metric", "sign"), [("ccc", ccc, 1), ("rmse", rmse, -1)])
def test_the_fair_gain_is_over_the_best_untrained_layer(predictions, name, metric, sign):
    truth = predictions.ratings[:, 0]
    score = {
        (c, k): sign * metric(truth, predictions.prediction[:, i].astype(float))
        for i, (c, k) in enumerate(zip(predictions.columns["control"], predictions.columns["layer"], strict=True))
    }
    arguments = {"layers": LAYERS, "targets": ["arousal"], "lower_is_better": sign < 0}
    bootstrap = bootstrap_scores(predictions, metric=name, n_resamples=300)
    (fair,) = gains_over_best_random(bootstrap, **arguments).to_dict("records")
    same = gains_over_random(bootstrap, **arguments).set_index("layer")
    assert (fair["layer"], fair["reference_layer"]) == ("1", "0")
    assert fair["value"] == pytest.approx(score["none", "1"] - score["random_init", "0"], abs=1e-6)
    assert fair["ci_low"] < fair["value"] < fair["ci_high"]
    for k in LAYERS["e"]:
        assert same["value"][k] == pytest.approx(score["none", k] - score["random_init", k], abs=1e-6)
    assert same["value"]["1"] > fair["value"] > 0 > same["value"]["0"]


def test_an_encoder_without_untrained_layers_has_no_gain(predictions):
    trained = replace(
        predictions,
        columns=predictions.columns[:3],
        prediction=predictions.prediction[:, :3],
        matched=predictions.matched[:, :3],
    )
    bootstrap = bootstrap_scores(trained, metric="ccc", n_resamples=50)
    for gains in (gains_over_random, gains_over_best_random):
        assert gains(bootstrap, layers=LAYERS, targets=["arousal"]).empty


def test_encoders_are_compared_with_each_other_and_separately_with_acoustic_features(predictions):
    layers = {"e": ["cv_selected"], "f": ["cv_selected"], "acoustic": ["cv_selected"]}
    columns = predictions.columns[:3].assign(encoder=list(layers), layer="cv_selected")
    own = replace(
        predictions, columns=columns, prediction=predictions.prediction[:, :3], matched=predictions.matched[:, :3]
    )
    runs = [SimpleNamespace(targets=["arousal"], nominal_targets=[])]
    names = {"e": ["0", "1"], "acoustic": ["f0", "loudness"], "f": ["0", "final"]}
    study = Study([], runs, "ccc", names, pd.DataFrame(), pd.DataFrame(), own)
    pairs = study.encoder_differences[["encoder", "reference"]].to_numpy().tolist()
    assert pairs == [["f", "e"]]
    gains = study.gain_over_acoustic
    assert gains[["encoder", "reference"]].to_numpy().tolist() == [["e", "acoustic"], ["f", "acoustic"]]
    score = {e: ccc(own.ratings[:, 0], own.prediction[:, k].astype(float)) for k, e in enumerate(layers)}
    expected = [score["e"] - score["acoustic"], score["f"] - score["acoustic"]]
    np.testing.assert_allclose(gains["estimate"], expected, atol=1e-6)
    assert best_layer(pd.Series(score), metric="ccc") == "f"  # where the least noise was planted
