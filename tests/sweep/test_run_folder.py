"""The run folder: typed scores, format versions, what a run shows of itself, and plans that are given back."""

from __future__ import annotations

import hashlib
import shutil
import time
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.planted import DIM, TARGETS, N, manifest_of, quick, store

from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.display import run_html
from layerprobe.probe.results.run_folder import (
    PREDICTION_KEYS,
    SCORE_COLUMNS,
    check_same_run,
    read_predictions,
    read_run,
    score_table,
)
from layerprobe.probe.results.score_table import write_scores
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

CSV_FILES = ("scores.csv", "layer_weights.csv", "quarantine.csv")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A cache with a final norm, and ratings of which arousal is in layer 1."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("material")
    x = rng.normal(size=(N, 3, DIM))
    ratings = np.stack([x[:, 1] @ rng.normal(size=DIM), rng.normal(size=N)], axis=1)
    cache = store(folder / "a.zarr", x, layers=("0", "1", "final"))
    return cache, manifest_of(ratings, folder / "my.csv")


@pytest.fixture(scope="module")
def swept(material):
    cache, manifest = material
    return sweep([cache.path], manifest, quick(manifest), out=str(cache.path.parent / "run"))


@pytest.fixture
def folder(swept, tmp_path):
    """A copy of the run folder that a test may break."""
    return shutil.copytree(swept.path, tmp_path / "run")


def row(**values):
    keys = {"encoder": "e", "probe": "ridge", "target": "arousal", "control": "none", "fold": "pooled", "seed": 0}
    return {**keys, "metric": "ccc", "value": 0.5, **values}


def test_scores_have_typed_layers_with_their_index_and_depth():
    names = {"e": ["0", "1", "2", "final"], "acoustic": ["f0", "loudness"]}
    rows = [row(layer=name) for name in ("0", "1", "2", "final", "all", "cv_selected")]
    table = score_table([*rows, row(encoder="acoustic", layer="f0"), row(encoder="", layer="")], names)
    assert tuple(table) == SCORE_COLUMNS
    assert table["layer"].tolist() == ["0", "1", "2", "final", "all", "cv_selected", "f0", ""]
    assert table["layer_index"].dtype == "Int64"
    assert table["layer_index"].tolist() == [0, 1, 2, *[pd.NA] * 5]
    np.testing.assert_array_equal(table["relative_depth"], [0, 0.5, 1, 1, *[np.nan] * 4])


def test_parquet_and_csv_hold_the_rows_of_the_run_with_types(swept):
    schema = pq.read_schema(swept.path / "scores.parquet")
    numbers = {"layer_index": pa.int64(), "seed": pa.int64(), "relative_depth": pa.float64(), "value": pa.float64()}
    expected = [(name, numbers.get(name, pa.string())) for name in (*SCORE_COLUMNS, "fingerprint")]
    assert [(f.name, f.type) for f in schema] == [*expected, ("format_version", pa.int64())]
    assert (schema.metadata[b"fingerprint"].decode(), schema.metadata[b"format_version"]) == (swept.fingerprint, b"1")
    again = read_run(swept.path)
    pd.testing.assert_frame_equal(again.scores, swept.scores)  # types and all
    csv = pd.read_csv(
        swept.path / "scores.csv", dtype={"layer": str, "fold": str}, keep_default_na=False,
        na_values={"layer_index": "", "relative_depth": "", "value": ""},
    )  # fmt: skip
    assert tuple(csv) == (*SCORE_COLUMNS, "fingerprint", "format_version")
    for name in ("layer", "metric", "target"):
        assert csv[name].tolist() == swept.scores[name].tolist()
    for name in ("layer_index", "relative_depth", "value"):
        np.testing.assert_array_equal(csv[name].astype(float), swept.scores[name].astype(float))
    assert set(swept.scores[swept.scores["layer"] == "final"]["relative_depth"]) == {1.0}
    assert len(swept.scores[swept.scores["layer_index"] == 1]) == len(swept.scores[swept.scores["layer"] == "1"]) > 0


