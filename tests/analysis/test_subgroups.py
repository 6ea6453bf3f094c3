"""Scores of speakers, genders and corpora, and from one corpus to another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.held_out import CONDITION
from helpers.simulated_corpus import simulated

from layerprobe.analysis.subgroups import cross_corpus, group_scores, speaker_scores
from layerprobe.probe.metrics import ccc, pearson

LAYER = {("e", "arousal"): "1"}


@pytest.fixture
def run(rng):
    return simulated(rng, {"arousal": [1.0, 2.0]}, n_speakers=12, each=10)


def test_a_speaker_has_the_score_of_their_own_utterances(run):
    table = speaker_scores(run, metric="ccc", layer=LAYER).set_index("speaker_id")
    rows = run.speaker_id == "s003"
    assert table.loc["s003", "value"] == pytest.approx(ccc(run.ratings[rows, 0], run.prediction[rows, 1].astype(float)))
    assert set(table["layer"]) == {"1"}
    assert set(table["n"]) == {10}


def test_of_nine_utterances_or_of_nobody_known_no_score_is_told(run):
    speaker = run.speaker_id.astype("U9")
    speaker[0] = "s001"
    speaker[run.speaker_id == "s005"] = "Unknown"
    told = speaker_scores(replace(run, speaker_id=speaker), metric="ccc", layer=LAYER)["speaker_id"]
    assert sorted(told) == [f"s{k:03d}" for k in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11)]


def test_genders_have_their_scores_with_intervals_over_their_own_speakers(run):
    table = group_scores(run, metric="pearson", layer=LAYER).set_index("group")
    assert set(table["grouping"]) == {"gender"}
    for group, row in table.iterrows():
        rows = run.gender == group
        assert row["estimate"] == pytest.approx(pearson(run.ratings[rows, 0], run.prediction[rows, 1].astype(float)))
        assert row["ci_low"] < row["estimate"] < row["ci_high"]
        assert (row["n"], row["n_speakers"]) == (60, 6)


def test_one_group_alone_or_two_speakers_are_no_comparison(run):
    assert group_scores(replace(run, gender=np.full(120, "f")), metric="ccc", layer=LAYER).empty
    few = np.where(np.isin(run.speaker_id, ["s000", "s001"]), "x", "f")
    assert set(group_scores(replace(run, gender=few), metric="ccc", layer=LAYER)["group"]) == {"f"}


def test_a_probe_is_taken_to_another_corpus_by_the_layer_that_is_best_at_home(run):
    corpus = np.where(run.speaker_id < "s006", "a", "b")
    at_a = corpus == "a"
    good, bad = run.ratings[:, 0], np.random.default_rng(1).normal(size=len(corpus))
    columns, values = [], []
    for source in "ab":
        own = corpus == source
        for layer, home, away in (("0", good, bad), ("1", good + 0.5 * bad, good)):
            key = {"encoder": "e", "probe": "ridge", "layer": layer, "target": "arousal", "seed": 0}
            key |= CONDITION | {"control": "none"}
            columns.append(key | {"train_corpus": source})
            values.append(np.where(own, home, away))
    prediction = np.stack(values, axis=1).astype(np.float32)
    trained = replace(run, corpus=corpus, columns=pd.DataFrame(columns), prediction=prediction, matched=prediction)
    table = cross_corpus(trained, metric="pearson").set_index(["source", "test"])
    assert set(table["layer"]) == {"0"}  # though layer 1 is better elsewhere
    assert table.loc[("a", "a"), "estimate"] == pytest.approx(1)
    expected = pearson(run.ratings[~at_a, 0], prediction[~at_a, 0].astype(float))
    assert table.loc[("a", "b"), "estimate"] == pytest.approx(expected)
    assert cross_corpus(run, metric="pearson").empty
