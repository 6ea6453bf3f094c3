"""A study of runs on disk: tables, findings, checks and methods of what the sweep wrote."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.checks import objections
from helpers.planted import DIM, N_LAYERS, N, manifest_of, store

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.methods import methods_paragraph, references
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.layers.selection import CHOSEN
from layerprobe.analysis.model_comparison import compare
from layerprobe.analysis.study import study
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_run
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

LAYERS = {"e": list(map(str, range(N_LAYERS)))}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Arousal in layer 1, valence in layer 3; another encoder of another run; random weights that know nothing."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("study")
    x = rng.normal(size=(N, N_LAYERS, DIM))
    ratings = np.stack([x[:, k] @ rng.normal(size=DIM) for k in (1, 3)], axis=1)
    manifest = manifest_of(ratings + 0.8 * rng.normal(size=ratings.shape), root / "my.csv")
    plan = replace(plan_sweep(manifest, permutations=19, weighted_sum_seeds=1), mix_iterations=5)
    control = store(root / "r.zarr", rng.normal(size=x.shape), random_init=3, weights="ff")
    sweep([store(root / "a.zarr", x)], manifest, plan, out=root / "first", random_weights=[control])
    other = store(root / "b.zarr", x + rng.normal(size=x.shape), upstream="other")
    sweep([other], manifest, plan, out=root / "second")
    return root


@pytest.fixture(scope="module")
def first(folders):
    return study([folders / "first"])


def test_bootstrap_estimates_are_the_scores_that_the_sweep_wrote(folders, first):
    written = read_run(folders / "first").scores
    written = written[(written["fold"] == "pooled") & (written["metric"] == "ccc_matched")]
    keys = ["encoder", "control", "probe", "target", "layer"]
    found = first.bootstrap.keys.assign(estimate=first.bootstrap.scores.estimate)
    both = found.merge(written.groupby(keys)["value"].mean().reset_index(), on=keys)
    assert len(both) == len(found) - 2  # all but the chosen layers, which the analysis makes
    np.testing.assert_allclose(both["estimate"], both["value"], atol=1e-9)


def test_the_planted_layers_are_their_best_sets(first):
    best = first.best[(first.best["control"] == "none") & first.best["in_best_set"]]
    assert list(zip(best["target"], best["layer"], strict=True)) == [("arousal", "1"), ("valence", "3")]
    (encoder,) = first.layers
    assert set(first.cv_selected["layer"][first.cv_selected["target"] == "valence"]) == {"3"}
    assert first.evaluated_layers == {(encoder, "arousal"): CHOSEN, (encoder, "valence"): CHOSEN}


def test_every_table_shows_what_was_planted(first):
    row = first.permutations.set_index(["target", "layer"])["p_permutation"]
    assert row["arousal", "1"] == row["valence", "3"] == 0.05
    assert (first.gain_over_random.set_index(["target", "layer"]).loc[("valence", "3"), "ci_low"]) > 0.3
    contrast = first.contrasts[first.contrasts["measure"] == "score_centre"].set_index("control")
    assert contrast.loc["none", "ci_low"] > 0.1
    depth = first.depth_table[first.depth_table["measure"] == "score_centre"]
    depth = depth[depth["control"] == "none"].set_index("target")["estimate"]
    assert depth["arousal"] == pytest.approx(0.25, abs=0.15)
    assert depth["valence"] == pytest.approx(0.75, abs=0.15)
    assert list(first.correlations) == ["arousal", "valence"]
    assert set(first.weights_table["layer"]) == set(map(str, range(N_LAYERS)))
    assert first.weights_table["score"].notna().all()
    assert first.regrets.set_index(["target", "choice"]).loc[("arousal", "last layer"), "ci_low"] > 0.3
    assert first.similarity is None


def test_each_kind_of_finding_has_an_estimate_a_method_and_a_source(first):
    findings = collect_findings(first)
    names = {f.name for f in findings}
    assert names >= {
        *("highest_scoring_layer", "best_set", "cv_selected_layer", "weighted_sum", "chance", "random_init"),
        *("gain_over_random", "regret", "depth", "depth_difference"),
    }
    assert all(f.method and f.source for f in findings)
    assert all(np.isfinite(f.estimate) for f in findings if f.name != "depth_difference" and f.control != "random_init")
    assert all((f.interval != "") == np.isfinite(f.ci_low) for f in findings)
    assert "encoder_difference" not in names  # of one encoder


def test_p_values_of_one_question_are_corrected_together(first):
    chance = [f for f in collect_findings(first) if f.name == "chance"]
    assert [f.p_value for f in chance] == [0.05, 0.05]
    assert [f.p_adjusted for f in chance] == [0.1, 0.1]  # Holm: twice the smaller


def test_runs_of_one_question_stand_side_by_side(folders, first):
    both = study([folders / "first", folders / "second"])
    assert len(both.layers) == 2
    own = first.bootstrap.scores.resamples
    np.testing.assert_allclose(both.bootstrap.scores.resamples[:, : own.shape[1] - 2], own[:, :-2])
    assert set(both.table["encoder"]) == {*both.layers, ""}
    depths = both.contrasts[(both.contrasts["measure"] == "score_centre") & (both.contrasts["control"] == "none")]
    smallest, largest = sorted(depths["p_value"])
    assert sorted(depths["p_adjusted"]) == pytest.approx([min(1, 2 * smallest), max(min(1, 2 * smallest), largest)])
    assert smallest > 0  # so that twice of it is another number
    twice = study([folders / "first", folders / "first"])
    assert len(twice.layers) == 2
    assert any(name.endswith("(first)") for name in twice.layers)


def test_encoders_are_compared_at_their_selected_layers_in_the_same_resamples(folders):
    for metric, sign in (("ccc_matched", 1), ("rmse", -1)):
        both = study([folders / "first", folders / "second"], metric=metric)
        reference, encoder = both.layers
        keys = both.bootstrap.keys
        found = [f for f in collect_findings(both) if f.name == "encoder_difference"]
        assert [(f.target, f.encoder, f.reference) for f in found] == [
            (target, encoder, reference) for target in ("arousal", "valence")
        ]
        for f in found:
            rows = keys[(keys["layer"] == CHOSEN) & (keys["target"] == f.target)].reset_index().set_index("encoder")
            new, old = (both.bootstrap.scores[int(rows.loc[name, "index"])] for name in (encoder, reference))
            assert f.estimate == pytest.approx(sign * (new.estimate - old.estimate))
            by_hand = (new - old).one() if sign == 1 else (old - new).one()
            assert (f.ci_low, f.ci_high, f.p_value) == (by_hand.ci_low, by_hand.ci_high, by_hand.p_value)
            unpaired = new.one().ci_high - new.one().ci_low + old.one().ci_high - old.one().ci_low
            assert f.ci_high - f.ci_low < unpaired  # paired: narrower than both intervals together
            assert f.ci_high < 0  # the second encoder is the first one with noise
        smallest, largest = sorted(f.p_value for f in found)
        assert sorted(f.p_adjusted for f in found) == pytest.approx(
            [min(1, 2 * smallest), max(min(1, 2 * smallest), largest)]
        )
        assert any(s.startswith(f"{encoder} predicts arousal worse than {reference}") for s in headlines(found))


def test_sweeps_are_compared_by_their_selected_layers_and_weighted_sums(folders, first):
    table = compare([folders / "first", folders / "second"])
    names = [f"{run}: {encoder}, {kind}" for kind in ("cross-validated layer", "weighted sum")
             for run, encoder in zip(("first", "second"), ("test", "other"), strict=True)]  # fmt: skip
    assert set(table["regressor"]) == set(names)
    assert set(table["reference"]) == {names[0]}
    is_reference = table["regressor"] == table["reference"]
    assert (
        table.loc[is_reference, ["difference", "difference_ci_low", "difference_ci_high", "p_value"]]
        .isna()
        .all(axis=None)
    )
    assert table.loc[~is_reference, "p_value"].notna().all()
    rows = table.set_index(["regressor", "target"])
    for target, layer in (("arousal", "1"), ("valence", "3")):
        own = rows.loc[(names[0], target)]
        assert (own["encoder"], own["probe"], own["layer"], own["selected_layers"]) == ("test", "ridge", CHOSEN, layer)
        found = next(f for f in collect_findings(first) if (f.name, f.target) == ("cv_selected_layer", target))
        assert (own["estimate"], own["ci_low"]) == (pytest.approx(found.estimate), pytest.approx(found.ci_low))
        other = rows.loc[(names[1], target)]
        assert other["difference"] == pytest.approx(other["estimate"] - own["estimate"])
    assert set(rows.loc[names[2]]["layer"]) == {"all"}
    assert set(rows.loc[names[2]]["selected_layers"]) == {""}


def test_a_study_is_made_from_a_path_a_text_a_run_or_a_list_and_shows_what_it_holds(folders, first):
    folder = folders / "first"
    run = read_run(folder)
    for given in (folder, str(folder), run, [str(folder)], [run]):
        again = study(given)
        assert (again.folders, again.fingerprint, again.layers) == ([folder], first.fingerprint, first.layers)
    (encoder,) = first.layers
    assert repr(first) == f"Study({folder}: moment-matched CCC; encoders {encoder}; targets arousal, valence)"
    assert len(collect_findings(folder)) == len(collect_findings(first))
    shown = first._repr_html_()
    answer = next(a for a in first.answers if a.target == "valence")
    assert answer.best_layer == "3"
    cells = re.search(r'data-target="valence"><th scope="row">(.*?)</th><td class="number">(.*?)</td>', shown)
    assert (cells[1], cells[2]) == (encoder, f"{answer.score:.2f}")
    evil = replace(answer, encoder="<script>")
    renamed = replace(first)
    renamed.__dict__["answers"] = [evil]
    assert "&lt;script&gt;" in renamed._repr_html_()
    assert "<script" not in renamed._repr_html_()


def test_what_can_not_be_compared_or_shown_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match=r"has no target with classes, which unweighted average recall is a score of"):
        study([folders / "first"], metric="uar")
    with pytest.raises(InputError, match="metric 'f1' is unknown"):
        study([folders / "first"], metric="f1")
    shutil.copytree(folders / "first", tmp_path / "run")
    table = pd.DataFrame([{"measure": "cka", "layer_a": "0", "layer_b": "0", "fingerprint": "another"}])
    table.to_csv(tmp_path / "run" / "similarity.csv", index=False)
    with pytest.raises(
        InputError, match=r"similarity\.csv has format version none, and this version of layerprobe reads 1\. Make it"
    ):
        study(tmp_path / "run").similarity  # noqa: B018
    table.assign(format_version=1).to_csv(tmp_path / "run" / "similarity.csv", index=False)
    with pytest.raises(InputError, match="belongs to another run"):
        study(tmp_path / "run").similarity  # noqa: B018
    with pytest.raises(
        InputError, match=r"^No run folder was given\. Name one that layerprobe sweep made\. \[LP\d{3}\]$"
    ):
        study([])


def test_an_error_has_no_centre_of_gravity_of_its_own(folders):
    errors = study([folders / "first"], metric="rmse")
    assert errors.depth_metric == "ccc_matched"
    assert errors.best[errors.best["in_best_set"] & (errors.best["control"] == "none")]["layer"].tolist() == ["1", "3"]
    above = errors.gain_over_random.set_index(["target", "layer"])
    assert above.loc[("arousal", "1"), "ci_low"] > 0  # better is above 0 for errors, too


def changed(of, *, plan=None, **fields):
    runs = [replace(run, plan={**run.plan, **(plan or {})}) for run in of.runs]
    return replace(of, runs=runs, **fields)


def test_a_study_without_weaknesses_has_no_limitation(first):
    scores = first.scores[(first.scores["metric"] != "alpha") & ~first.scores["control"].str.startswith("permuted")]
    assert objections(changed(first, scores=scores, weights=first.weights.assign(weight=0.2))) == []


def test_a_layer_with_nearly_all_the_weight_is_a_limitation(first):
    weights = first.weights.assign(weight=0.02)
    of_arousal = (weights["target"] == "arousal") & (weights["layer"] == "1") & (weights["probe"] == "weighted_sum")
    weights.loc[of_arousal, "weight"] = 0.94
    found = [sentence for sentence in objections(changed(first, weights=weights)) if "of the weight" in sentence]
    assert found == [
        "Layer 1 of test has 0.94 of the weight of the weighted sum for arousal: that mix selects a layer, and its "
        "weights do not measure how relevant the others are."
    ]


def test_permutations_must_be_enough_for_all_tests(first):
    """By hand: the least p-value of 19 permutations is .05, and Holm doubles it for two targets."""
    assert objections(first, "LP014") == [
        "Ratings were permuted only 19 times: no p-value against chance, corrected for 2 pairs of encoder and target, "
        "can be below 0.10."
    ]


def test_every_weakness_has_its_sentence(first):
    run = first.runs[0]
    weak = changed(
        first,
        plan={
            "corpus": {**run.plan["corpus"], "n_speakers": 6, "n_not_cached": 2, "n_not_rated": 3},
            "encoders": [{**run.plan["encoders"][0], "random_init": 0}],
        },
        predictions=replace(
            first.predictions,
            ratings=first.predictions.ratings[:, [0, 0]],
            speaker_id=np.where(first.predictions.speaker_id == "s0", "Unknown", first.predictions.speaker_id),
        ),
        scores=first.scores[first.scores["seed"] < 5].copy(),
    )
    edge = weak.scores["metric"] == "alpha"
    weak.scores.loc[edge, "value"] = run.plan["sweep"]["alphas"][-1]
    text = " ".join(objections(weak))
    for part in (
        "are untrained: they were initialised at random",
        "Only 6 speakers",
        "10 of 240 held-out utterances are of unknown speakers",
        "Alpha lies at the upper edge of its grid",
        "Ratings of valence mostly repeat those of arousal (r = 1.00",
        "Ratings were permuted only 5 times: no p-value against chance, corrected for 2 pairs of encoder and target,",
        "2 utterances of the manifest were left out: not in the cache",
        "3 utterances of the manifest were left out: without a rating for any target",
    ):
        assert part in text
    silent = changed(first, plan={"sweep": {**run.plan["sweep"], "speakers": False}})
    assert "No speakers were given" in " ".join(objections(silent))


def test_the_methods_are_those_of_this_run(first):
    text = methods_paragraph(first)
    for part in (
        "240 utterances of 24 speakers",
        "5-fold",
        "19 permutations",
        "random initialisation",
        "2,000 resamples",
    ):
        assert part in text
    assert "banded" not in text  # there were no covariates
    cited = references(text)
    assert any(work.startswith("Efron, B. (1987)") for work in cited)
    assert not any("NeuroImage" in work for work in cited)


def test_the_state_after_the_final_norm_has_a_score_and_no_weight(tmp_path, rng):
    x = rng.normal(size=(N, 4, DIM))
    manifest = manifest_of(np.stack([x[:, k] @ rng.normal(size=DIM) for k in (1, 2)], axis=1), tmp_path / "my.csv")
    plan = replace(plan_sweep(manifest, permutations=1, weighted_sum_seeds=1), mix_iterations=5)
    cache = store(tmp_path / "a.zarr", x, layers=("0", "1", "2", "final"))
    table = study(sweep([cache], manifest, plan, out=tmp_path / "run")).weights_table
    assert set(table["layer"][table["weight"].notna()]) == {"0", "1", "2"}
    assert table[table["weight"].isna()][["target", "layer"]].values.tolist() == [
        ["arousal", "final"], ["valence", "final"],
    ]  # fmt: skip
    assert table["score"].notna().all()
