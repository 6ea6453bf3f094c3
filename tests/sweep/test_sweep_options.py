"""Options of a sweep: permutations, inner errors, groups of speakers, cross-corpus probes, text residuals."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import DIM, LAYERS, N, quick, store

from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import ccc
from layerprobe.probe.results.run_folder import POOLED, Predictions, read_predictions, read_run
from layerprobe.probe.sweep.data.covariates import TranscriptCovariate, parse_covariate
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

SCALES = {t: Target(-100, 100) for t in ("arousal", "valence")}
VOCABULARY = ("fine", "sad", "plain", "odd")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two corpora of 12 speakers. Arousal in layer 3, the other way round in the second; valence in the transcript,
    which layer 4 encodes, and a lesser part of it in layer 1, which does not encode the transcript.
    """
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("options")
    x = rng.normal(size=(N, len(LAYERS), DIM))
    speakers = np.arange(N) % 24
    second = speakers >= 12
    word = rng.integers(len(VOCABULARY), size=N)
    meaning = np.array([2.0, -2.0, 0.5, -0.5])[word]
    x[:, 4, :4] = np.eye(4)[word] + 0.05 * rng.normal(size=(N, 4))
    arousal = np.where(second, -1, 1) * x[:, 3, 0] + 0.2 * rng.normal(size=N)
    valence = meaning + 0.8 * x[:, 1, 0] + 0.2 * rng.normal(size=N)
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i:03d}" for i in range(N)], "path": "x.wav",
            "speaker_id": [f"s{s}" for s in speakers],
            "gender": np.where(speakers % 2, "f", "m"),
            "corpus": np.where(second, "called", "acted"),
            "transcript": [f"a {VOCABULARY[w]} day" for w in word],
            "arousal": arousal, "valence": valence,
            "emotion": np.where(valence > 0, "glad", "cross"),
        }
    )  # fmt: skip
    header = Header("planted", "1", "none", SCALES, nominal={"emotion": Nominal(("glad", "cross"))})
    cache = store(folder / "a.zarr", x, ids=table["utterance_id"])
    control = store(folder / "b.zarr", rng.normal(size=x.shape), ids=table["utterance_id"], random_init=3, weights="ff")
    return cache, control, Manifest(folder / "my.csv", header, table)


@pytest.fixture(scope="module")
def swept(corpus, tmp_path_factory):
    cache, control, manifest = corpus
    out = tmp_path_factory.mktemp("run") / "run"
    plan = quick(manifest, permutations=8, cross_corpus=True, residualize_text=True)
    command = "layerprobe sweep a.zarr my.csv"
    return out, sweep(
        [cache], manifest, plan, out=out, random_weights=[control], covariates=[TranscriptCovariate()], command=command
    )


def pooled(run, metric, **where):
    rows = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == metric)]
    for key, value in where.items():
        rows = rows[rows[key] == value]
    return rows.groupby(["target", "layer"])["value"].mean().unstack()


def test_only_pooled_scores_are_kept_of_permutations_and_all_of_ratings(swept):
    _, run = swept
    permuted = run.scores[run.scores["control"].isin(["permuted", "permuted_by_speaker"])]
    assert set(permuted["fold"]) == {POOLED}
    assert set(permuted["metric"]) == {"ccc", "ccc_matched", "pearson", "rmse", "r2", "uar", "macro_f1"}
    one = permuted[(permuted["layer"] == "2") & (permuted["target"] == "arousal") & (permuted["control"] == "permuted")]
    assert sorted(one[one["metric"] == "ccc"]["seed"]) == list(range(8))
    assert len(one) == 8 * 5
    real = run.scores[(run.scores["control"] == "none") & (run.scores["probe"] == "ridge")]
    assert set(real[real["metric"] == "ccc"]["fold"]) == {"0", "1", "2", "3", "4", POOLED}


