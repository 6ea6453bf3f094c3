"""The sweep from the command line: options reach the plan, and a plan that is given back makes the same files."""

from __future__ import annotations

import inspect
import shutil
import sys
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import refused, refused_without_code
from helpers.planted import DIM, store
from helpers.voices import write_table
from typer.testing import CliRunner

from layerprobe.cli.app import app
from layerprobe.cli.sweep import sweep
from layerprobe.probe.results.run_folder import read_run
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.tasks.controls import CONTROLS
from layerprobe.probe.version import layerprobe_version

N = 60
QUICK = ("--permutations", 2, "--weighted-sum-seeds", 0)
RESULTS = ("scores.csv", "scores.parquet", "predictions.npz", "layer_weights.csv")


@pytest.fixture
def material(tmp_path):
    """A cache and a manifest of two corpora with transcripts."""
    rng = np.random.default_rng(0)
    (tmp_path / "x.wav").touch()
    cache = store(tmp_path / "a.zarr", rng.normal(size=(N, 2, DIM)), layers=("0", "1"))
    rows = [
        {
            "utterance_id": f"u{i}", "path": "x.wav", "speaker_id": f"s{i % 20}", "arousal": 1 + i * 6 / (N - 1),
            "corpus": "acted" if i % 20 < 10 else "called", "transcript": f"word {i % 7}",
        }
        for i in range(N)
    ]  # fmt: skip
    return cache.path, write_table(tmp_path, rows)


def swept(monkeypatch, *arguments, quiet=True):
    """Run the command and return its lines."""
    arguments = ["sweep", *map(str, arguments), *(["--quiet"] if quiet else [])]
    monkeypatch.setattr(sys, "argv", ["/somewhere/layerprobe", *arguments])
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def edit_table(path, **columns):
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.assign(**columns).to_csv(path, index=False)


def test_defaults_are_those_of_the_plan():
    command, ours = (inspect.signature(f).parameters for f in (sweep, plan_sweep))
    same = ("folds", "test_split", "weighted_sum_seeds", "seed", "permutations", "residualize_text", "cross_corpus")
    for name in (*same, "device"):
        assert command[name].default == ours[name].default


def test_options_reach_the_plan_and_the_command_is_recorded(material, tmp_path, monkeypatch):
    cache, manifest = material
    choices = (
        "--permutations",
        3,
        "--cross-corpus",
        "--residualize-text",
        "--covariate",
        "transcript",
        "--weighted-sum-seeds",
        0,
    )
    out = tmp_path / "a run"
    swept(monkeypatch, cache, manifest, "--out", out, *choices)
    run = read_run(out)
    content = run.plan["sweep"]
    assert (content["n_permutations"], content["cross_corpus"], content["text_residuals"]) == (3, True, ["arousal"])
    assert content["controls"] == ["permuted", "permuted_by_speaker"]
    assert run.plan["layerprobe_version"] == layerprobe_version()
    assert run.plan["command"] == (
        f"layerprobe sweep {cache} {manifest} --out '{out}' --permutations 3 --cross-corpus --residualize-text "
        "--covariate transcript --weighted-sum-seeds 0 --quiet"
    )
    assert {"acted", "called"} <= set(run.scores["train_corpus"])
    assert "covariates_only" in set(run.scores["baseline"])
    assert set(run.scores["probe"]) == {"ridge", "banded_ridge", "mean"}
    assert set(run.scores[run.scores["probe"] == "banded_ridge"]["covariates"]) == {"transcript"}


def test_without_speakers_no_control_needs_them(material, tmp_path, monkeypatch):
    swept(monkeypatch, *material, "--out", tmp_path / "run", "--no-speakers", "--weighted-sum-seeds", 0)
    assert read_run(tmp_path / "run").plan["sweep"]["controls"] == ["permuted"]


