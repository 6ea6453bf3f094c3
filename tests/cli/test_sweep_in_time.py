"""Sweeps in time from the command line: options, what is printed, and a plan that is given back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import refused
from helpers.span_rows import write_spans
from helpers.timed import ratings_table
from helpers.voices import write_table
from typer.testing import CliRunner

from layerprobe.cli.app import app
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.results.run_folder import read_run

N, N_SPANS = 60, 4
QUICK = ("--permutations", 2, "--weighted-sum-seeds", 0)


@pytest.fixture
def material(tmp_path):
    """A span cache and its manifest."""
    rng = np.random.default_rng(0)
    (tmp_path / "x.wav").touch()
    rows = [
        {"utterance_id": f"u{i}", "path": "x.wav", "speaker_id": f"s{i % 20}", "arousal": 1 + i * 6 / (N - 1)}
        for i in range(N)
    ]
    parents = [row["utterance_id"] for row in rows for _ in range(N_SPANS)]
    starts = np.tile(np.arange(N_SPANS) * 0.5, N)
    labels = ["the", "happy", "cat", "ran"] * N
    values = rng.normal(size=(N * N_SPANS, 2, 1, 5))
    write_spans(tmp_path / "spans.zarr", parents, starts, starts + 0.5, labels, [2.0] * len(parents), values)
    return tmp_path / "spans.zarr", write_table(tmp_path, rows)


def swept(*arguments):
    result = CliRunner().invoke(app, ["sweep", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_bins_reach_the_run_and_what_is_averaged_is_printed(material, tmp_path):
    printed = swept(*material, "--by", "position", "--bins", 2, *QUICK, "--out", tmp_path / "run")
    assert "2 bins by position (0.00–0.50 to 0.50–1.00): ridge on the mean of an utterance's spans" in printed
    assert [one["name"] for one in read_run(tmp_path / "run").plan["time"]["bins"]] == ["0.00–0.50", "0.50–1.00"]


def test_classes_of_labels_reach_the_run(material, tmp_path):
    (tmp_path / "classes.csv").write_text("label,class\nhappy,emotional\nthe,function\n")
    swept(*material, "--by", "label", "--label-classes", tmp_path / "classes.csv", *QUICK, "--out", tmp_path / "run")
    time = read_run(tmp_path / "run").plan["time"]
    assert {one["name"] for one in time["bins"]} == {"emotional", "function"}
    assert time["n_without_bin"] == 2 * N


def test_a_plan_in_time_that_is_given_back_makes_the_same_files(material, tmp_path):
    swept(*material, "--by", "onset", "--bin-width", 1, *QUICK, "--out", tmp_path / "first")
    swept("--plan", tmp_path / "first", "--out", tmp_path / "again")
    for name in ("scores.csv", "scores.parquet", "predictions.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    printed = swept("--plan", tmp_path / "first", "--bin-width", 0.5, "--out", tmp_path / "other")
    assert "time is kind onset, bin_width 0.5, in place of kind onset, bin_width 1.0 in" in printed
    assert len(read_run(tmp_path / "other").plan["time"]["bins"]) == N_SPANS


def test_ratings_of_spans_and_a_lag_reach_the_run_and_its_plan(material, tmp_path):
    cache = open_cache(material[0])
    table = ratings_table(cache, tmp_path / "s.csv", tension=np.random.default_rng(1).normal(size=len(cache.spans)))
    printed = swept(*material, "--spans", table, "--lag", 0.5, *QUICK, "--out", tmp_path / "first")
    assert f"{N * (N_SPANS - 1)} spans of 20 speakers" in printed
    time = read_run(tmp_path / "first").plan["time"]
    assert (time["lag"], time["n_beyond_end"]) == (0.5, N)
    swept("--plan", tmp_path / "first", "--out", tmp_path / "again")
    name = "peak_spans.csv"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    ratings_table(cache, table, tension=np.arange(len(cache.spans)) % 7)
    printed = swept("--plan", tmp_path / "first", "--out", tmp_path / "changed")
    assert "s.csv has changed since" in printed


@pytest.mark.parametrize(("option", "value"), [("--residualize-text", None), ("--covariate", "transcript")])
def test_transcripts_with_ratings_of_spans_are_refused_for_what_they_are(material, tmp_path, option, value):
    cache = open_cache(material[0])
    manifest = pd.read_csv(material[1]).assign(transcript="one of many")
    manifest.to_csv(material[1], index=False)
    table = ratings_table(cache, tmp_path / "s.csv", tension=np.arange(len(cache.spans)) % 7)
    given = [option] if value is None else [option, value]
    text = refused("sweep", *map(str, material), "--spans", str(table), *given, "--out", str(tmp_path / "run"))
    message = "With --spans ratings are of spans, and transcripts, which are of whole utterances, are left out."
    assert f"{message} Leave {' '.join(given)} out. [LP540]" in " ".join(text.split())


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), "LP573", "Add --by position, onset or label"),
        (("--by", "time"), "LP574", "--by time is unknown"),
        (("--bins", "3"), "LP574", "--bins goes with --by position. Add it."),
        (("--by", "onset", "--bin-width", "0"), "LP574", "is no number of seconds of 0.01 or more"),
        (("--by", "label", "--label-classes", "none.csv"), "LP576", "none.csv does not exist"),
        (("--spans", "none.csv"), "LP577", "none.csv does not exist"),
    ],
)
def test_options_of_time_are_refused_with_what_to_do(material, tmp_path, options, code, message):
    text = refused("sweep", *map(str, material), *options, "--out", str(tmp_path / "run"))
    assert message in " ".join(text.split())
    assert f"[{code}]" in text
