"""Fusion of encoders: each contributes where it predicts, by layers that training speakers alone choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import run as command
from helpers.planted import N, store

from layerprobe.analysis.layers.selection import with_chosen
from layerprobe.analysis.model_comparison import compare, fusion_gains
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.study import study
from layerprobe.probe.data.manifest.schema import Header, Manifest, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import MomentMatching, RatingMoments
from layerprobe.probe.results.run_folder import FUSED_RIDGE, FUSED_WEIGHTED_SUM, POOLED, read_predictions, read_run
from layerprobe.probe.results.selection import chosen_layers
from layerprobe.probe.solvers.ridge import Bands, nested_ridge
from layerprobe.probe.sweep.data.inputs import make_dataset
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

AUDIO_LAYERS, TEXT_LAYERS = ("0", "1", "2", "3"), ("0", "1", "2")
AUDIO, TEXT, BOTH = "audio", "text", "audio + text"
AUDIO_DIM, TEXT_DIM = 6, 4
TARGETS = ("arousal", "valence", "dominance")
NUMBERS = {name: [""] for name in ("difference", "difference_ci_low", "difference_ci_high", "p_value")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Arousal is in the audio's layer 2, valence in the text's layer 1, dominance in both."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("fusion")
    audio = rng.normal(size=(N, len(AUDIO_LAYERS), AUDIO_DIM))
    text = rng.normal(size=(N, len(TEXT_LAYERS), TEXT_DIM))
    arousal = audio[:, 2] @ rng.normal(size=AUDIO_DIM)
    valence = text[:, 1] @ rng.normal(size=TEXT_DIM)
    dominance = arousal / arousal.std() + valence / valence.std()
    ratings = np.stack([arousal, valence, dominance], axis=1)
    ratings = ratings / ratings.std(axis=0) + 0.4 * rng.normal(size=ratings.shape)
    table = pd.DataFrame(
        {"utterance_id": [f"u{i}" for i in range(N)], "path": "x.wav", "speaker_id": [f"s{i % 24}" for i in range(N)]}
    ).assign(**dict(zip(TARGETS, ratings.T, strict=True)))
    manifest = Manifest(folder / "my.csv", Header("planted", "1", "none", {t: Target(-9, 9) for t in TARGETS}), table)
    caches = [
        store(folder / f"{name}.zarr", x, upstream=name, layers=layers)
        for name, x, layers in ((AUDIO, audio, AUDIO_LAYERS), (TEXT, text, TEXT_LAYERS))
    ]
    return caches, manifest


def small_plan(manifest, **options):
    return replace(plan_sweep(manifest, **{"permutations": 5, "fused": True} | options), weighted_sum_seeds=(0,))


@pytest.fixture(scope="module")
def fused(corpus):
    caches, manifest = corpus
    out = caches[0].path.parent / "run"
    return out, sweep(caches, manifest, small_plan(manifest), out=out)


def pooled(run, **where):
    rows = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == "ccc_matched")]
    for key, value in where.items():
        rows = rows[rows[key] == value]
    return rows.set_index("target")["value"]


@pytest.mark.parametrize("probe", [FUSED_RIDGE, FUSED_WEIGHTED_SUM])
def test_fused_encoders_predict_what_either_predicts(fused, probe):
    _, run = fused
    scores = pooled(run, probe=probe, control="none")
    assert set(run.scores[run.scores["probe"] == probe]["encoder"]) == {BOTH}
    # the noise leaves r = 1 / sqrt(1.16) = .93 to a perfect probe
    assert scores[list(TARGETS)].min() > 0.85
    alone = run.scores[(run.scores["probe"] == "ridge") & (run.scores["target"] == "dominance")]
    alone = alone[(alone["fold"] == POOLED) & (alone["metric"] == "ccc_matched") & (alone["control"] == "none")]
    assert alone[alone["encoder"].isin([AUDIO, TEXT])]["value"].max() < 0.75


def test_fused_ridge_is_banded_ridge_of_layers_chosen_by_their_inner_errors(fused, corpus):
    out, run = fused
    caches, manifest = corpus
    plan = small_plan(manifest)
    data = make_dataset(caches, manifest, plan).data
    order = [int(u[1:]) for u in data.utterance_ids]
    chosen = chosen_layers(run.scores).set_index(["encoder", "target", "fold"])["layer"]
    predictions = read_predictions(out)
    columns = predictions.columns
    for t, target in enumerate(TARGETS):
        (k,) = np.flatnonzero((columns["probe"] == FUSED_RIDGE) & (columns["target"] == target))
        expected, matched = (pd.Series(np.nan, index=predictions.utterance_id) for _ in range(2))
        for split in data.splits:
            parts = [
                c.read_layer(chosen[n, target, split.name])[order] for c, n in zip(caches, (AUDIO, TEXT), strict=True)
            ]
            bands, y = Bands.side_by_side([AUDIO_DIM, TEXT_DIM]), data.ratings[:, [t]]
            (fit,) = nested_ridge(np.concatenate(parts, axis=1), y, splits=[split], alphas=plan.alphas, bands=bands)
            match = MomentMatching.from_moments(
                RatingMoments.of_columns(y[split.train, :1])[0], mean=fit.inner_mean[0], std=fit.inner_std[0]
            )
            ids = data.utterance_ids[split.test]
            expected[ids], matched[ids] = fit.prediction[:, 0], match(fit.prediction[:, 0])
        np.testing.assert_allclose(predictions.prediction[:, k], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(predictions.matched[:, k], matched, rtol=1e-5, atol=1e-5)


def test_layer_weights_are_highest_where_each_target_was_planted(fused):
    _, run = fused
    rows = run.layer_weights[run.layer_weights["probe"] == FUSED_WEIGHTED_SUM]
    weights = rows.groupby(["target", "layer"])["weight"].mean().unstack()
    assert set(weights) == {f"{AUDIO} {k}" for k in AUDIO_LAYERS} | {f"{TEXT} {k}" for k in TEXT_LAYERS}
    np.testing.assert_allclose(rows.groupby(["target", "fold"])["weight"].sum(), 1.0)
    assert weights.idxmax(axis=1)["arousal"] == f"{AUDIO} 2"
    assert weights.idxmax(axis=1)["valence"] == f"{TEXT} 1"
    assert set(weights.loc["dominance"].nlargest(2).index) == {f"{AUDIO} 2", f"{TEXT} 1"}


def test_nothing_is_found_in_permuted_ratings(fused):
    _, run = fused
    rows = run.scores[(run.scores["probe"] == FUSED_RIDGE) & (run.scores["control"] != "none")]
    rows = rows[rows["metric"] == "ccc_matched"]
    assert set(rows["control"]) == {"permuted", "permuted_by_speaker"}
    assert rows.groupby(["control", "target"])["seed"].nunique().eq(5).all()
    assert rows["value"].abs().mean() < 0.15


def test_ratings_of_held_out_speakers_reach_no_fused_prediction(corpus, tmp_path):
    """Where a speaker is held out, other ratings of his change nothing that is predicted of him."""
    caches, manifest = corpus
    plan = small_plan(manifest, permutations=1)
    data = make_dataset(caches, manifest, plan).data
    first = data.utterance_ids[data.splits[0].test]
    changed = manifest.table.copy()
    rows = changed["utterance_id"].isin(list(first))
    rng = np.random.default_rng(1)
    changed.loc[rows, list(TARGETS)] = rng.normal(size=(int(rows.sum()), len(TARGETS)))
    kept = {}
    for name, table in (("as it is", manifest.table), ("changed", changed)):
        sweep(caches, replace(manifest, table=table), plan, out=tmp_path / name)
        predictions = read_predictions(tmp_path / name)
        held_out = np.isin(predictions.utterance_id, list(first))
        for probe in (FUSED_RIDGE, FUSED_WEIGHTED_SUM):
            columns = (predictions.columns["probe"] == probe).to_numpy()
            kept[name, probe] = predictions.prediction[held_out][:, columns]
    np.testing.assert_array_equal(kept["as it is", FUSED_RIDGE], kept["changed", FUSED_RIDGE])
    # all splits are searched side by side in float32, so what one of them does moves the rounding of another
    mixed = kept["as it is", FUSED_WEIGHTED_SUM], kept["changed", FUSED_WEIGHTED_SUM]
    np.testing.assert_allclose(*mixed, atol=1e-4)


def test_the_fusion_gain_is_the_difference_of_scores(fused):
    out, run = fused
    predictions = with_chosen(read_predictions(out), chosen_layers(run.scores))
    scores = bootstrap_scores(predictions, metric="ccc_matched", n_resamples=200)
    gains = fusion_gains(scores).set_index(["target", "probe", "alone"])
    assert len(gains) == 3 * 2 * 2
    table = scores.keys.assign(value=scores.scores.estimate).set_index(["target", "encoder", "probe", "layer"])["value"]
    for target in TARGETS:
        for alone in (AUDIO, TEXT):
            expected = table[target, BOTH, FUSED_RIDGE, "cv_selected"] - table[target, alone, "ridge", "cv_selected"]
            assert gains.loc[(target, FUSED_RIDGE, alone), "estimate"] == pytest.approx(expected)
            mixed = table[target, BOTH, FUSED_WEIGHTED_SUM, "all"] - table[target, alone, "weighted_sum", "all"]
            assert gains.loc[(target, FUSED_WEIGHTED_SUM, alone), "estimate"] == pytest.approx(mixed)
    assert gains.loc[("valence", FUSED_RIDGE, AUDIO), "ci_low"] > 0.5  # text adds valence to audio
    assert abs(gains.loc[("valence", FUSED_RIDGE, TEXT), "estimate"]) < 0.05  # and audio none to text
    assert gains.loc[("dominance", FUSED_RIDGE, TEXT), "ci_low"] > 0
    assert (gains["added"] == gains.index.get_level_values("alone").map({AUDIO: TEXT, TEXT: AUDIO})).all()


def test_findings_and_the_report_state_what_text_adds(fused):
    from layerprobe.analysis.findings.collect import collect_findings
    from layerprobe.figures.report.report import write_report

    out, _ = fused
    findings = collect_findings(study(out))
    assert {f.encoder for f in findings if f.name == "fusion"} == {BOTH}
    gains = {(f.added, f.alone) for f in findings if f.name == "fusion_gain" and f.probe == FUSED_WEIGHTED_SUM}
    assert gains == {(AUDIO, TEXT), (TEXT, AUDIO)}
    assert {(f.encoder, f.reference, f.target) for f in findings if f.name == "encoder_difference"} == {
        (TEXT, AUDIO, target) for target in (*TARGETS, "dominance_residual")
    }

    page = write_report(out).read_text()
    found = [f for f in study([out]).fusion_gains.to_dict("records") if f["target"] == "valence"]
    assert found
    assert "For valence, adding text to audio improves the score (moment-matched CCC): Δ = " in page
    assert "For valence, adding audio to text does not change the score significantly" in page
    assert "<h2>Fusion</h2>" in page
    assert "<h2>Encoder comparison</h2>" in page
    assert (
        "text predicts valence better than audio (moment-matched CCC, each at the layer selected by cross-validation)"
        in page
    )
    assert "text predicts arousal worse than audio" in page


def test_one_encoder_alone_is_refused(corpus, tmp_path):
    caches, manifest = corpus
    with pytest.raises(InputError, match="One encoder alone can't be fused"):
        sweep(caches[:1], manifest, small_plan(manifest), out=tmp_path / "run")


def test_features_that_are_no_layers_are_fused_by_ridge_alone(corpus, tmp_path):
    caches, manifest = corpus
    x = np.random.default_rng(2).normal(size=(N, 2, 3))
    acoustic = store(tmp_path / "acoustic.zarr", x, upstream="acoustic", layers=("mfcc", "loudness"))
    run = sweep([caches[0], acoustic], manifest, small_plan(manifest, permutations=1), out=tmp_path / "run")
    probes = set(run.scores[run.scores["encoder"] == "audio + acoustic"]["probe"])
    assert probes == {FUSED_RIDGE}


def test_the_command_fuses_and_compares(corpus, tmp_path):
    caches, manifest = corpus
    for name in manifest.table["path"].unique():
        (tmp_path / name).write_bytes(b"never opened")
    write_manifest(tmp_path / "my.csv", manifest.table, manifest.header)
    out = tmp_path / "fused"
    arguments = (
        "fuse",
        *(c.path for c in caches),
        tmp_path / "my.csv",
        "--out",
        out,
        "--permutations",
        1,
        "--weighted-sum-seeds",
        1,
    )
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert "audio + text, cross-validated layers" in result.stdout
    assert "valence, fused ridge: adding text to audio +0." in result.stdout
    assert read_run(out).plan["sweep"]["fused"] is True
    result = command("compare", out, "--out", tmp_path / "compared", "--width", "double")
    assert result.exit_code == 0, result.output
    assert "audio + text, cross-validated layers  0." in result.stdout
    assert result.stdout.count("(reference)") == len(TARGETS) + 1  # and dominance_residual
    written = pd.read_csv(
        tmp_path / "compared" / "efficiency.csv",
        dtype={"selected_layers": str},
        keep_default_na=False,
        na_values=NUMBERS,
    )
    expected = compare([out])
    pd.testing.assert_frame_equal(written.drop(columns=["format_version", "fingerprint"]), expected, check_dtype=False)
    assert (tmp_path / "compared" / "efficiency.svg").exists()
    sizes = expected.set_index("regressor")["trainable_parameters"]
    assert set(sizes["audio, cross-validated layer"]) == {AUDIO_DIM + 1}
    assert set(sizes["audio + text, cross-validated layers"]) == {AUDIO_DIM + TEXT_DIM + 1}
    mixed = AUDIO_DIM + TEXT_DIM + 1 + len(AUDIO_LAYERS) + len(TEXT_LAYERS)
    assert set(sizes["audio + text, weighted sum"]) == {mixed}


def test_the_methods_paragraph_states_that_encoders_were_fused(fused):
    from layerprobe.analysis.findings.methods import methods_paragraph, references

    out, _ = fused
    paragraph = methods_paragraph(study([out]))
    assert "Encoders were also fitted together" in paragraph
    assert any("Nunez-Elizalde" in work for work in references(paragraph))
    assert "pooled over the tokens" not in paragraph  # both of these caches are of audio
