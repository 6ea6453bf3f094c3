"""A sweep with more than ridge and two mixes: classes, residuals, covariates, other probes, parallel layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.planted import DIM, LAYERS, N, quick, store
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from threadpoolctl import threadpool_info

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.methods import methods_paragraph
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.layers.variance_partitioning import variance_partition
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.study import study
from layerprobe.figures.draw import draw
from layerprobe.figures.report.report import write_report
from layerprobe.figures.report.sections import make_sections
from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import POOLED, read_predictions, read_run
from layerprobe.probe.sweep.data.covariates import LayerCovariate, parse_covariate
from layerprobe.probe.sweep.fits.layer_probes import layer_probes
from layerprobe.probe.sweep.fits.mix_probes import MIXES
from layerprobe.probe.sweep.fits.workers import default_jobs
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

CLASSES = ("calm", "glad", "cross")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Arousal in layer 3; dominance is arousal and a part of layer 2; the class in layer 1; valence in the text."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("probes")
    x = rng.normal(size=(N, len(LAYERS), DIM))
    arousal, valence = x[:, 3] @ rng.normal(size=DIM), rng.normal(size=N)
    dominance = arousal + x[:, 2] @ rng.normal(size=DIM)
    codes = (x[:, 1] @ rng.normal(size=(DIM, 3))).argmax(axis=1)
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(N)], "path": "x.wav",
            "speaker_id": [f"s{i % 24}" for i in range(N)],
            "arousal": arousal, "valence": valence, "dominance": dominance,
            "emotion": [CLASSES[c] for c in codes],
            "transcript": ["what a fine day" if v > 0 else "what a sad day" for v in valence],
            "arousal_r1": arousal + 0.5, "arousal_r2": arousal - 0.5,
        }
    )  # fmt: skip
    table.loc[0, "arousal_r2"] = np.nan
    scales = {t: Target(-100, 100) for t in ("arousal", "valence", "dominance")}
    header = Header("planted", "1", "none", scales, nominal={"emotion": Nominal(CLASSES)})
    cache = store(folder / "a.zarr", x)
    encoded = np.column_stack([valence, *rng.normal(size=(DIM - 1, N))])[:, None].repeat(2, axis=1)
    text = store(folder / "text.zarr", encoded, layers=("0", "1"), upstream="text")
    return cache, text, Manifest(folder / "my.csv", header, table)


@pytest.fixture(scope="module")
def swept(corpus, tmp_path_factory):
    cache, text, manifest = corpus
    out = tmp_path_factory.mktemp("run") / "run"
    plan = quick(manifest, probes=("logistic",))
    return out, sweep([cache], manifest, plan, out=out, covariates=[LayerCovariate(text, "1")])


def pooled(run, metric, **where):
    rows = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == metric)]
    for key, value in where.items():
        rows = rows[rows[key] == value]
    return rows.groupby(["target", "layer"])["value"].mean().unstack()


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_classes_are_found_in_their_layer_and_scored_as_classes(swept, probe):
    _, run = swept
    recall = pooled(run, "uar", probe=probe, control="none").loc["emotion"]
    assert recall.idxmax() == "1"
    assert recall["1"] > 0.8
    assert recall.drop("1").max() < 0.45  # chance is a third
    rows = run.scores[run.scores["target"] == "emotion"]
    assert set(rows["metric"]) == {"uar", "macro_f1", "alpha", "inner_cv_rmse"}
    assert not set(run.scores[run.scores["metric"] == "uar"]["target"]) - {"emotion"}
    if probe == "ridge":
        chance = pooled(run, "uar", probe=probe, control="permuted").loc["emotion"]
        assert chance.sub(1 / 3).abs().max() < 0.1


def test_layers_of_classes_are_selected_inside_the_training_speakers_and_logistic_scores_are_shown(swept):
    out, run = swept
    shown = study(out, metric="uar")
    inner = run.scores[(run.scores["metric"] == "inner_cv_rmse") & (run.scores["target"] == "emotion")]
    inner = inner[(inner["control"] == "none") & (inner["baseline"] == "") & (inner["probe"] == "ridge")]
    least = inner.loc[inner.groupby("fold")["value"].idxmin()].set_index("fold")["layer"]
    assert set(least) == {"1"}
    assert 0.1 < inner["value"].min() < np.sqrt(2 / 9) < inner["value"].max()  # of an indicator that is 1 in a third
    predictions = read_predictions(out)
    truth = predictions.ratings[:, predictions.targets.tolist().index("emotion")]
    found = collect_findings(shown)
    keys = predictions.columns
    for name, probe in (("cv_selected_layer", "ridge"), ("logistic", "logistic")):
        (k,) = np.flatnonzero((keys["probe"] == probe) & (keys["layer"] == "1") & (keys["target"] == "emotion"))
        predicted = predictions.prediction[:, k]
        (record,) = [f for f in found if f.name == name]
        assert record.estimate == pytest.approx(balanced_accuracy_score(truth, predicted))
        own = shown.confusion[shown.confusion["probe"] == probe]
        assert own["n"].to_numpy().reshape(3, 3).tolist() == confusion_matrix(truth, predicted).tolist()
        assert own.groupby("class", sort=False)["fraction"].sum().tolist() == pytest.approx([1, 1, 1])
        assert own["class"].tolist()[::3] == own["predicted"].tolist()[:3] == list(CLASSES)
    assert any("logistic regression on the same layers of " in s for s in headlines(found))
    methods = methods_paragraph(shown)
    assert "exceeded its frequency in the training data by the largest factor" in methods
    assert "Multinomial logistic regressions" in methods
    assert "concordance" not in methods
    (section,) = [s for s in make_sections(shown, found) if s.title == "Classes"]
    assert [t.header[:5] for t in section.tables[:2]] == 2 * [["encoder", "probe", "target", "layer", "class"]]
    assert section.tables[2].header[-1] == "unweighted average recall, logistic"


def test_kept_predictions_of_classes_are_their_codes(swept):
    out, _ = swept
    predictions = read_predictions(out)
    columns = predictions.columns
    (k,) = np.flatnonzero((columns["target"] == "emotion") & (columns["probe"] == "ridge") & (columns["layer"] == "1"))
    truth = predictions.ratings[:, predictions.targets.tolist().index("emotion")]
    assert set(predictions.prediction[:, k]) <= {0.0, 1.0, 2.0}
    assert np.mean(predictions.prediction[:, k] == truth) > 0.8


def test_dominance_is_also_scored_on_what_arousal_and_valence_leave(swept):
    _, run = swept
    scores = pooled(run, "pearson", probe="ridge", control="none")
    assert run.targets == ["arousal", "valence", "dominance", "dominance_residual"]
    assert scores.loc["dominance", "3"] > 0.5
    assert abs(scores.loc["dominance_residual", "3"]) < 0.25
    assert scores.loc["dominance_residual", "2"] > 0.9


def test_baselines_are_the_transcript_the_raters_and_the_mean(swept):
    _, run = swept
    base = pooled(run, "pearson", encoder="", baseline="text_only")[""]
    assert base["valence"] > 0.7
    rater = run.scores[(run.scores["baseline"] == "single_rater") & (run.scores["fold"] == POOLED)]
    assert set(rater["target"]) == {"arousal"}
    assert rater[rater["metric"] == "pearson"]["value"].min() > 0.999
    assert rater[rater["metric"] == "rmse"]["value"].to_numpy() == pytest.approx(1.0)


def test_the_variance_of_a_layer_and_its_covariate_is_partitioned(swept, corpus):
    out, run = swept
    parts = variance_partition(bootstrap_scores(read_predictions(out), metric="r2")).set_index(["target", "layer"])
    assert parts.loc[("valence", "3"), "unique_covariates"] > 0.9
    assert abs(parts.loc[("valence", "3"), "unique_layer"]) < 0.1
    assert parts.loc[("arousal", "3"), "unique_layer"] > 0.9
    assert run.plan["covariates"][0]["layer"] == "1"
    with pytest.raises(InputError, match=r"text.zarr has no layer '7'; it has 0, 1"):
        parse_covariate(f"{corpus[1].path}@7")
    with pytest.raises(
        InputError, match=r"'text.zarr' names no layer\. Write CACHE\.zarr@LAYER, or transcript\. \[LP\d{3}\]$"
    ):
        parse_covariate("text.zarr")


def test_rated_and_nominal_targets_have_figures_of_their_own(swept, corpus, tmp_path):
    out, _run = swept
    rated, classes = (draw("heatmap", [out], metric=m)[2] for m in (None, "uar"))
    assert (rated.name, classes.name) == ("heatmap.svg", "heatmap-classes.svg")
    texts = rated.read_text(), classes.read_text()
    assert ["emotion" in t for t in texts] == [False, True]
    assert ["arousal" in t for t in texts] == [True, False]
    page = write_report(out).read_text()
    for heading in (
        "Heatmap, moment-matched CCC",
        "Heatmap, unweighted average recall",
        "Variance partitioning",
        "Layer weighting",
    ):
        assert heading in page
    assert "text baseline" in page
    only = quick(corpus[2], targets=("emotion",), weighted_sum_seeds=0)
    alone = sweep([corpus[0]], corpus[2], only, out=tmp_path / "only")
    assert draw("heatmap", [tmp_path / "only"])[2].name == "heatmap.svg"
    assert (alone.targets, alone.nominal_targets) == ([], ["emotion"])
    with pytest.raises(InputError, match="has no target with ratings, which CCC is a score of"):
        draw("heatmap", [tmp_path / "only"], metric="ccc")


def test_parallel_layers_give_the_same_bits(corpus, tmp_path):
    cache, _, manifest = corpus
    plan = quick(manifest)
    for jobs in (1, 2, 3):
        sweep([cache], manifest, plan, out=tmp_path / str(jobs), jobs=jobs)
    for name in ("scores.csv", "layer_weights.csv"):
        assert len({(tmp_path / str(jobs) / name).read_bytes() for jobs in (1, 2, 3)}) == 1
    kept = [read_predictions(tmp_path / str(jobs)).prediction for jobs in (1, 2, 3)]
    np.testing.assert_array_equal(kept[0], kept[1])
    np.testing.assert_array_equal(kept[0], kept[2])


def test_the_cache_s_chunks_change_no_bit(corpus, tmp_path, monkeypatch):
    cache, _, manifest = corpus
    x = np.stack([cache.read_layer(layer) for layer in LAYERS], axis=1)
    monkeypatch.setattr("layerprobe.probe.cache.store.BLOCK", 64)
    monkeypatch.setattr("layerprobe.probe.cache.store.READ_AT_ONCE", 64)
    small = store(tmp_path / "small.zarr", x)
    first = sweep([small], manifest, quick(manifest), out=tmp_path / "small")
    monkeypatch.undo()
    second = sweep([cache], manifest, quick(manifest), out=tmp_path / "whole")
    pd.testing.assert_frame_equal(first.scores, second.scores)
    pd.testing.assert_frame_equal(first.layer_weights, second.layer_weights)


def test_a_layer_is_probed_with_one_thread_whatever_the_process_has(corpus, tmp_path, monkeypatch):
    cache, _, manifest = corpus
    seen = []

    def counted(x, *rest, **choices):
        seen.append({info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"})
        seen.append({torch.get_num_threads()})
        return layer_probes(x, *rest, **choices)

    monkeypatch.setattr("layerprobe.probe.sweep.fits.tasks.layer_probes", counted)
    before = torch.get_num_threads()
    sweep([cache], manifest, quick(manifest, weighted_sum_seeds=0), out=tmp_path / "run", jobs=1)
    assert seen
    assert all(threads == {1} for threads in seen)
    assert torch.get_num_threads() == before


def test_jobs_are_the_cores_within_a_gigabyte_and_one_for_little_work(monkeypatch):
    monkeypatch.setattr("layerprobe.probe.sweep.fits.workers.cores", lambda: 64)
    assert default_jobs(10 * 2**20, 100.0) == 6
    assert default_jobs(400 * 2**20, 100.0) == 2
    assert default_jobs(4 * 2**30, 100.0) == 1
    assert default_jobs(10 * 2**20, 2.0) == 1
    monkeypatch.setattr("layerprobe.probe.sweep.fits.workers.cores", lambda: 2)
    assert default_jobs(10 * 2**20, 100.0) == 2


def test_every_mix_and_probe_is_fitted(corpus, tmp_path):
    cache, _, manifest = corpus
    plan = replace(
        quick(manifest, targets=("arousal", "valence"), mixes=tuple(MIXES), probes=("mlp", "mdl")),
        mix_iterations=40,
    )
    run = sweep([cache], manifest, plan, out=tmp_path / "run")
    assert {*MIXES, "mlp", "mdl"} <= set(run.scores["probe"])
    reached = pooled(run, "pearson", probe="cumulative_mix").loc["arousal", list(LAYERS)]
    assert reached[["0", "1", "2"]].abs().max() < 0.3
    assert reached[["3", "4"]].min() > 0.9
    saved = pooled(run, "bits_saved", probe="mdl")
    assert saved.loc["arousal"].idxmax() == "3"
    assert saved.loc["arousal", "3"] > 0.5
    assert saved.loc["valence"].max() < 0.1
    assert pooled(run, "pearson", probe="mlp").loc["arousal"].idxmax() == "3"
    weights = run.layer_weights.groupby(["probe", "target", "fold", "seed"])[["weight", "contribution"]].sum()
    np.testing.assert_allclose(weights, 1, rtol=1e-4)
    assert set(run.layer_weights["probe"]) == set(MIXES) - {"cumulative_mix"}
    uniform = run.layer_weights[run.layer_weights["probe"] == "uniform_mix"]
    np.testing.assert_allclose(uniform["weight"], 1 / len(LAYERS), rtol=1e-5)
    assert read_run(tmp_path / "run").layer_weights.shape == run.layer_weights.shape


def test_a_plan_that_can_not_be_carried_out_is_one_sentence(corpus, tmp_path):
    cache, _, manifest = corpus
    with pytest.raises(InputError, match=r"^mix 'top' is unknown; choose from weighted_sum, "):
        plan_sweep(manifest, mixes=("top",))
    with pytest.raises(InputError, match=r"^probe 'forest' is unknown; choose from mlp, "):
        plan_sweep(manifest, probes=("forest",))
    with pytest.raises(InputError, match=r"has no target with classes for a logistic regression\. Leave that probe"):
        plan_sweep(manifest, targets=("arousal",), probes=("logistic",))
    one = Manifest(manifest.path, manifest.header, manifest.table.assign(emotion="calm"))
    with pytest.raises(InputError, match="emotion has one value only in the training speakers"):
        sweep([cache], one, quick(one), out=tmp_path / "no")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which is no mistake")
    with pytest.raises(InputError, match=r"^device cuda is not available: torch finds no GPU\. Use --device cpu"):
        sweep([cache], manifest, quick(manifest, device="cuda"), out=tmp_path / "no")