@pytest.mark.parametrize("control", ["permuted", "permuted_by_speaker"])
def test_a_permutation_is_the_same_for_every_layer_encoder_and_number_of_permutations(corpus, tmp_path, control):
    cache, _, manifest = corpus
    twice = np.stack([cache.read_layer("3")] * 2, axis=1)
    same = store(tmp_path / "twice.zarr", twice, ids=cache.utterance_ids, layers=("0", "1"), upstream="twice")
    few, more = (
        sweep(
            [cache, same], manifest, quick(manifest, controls=(control,), permutations=n, weighted_sum_seeds=0),
            out=tmp_path / str(n),
        )
        for n in (3, 6)
    )  # fmt: skip
    rows = [r.scores[(r.scores["control"] == control) & (r.scores["metric"] == "r2")] for r in (few, more)]
    values = [r.set_index(["encoder", "layer", "target", "seed"])["value"].sort_index() for r in rows]
    pd.testing.assert_series_equal(values[0], values[1].loc[values[0].index], rtol=1e-4)
    for target in ("arousal", "valence"):
        by_layer = [values[1].xs((e, k, target)) for e, k in (("test", "3"), ("twice", "0"), ("twice", "1"))]
        np.testing.assert_allclose(by_layer[0], by_layer[1], atol=1e-4)
        np.testing.assert_array_equal(by_layer[1], by_layer[2])
        assert by_layer[0].nunique() == 6


def test_permutations_that_do_not_fit_into_memory_together_give_the_same_scores(corpus, tmp_path, monkeypatch):
    cache, _, manifest = corpus
    plan = quick(manifest, weighted_sum_seeds=0, permutations=6, residualize_text=True)
    whole = sweep([cache], manifest, plan, out=tmp_path / "whole").scores
    monkeypatch.setattr("layerprobe.probe.sweep.fits.layer_probes.PERMUTED_COLUMNS", (20, 20))
    parts = sweep([cache], manifest, plan, out=tmp_path / "parts").scores
    keys = [c for c in whole if c != "value"]
    pd.testing.assert_frame_equal(whole[keys], parts[keys])
    np.testing.assert_allclose(whole["value"], parts["value"], atol=1e-4)


def test_inner_rmse_is_of_training_speakers_and_ranks_layers_within_each_split(swept, corpus):
    _, run = swept
    inner = run.scores[(run.scores["metric"] == "inner_cv_rmse") & (run.scores["train_corpus"] == "")]
    assert set(inner["fold"]) == {"0", "1", "2", "3", "4"}
    assert {"none", "random_init"} <= set(inner["control"])
    assert {"ridge", "weighted_sum", "uniform_mix"} <= set(inner["probe"])
    assert "emotion" in set(inner["target"])  # of indicators of its classes
    real = inner[(inner["control"] == "none") & (inner["probe"] == "ridge") & (inner["target"] == "valence")]
    real = real[real["baseline"] == ""]
    by_layer = real.set_index(["fold", "layer"])["value"].unstack()
    assert (by_layer.idxmin(axis=1) == "4").all()
    deviation = corpus[2].table["valence"].std()
    assert by_layer["2"].to_numpy() == pytest.approx(deviation, rel=0.1)  # it predicts nothing
    untrained = inner[
        (inner["control"] == "random_init") & (inner["target"] == "valence") & (inner["probe"] == "ridge")
    ]
    assert untrained["value"].to_numpy() == pytest.approx(deviation, rel=0.1)


def test_inner_rmse_of_a_mix_is_below_the_deviation_of_ratings_that_it_predicts(swept, corpus):
    _, run = swept
    rows = run.scores[(run.scores["metric"] == "inner_cv_rmse") & (run.scores["control"] == "none")]
    mixed = rows[(rows["probe"] == "weighted_sum") & (rows["target"] == "valence")]["value"]
    assert mixed.max() < 0.5 * corpus[2].table["valence"].std()


def test_gender_and_corpus_travel_with_the_predictions(swept, corpus, tmp_path):
    out, _run = swept
    _, _, manifest = corpus
    kept, table = read_predictions(out), manifest.table.set_index("utterance_id")
    assert kept.gender.tolist() == table.loc[kept.utterance_id, "gender"].tolist()
    assert kept.corpus.tolist() == table.loc[kept.utterance_id, "corpus"].tolist()
    with np.load(out / "predictions.npz") as file:
        fewer = {name: file[name] for name in file if name != "corpus"}
    copy = tmp_path / "fewer"
    shutil.copytree(out, copy)
    np.savez(copy / "predictions.npz", **fewer)
    with pytest.raises(InputError, match=r"predictions\.npz was cut or edited: .*\. Restore it, or run"):
        read_predictions(copy)
    names = ("utterance_id", "speaker_id", "fold", "targets", "ratings", "columns", "prediction", "matched")
    by_hand = Predictions(**{name: getattr(kept, name) for name in names})
    assert by_hand.gender.tolist() == [""] * N


