"""Scores that differ by the rounding of float32 predictions: no interval, test or set of layers sees a difference."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.held_out import predictions_of

from layerprobe.analysis.layers.depth import expected_layer, jackknifed, score_centre
from layerprobe.analysis.similarity.cca import ridge_cca
from layerprobe.analysis.similarity.cka import debiased_cka
from layerprobe.analysis.similarity.rsa import rsa
from layerprobe.analysis.statistics.best_set import best_set
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores

N = 120
SPEAKERS = np.array([f"s{i % 12}" for i in range(N)])


@pytest.fixture
def predicted(rng):
    """Two layers whose predictions are equal but for units in the last place, which repeat the ratings."""
    ratings = 4 + rng.normal(size=N)
    prediction = (4 + 0.5 * (ratings - 4) + 0.5 * rng.normal(size=N)).astype(np.float32)
    better = prediction + np.spacing(prediction) * np.sign(ratings - prediction).astype(np.float32)
    return ratings, [prediction, better]


@pytest.mark.parametrize("metric", ["ccc", "pearson", "rmse", "r2"])
def test_layers_that_differ_by_rounding_do_not_differ_significantly(predicted, metric):
    ratings, layers = predicted
    columns = [({"layer": str(k)}, values) for k, values in enumerate(layers)]
    scores = bootstrap_scores(predictions_of({"arousal": ratings}, columns, SPEAKERS), metric=metric).scores
    assert scores.estimate[0] != scores.estimate[1]
    difference = (scores[1] - scores[0]).one()
    assert (difference.estimate, difference.p_value) == (0, 1)
    assert best_set(scores, lower_is_better=metric == "rmse").is_in.all()


def test_layers_that_differ_a_little_keep_their_difference(predicted, rng):
    ratings, (prediction, _) = predicted
    other = prediction + 1e-3 * rng.normal(size=N).astype(np.float32)
    columns = [({"layer": str(k)}, values) for k, values in enumerate((prediction, other))]
    scores = bootstrap_scores(predictions_of({"arousal": ratings}, columns, SPEAKERS), metric="ccc").scores
    difference = scores[1] - scores[0]
    np.testing.assert_array_equal(difference.resamples, scores.resamples[:, 1] - scores.resamples[:, 0])
    assert difference.one().estimate != 0


def test_a_prediction_of_rounding_scores_as_a_constant_one(rng):
    ratings = 4 + rng.normal(size=N)
    level = np.float32(4)
    rounding = level + np.spacing(level) * np.sign(ratings - 4).astype(np.float32)
    columns = [({"layer": "0"}, rounding), ({"layer": "1"}, np.full(N, level))]
    predictions = predictions_of({"arousal": ratings}, columns, SPEAKERS)
    assert (bootstrap_scores(predictions, metric="ccc").scores.resamples == 0).all()
    assert np.isnan(bootstrap_scores(predictions, metric="pearson").scores.estimate).all()


def test_columns_of_different_utterances_score_as_each_does_alone(rng):
    ratings = {t: 4 + rng.normal(size=N) for t in ("arousal", "valence")}
    ratings["valence"][rng.random(N) < 0.3] = np.nan
    ratings["valence"][np.isin(SPEAKERS, ["s3", "s7"])] = np.nan
    columns = [({"target": t}, np.where(np.isfinite(v), v, 4) * 0.5 + rng.normal(size=N)) for t, v in ratings.items()]
    both = bootstrap_scores(predictions_of(ratings, columns, SPEAKERS), metric="ccc")
    rated = np.isfinite(ratings["valence"])
    alone_columns = [(columns[1][0], columns[1][1][rated])]
    alone = bootstrap_scores(
        predictions_of({"valence": ratings["valence"][rated]}, alone_columns, SPEAKERS[rated]), metric="ccc"
    )
    assert both.scores.counted.tolist() == [12, 10]
    assert both.scores.estimate[1] == pytest.approx(alone.scores.estimate[0], rel=1e-12)
    present = [s for s in sorted(set(SPEAKERS)) if s not in ("s3", "s7")]
    places = [sorted(set(SPEAKERS)).index(s) for s in present]
    np.testing.assert_allclose(both.scores.left_out[places, 1], alone.scores.left_out[:, 0])
    found, expected = both.scores[1].one(), alone.scores[0].one()
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.ci_low, expected.ci_high), abs=0.05)


def test_depths_of_rounding_are_not_known():
    depth = np.array([0.0, 0.5, 1.0])
    assert np.isnan(score_centre(np.array([1e-17, -0.1, 0.0]), depth))
    assert np.isnan(expected_layer(np.array([0.3, 0.3 + 1e-16, 0.3]), depth))
    folds = np.array([0.0, 1e-17, 2e-17])
    assert jackknifed(folds).p_value == 1
    assert jackknifed(0.5 + folds * 0).p_value == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_similarity_to_a_layer_of_rounding_is_not_defined(rng, dtype):
    x = rng.normal(size=(N, 6))
    levels = np.array([1000.0, -3.0, 20.0, 7.0], dtype=dtype)
    y = levels + np.sign(x[:, :4]).astype(dtype) * np.spacing(np.abs(levels))
    assert (np.ptp(y, axis=0) > 0).all()
    assert np.isnan(debiased_cka(x, y))
    rows = np.arange(N)
    assert len(ridge_cca(x, y, train=rows[:60], test=rows[60:], penalty=1e-3, n_components=2).held_out) == 0
    assert np.isnan(rsa(x, y, SPEAKERS, n_permutations=9, rng=rng).value)
