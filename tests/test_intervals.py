"""Intervals of a run: of the columns it kept, about the scores that it wrote, wider with fewer speakers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.intervals import KEYS, score_intervals
from analysis.relevance import layer_scores, with_intervals
from probe.metrics import ccc
from probe.score_table import Predictions


def predictions(rng, *, n_speakers=30, seeds=1):
    speakers = np.repeat([f"s{i}" for i in range(n_speakers)], 10)
    n = len(speakers)
    ratings = rng.normal(4, 1, size=(n, 2))
    labels = [("ridge", "0", "arousal", 0), ("ridge", "1", "valence", 0)]
    labels += [("weighted_sum", "all", "arousal", s) for s in range(seeds)]
    columns = pd.DataFrame(
        [{"encoder": "e", "probe": p, "layer": k, "target": t, "control": "none", "seed": s} for p, k, t, s in labels]
    )
    own = ratings[:, [0, 1, *[0] * seeds]]
    matched = (0.6 * own + rng.normal(size=own.shape)).astype(np.float32)
    ids = np.array([f"u{i}" for i in range(n)])
    targets = np.array(["arousal", "valence"])
    return Predictions(ids, speakers, np.repeat("0", n), targets, ratings, columns, matched - 1, matched)


def test_an_interval_lies_about_its_own_score(rng):
    run = predictions(rng)
    table = score_intervals(run, metric="ccc_matched").set_index(["probe", "layer"])
    for k, (probe, layer, target) in enumerate((("ridge", "0", 0), ("ridge", "1", 1), ("weighted_sum", "all", 0))):
        score = ccc(run.ratings[:, target], run.matched[:, k].astype(float))
        low, high = table.loc[(probe, layer), ["low", "high"]]
        assert low < score < high
        assert high - low < 0.3
    raw = score_intervals(run, metric="ccc").set_index(["probe", "layer"])
    assert raw.loc[("ridge", "0"), "high"] < table.loc[("ridge", "0"), "high"]  # raw ones are off by one point


def test_fewer_speakers_give_wider_intervals_and_two_give_none(rng):
    few, many = (score_intervals(predictions(rng, n_speakers=n), metric="pearson") for n in (8, 120))
    assert (few["high"] - few["low"]).min() > 1.5 * (many["high"] - many["low"]).max()
    assert score_intervals(predictions(rng, n_speakers=2), metric="pearson").empty
    assert score_intervals(predictions(rng), metric="uar").empty


def test_seeds_of_a_mix_have_one_interval_and_runs_repeat(rng):
    run = predictions(rng, seeds=3)
    table = score_intervals(run, metric="ccc")
    assert len(table) == 3
    assert not table.duplicated(KEYS).any()
    pd.testing.assert_frame_equal(table, score_intervals(run, metric="ccc"))


def test_scores_without_an_interval_keep_their_range_over_folds():
    rows = [
        {"encoder": "e", "probe": "ridge", "layer": layer, "target": "a", "control": c, "fold": fold, "seed": 0,
         "metric": "ccc", "value": 0.5 + 0.1 * (fold == "1")}
        for layer in "01" for c in ("none", "permuted") for fold in ("0", "1", "pooled")
    ]  # fmt: skip
    table = layer_scores(pd.DataFrame(rows), metric="ccc")
    interval = {
        "encoder": "e",
        "probe": "ridge",
        "layer": "1",
        "target": "a",
        "control": "none",
        "low": 0.1,
        "high": 0.9,
    }
    both = with_intervals(table, pd.DataFrame([interval])).set_index(["control", "layer"])
    assert both.loc[("none", "1"), ["lowest", "highest", "spread"]].tolist() == [0.1, 0.9, "95 % over speakers"]
    assert both.loc[("none", "0"), ["lowest", "highest", "spread"]].tolist() == [0.5, pytest.approx(0.6), "folds"]
    assert both.loc[("permuted", "1"), "spread"] == "folds"
    assert len(both) == len(table)
