"""Baselines by hand: transcript, raters, the mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import manifest_of

from layerprobe.probe.metrics import ccc, rmse
from layerprobe.probe.results.predictions import SweepData
from layerprobe.probe.solvers.backends import HOST
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.sweep.fits.baselines import baselines
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.tasks.bag_of_words import word_counts

N = 200


@pytest.fixture
def swept(rng, tmp_path):
    ratings = rng.normal(4, 1, size=(N, 2))
    groups = np.arange(N) // 10
    splits = fold_splits(groups, n_folds=4, n_inner_folds=3, rng=rng)
    ids = np.array([f"u{i}" for i in range(N)], dtype=object)
    data = SweepData(ids, groups.astype(str), groups, ratings, np.empty((N, 0), dtype=int), splits)
    return data, plan_sweep(manifest_of(ratings, tmp_path / "my.csv"))


def scores_of(swept, **what):
    data, plan = swept
    choices = {"raters": {}, "transcripts": None, "acoustic": None} | what
    return pd.DataFrame(baselines(data, plan, algebra=HOST, **choices).scores)


def value(scores, **where):
    rows = scores[scores["fold"] == "pooled"]
    for key, wanted in where.items():
        rows = rows[rows[key] == wanted]
    (found,) = rows["value"]
    return found


def test_the_error_of_the_mean_rating_is_the_ratings_deviation(swept):
    data, _ = swept
    scores = scores_of(swept)
    expected = np.concatenate([data.ratings[s.test, 0] - data.ratings[s.train, 0].mean() for s in data.splits])
    error = value(scores, baseline="mean_rating", target="arousal", metric="rmse")
    assert error == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-6)
    assert abs(value(scores, baseline="mean_rating", target="arousal", metric="ccc")) < 0.1
    assert set(scores["baseline"]) == {"mean_rating"}


def test_a_rater_is_compared_with_the_mean_of_the_others(swept, rng):
    data, _ = swept
    own = data.ratings[:, :1] + 0.5 * rng.normal(size=(N, 3))
    own[:50, 2] = np.nan  # two raters there
    own[50:60, 1:] = np.nan  # one rater: no other to compare with
    scores = scores_of(swept, raters={"arousal": own})
    by_hand = np.array([np.nanmean(np.delete(row, 0)) if np.isfinite(row[1:]).any() else np.nan for row in own])
    known = np.isfinite(by_hand)
    found = value(scores, baseline="single_rater", target="arousal", metric="ccc", seed=0)
    assert found == pytest.approx(ccc(by_hand[known], own[known, 0]), abs=1e-6)
    error = value(scores, baseline="single_rater", target="arousal", metric="rmse", seed=0)
    assert error == pytest.approx(rmse(by_hand[known], own[known, 0]), abs=1e-6)
    assert set(scores[scores["baseline"] == "single_rater"]["seed"]) == {0, 1, 2}
    assert set(scores[scores["baseline"] == "single_rater"]["target"]) == {"arousal"}


def test_the_noise_ceiling_is_the_correlation_of_the_true_score_with_the_mean_of_the_raters(swept, rng):
    data, _ = swept
    truth = data.ratings[:, 0]
    own = truth[:, None] + 1.2 * truth.std() * rng.normal(size=(N, 3))
    scores = scores_of(swept, raters={"arousal": own})
    between = 3 * own.mean(axis=1).var(ddof=1)  # BMS and WMS of Shrout and Fleiss (1979)
    within = own.var(axis=1, ddof=1).mean()
    expected = (between - within) / between
    for metric in ("ccc_matched", "ccc", "pearson"):
        assert value(scores, baseline="noise_ceiling", target="arousal", metric=metric) == pytest.approx(expected**0.5)
    assert value(scores, baseline="noise_ceiling", target="arousal", metric="r2") == pytest.approx(expected)
    assert np.corrcoef(truth, own.mean(axis=1))[0, 1] == pytest.approx(expected**0.5, abs=0.05)
    assert set(scores_of(swept)["baseline"]) == {"mean_rating"}


def test_a_transcript_that_carries_a_rating_predicts_it(swept, rng):
    data, _ = swept
    texts = [
        f"It was a {'wonderful' if v > 4 else 'dreadful'} day, number {i % 7}" for i, v in enumerate(data.ratings[:, 1])
    ]
    scores = scores_of(swept, transcripts=texts)
    assert value(scores, baseline="text_only", target="valence", metric="pearson") > 0.7
    assert abs(value(scores, baseline="text_only", target="arousal", metric="pearson")) < 0.25


def test_duration_and_loudness_are_fitted_together(swept, rng):
    data, _ = swept
    features = np.column_stack([data.ratings[:, 0], data.ratings[:, 1]]) + 0.1 * rng.normal(size=(N, 2))
    scores = scores_of(swept, acoustic=features.astype(np.float32))
    for target in ("arousal", "valence"):
        assert value(scores, baseline="duration_loudness", target=target, metric="pearson") > 0.9


def test_unigrams_and_bigrams_are_counted():
    counts = word_counts(["Good good GOOD dog", "", "dog, good!", "don't"], n_features=2**16)
    # good 3 times, dog once, the pairs "good good" twice and "good dog" once
    assert sorted(np.abs(counts[0][counts[0] != 0]).tolist()) == pytest.approx([1, 1, 2**0.5, 3**0.5])
    assert not counts[1].any()
    assert (counts[2] != 0).sum() == 3
    assert (counts[3] != 0).sum() == 1
    np.testing.assert_array_equal(word_counts(["a b c"]), word_counts(["a b c"]))


def test_a_residual_of_dominance_is_a_target_of_baselines_too(swept, rng):
    data, plan = swept
    ratings = np.column_stack([data.ratings, data.ratings.sum(axis=1) + rng.normal(size=N)])
    plan = replace(plan, targets=("arousal", "valence", "dominance"), residuals=("dominance",))
    rest = ratings[:, 2] - ratings[:, 0] - ratings[:, 1]
    features = np.column_stack([rest, rest]).astype(np.float32)
    scores = scores_of((replace(data, ratings=ratings), plan), acoustic=features)
    assert value(scores, baseline="duration_loudness", target="dominance_residual", metric="pearson") > 0.95
    assert value(scores, baseline="duration_loudness", target="dominance", metric="pearson") < 0.8
