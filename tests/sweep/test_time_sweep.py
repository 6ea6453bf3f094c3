"""Sweeps by bins of time: found where planted, fitted as plain sweeps are, paired, resumed and repeated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import Log, quick, store
from helpers.span_rows import SPAN_PLAN, write_spans
from helpers.timed import N_SPANS, N, pooled, timed_corpus

from layerprobe.analysis.similarity.compare_layers import compare_layers
from layerprobe.analysis.study import study
from layerprobe.deployment.deploy import deploy
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_predictions, read_run
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.time.bins import plan_bins
from layerprobe.probe.time.span_means import group_means, utterance_means


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return timed_corpus(tmp_path_factory.mktemp("timed"), np.random.default_rng(0))


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    cache, manifest, _ = corpus
    out = tmp_path_factory.mktemp("run") / "run"
    plan = quick(manifest, weighted_sum_seeds=0, mixes=())
    return sweep([cache], manifest, plan, out=out, time=plan_bins("position", bins=N_SPANS))


def test_a_rating_is_found_in_the_bin_and_layer_where_it_was_planted_and_nowhere_else(run):
    found = pooled(run)
    assert found.drop(columns="").stack().idxmax() == ("1", "0.62–0.75")
    assert found.loc["1", "0.62–0.75"] > 0.8
    assert found.drop(columns=["", "0.62–0.75"]).to_numpy().max() < 0.3
    assert pooled(run, target="valence").to_numpy().max() < 0.3


def test_a_bin_scores_as_a_plain_sweep_of_its_averaged_rows(corpus, run, tmp_path):
    cache, manifest, embeddings = corpus
    halves = sweep([cache], manifest, quick(manifest), out=tmp_path / "halves", time=plan_bins("position", bins=2))
    second = embeddings.reshape(N, N_SPANS, 3, -1)[:, N_SPANS // 2 :].astype(np.float64).mean(axis=1)
    averaged = store(tmp_path / "c.zarr", second.astype(np.float32), layers=("0", "1", "2"))
    plain = sweep([averaged], manifest, quick(manifest), out=tmp_path / "plain")
    keys = ["layer", "target", "control", "seed", "fold", "metric"]

    def ridge(table):
        rows = table[(table["probe"] == "ridge") & (table["baseline"] == "")]
        return rows.set_index(keys)["value"].sort_index()

    of_bin = ridge(halves.scores[halves.scores["bin"] == "0.50–1.00"])
    pd.testing.assert_series_equal(of_bin, ridge(plain.scores), rtol=1e-6, atol=1e-7)
    assert len(of_bin) > 100


def test_plain_rows_are_of_the_mean_over_all_spans(corpus, run, tmp_path):
    _, manifest, embeddings = corpus
    whole = embeddings.reshape(N, N_SPANS, 3, -1).astype(np.float64).mean(axis=1).astype(np.float32)
    plain = sweep(
        [store(tmp_path / "c.zarr", whole, layers=("0", "1", "2"))], manifest, quick(manifest), out=tmp_path / "run"
    )
    np.testing.assert_allclose(pooled(run)[""], pooled(plain)[""], rtol=1e-6)


def test_every_bin_has_the_folds_of_the_corpus_and_no_speaker_is_on_both_sides(run):
    kept = read_predictions(run.path)
    of_fold = pd.DataFrame({"speaker": kept.speaker_id, "fold": kept.fold})
    assert (of_fold.groupby("speaker")["fold"].nunique() == 1).all()
    assert len(kept.utterance_id) == len(set(kept.utterance_id)) == N
    assert set(kept.columns["bin"]) == {"", *(one["name"] for one in run.plan["time"]["bins"])}


def test_a_held_out_rating_changes_no_held_out_prediction_of_its_fold(corpus, run, tmp_path):
    cache, manifest, _ = corpus
    kept = read_predictions(run.path)
    held_out = kept.utterance_id[kept.fold == "0"]
    table = manifest.table.copy()
    rows = table["utterance_id"].isin(held_out)
    table.loc[rows, "arousal"] = -table.loc[rows, "arousal"] + 3
    other = replace(manifest, table=table)
    plan = quick(other, weighted_sum_seeds=0, mixes=())
    changed = sweep([cache], other, plan, out=tmp_path / "run", time=plan_bins("position", bins=N_SPANS))
    fold = kept.fold == "0"
    bins = (kept.columns["bin"] != "").to_numpy()
    after = read_predictions(changed.path).prediction
    np.testing.assert_array_equal(after[fold][:, bins], kept.prediction[fold][:, bins])
    assert (after[~fold][:, bins] != kept.prediction[~fold][:, bins]).any()


def test_permutations_are_the_same_in_all_bins_and_in_a_part_of_them(corpus, tmp_path):
    """Where two bins hold the same embeddings their control tasks have the same scores, to the bit."""
    _, manifest, embeddings = corpus
    first = np.tile(embeddings.reshape(N, N_SPANS, 3, -1)[:, :1], (1, 2, 1, 1)).reshape(N * 2, 3, 1, -1)
    parents, starts = [f"u{i}" for i in range(N) for _ in range(2)], np.tile([0.0, 1.0], N)
    write_spans(tmp_path / "c.zarr", parents, starts, starts + 1, [""] * 2 * N, [2.0] * 2 * N, first)
    out = sweep(
        [tmp_path / "c.zarr"], manifest, quick(manifest), out=tmp_path / "r", time=plan_bins("position", bins=2)
    )
    rows = out.scores[(out.scores["bin"] != "") & (out.scores["control"] == "permuted_by_speaker")]
    one, two = (part["value"].to_numpy() for _, part in rows.groupby("bin"))
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one)) > 10


def test_bins_that_too_few_utterances_reach_are_left_out_with_the_reason(tmp_path, rng):
    lengths = np.full(N, 4)
    lengths[:40], lengths[40:55] = 6, 8  # 55 reach the sixth half second, 15 the eighth
    cache, manifest, _ = timed_corpus(tmp_path, rng, planted=5, lengths=lengths)
    log = Log()
    run = sweep([cache], manifest, quick(manifest), out=tmp_path / "r", time=plan_bins("onset"), progress=log)
    counts = {one["name"]: one["n_utterances"] for one in run.plan["time"]["bins"]}
    assert counts == dict.fromkeys(("0.0–0.5", "0.5–1.0", "1.0–1.5", "1.5–2.0"), N) | dict.fromkeys(
        ("2.0–2.5", "2.5–3.0"), 55
    )
    assert [one["name"] for one in run.plan["time"]["left_out"]] == ["3.0–3.5", "3.5–4.0"]
    reason = "it is reached by 15 utterances with ratings of arousal, valence, fewer than 20"
    assert {one["reason"] for one in run.plan["time"]["left_out"]} == {reason}
    assert f"Bin 3.0–3.5 is left out: {reason}." in log.lines
    assert pooled(run).loc["1", "2.5–3.0"] > 0.6
    kept = read_predictions(run.path)
    late = kept.columns["bin"] == "2.5–3.0"
    assert np.isfinite(kept.prediction[:, late]).sum(axis=0).tolist() == [55] * int(late.sum())
    assert np.isfinite(kept.ratings).all()


def test_a_bin_that_few_held_out_utterances_reach_is_left_out(tmp_path, rng):
    """Eight of 24 speakers are held out: two of their 40 utterances reach the last two seconds."""
    speaker = np.arange(N) % 24
    lengths = np.where((speaker < 16) | np.isin(np.arange(N), [16, 17]), 6, 2)
    cache, manifest, _ = timed_corpus(tmp_path, rng, planted=None, lengths=lengths)
    split = np.where(speaker < 16, "train", "test")
    manifest = replace(manifest, table=manifest.table.assign(split=split))
    run = sweep([cache], manifest, quick(manifest), out=tmp_path / "few", time=plan_bins("onset", bin_width=1))
    assert [one["name"] for one in run.plan["time"]["bins"]] == ["0.0–1.0"]
    reason = "it holds out 2 utterances with ratings of arousal, valence, fewer than 20"
    assert [one["reason"] for one in run.plan["time"]["left_out"]] == [reason, reason]
    two = np.where(speaker < 16, manifest.table["speaker_id"], np.where(speaker < 20, "a", "b"))
    manifest = replace(manifest, table=manifest.table.assign(speaker_id=two))
    with pytest.raises(InputError, match=r"it holds out 2 speakers with ratings of arousal, valence, fewer than 3"):
        sweep([cache], manifest, quick(manifest), out=tmp_path / "none", time=plan_bins("onset", bin_width=1))


def test_bins_narrower_than_the_steps_of_windows_are_noted(corpus, tmp_path):
    cache, manifest, _ = corpus
    log = Log()
    for bins in (N_SPANS, 3 * N_SPANS):
        plan = quick(manifest, controls=(), weighted_sum_seeds=0, mixes=())
        time = plan_bins("position", bins=bins)
        sweep([cache], manifest, plan, out=tmp_path / f"{bins}", time=time, progress=log)
    assert [line for line in log.lines if line.startswith("An utterance has spans in ")] == [
        "An utterance has spans in 8.0 of 24 bins on average, so that bins are of different utterances. Take fewer "
        "(--bins 8), or extract windows at shorter intervals (--every)."
    ]


def test_labels_are_bins_in_any_case(corpus, tmp_path):
    cache, manifest, _ = corpus
    log = Log()
    run = sweep([cache], manifest, quick(manifest), out=tmp_path / "r", time=plan_bins("label"), progress=log)
    assert any(line.startswith("8 bins by label (a, cat, happy, mat, on and 3 others): ridge") for line in log.lines)
    assert pooled(run).drop(columns="").stack().idxmax() == ("1", "happy")
    assert "low" not in run.plan["time"]["bins"][0]


def test_caches_of_other_kinds_are_refused_with_the_command(corpus, tmp_path, rng):
    cache, manifest, _ = corpus
    whole = store(tmp_path / "whole.zarr", rng.normal(size=(N, 5, 6)).astype(np.float32))
    with pytest.raises(InputError, match=r"has a row for each utterance, .*--every 0.5 --window 1 \[LP572\]"):
        sweep([whole], manifest, quick(manifest), out=tmp_path / "r", time=plan_bins("position"))
    with pytest.raises(InputError, match=r"has a row for each span of an utterance. Add --by .* \[LP573\]"):
        sweep([cache], manifest, quick(manifest), out=tmp_path / "r")


def test_what_is_missing_for_bins_of_labels_is_named(corpus, tmp_path):
    cache, manifest, embeddings = corpus
    rare = plan_bins("label", classes={"xylophone": "rare"})
    message = (
        r"No bin by label is left to probe: no label of .*spans\.zarr has a class \(labels: a, cat, happy, mat, on"
    )
    with pytest.raises(InputError, match=message + r", …\)\. Write the classes of its labels.*\[LP575\]"):
        sweep([cache], manifest, quick(manifest), out=tmp_path / "r", time=rare)
    times = cache.spans
    arrays = (times.parent, times.start, times.end, [" "] * len(times), times.duration)
    write_spans(tmp_path / "windows.zarr", *arrays, embeddings[:, :, None])
    windows = open_cache(tmp_path / "windows.zarr")
    for plan in (rare, plan_bins("label")):
        with pytest.raises(
            InputError, match=r"no span of .*windows\.zarr has a label\. Extract .* with --spans.*\[LP575\]"
        ):
            sweep([windows, cache], manifest, quick(manifest), out=tmp_path / "r", time=plan)


def test_another_choice_of_bins_is_another_run_and_the_same_one_resumes(corpus, run, tmp_path):
    cache, manifest, _ = corpus
    plan = quick(manifest, weighted_sum_seeds=0, mixes=())
    with pytest.raises(InputError, match="LP609"):
        sweep([cache], manifest, plan, out=run.path, time=plan_bins("position", bins=4))
    again = sweep([cache], manifest, plan, out=tmp_path / "again", time=plan_bins("position", bins=N_SPANS), jobs=2)
    pd.testing.assert_frame_equal(again.scores, run.scores)
    assert (again.path / "predictions.npz").read_bytes() == (run.path / "predictions.npz").read_bytes()


def test_means_of_groups_are_those_of_slow_arithmetic(corpus):
    cache, _, embeddings = corpus
    group = np.random.default_rng(1).integers(-1, 50, size=len(cache.utterance_ids))
    found = group_means(cache, "2", group, n_groups=51)
    for k in range(50):
        np.testing.assert_allclose(found[k], embeddings[group == k, 2].astype(float).mean(axis=0), rtol=1e-6, atol=1e-7)
    assert np.isnan(found[50]).all()


def test_a_cache_of_means_reads_rows_in_the_order_that_is_wanted(corpus):
    cache, _, embeddings = corpus
    means = utterance_means(cache)
    wanted = np.array([7, 3, 100])
    whole = embeddings.reshape(N, N_SPANS, 3, -1)[:, :, 1].astype(float).mean(axis=1)
    order = [int(name[1:]) for name in means.utterance_ids[wanted]]
    np.testing.assert_allclose(means.read_layer("1", wanted), whole[order], rtol=1e-5, atol=1e-6)
    assert means.audio_hashes[0] == "hash of u0"
    assert means.rows_fingerprint() != cache.rows_fingerprint()
    assert len(means) == N


def test_nothing_is_found_at_its_rate_where_nothing_was_planted(tmp_path):
    """The largest score over the map exceeds those of permutations in a fraction of about 1 / (n + 1)."""
    n_found, n_corpora, n_permutations = 0, 12, 9
    for seed in range(n_corpora):
        folder = tmp_path / str(seed)
        folder.mkdir()
        cache, manifest, _ = timed_corpus(folder, np.random.default_rng(seed), n=72, n_spans=3, planted=None)
        plan = quick(manifest, permutations=n_permutations, weighted_sum_seeds=0, mixes=(), targets=("arousal",))
        run = sweep([cache], manifest, plan, out=folder / "r", time=plan_bins("position", bins=3))
        rows = run.scores[(run.scores["bin"] != "") & (run.scores["fold"] == "pooled")]
        rows = rows[rows["metric"] == "pearson"]
        chance = rows[rows["control"] == "permuted_by_speaker"].groupby("seed")["value"].max()
        n_found += rows[rows["control"] == "none"]["value"].max() > chance.max()
    assert n_found <= 5  # binomial (12, .1): more have a probability of .0005


def test_a_run_by_bins_is_read_by_the_analysis_of_whole_utterances(run):
    found = study(read_run(run.path))
    assert set(found.scores["bin"]) == set(found.predictions.columns["bin"]) == {""}
    assert len(found.table) == len(found.table[["control", "target", "layer"]].drop_duplicates())
    assert len(found.bins.scores) > 0


def test_layers_of_a_run_by_bins_are_compared_by_the_means_of_utterances(corpus, run, tmp_path):
    _, manifest, embeddings = corpus
    means = embeddings.reshape(N, N_SPANS, 3, -1).astype(np.float64).mean(axis=1).astype(np.float32)
    averaged = store(tmp_path / "spans.zarr", means, layers=("0", "1", "2"))
    plain = sweep([averaged], manifest, quick(manifest, weighted_sum_seeds=0, mixes=()), out=tmp_path / "plain")
    found, expected = (pd.read_csv(compare_layers(one.path)).drop(columns="fingerprint") for one in (run, plain))
    pd.testing.assert_frame_equal(found.select_dtypes("number"), expected.select_dtypes("number"), rtol=1e-5)
    assert len(found) > 6


def test_a_run_in_time_has_no_predictor(run, tmp_path):
    with pytest.raises(InputError, match=r"was swept in time, on spans of utterances, .* \[LP579\]"):
        deploy(run, tmp_path / "p")


def test_random_weights_are_probed_in_bins_too(corpus, tmp_path):
    cache, manifest, embeddings = corpus
    spans = cache.spans
    untrained = replace(SPAN_PLAN, random_init=3, weights="ff")
    noise = np.random.default_rng(5).normal(size=(len(spans), 3, 1, embeddings.shape[-1]))
    arrays = (spans.parent, spans.start, spans.end, spans.label, spans.duration)
    write_spans(tmp_path / "random.zarr", *arrays, noise, plan=untrained)
    run = sweep(
        [cache],
        manifest,
        quick(manifest),
        out=tmp_path / "r",
        random_weights=[open_cache(tmp_path / "random.zarr")],
        time=plan_bins("position", bins=2),
    )
    rows = run.scores[(run.scores["control"] == "random_init") & (run.scores["bin"] != "")]
    assert set(rows["seed"]) == {3}
    assert set(rows["bin"]) == {"0.00–0.50", "0.50–1.00"}