def test_equal_scores_are_written_as_equal_bytes(swept, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name, swept.scores, swept.fingerprint)
        if name == "first":
            time.sleep(1.1)  # a time stamp would differ
    for file in ("scores.parquet", "scores.csv"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
        assert (tmp_path / "first" / file).read_bytes() == (swept.path / file).read_bytes()


def test_every_file_has_the_format_version(folder):
    assert tomllib.loads((folder / "plan.toml").read_text())["format_version"] == 1
    for name in CSV_FILES:
        table = pd.read_csv(folder / name)
        assert list(table)[-2:] == ["fingerprint", "format_version"]
        assert set(table["format_version"]) <= {1}
    with np.load(folder / "predictions.npz") as file:
        assert file["format_version"] == 1
        assert set(file.files) == {
            "fingerprint", "format_version", "utterance_id", "speaker_id", "fold", "target", "rating", "prediction",
            "matched_prediction", "gender", "corpus", *(f"column_{key}" for key in PREDICTION_KEYS),
        }  # fmt: skip
        assert file["column_seed"].dtype == np.int64


@pytest.mark.parametrize(("version", "has"), [("format_version = 2\n", "format_version 2"), ("", "no format_version")])
def test_a_plan_of_another_version_is_refused(folder, version, has):
    plan = folder / "plan.toml"
    plan.write_text(plan.read_text().replace("format_version = 1\n", version))
    message = (
        rf"^.*plan\.toml has {has}; this version of layerprobe reads 1\. Sweep again with layerprobe sweep\. \[LP603\]$"
    )
    with pytest.raises(InputError, match=message):
        read_run(folder)


def test_plan_toml_lists_every_file_with_rows_size_and_digest(swept):
    text = (swept.path / "plan.toml").read_text()
    listed = {entry["name"]: entry for entry in tomllib.loads(text)["files"]}
    assert set(listed) == {*CSV_FILES, "scores.parquet", "predictions.npz"}
    for name, entry in listed.items():
        content = (swept.path / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    rows = {"scores.csv": len(swept.scores), "layer_weights.csv": len(swept.layer_weights), "predictions.npz": N}
    assert {name: listed[name]["rows"] for name in rows} == rows
    assert text.splitlines()[-1].startswith('sha256 = "')  # a plan.toml that was cut misses it


def test_a_run_shows_what_it_is(swept):
    path = swept.path
    assert repr(swept) == repr(read_run(path)) == (
        f"Run({str(path)!r}: corpus 'planted'; encoders test; targets arousal, valence; {N} utterances of 24 speakers; "
        "5 folds)"
    )  # fmt: skip
    began = time.process_time()  # of this process, so that other work on the machine does not count
    html = swept._repr_html_()
    assert time.process_time() - began < 1
    assert html.count("<tr>") == 1 + len(TARGETS)
    best = swept.scores[
        (swept.scores["layer"] == "1") & (swept.scores["metric"] == "ccc_matched") & (swept.scores["fold"] == "pooled")
        & (swept.scores["control"] == "none") & (swept.scores["target"] == "arousal")
    ]["value"].item()  # fmt: skip
    assert f"<td>arousal</td><td>test</td><td>1</td><td>moment-matched CCC</td><td>{best:.3f}</td>" in html


def test_what_a_run_shows_is_escaped(swept):
    evil = "<script>alert(1)</script>"
    html = run_html(evil, swept.scores.assign(encoder=evil))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 3


def test_the_plan_reads_back_as_it_was(swept, material):
    _, manifest = material
    assert swept.path == read_run(swept.path).path
    for plan in (quick(manifest), plan_sweep(manifest, folds=3, controls=(), probes=("mlp",))):
        assert SweepPlan.from_toml(plan.to_toml(), swept.path) == plan
    plan = read_run(swept.path).sweep_plan
    assert plan == quick(manifest)
    assert plan.fingerprint() == swept.plan["sweep"]["fingerprint"]
    content = quick(manifest).to_toml()
    for wrong, message in (
        ({k: v for k, v in content.items() if k != "alphas"}, r"no plan of layerprobe sweep: alphas is missing there"),
        ({**content, "sed": 1}, r"no plan of layerprobe sweep: sed is unknown there"),
        ({**content, "seed": "1"}, r"seed in \[sweep\] of .* is '1', not int\. \[LP552\]$"),
        ({**content, "mixes": [1]}, r"mixes in \[sweep\] of .* is \(1,\), not list\[str, \.\.\.\]\. \[LP552\]$"),
    ):
        with pytest.raises(InputError, match=message):
            SweepPlan.from_toml(wrong, swept.path)


def test_a_sweep_without_a_plan_takes_the_defaults(material, tmp_path):
    cache, manifest = material
    small = Manifest(manifest.path, manifest.header, manifest.table.head(100))
    run = sweep([str(cache.path)], small, out=tmp_path / "run")
    assert run.sweep_plan == plan_sweep(small)
    assert run.plan["encoders"][0]["n_not_in_manifest"] == N - 100
    assert (run.plan["corpus"]["n_utterances"], run.plan["corpus"]["n_not_cached"]) == (100, 0)
    with pytest.raises(
        InputError, match=r"^No cache is given\. Name one or more that layerprobe extract made\. \[LP\d{3}\]$"
    ):
        sweep([], small, out=tmp_path / "no")


def test_folds_are_counted(material, swept, tmp_path):
    cache, manifest = material
    folds = swept.plan["folds"]
    assert [f["name"] for f in folds] == list("01234")
    assert sum(f["n_test_utterances"] for f in folds) == N
    assert sum(f["n_test_speakers"] for f in folds) == 24
    for fold in folds:
        assert fold["n_train_utterances"] + fold["n_test_utterances"] == N
        assert fold["n_train_speakers"] + fold["n_test_speakers"] == 24
    speakers = manifest.table["speaker_id"].str[1:].astype(int)
    split = Manifest(
        manifest.path, manifest.header, manifest.table.assign(split=np.where(speakers < 16, "train", "test"))
    )
    run = sweep([cache], split, quick(split), out=tmp_path / "run")
    assert run.plan["folds"] == [
        {
            "name": "test", "n_train_utterances": 160, "n_train_speakers": 16, "n_test_utterances": 80,
            "n_test_speakers": 8,
        }
    ]  # fmt: skip
    assert "split 'test' held out" in repr(run)


def test_every_speaker_is_a_fold_where_folds_are_speakers(material, tmp_path):
    cache, manifest = material
    table = manifest.table[manifest.table["speaker_id"].isin([f"s{k}" for k in range(8)])]
    extra = table.head(1).assign(utterance_id="elsewhere", speaker_id="s99")  # in no cache
    few = Manifest(manifest.path, manifest.header, pd.concat([table, extra], ignore_index=True))
    assert plan_sweep(few, folds="speakers").n_folds == 9
    plan = replace(plan_sweep(few, folds="speakers", caches=[cache], permutations=1), weighted_sum_seeds=(), mixes=())
    assert (plan.n_folds, plan.n_inner_folds) == (8, 7)
    run = sweep([cache], few, plan, out=tmp_path / "run")
    assert [f["n_test_speakers"] for f in run.plan["folds"]] == [1] * 8
    kept = read_predictions(tmp_path / "run")
    assert pd.Series(kept.speaker_id).groupby(kept.fold).nunique().tolist() == [1] * 8
    assert len(kept.utterance_id) == len(table)


def test_another_run_is_refused_with_the_settings_that_differ(material, swept, tmp_path):
    cache, manifest = material

    def refused(caches, manifest, plan, *, controls=()):
        with pytest.raises(InputError) as caught:
            sweep(caches, manifest, plan, out=swept.path, random_weights=controls)
        assert str(caught.value).endswith(" Name another --out. [LP609]")
        return str(caught.value).partition("): ")[2].removesuffix(" Name another --out. [LP609]")

    assert refused([cache], manifest, replace(quick(manifest), n_permutations=6, probes=("mlp",))) == (
        "sweep.n_permutations is 5 there, 6 here; sweep.probes is missing there, mlp here."
    )
    rated = Manifest(manifest.path, manifest.header, manifest.table.assign(arousal=-manifest.table["arousal"]))
    hashes = manifest.content_hash(), rated.content_hash()
    assert refused([cache], rated, quick(rated)) == "content of the manifest is {} there, {} here.".format(*hashes)
    rng = np.random.default_rng(1)
    other = store(tmp_path / "b.zarr", rng.normal(size=(N, 3, DIM)), layers=("0", "1", "final"), weights="ee")
    was, now = cache.plan.weights, other.plan.weights
    assert f"encoders.test.weights is {was} there, {now} here" in refused([other], manifest, quick(manifest))
    more = store(tmp_path / "c.zarr", rng.normal(size=(N + 1, 3, DIM)), layers=("0", "1", "final"))
    assert "utterances of the cache is" in refused([more], manifest, quick(manifest))
    second = store(tmp_path / "d.zarr", rng.normal(size=(N, 3, DIM)), layers=("0", "1", "final"), upstream="second")
    assert "encoders.second is missing there" in refused([cache, second], manifest, quick(manifest))
    with pytest.raises(InputError, match=r"holds another run .*: its caches, ratings or settings are others"):
        check_same_run(swept.path, "0" * 12)