def test_a_plan_given_back_makes_the_same_bytes(material, tmp_path, monkeypatch):
    cache, manifest = material
    x = np.random.default_rng(1).normal(size=(N, 2, DIM))
    control = store(tmp_path / "r.zarr", x, layers=("0", "1"), random_init=3)
    first, again = tmp_path / "first", tmp_path / "again"
    swept(
        monkeypatch, cache, manifest, "--out", first, "--random-weights", control.path, "--covariate", "transcript",
        "--covariate", f"{cache}@1", "--folds", 4, "--seed", 7, "--permutations", 2, "--weighted-sum-seeds", 2,
        "--controls", "permuted", "--residualize-text", "--cross-corpus", "--layer-mixes", "uniform_mix", "--probe",
        "mdl",
    )  # fmt: skip
    lines = swept(monkeypatch, "--plan", first / "plan.toml", "--out", again, quiet=False)
    assert lines[0].startswith(f"{again}: ")  # nothing is overridden, nothing has changed
    for name in RESULTS:
        assert (again / name).read_bytes() == (first / name).read_bytes(), name
    one, two = (tomllib.loads((folder / "plan.toml").read_text()) for folder in (first, again))
    assert one.pop("command") != two.pop("command")
    assert one == two
    swept(monkeypatch, "--plan", again, "--out", tmp_path / "third")  # the folder will do, too
    assert read_run(tmp_path / "third").fingerprint == read_run(first).fingerprint


