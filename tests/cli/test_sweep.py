"""The sweep from the command line: what is asked there arrives, with the plan's own defaults."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest
from helpers.planted import DIM, store
from helpers.voices import write_table
from typer.testing import CliRunner

from layerprobe.cli.app import app
from layerprobe.cli.sweep import sweep
from layerprobe.probe.results.run_folder import read_run
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.version import layerprobe_version

N = 60


@pytest.fixture
def asked(tmp_path):
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


def swept(monkeypatch, *words):
    words = ["sweep", *map(str, words), "--quiet"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/layerprobe", *words])
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


def test_defaults_are_those_of_the_plan():
    command, ours = (inspect.signature(f).parameters for f in (sweep, plan_sweep))
    for name in ("permutations", "residualize_text", "cross_corpus"):
        assert command[name].default == ours[name].default


def test_what_is_asked_arrives_and_the_command_is_written_down(asked, tmp_path, monkeypatch):
    cache, manifest = asked
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


def test_without_speakers_no_control_needs_them(asked, tmp_path, monkeypatch):
    swept(monkeypatch, *asked, "--out", tmp_path / "run", "--no-speakers", "--weighted-sum-seeds", 0)
    assert read_run(tmp_path / "run").plan["sweep"]["controls"] == ["permuted"]
