"""The smallest sufficient layer: on corpora whose best layer is known, and where no best layer is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.simulated_corpus import simulated
from scipy.stats import binom

from layerprobe.analysis.layers.sufficient import sufficient_layers
from layerprobe.analysis.statistics.best_set import behind_at_most, best_set
from layerprobe.analysis.statistics.bootstrap import expanded_quantile
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.study import Study
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import Run

NOISE = {"arousal": [2.0, 0.4, 0.38, 0.9], "valence": [3.0, 2.0, 1.0, 0.2]}  # layer 1 is as good as layer 2, nearly


def study_of(predictions, *, metric="ccc", layers=None):
    """A study of predictions that no sweep wrote; its scores are those of the predictions."""
    run = Run("0" * 12, {"sweep": {"targets": list(predictions.targets)}}, *[pd.DataFrame()] * 3, Path("runs/first"))
    keys = bootstrap_scores(predictions, metric=metric)
    scores = keys.keys.assign(
        metric=metric, value=keys.scores.estimate, fold="pooled", seed=0, covariates="", layer_index=0
    )
    names = layers or {"e": list(map(str, range(4)))}
    weights = pd.DataFrame(columns=["probe", "control"])
    return Study([Path("runs/first")], [run], metric, names, scores, weights, predictions)


def test_it_is_the_lowest_layer_of_the_best_set_with_its_loss_from_the_best():
    study = study_of(simulated(np.random.default_rng(3), NOISE))
    found = sufficient_layers(study, "e")
    assert {target: one.layer for target, one in found.items()} == {"arousal": "1", "valence": "3"}
    arousal = found["arousal"]
    of = study.bootstrap.of(["0", "1", "2", "3"], encoder="e", control="none", probe="ridge", target="arousal")
    assert (arousal.best_layer, arousal.score) == ("2", of.estimate[1])
    assert arousal.difference == pytest.approx(of.estimate[2] - of.estimate[1])
    assert 0 < arousal.difference < arousal.behind_at_most < 0.2
    assert arousal.ci_low < arousal.score < arousal.ci_high
    assert 0.05 < arousal.p_not_best < 1
    assert found["valence"].difference == 0


def test_of_an_error_the_lowest_score_is_the_best():
    found = sufficient_layers(study_of(simulated(np.random.default_rng(3), NOISE), metric="rmse"), "e")["arousal"]
    assert (found.layer, found.best_layer) == ("1", "2")
    assert found.score > found.best_score
    assert found.difference == pytest.approx(found.score - found.best_score)


def test_of_features_without_depth_it_is_the_highest_scoring():
    predictions = simulated(np.random.default_rng(3), {"arousal": [0.47, 0.4, 0.9]})
    names = {"0": "mfcc", "1": "f0", "2": "loudness"}
    columns = predictions.columns.assign(layer=predictions.columns["layer"].map(names))
    study = study_of(replace(predictions, columns=columns), layers={"e": ["f0", "mfcc", "loudness"]})
    assert study.best.set_index("layer")["in_best_set"].to_dict() == {"f0": True, "mfcc": True, "loudness": False}
    assert sufficient_layers(study, "e")["arousal"].layer == "mfcc"


def test_two_speakers_leave_every_layer_possible_which_is_refused():
    study = study_of(simulated(np.random.default_rng(0), NOISE, n_speakers=2))
    message = r"^The best layers of e for arousal are not known, .*: only 2 speakers were held out, and it needs 3\. "
    with pytest.raises(InputError, match=message):
        sufficient_layers(study, "e")
    with pytest.raises(InputError, match=r"^encoder .f. is not in the runs; choose one of e\."):
        sufficient_layers(study, "f")


def test_a_layer_without_a_score_is_named():
    predictions = simulated(np.random.default_rng(0), NOISE)
    predictions.prediction[0, 0] = np.nan
    with pytest.raises(InputError, match="a layer has no score of it"):
        sufficient_layers(study_of(predictions), "e")


def test_the_selected_layer_is_behind_the_truly_best_by_no_more_than_its_bound():
    """In 95 % of corpora or more; the truth is the score on a corpus of very many speakers."""
    noise = {"arousal": [0.9, 0.7, 0.6, 0.5, 0.45, 0.5]}
    many = simulated(np.random.default_rng(9), noise, n_speakers=20_000)
    truth = bootstrap_scores(many, metric="pearson", n_resamples=1).scores.estimate
    rng, inside, n = np.random.default_rng(1), 0, 120
    for _ in range(n):
        scores = bootstrap_scores(
            simulated(rng, noise, n_speakers=25, each=6), metric="pearson", n_resamples=400
        ).scores
        first = int(np.argmax(best_set(scores).is_in))
        bounds = behind_at_most(scores)
        assert bounds[first] >= scores.estimate.max() - scores.estimate[first]
        inside += truth.max() - truth[first] <= bounds[first]
    assert inside >= binom.ppf(0.01, n, 0.95)


def test_bounds_are_those_by_hand():
    """Two layers: the difference and its standard error, times the quantile of its own deviation."""
    rng = np.random.default_rng(0)
    scores = bootstrap_scores(simulated(rng, {"a": [0.9, 0.5]}), metric="ccc").scores
    ahead = scores.estimate[1] - scores.estimate[0]
    off = scores.resamples[:, 1] - scores.resamples[:, 0] - ahead
    wider = expanded_quantile(40) / 1.959964
    margin = np.quantile(np.abs(off) / off.std(), 0.95) * off.std() * wider
    np.testing.assert_allclose(behind_at_most(scores), [ahead + margin, max(0.0, margin - ahead)], rtol=1e-5)
    assert behind_at_most(scores.map(np.negative), lower_is_better=True) == pytest.approx(behind_at_most(scores))
    twins = scores[np.array([1, 1])]
    assert behind_at_most(twins).tolist() == [0, 0]