def test_options_and_files_win_over_the_plan_and_what_they_replace_is_printed(material, tmp_path, monkeypatch):
    cache, manifest = material
    first = tmp_path / "first"
    swept(monkeypatch, cache, manifest, "--out", first, *QUICK, "--folds", 4)
    plan = first / "plan.toml"
    lines = swept(
        monkeypatch, "--plan", plan, "--out", tmp_path / "second", "--seed", 5, "--folds", "speakers", quiet=False
    )
    assert lines[:4] == [
        f"n_folds is 20, in place of 4 in {plan}",
        f"n_inner_folds is 19, in place of 3 in {plan}",
        f"inner_selection is leave_group_out, in place of refit in {plan}",
        f"seed is 5, in place of 0 in {plan}",
    ]
    changed, recorded = read_run(tmp_path / "second").sweep_plan, read_run(first).sweep_plan
    assert (changed.seed, changed.n_folds, changed.n_permutations) == (5, 20, recorded.n_permutations)
    other = store(tmp_path / "b.zarr", np.random.default_rng(2).normal(size=(N, 2, DIM)), layers=("0", "1"))
    lines = swept(monkeypatch, "--plan", plan, other.path, "--out", tmp_path / "third", quiet=False)
    assert lines[0] == f"CACHES of the command line, in place of those in {plan}"
    assert read_run(tmp_path / "third").plan["encoders"][0]["path"] == str(other.path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (manifest, manifest.with_suffix(".toml"), tmp_path / "x.wav"):
        shutil.copy(path, copy / path.name)
    lines = swept(monkeypatch, "--plan", plan, copy / "my.csv", "--out", tmp_path / "fourth", quiet=False)
    assert lines[0] == f"MANIFEST of the command line, in place of those in {plan}"
    assert read_run(tmp_path / "fourth").fingerprint == read_run(first).fingerprint


def test_all_controls_are_added_to_a_plan_that_is_given_back(material, tmp_path, monkeypatch):
    _, manifest = material
    x = np.random.default_rng(4).normal(size=(N, 2, DIM))
    cache = store(tmp_path / "features.zarr", x, layers=("f0", "loudness"), upstream="acoustic")
    first, second = tmp_path / "first", tmp_path / "second"
    swept(monkeypatch, cache.path, manifest, "--out", first, *QUICK)
    plan = first / "plan.toml"
    lines = swept(monkeypatch, "--plan", plan, "--out", second, "--controls", "all", quiet=False)
    assert lines[:2] == [
        f"controls is {', '.join(CONTROLS)}, in place of permuted, permuted_by_speaker in {plan}",
        f"text_residuals is arousal, in place of none in {plan}",
    ]
    changed, recorded = read_run(second).sweep_plan, read_run(first).sweep_plan
    assert changed == replace(recorded, controls=tuple(CONTROLS), text_residuals=("arousal",))
    assert set(CONTROLS) < set(read_run(second).scores["control"])


def test_files_that_changed_since_the_plan_are_named(material, tmp_path, monkeypatch):
    cache, manifest = material
    first = tmp_path / "first"
    swept(monkeypatch, cache, manifest, "--out", first, *QUICK)
    edit_table(manifest, arousal=np.linspace(7, 1, N))
    lines = swept(monkeypatch, "--plan", first / "plan.toml", "--out", tmp_path / "second", quiet=False)
    contents = [read_run(tmp_path / name).plan["corpus"]["content"] for name in ("second", "first")]
    assert lines[0] == (
        f"Warning: {manifest} has changed since {first / 'plan.toml'} was written (content {contents[0]}, then "
        f"{contents[1]}), so scores will differ."
    )
    shutil.rmtree(cache)
    store(cache, np.random.default_rng(3).normal(size=(N + 1, 2, DIM)), layers=("0", "1"))
    lines = swept(monkeypatch, "--plan", first / "plan.toml", "--out", tmp_path / "third", quiet=False)
    assert lines[1] == (
        f"Warning: {cache} has changed since {first / 'plan.toml'} was written ({N + 1} utterances, then {N}), so "
        "scores may differ."
    )


def test_a_plan_whose_files_are_gone_or_that_is_none_is_refused_in_one_sentence(material, tmp_path, monkeypatch):
    cache, manifest = material
    swept(monkeypatch, cache, manifest, "--out", tmp_path / "first", *QUICK)
    plan, out = tmp_path / "first" / "plan.toml", ("--out", tmp_path / "no", "--quiet")
    cache.rename(tmp_path / "moved.zarr")
    assert refused_without_code("sweep", "--plan", plan, *out) == (
        f"Error: {plan} names the cache {cache} of test, which is gone. Give CACHES, too."
    )
    manifest.rename(tmp_path / "moved.csv")
    assert refused_without_code("sweep", "--plan", plan, tmp_path / "moved.zarr", *out) == (
        f"Error: {plan} names the manifest {manifest}, which is gone. Give MANIFEST, too."
    )
    assert refused_without_code("sweep", "--plan", tmp_path / "none.toml", *out) == (
        f"Error: {tmp_path / 'none.toml'} does not exist. Give the plan.toml of a run folder."
    )
    (tmp_path / "half.toml").write_text("format_version = 1\n")
    assert "half.toml is no plan of layerprobe sweep: it has no manifest." in refused(
        "sweep", "--plan", tmp_path / "half.toml", *out
    )
    assert refused_without_code("sweep", *out) == "Error: CACHES and MANIFEST are missing: give both, or --plan."
    assert refused_without_code("sweep", tmp_path / "moved.zarr", *out) == (
        "Error: One argument is missing: give CACHES and a MANIFEST, or --plan."
    )
    assert not (tmp_path / "no").exists()


def test_the_summary_counts_what_is_held_out_and_what_is_left_out(material, tmp_path, monkeypatch):
    cache, manifest = material
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    pd.concat([table.head(40), table.head(2).assign(utterance_id=["n1", "n2"])]).to_csv(manifest, index=False)
    lines = swept(monkeypatch, cache, manifest, "--out", tmp_path / "run", *QUICK, "--folds", 4, quiet=False)
    n_scores = len(read_run(tmp_path / "run").scores)
    assert lines == [
        f"{tmp_path / 'run'}: {n_scores} scores of 40 utterances of 20 speakers, held out in 4 folds (10, 10, 10, 10 "
        "utterances; 5, 5, 5, 5 speakers).",
        f"Utterances of {manifest} that were left out: 2 not cached, 0 not rated.",
        f"test: 20 of {N} cached utterances are not in {manifest}, and were not used.",
        f"Next: layerprobe heatmap {tmp_path / 'run'}",
    ]


def test_a_split_is_described_and_folds_that_replace_it_are_announced(material, tmp_path, monkeypatch):
    cache, manifest = material
    edit_table(manifest, split=np.where(np.arange(N) % 20 < 14, "train", "test"))
    (line, _) = swept(monkeypatch, cache, manifest, "--out", tmp_path / "split", *QUICK, quiet=False)
    assert line.endswith(
        "scores of 60 utterances of 20 speakers, 42 utterances of 14 speakers train, 18 of 6 speakers (split test) are "
        "held out."
    )
    lines = swept(monkeypatch, cache, manifest, "--out", tmp_path / "folds", *QUICK, "--folds", "speakers", quiet=False)
    assert lines[0] == f"--folds speakers replaces the split in {manifest} (test, train)."
    assert "held out in 20 folds (3 to 3 utterances; 1 to 1 speakers)." in lines[1]
    assert read_run(tmp_path / "folds").sweep_plan.n_folds == 20
    assert refused_without_code("sweep", cache, manifest, "--out", tmp_path / "no", "--folds", "few", "--quiet") == (
        "Error: --folds few is neither a number nor speakers. Use --folds 5 or --folds speakers."
    )
