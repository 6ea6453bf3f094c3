"""The sweep: planted signals are found in their layers, nothing is found elsewhere, and errors are sentences."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.planted import DIM, LAYERS, N_LAYERS, N, manifest_of, quick, store

from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import ccc, pearson, rmse
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import POOLED, SCORE_COLUMNS, read_predictions, read_run
from layerprobe.probe.sweep.fits.layer_probes import layer_probes
from layerprobe.probe.sweep.settings import DEFAULT_PERMUTATIONS, plan_sweep
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.tasks.controls import MOST_OF_SECOND


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Arousal in layer 3, valence in layer 1; the control has the same shape and encodes neither."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("planted")
    x = rng.normal(size=(N, N_LAYERS, DIM))
    ratings = np.stack([x[:, 3] @ rng.normal(size=DIM), x[:, 1] @ rng.normal(size=DIM)], axis=1)
    ratings = ratings + 0.5 * rng.normal(size=ratings.shape)
    cache = store(folder / "a.zarr", x)
    control = store(folder / "b.zarr", rng.normal(size=x.shape), random_init=3, weights="ff")
    return cache, control, manifest_of(ratings, folder / "my.csv")


@pytest.fixture(scope="module")
def swept(planted):
    cache, control, manifest = planted
    out = cache.path.parent / "run"
    return out, sweep([cache], manifest, plan_sweep(manifest), out=out, random_weights=[control])


@pytest.fixture
def run(swept, tmp_path):
    """The run, and a copy of its folder that a test may break."""
    shutil.copytree(swept[0], tmp_path / "run")
    return swept[1]


def pooled(run, **where):
    rows = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == "ccc_matched")]
    for key, value in where.items():
        rows = rows[rows[key] == value]
    return rows.groupby(["target", "layer"])["value"].mean().unstack()


def test_signals_are_found_in_their_layers_and_nowhere_else(run):
    scores = pooled(run, probe="ridge", control="none")
    assert scores.idxmax(axis=1).to_dict() == {"arousal": "3", "valence": "1"}
    assert scores.loc["arousal", "3"] > 0.8
    assert scores.loc["valence", "1"] > 0.8
    assert scores.drop(columns=["1", "3"]).abs().max().max() < 0.25


def test_permuted_ratings_and_random_weights_give_nothing(run):
    for control in ("permuted", "permuted_by_speaker", "random_init"):
        assert pooled(run, probe="ridge", control=control).abs().max().max() < 0.25
    for control in ("permuted", "permuted_by_speaker"):
        permuted = run.scores[run.scores["control"] == control]
        assert set(permuted["seed"]) == set(
            range(DEFAULT_PERMUTATIONS if control == "permuted_by_speaker" else MOST_OF_SECOND)
        )
        assert set(permuted["fold"]) == {POOLED}
        assert "alpha" not in set(permuted["metric"])
    assert set(run.scores[(run.scores["control"] == "random_init") & (run.scores["probe"] == "ridge")]["seed"]) == {3}


def test_the_weighted_sum_weights_the_planted_layer(run):
    weights = run.layer_weights[run.layer_weights["control"] == "none"]
    means = weights.groupby(["target", "layer"])["weight"].mean().unstack()
    assert means.idxmax(axis=1).to_dict() == {"arousal": "3", "valence": "1"}
    assert set(weights["seed"]) == {0, 1, 2}
    assert pooled(run, probe="weighted_sum", control="none").min().min() > 0.75


def test_scores_are_those_of_the_kept_predictions(run, tmp_path):
    predictions = read_predictions(tmp_path / "run")
    assert len(predictions.utterance_id) == N
    for k, column in enumerate(predictions.columns.to_dict("records")):
        truth = predictions.ratings[:, list(predictions.targets).index(column["target"])]
        rows = run.scores
        for key in ("encoder", "probe", "layer", "target", "control"):
            rows = rows[rows[key] == column[key]]
        rows = rows[rows["seed"] == int(column["seed"])]
        for fold in (*map(str, range(5)), POOLED):
            part = slice(None) if fold == POOLED else predictions.fold == fold
            by_metric = rows[rows["fold"] == fold].set_index("metric")["value"]
            raw, matched = (p[part, k].astype(float) for p in (predictions.prediction, predictions.matched))
            for name, metric in (("ccc", ccc), ("pearson", pearson), ("rmse", rmse)):
                assert by_metric[name] == pytest.approx(metric(truth[part], raw), rel=1e-9, nan_ok=True)
            assert by_metric["ccc_matched"] == pytest.approx(ccc(truth[part], matched), rel=1e-9)


def test_held_out_speakers_are_in_one_fold(run, tmp_path):
    predictions = read_predictions(tmp_path / "run")
    assert pd.Series(predictions.fold).groupby(predictions.speaker_id).nunique().max() == 1


def test_the_run_reads_back_and_repeats_bit_for_bit(run, planted, tmp_path):
    again = read_run(tmp_path / "run")
    pd.testing.assert_frame_equal(again.scores[list(SCORE_COLUMNS)], run.scores[list(SCORE_COLUMNS)], check_dtype=False)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.suffix != ".npz"}
    cache, control, manifest = planted
    sweep([cache], manifest, plan_sweep(manifest), out=tmp_path / "run", random_weights=[control])
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.suffix != ".npz"}


def test_the_order_of_rows_in_cache_and_manifest_changes_nothing(planted, tmp_path, rng):
    cache, _, manifest = planted
    order = rng.permutation(N)
    x = np.stack([cache.read_layer(layer) for layer in LAYERS], axis=1)
    shuffled = store(tmp_path / "c.zarr", x[order], ids=[f"u{i}" for i in order])
    plan = quick(manifest)
    first, second = (sweep([c], manifest, plan, out=tmp_path / n) for c, n in ((cache, "r1"), (shuffled, "r2")))
    pd.testing.assert_frame_equal(first.scores, second.scores)
    turned = Manifest(manifest.path, manifest.header, manifest.table.iloc[order].reset_index(drop=True))
    third = sweep([cache], turned, plan, out=tmp_path / "r1")
    pd.testing.assert_frame_equal(first.scores, third.scores)


def test_another_run_is_never_overwritten(run, planted, tmp_path):
    cache, _, manifest = planted
    with pytest.raises(
        InputError,
        match=r"run holds another run \(\w+, not \w+\): .*sweep.seed is 0 there, 1 here.*; .*Name another --out",
    ):
        sweep([cache], manifest, quick(manifest, seed=1), out=tmp_path / "run")
    assert read_run(tmp_path / "run").fingerprint == run.fingerprint


def test_a_folder_of_mixed_runs_is_refused(run, planted, tmp_path):
    cache, _, manifest = planted
    sweep([cache], manifest, quick(manifest, seed=1), out=tmp_path / "other")
    for name in ("scores.csv", "scores.parquet", "predictions.npz"):
        kept = (tmp_path / "run" / name).read_bytes()
        (tmp_path / "run" / name).write_bytes((tmp_path / "other" / name).read_bytes())
        read = read_predictions if name == "predictions.npz" else read_run
        with pytest.raises(InputError, match=rf"{name} belongs to run \w+, not to {run.fingerprint}"):
            read(tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(kept)
    (tmp_path / "run" / "layer_weights.csv").unlink()
    with pytest.raises(InputError, match=r"layer_weights.csv is missing. Restore it, or run"):
        read_run(tmp_path / "run")


def test_the_manifests_split_is_used_and_one_part_held_out(planted, tmp_path):
    cache, _, manifest = planted
    speakers = manifest.table["speaker_id"].str[1:].astype(int)
    split = np.select([speakers < 12, speakers < 16, speakers < 20], ["train", "development", "test1"], "test2")
    manifest = Manifest(manifest.path, manifest.header, manifest.table.assign(split=split))
    plan = quick(manifest)
    assert (plan.n_folds, plan.test_split) == (None, "test1")
    run = sweep([cache], manifest, plan, out=tmp_path / "run")
    assert set(run.scores["fold"]) == {"test1", POOLED}
    kept = read_predictions(tmp_path / "run").utterance_id
    assert set(kept) == set(manifest.table["utterance_id"][split == "test1"])
    assert plan_sweep(manifest, test_split="test2").test_split == "test2"
    assert plan_sweep(manifest, folds=3).n_folds == 3
    with pytest.raises(InputError, match=r"has no split test3. Use --folds 5"):
        plan_sweep(manifest, test_split="test3")
    with pytest.raises(InputError, match="--folds and --test-split exclude each other"):
        plan_sweep(manifest, test_split="test1", folds=5)


def test_what_is_not_rated_or_not_cached_is_left_out_and_counted(planted, tmp_path):
    cache, _, manifest = planted
    table = manifest.table.copy()
    table.loc[:9, "valence"] = np.nan
    table.loc[:3, "arousal"] = np.nan
    extra = table.iloc[:3].assign(utterance_id=["n1", "n2", "n3"])
    manifest = Manifest(manifest.path, manifest.header, pd.concat([table, extra], ignore_index=True))
    corpus = sweep([cache], manifest, quick(manifest), out=tmp_path / "run").plan["corpus"]
    assert (corpus["n_utterances"], corpus["n_not_rated"], corpus["n_not_cached"]) == (N - 4, 4, 3)
    only = quick(manifest, targets=("arousal",))
    corpus = sweep([cache], manifest, only, out=tmp_path / "only").plan["corpus"]
    assert (corpus["n_utterances"], corpus["n_not_rated"]) == (N - 4, 4)


def test_what_can_not_be_swept_is_one_sentence(planted, tmp_path):
    cache, _control, manifest = planted

    def refused(match, *, caches=(cache,), table=manifest.table, controls=(), **options):
        changed = Manifest(manifest.path, manifest.header, table)
        with pytest.raises(InputError, match=match):
            sweep(list(caches), changed, quick(changed, **options), out=tmp_path / "no", random_weights=controls)
        assert not (tmp_path / "no").exists()

    refused("has no target 'anger'; its header describes arousal, valence", targets=("anger",))
    refused("None of the utterances of .* so there are no ratings", table=manifest.table.assign(utterance_id="x"))
    nothing = manifest.table.assign(arousal=np.nan, valence=np.nan)
    refused("rates no cached utterance for any of arousal, valence", table=nothing)
    refused("^No held-out utterance has a rating of valence. Name", table=manifest.table.assign(valence=np.nan))
    refused("^1 speaker with 240 utterances can't be ", table=manifest.table.assign(speaker_id="one"))
    refused("^3 speakers with 3 utterances can't be ", table=manifest.table.head(3))
    refused("arousal has one value only in the training speakers", table=manifest.table.assign(arousal=4.0))
    refused("has trained weights. Extract a control with --random-init", controls=[cache])
    other = store(tmp_path / "o.zarr", np.zeros((N, N_LAYERS, DIM)), random_init=0, upstream="other")
    refused("is no control of any cache given: it is other with 5 layers", controls=[other])
    refused("Two caches have the same encoder and the same name", caches=[cache, cache])


def test_several_encoders_are_scored_on_the_utterances_that_all_hold(planted, tmp_path, rng):
    cache, _, manifest = planted
    part = store(tmp_path / "part.zarr", rng.normal(size=(200, 2, DIM)), layers=("0", "1"), upstream="team/second")
    run = sweep([cache, part], manifest, quick(manifest), out=tmp_path / "run")
    assert run.encoders == ["test", "second"]
    assert run.layers("second") == ["0", "1"]
    assert run.plan["corpus"]["n_utterances"] == 200


def test_final_is_scored_alone_and_left_out_of_the_mix(tmp_path, planted, rng):
    _, _, manifest = planted
    cache = store(tmp_path / "f.zarr", rng.normal(size=(N, 3, DIM)), layers=("0", "1", "final"))
    run = sweep([cache], manifest, quick(manifest), out=tmp_path / "run")
    assert set(run.scores[run.scores["probe"] == "ridge"]["layer"]) == {"0", "1", "final"}
    assert set(run.layer_weights["layer"]) == {"0", "1"}


def test_mixes_can_be_left_out_and_descent_is_refused_where_memory_does_not_hold_the_layers(
    planted, tmp_path, monkeypatch
):
    cache, _, manifest = planted
    monkeypatch.setattr("layerprobe.probe.sweep.fits.mix_probes.usable_memory", lambda _: 6553.6)
    with pytest.raises(InputError, match=r"in memory, 0\.0 GiB, and 0\.0 GiB are available\. Leave that"):
        sweep([cache], manifest, quick(manifest, mixes=("gradient_descent_mix",)), out=tmp_path / "no")
    run = sweep([cache], manifest, plan_sweep(manifest, weighted_sum_seeds=0), out=tmp_path / "r")
    assert set(run.scores["probe"]) == {"ridge", "mean"}
    assert read_run(tmp_path / "r").layer_weights.empty


def test_controls_are_chosen_by_name(planted, tmp_path):
    cache, _, manifest = planted
    plan = quick(manifest, controls=("permuted", "permuted_within_speaker", "random_per_speaker"), weighted_sum_seeds=0)
    run = sweep([cache], manifest, replace(plan, weighted_sum_seeds=()), out=tmp_path / "run")
    scores = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == "pearson")]
    counts = scores.groupby("control")["seed"].nunique().to_dict()
    assert counts == {
        "none": 1, "permuted": 5, "permuted_within_speaker": 5, "random_per_speaker": 5
    }  # fmt: skip
    best = (
        scores[(scores["control"] != "none") & (scores["layer"] == "3")].groupby(["control", "target"])["value"].mean()
    )
    # speakers have no traits here, so nothing survives; of 24 random ratings chance is wide
    assert best.drop("random_per_speaker").abs().max() < 0.35
    assert best.max() < 0.35
    assert set(read_predictions(tmp_path / "run").columns["control"]) == {"none"}
    with pytest.raises(InputError, match=r"^control 'shuffled' is unknown; choose from permuted, "):
        plan_sweep(manifest, controls=("shuffled",))
    with pytest.raises(InputError, match=r"^control 'random_per_speaker' needs speakers\. Leave it out, or name them"):
        plan_sweep(manifest, controls=("random_per_speaker",), speakers=False)


class Impatient(NullProgress):
    """Interrupts at the third unit of work."""

    def __init__(self):
        self.notes = []

    def advance(self, amount=1.0, note=""):
        self.notes.append(note)
        if len(self.notes) == 3:
            raise KeyboardInterrupt


def test_an_interrupted_sweep_resumes_at_the_layer_it_was_in(planted, tmp_path, monkeypatch):
    cache, control, manifest = planted
    plan = quick(manifest)
    whole = sweep([cache], manifest, plan, out=tmp_path / "whole", random_weights=[control])
    with pytest.raises(KeyboardInterrupt):
        sweep([cache], manifest, plan, out=tmp_path / "run", random_weights=[control], jobs=1, progress=Impatient())
    saved = [path.name for path in (tmp_path / "run" / "partial").glob("*.npz")]
    assert len(saved) == 3
    n_layers_saved = sum("-layer-" in name for name in saved)  # the rest are mixes, which take longer
    assert n_layers_saved > 0
    fitted = []

    def counted(x, *rest, **choices):
        fitted.append(len(x))
        return layer_probes(x, *rest, **choices)

    monkeypatch.setattr("layerprobe.probe.sweep.fits.tasks.layer_probes", counted)
    resumed = sweep([cache], manifest, plan, out=tmp_path / "run", random_weights=[control], jobs=1)
    assert len(fitted) == 2 * N_LAYERS - n_layers_saved
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)
    pd.testing.assert_frame_equal(resumed.layer_weights, whole.layer_weights)
    for name in ("scores.csv", "scores.parquet", "layer_weights.csv", "plan.toml", "predictions.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "run" / "partial").exists()


def test_what_another_plan_or_a_torn_file_left_is_not_taken_for_this_one(planted, tmp_path):
    cache, _, manifest = planted
    with pytest.raises(KeyboardInterrupt):
        sweep([cache], manifest, quick(manifest, seed=1), out=tmp_path / "run", jobs=1, progress=Impatient())
    with pytest.raises(KeyboardInterrupt):
        sweep([cache], manifest, quick(manifest), out=tmp_path / "run", jobs=1, progress=Impatient())
    torn = sorted((tmp_path / "run" / "partial").glob("*.npz"))
    assert len(torn) == 6
    for path in torn:
        path.write_bytes(path.read_bytes()[:100])
    resumed = sweep([cache], manifest, quick(manifest), out=tmp_path / "run")
    whole = sweep([cache], manifest, quick(manifest), out=tmp_path / "whole")
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)