def test_without_the_columns_gender_and_corpus_are_empty(corpus, tmp_path):
    cache, _, manifest = corpus
    plain = replace(manifest, table=manifest.table.drop(columns=["gender", "corpus"]))
    sweep([cache], plain, quick(plain, weighted_sum_seeds=0, permutations=1), out=tmp_path / "run")
    kept = read_predictions(tmp_path / "run")
    assert (set(kept.gender), set(kept.corpus), len(kept.gender)) == ({""}, {""}, N)
    assert plain.content_hash() != manifest.content_hash()


def test_each_corpus_trains_alone_and_is_tested_on_all(swept):
    out, run = swept
    kept = read_predictions(out)
    (truth,) = (kept.ratings[:, k] for k, t in enumerate(kept.targets) if t == "arousal")
    found = {}
    for k, column in enumerate(kept.columns.to_dict("records")):
        if column["layer"] == "3" and column["target"] == "arousal" and column["train_corpus"]:
            assert column["probe"] == "ridge"
            for name in ("acted", "called"):
                rows = kept.corpus == name
                found[column["train_corpus"], name] = ccc(truth[rows], kept.matched[rows, k].astype(float))
    assert len(found) == 4
    for name, other in (("acted", "called"), ("called", "acted")):
        assert found[name, name] > 0.9
        assert found[name, other] < -0.9  # it never trained on the sign of the other corpus
    rows = run.scores[run.scores["train_corpus"] == "acted"]
    assert set(rows["fold"]) == {"0", "1", "2", "3", "4", POOLED}
    assert set(rows["layer"]) == set(LAYERS)
    assert set(rows["target"]) == {"arousal", "valence", "emotion"}
    assert set(kept.columns["control"]) == {"none", "random_init"}
    assert set(kept.columns["train_corpus"]) == {"", "acted", "called"}
    assert set(kept.columns["baseline"]) == {"", "covariates_only"}


def test_cross_corpus_is_refused_where_a_corpus_can_not_train(corpus, tmp_path):
    cache, _, manifest = corpus

    def refused(match, **columns):
        changed = replace(manifest, table=manifest.table.assign(**columns))
        with pytest.raises(InputError, match=match):
            sweep([cache], changed, quick(changed, cross_corpus=True), out=tmp_path / "no")
        assert not (tmp_path / "no").exists()

    few = np.where(manifest.table["speaker_id"].isin(["s0", "s1"]), "small", "large")
    refused(
        r"leaves corpus 'small' training speakers in \d of the 4 inner folds, and choosing alpha takes two", corpus=few
    )
    refused(r"my\.csv names 1 in its column corpus; --cross-corpus needs two or more there", corpus="one")
    level = manifest.table["arousal"].where(manifest.table["corpus"] == "acted", 4.0)
    refused("arousal has one value only in the training speakers of corpus 'called'", arousal=level)
    without = replace(manifest, table=manifest.table.drop(columns="corpus"))
    with pytest.raises(InputError, match=r"my\.csv has no column corpus; --cross-corpus needs two or more there"):
        plan_sweep(without, cross_corpus=True)


def test_a_layer_that_encodes_the_transcript_predicts_no_text_residual(swept):
    _, run = swept
    assert run.targets == ["arousal", "valence", "arousal_text_residual", "valence_text_residual"]
    scores = pooled(run, "pearson", probe="ridge", control="none")
    assert scores.loc["valence", "4"] > 0.85
    assert abs(scores.loc["valence_text_residual", "4"]) < 0.15
    assert scores.loc["valence", "1"] < 0.6
    assert scores.loc["valence_text_residual", "1"] > 0.9
    permuted = {c: pooled(run, "pearson", probe="ridge", control=c) for c in ("permuted", "permuted_by_speaker")}
    for chance in permuted.values():
        assert chance.loc["valence_text_residual"].abs().max() < 0.15
    untrained = pooled(run, "pearson", probe="ridge", control="random_init")
    assert untrained.loc["valence_text_residual"].abs().max() < 0.25
    alone = pooled(run, "pearson", encoder="", baseline="text_only")
    assert alone.loc["valence", ""] > 0.85
    assert abs(alone.loc["valence_text_residual", ""]) < 0.15


