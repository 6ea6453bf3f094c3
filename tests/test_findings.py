"""Findings: records from scores, sentences from records."""

from __future__ import annotations

import copy
import json

import pandas as pd
import pytest

from analysis.findings import NAMES, find, headlines, warn, write_findings

PLAN = {
    "corpus": {"n_speakers": 24, "n_not_cached": 0, "n_not_rated": 0},
    "sweep": {"speakers": True, "alphas": [0.1, 1.0, 10.0]},
    "encoders": [{"name": "e"}],
}


def row(layer, value, *, control="none", fold="pooled", seed=0, probe="ridge", metric="ccc_matched"):
    return {
        "encoder": "e", "probe": probe, "layer": layer, "target": "arousal", "control": control,
        "fold": fold, "seed": seed, "metric": metric, "value": value,
    }  # fmt: skip


SCORES = pd.DataFrame(
    [
        row("0", 0.2), row("0", 0.1, fold="0"), row("0", 0.3, fold="1"),
        row("1", 0.6), row("1", 0.55, fold="0"), row("1", 0.64, fold="1"),
        row("0", 0.25, control="random_init"), row("0", 0.2, control="random_init", fold="0"),
        row("0", -0.02, control="permuted", seed=0), row("0", 0.04, control="permuted", seed=1),
        row("all", 0.58, probe="weighted_sum", seed=0), row("all", 0.62, probe="weighted_sum", seed=1),
        row("0", 1.0, fold="0", metric="alpha"), row("1", 10.0, fold="0", metric="alpha"),
    ]
)  # fmt: skip


def test_sentences_follow_the_numbers():
    assert headlines(find(SCORES, metric="ccc_matched")) == [
        "e predicts arousal best from layer 1: CCC, matched 0.60 (folds 0.55 to 0.64); random weights alone reach "
        "0.25, less than that; permuted ratings reach 0.04."
    ]
    weak = SCORES.copy()
    weak.loc[weak["control"] == "random_init", "value"] = 0.7
    assert "random weights alone reach 0.70, more than that" in headlines(find(weak, metric="ccc_matched"))[0]
    weak.loc[weak["control"] == "permuted", "value"] = 0.65
    assert headlines(find(weak, metric="ccc_matched")) == [
        "e shows nothing of arousal: its best layer, 1, reaches CCC, matched 0.60 (folds 0.55 to 0.64), no better "
        "than permuted ratings (0.65 to 0.65)."
    ]


def test_an_error_is_better_when_it_is_smaller():
    (sentence,) = headlines(find(SCORES.assign(metric="rmse"), metric="rmse"))
    assert sentence.startswith("e shows nothing of arousal: its best layer, 0, reaches RMSE 0.20")


def test_each_kind_of_finding_has_its_record():
    values = {f.name: (f.layer, f.value) for f in find(SCORES, metric="ccc_matched")}
    assert set(values) == set(NAMES)
    assert values["weighted_sum"] == ("all", "0.60 (seeds 0.58 to 0.62)")
    assert values["permuted_ratings"] == ("all", "0.01 (layers and permutations -0.02 to 0.04)")


def test_the_best_layer_of_an_error_is_the_lowest():
    errors = SCORES.assign(metric="rmse")
    assert find(errors[errors["control"] == "none"], metric="rmse")[0].layer == "0"


def test_records_are_written_with_the_runs_fingerprint(tmp_path):
    write_findings(tmp_path / "f.json", find(SCORES, metric="ccc_matched"), fingerprint="abc")
    content = json.loads((tmp_path / "f.json").read_text())
    assert content["fingerprint"] == "abc"
    assert content["findings"][0]["estimate"] == pytest.approx(0.6)
    assert content["findings"][0]["source"] == "Lin (1989), Biometrics 45"


def test_a_sound_run_warns_of_the_grid_alone():
    assert warn(PLAN, SCORES) == [
        "Alpha lies at the edge of its grid in 1 of 2 fits; at the upper edge the ridge found nothing to learn."
    ]


def test_every_weakness_is_said():
    plan = copy.deepcopy(PLAN)
    plan["encoders"][0]["random_init"] = 0
    plan["sweep"]["speakers"] = False
    plan["corpus"] = {"n_speakers": 6, "n_not_cached": 2, "n_not_rated": 3}
    text = " ".join(warn(plan, SCORES))
    for part in (
        "The weights of e are untrained",
        "No speakers were given",
        "Only 6 speakers",
        "2 utterances of the manifest were left out: not in the cache",
        "3 utterances of the manifest were left out: without a rating for every target",
    ):
        assert part in text


def test_scores_that_are_not_defined_give_no_finding():
    nothing = SCORES.assign(value=float("nan"))
    assert [f.name for f in find(nothing, metric="ccc_matched")] == ["weighted_sum"]
    assert headlines(find(nothing, metric="ccc_matched")) == []
