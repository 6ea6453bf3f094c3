"""Findings of a run with everything: each number by hand from the files, p-values corrected by family, valid JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.checks import objections

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.records import NAMES, write_findings
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.study import study
from layerprobe.probe.metrics import METRICS, ccc, r2, uar
from layerprobe.probe.results.run_folder import read_predictions, read_run


@pytest.fixture(scope="module")
def scores(reported):
    table = read_run(reported).scores
    return table[(table["probe"] == "ridge") & (table["train_corpus"] == "") & (table["baseline"] == "")]


@pytest.fixture(scope="module")
def kept(reported):
    return read_predictions(reported)


@pytest.fixture(scope="module", params=["ccc_matched", "rmse"])
def found(request, reported):
    return collect_findings(study([reported], metric=request.param))


def named(findings, name, target="valence", **fields):
    return next(f for f in findings if vars(f).items() >= ({"name": name, "target": target} | fields).items())


def column(kept, metric, **keys):
    """Held-out predictions of one column, as the metric takes them."""
    own = np.ones(len(kept.columns), dtype=bool)
    for key, value in (
        {"probe": "ridge", "control": "none", "target": "valence"} | {"baseline": "", "train_corpus": ""} | keys
    ).items():
        own &= (kept.columns[key] == value).to_numpy()
    (place,) = np.flatnonzero(own)
    return (kept.matched if metric == "ccc_matched" else kept.prediction)[:, place].astype(float)


def truth_of(kept, target="valence"):
    return kept.ratings[:, kept.targets.tolist().index(target)]


def score(metric, truth, prediction):
    return ccc(truth, prediction) if metric == "ccc_matched" else METRICS[metric](truth, prediction)


def test_a_run_with_everything_has_every_kind_of_finding_each_with_its_method_and_source(found):
    of_fused = {"fusion", "fusion_gain", "encoder_difference"}  # tests/sweep/test_fusion.py
    of_pairs = {"encoder_gain", "encoder_shift"}  # tests/analysis/test_encoder_pairs.py
    of_bins = {"time_peak", "time_difference"}  # tests/analysis/test_time_sentences.py
    others = of_bins | {"erasure"}  # tests/analysis/test_erasure_findings.py
    assert {f.name for f in found} == set(NAMES) - of_fused - of_pairs - others - {"gain_over_acoustic", "logistic"}
    assert all(f.method and f.source for f in found)
    unknown = [f for f in found if not np.isfinite(f.estimate)]
    assert {f.name for f in unknown} <= {"depth", "depth_difference"}
    assert all(f.control in ("random_init", "difference") for f in unknown)  # scores at chance have no depth


def test_the_best_layer_has_the_score_that_the_sweep_wrote(found, scores):
    for f in found:
        if f.name in ("highest_scoring_layer", "random_init"):
            control = {"highest_scoring_layer": "none", "random_init": "random_init"}[f.name]
            own = scores[(scores["target"] == f.target) & (scores["control"] == control) & (scores["fold"] == "pooled")]
            own = own[(own["metric"] == f.metric) & (own["encoder"] == f.encoder)].set_index("layer")["value"]
            assert f.estimate == pytest.approx(own.min() if f.metric == "rmse" else own.max())
            assert f.estimate == own[f.layer]


def test_the_best_set_holds_every_layer_that_is_not_significantly_worse(reported):
    runs = study([reported])
    best = runs.best[(runs.best["control"] == "none") & (runs.best["p_not_best"] > 0.05)]
    sets = {f.target: f for f in collect_findings(runs) if f.name == "best_set"}
    for target, layers in best.groupby("target")["layer"]:
        assert list(sets[target].layers) == layers.tolist()
        assert sets[target].layer in layers.tolist()
        assert (sets[target].estimate, sets[target].metric) == (len(layers), "n_layers")
        assert np.isnan([sets[target].ci_low, sets[target].ci_high]).all()
    assert sets["valence"].layer == "3"  # where it was planted, and far above the others
    assert sets.keys() == set(best["target"])


def test_chance_counts_the_permutations_whose_best_layer_is_as_good(found, scores):
    for f in (f for f in found if f.name == "chance"):
        assert f.n_permutations == 19
        sign = -1 if f.metric == "rmse" else 1
        own = scores[(scores["target"] == f.target) & (scores["metric"] == f.metric) & (scores["fold"] == "pooled")]
        permuted = own[(own["control"] == f.control) & (own["encoder"] == f.encoder)].assign(value=sign * own["value"])
        best = permuted.groupby("seed")["value"].max()
        assert (len(best), f.control) == (19, "permuted_by_speaker")
        real = sign * named(found, "highest_scoring_layer", f.target).estimate
        assert f.p_value == pytest.approx((1 + (best >= real).sum()) / 20)
        assert sign * f.estimate == pytest.approx(best.quantile(0.95))


def test_a_regret_is_what_the_predictions_of_each_folds_own_layer_gain(found, scores, kept):
    metric = found[0].metric
    inner = scores[
        (scores["metric"] == "inner_cv_rmse") & (scores["target"] == "valence") & (scores["control"] == "none")
    ]
    chosen = np.empty(len(kept.fold))
    for fold in np.unique(kept.fold):
        layer = inner[inner["fold"] == fold].set_index("layer")["value"].idxmin()
        chosen[kept.fold == fold] = column(kept, metric, layer=layer)[kept.fold == fold]
    ours = score(metric, truth_of(kept), chosen)
    assert named(found, "cv_selected_layer").estimate == pytest.approx(ours)
    usual = score(metric, truth_of(kept), column(kept, metric, layer="4"))
    lost = usual - ours if metric == "rmse" else ours - usual
    regret = named(found, "regret", reference="last layer")
    assert (regret.estimate, regret.layer, regret.reference_layer) == (pytest.approx(lost), "cv_selected", "4")
    assert regret.ci_low > 0


def test_what_training_and_controls_give_is_better_above_0_of_errors_too(found, kept, scores):
    metric = found[0].metric
    layer, sign = named(found, "highest_scoring_layer").layer, -1 if metric == "rmse" else 1
    trained, untrained = (
        score(metric, truth_of(kept), column(kept, metric, layer=layer, control=c)) for c in ("none", "random_init")
    )
    tops = []  # of both, whichever layer it is
    for control in ("none", "random_init"):
        of_layers = {
            k: sign * score(metric, truth_of(kept), column(kept, metric, layer=k, control=control)) for k in "01234"
        }
        tops.append(max(of_layers, key=of_layers.get))
        tops.append(of_layers[tops[-1]])
    fair = named(found, "gain_over_best_random")
    assert (fair.layer, fair.reference_layer) == (tops[0], tops[2])
    assert fair.estimate == pytest.approx(tops[1] - tops[3])
    assert fair.estimate <= named(found, "gain_over_random").estimate + 1e-9
    assert fair.ci_low > 0
    above = named(found, "gain_over_random")
    assert (above.estimate, above.layer) == (pytest.approx(sign * (trained - untrained)), layer)
    assert above.ci_low > 0
    for control in ("permuted_within_speaker", "random_per_speaker"):
        rows = scores[(scores["control"] == control) & (scores["layer"] == layer) & (scores["target"] == "valence")]
        permuted = rows[(rows["metric"] == metric) & (rows["fold"] == "pooled")]["value"]
        assert len(permuted) > 1
        at_least = 0 if metric == "ccc_matched" else -np.inf  # an error has no chance level of 0
        selectivity = named(found, "selectivity", control=control)
        assert selectivity.estimate == pytest.approx(sign * (trained - max(permuted.mean(), at_least)))
        gains = sign * (trained - permuted.clip(lower=at_least))
        assert (selectivity.draw_min, selectivity.draw_max) == (pytest.approx(gains.min()), pytest.approx(gains.max()))
        assert selectivity.estimate > 0
        assert metric == "rmse" or max(selectivity.estimate, selectivity.draw_max) <= trained


def test_variance_is_partitioned_at_the_layer_with_the_highest_r2_with_covariates(found, kept):
    truth = truth_of(kept)
    joint = {k: r2(truth, column(kept, "r2", layer=k, probe="banded_ridge")) for k in "01234"}
    layer = max(joint, key=joint.get)
    alone = r2(truth, column(kept, "r2", layer=layer))
    covariate = r2(truth, column(kept, "r2", layer="", baseline="covariates_only"))
    by_hand = {
        "with_covariates": joint[layer],
        "unique_layer": joint[layer] - covariate,
        "unique_covariates": joint[layer] - alone,
    }
    for about, value in (by_hand | {"shared": alone + covariate - joint[layer]}).items():
        part = named(found, "unique_variance", component=about)
        assert (part.layer, part.metric, part.estimate) == (layer, "r2", pytest.approx(value, abs=1e-9))


def test_groups_and_corpora_are_scored_on_their_own_rows_without_a_p_value(found, kept):
    group = named(found, "subgroup", grouping="gender", group="female")
    assert group.layer == "cv_selected"
    women = [f for f in found if f.name == "subgroup" and f.grouping == "gender"]
    assert len({f.group for f in women}) == 2
    home = named(found, "cross_corpus", train_corpus="studio", test_corpus="studio")
    there = kept.corpus == "studio"
    prediction = column(kept, home.metric, layer=home.layer, train_corpus="studio")
    assert home.estimate == pytest.approx(score(home.metric, truth_of(kept)[there], prediction[there]))
    away = named(found, "cross_corpus", train_corpus="studio", test_corpus="street & <home>")
    assert away.layer == home.layer
    assert away.estimate == pytest.approx(score(home.metric, truth_of(kept)[~there], prediction[~there]))
    assert all(np.isnan(f.p_value) and np.isnan(f.p_adjusted) for f in found if f.name in ("subgroup", "cross_corpus"))


def test_p_values_are_corrected_with_all_that_test_the_same(found):
    families = {}
    for f in found:
        if np.isfinite(f.p_value):
            kind = {"unique_variance": f.component, "gain_over_best_random": ""}.get(f.name, f.detail)
            families.setdefault((f.name, kind), []).append(f)
        else:
            assert np.isnan(f.p_adjusted)
    assert len(families) > 5
    for family in families.values():
        stepped, highest = sorted(family, key=lambda f: f.p_value), 0.0
        for rank, f in enumerate(stepped):  # Holm, step by step
            highest = max(highest, min(1.0, f.p_value * (len(family) - rank)))
            assert f.p_adjusted == pytest.approx(highest)


def test_the_records_are_valid_json(found, tmp_path):
    write_findings(tmp_path / "f.json", found, fingerprint="abc")

    def refused(constant):
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"), parse_constant=refused)
    assert len(content["findings"]) == len(found)
    for record, f in zip(content["findings"], found, strict=True):
        assert record["p_value"] == (f.p_value if np.isfinite(f.p_value) else None)
        assert (record["name"], record["detail"]) == (f.name, f.detail)
    assert any(record["ci_low"] is None for record in content["findings"])


def test_sentences_of_a_run_name_no_unknown_number(found):
    sentences = headlines(found)
    assert len(sentences) > 10
    assert not any(re.search(r"\bnan\b", sentence) for sentence in sentences)
    against = named(found, "depth_difference", "valence − arousal", measure="score_centre", control="difference")
    assert np.isnan(against.ci_low)  # random weights know nothing here, so that their depth is unknown
    assert not any(sentence.startswith("The difference of depths") for sentence in sentences)


def test_classes_are_scored_and_described_as_classes(reported, kept):
    of_classes = study([reported], metric="uar")
    findings = collect_findings(of_classes)
    best = named(findings, "highest_scoring_layer", "emotion")
    assert best.layer == "1"
    assert not {"depth", "weighted_sum"} & {f.name for f in findings}
    selected = named(findings, "cv_selected_layer", "emotion")  # not the layer with the highest score on the test data
    assert selected.layer == "cv_selected"
    assert any(
        re.match(r"hubert predicts emotion .*, with unweighted average recall = 0\.\d\d .* at the layer selected by", s)
        for s in headlines(findings)
    )
    codes, predicted = truth_of(kept, "emotion"), column(kept, "uar", layer="1", target="emotion")
    assert best.estimate == pytest.approx(uar(codes, predicted))
    table = of_classes.by_speaker.set_index("speaker_id")["value"]
    assert len(table) == 24
    for speaker, value in table.items():
        rows = kept.speaker_id == speaker
        assert value == pytest.approx(uar(codes[rows], predicted[rows]))


def test_codes_of_classes_have_no_correlation(reported):
    """Two targets with the same classes: their codes are numbers only by the order of the header."""
    of_classes = study([reported], metric="uar")
    plan = of_classes.runs[0].plan
    sweep = {**plan["sweep"], "nominal": ["emotion", "mood"], "classes": 2 * plan["sweep"]["classes"]}
    run = replace(of_classes.runs[0], plan={**plan, "sweep": sweep})
    own = of_classes.predictions
    twice = replace(
        own,
        targets=np.array([*own.targets, "mood"]),
        ratings=np.column_stack([own.ratings, truth_of(own, "emotion")]),
    )
    assert objections(replace(of_classes, runs=[run], predictions=twice), "LP018") == []