def test_text_residuals_need_transcripts_and_ratings(corpus, tmp_path):
    cache, _, manifest = corpus
    for changed in (manifest.table.drop(columns="transcript"), manifest.table.assign(transcript=" ")):
        silent = replace(manifest, table=changed)
        with pytest.raises(
            InputError, match=r"^.*my\.csv has no transcripts, so there is nothing to residualize\. Leave"
        ):
            plan_sweep(silent, residualize_text=True)
        assert plan_sweep(silent, residualize_text=None).text_residuals == ()
        with pytest.raises(InputError, match=r"^No utterance has a transcript to be a covariate of the layers\. Leave"):
            sweep([cache], silent, quick(silent), out=tmp_path / "no", covariates=[TranscriptCovariate()])
    with pytest.raises(InputError, match="has no rated target, so there is nothing to residualize"):
        plan_sweep(manifest, targets=("emotion",), residualize_text=True)
    assert plan_sweep(manifest).text_residuals == ()
    assert plan_sweep(manifest, residualize_text=None).text_residuals == ("arousal", "valence")


def test_the_transcript_is_a_covariate_of_each_layer(swept):
    _, run = swept
    joint = pooled(run, "r2", probe="banded_ridge", control="none").loc["valence"]
    layer = pooled(run, "r2", probe="ridge", control="none").loc["valence"]
    alone = pooled(run, "r2", baseline="covariates_only").loc["valence", ""]
    assert joint["1"] > 0.9
    assert joint["1"] - layer["1"] > 0.6
    assert joint["1"] - alone > 0.1
    assert abs(joint["4"] - alone) < 0.05
    assert isinstance(parse_covariate("transcript"), TranscriptCovariate)
    assert [c["name"] for c in run.plan["covariates"]] == ["transcript"]
    rows = run.scores[run.scores["probe"] == "banded_ridge"]
    assert set(rows["covariates"]) == {"transcript"}
    assert set(run.scores[run.scores["probe"] == "weighted_sum"]["covariates"]) == {""}


def test_the_plan_names_paths_and_the_command_which_no_fingerprint_depends_on(swept, corpus, tmp_path):
    out, run = swept
    cache, control, manifest = corpus
    written = tomllib.loads((out / "plan.toml").read_text())
    assert written["command"] == "layerprobe sweep a.zarr my.csv"
    assert written["manifest"] == str(manifest.path)
    assert written["encoders"][0]["path"] == str(cache.path.absolute())
    assert written["random_weights"][0]["path"] == str(control.path.absolute())
    assert written["sweep"]["n_permutations"] == 8
    assert written["sweep"]["cross_corpus"] is True
    assert "manifest" not in written["corpus"]
    moved = store(tmp_path / "moved.zarr", np.stack([cache.read_layer(k) for k in LAYERS], axis=1), cache.utterance_ids)
    elsewhere = replace(manifest, path=tmp_path / "other.csv")
    again = sweep(
        [moved], elsewhere, quick(elsewhere, permutations=8, cross_corpus=True, residualize_text=True),
        out=tmp_path / "run", random_weights=[control], covariates=[TranscriptCovariate()],
    )  # fmt: skip
    assert again.fingerprint == run.fingerprint
    assert read_run(tmp_path / "run").plan["command"] == ""


def test_controls_by_default_are_those_that_the_speakers_allow(corpus):
    _, _, manifest = corpus
    assert plan_sweep(manifest).controls == ("permuted", "permuted_by_speaker")
    assert plan_sweep(manifest, speakers=False).controls == ("permuted",)
    with pytest.raises(InputError, match=r"^control 'permuted_by_speaker' needs speakers"):
        plan_sweep(manifest, controls=("permuted", "permuted_by_speaker"), speakers=False)
    with pytest.raises(InputError, match=r"^0 permutations can't test anything\. Ask for 1 or more\. \[LP\d{3}\]$"):
        plan_sweep(manifest, permutations=0)
    assert plan_sweep(manifest, permutations=200).n_permutations == 200


def test_a_sweep_of_unknown_speakers_alone_asks_for_no_speakers(tmp_path, corpus):
    cache, _, manifest = corpus
    unknown = replace(manifest, table=manifest.table.assign(speaker_id="Unknown"))
    with pytest.raises(InputError, match=rf"^All {N} utterances have the speaker_id Unknown, .* with --no-speakers "):
        sweep([cache], unknown, quick(unknown, controls=("permuted",)), out=tmp_path / "run")
    one = replace(manifest, table=unknown.table.assign(speaker_id=["s0"] + ["Unknown"] * (N - 1)))
    for accepted, speakers in ((unknown, False), (one, True)):
        run = sweep([cache], accepted, quick(accepted, controls=(), speakers=speakers), out=tmp_path / f"{speakers}")
        assert len(run.scores)
