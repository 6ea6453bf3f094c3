"""From traces to a sweep: a rating that follows loudness a second later is found by the lag that was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.timed import pooled
from helpers.voices import voice, write_table
from typer.testing import CliRunner

from layerprobe.cli.app import app
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.results.run_folder import read_run

N, SECONDS, STEP, DELAY = 18, 6, 0.5, 1.0
RATE = 25  # samples of a trace per second, as RECOLA has


def ran(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Voices whose loudness changes every half a second; three raters follow it 1 s later, and one pauses for 2 s."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    rows, traces = [], []
    for k in range(N):
        levels = rng.uniform(-1, 1, size=round(SECONDS / STEP))
        gain = np.repeat(10 ** (levels / 2), round(STEP * 16_000))
        soundfile.write(folder / f"u{k}.wav", 0.25 * gain * voice(SECONDS, pitch=100 + 5 * (k % 9), seed=k), 16_000)
        rows.append({"utterance_id": f"u{k}", "path": f"u{k}.wav", "speaker_id": f"s{k % 9}", "arousal": 4})
        time = np.arange(SECONDS * RATE) / RATE
        at = np.floor((time - DELAY) / STEP).astype(int)
        value = np.where(at >= 0, levels[np.maximum(at, 0)], np.nan)
        table = pd.DataFrame({"utterance_id": f"u{k}", "time": time})
        for rater in (1, 2, 3):
            table[f"tension_r{rater}"] = value + 0.1 * rng.normal(size=len(time))
        table.loc[(time >= 3) & (time < 5), "tension_r3"] = np.nan
        traces.append(table)
    pd.concat(traces).to_csv(folder / "traces.csv", index=False)
    return folder, write_table(folder, rows)


def rated(corpus, lag, out):
    folder, manifest = corpus
    windows = ("--every", STEP, "--window", STEP, "--scale", "tension=-2:2")
    return ran("manifest", "spans", "table", folder / "traces.csv", manifest, *windows, "--lag", lag, "--out", out)


def test_the_lag_that_was_planted_predicts_best_and_others_do_not(corpus, tmp_path):
    _, manifest = corpus
    found = {}
    for lag in (0.0, DELAY, 2.0):
        table = tmp_path / f"lag{lag:g}.csv"
        printed = rated(corpus, lag, table)
        assert f"{table}: 216 spans of 18 utterances, lag {lag:g} s" in printed
        # two windows are before the first sample; with a lag, the last ones are beyond the last sample
        n_unrated = N * max(round((DELAY - lag) / STEP), round(lag / STEP))
        assert f"tension: {n_unrated} spans without a rating, left empty" in printed
        if not found:
            ran("extract", manifest, "--encoder", "acoustic", "--out", tmp_path / "s.zarr", "--spans", table)
            assert len(open_cache(tmp_path / "s.zarr")) == N * SECONDS / STEP
        quick = ("--permutations", 2, "--weighted-sum-seeds", 0, "--folds", 3, "--layer-mixes", "uniform_mix")
        ran("sweep", tmp_path / "s.zarr", manifest, "--spans", table, *quick, "--out", tmp_path / f"run{lag:g}")
        found[lag] = pooled(read_run(tmp_path / f"run{lag:g}"), target="tension")[""].max()
    assert found[DELAY] > 0.9
    assert max(found[0.0], found[2.0]) < 0.3


def test_windows_of_audio_at_another_rate_are_all_extracted(tmp_path):
    """Lengths of files at 44.1 kHz, by which windows are written, are no whole number of samples at 16 kHz."""
    rows, traces = [], []
    for k in range(4):
        soundfile.write(tmp_path / f"u{k}.wav", voice(2.1, pitch=100, seed=k, rate=44_100)[: 88_199 + k], 44_100)
        rows.append({"utterance_id": f"u{k}", "path": f"u{k}.wav", "speaker_id": f"s{k}", "arousal": 4})
        traces += [(f"u{k}", second / 10, second / 50) for second in range(20)]
    pd.DataFrame(traces, columns=["utterance_id", "time", "arousal"]).to_csv(tmp_path / "traces.csv", index=False)
    manifest, table = write_table(tmp_path, rows), tmp_path / "spans.csv"
    ran("manifest", "spans", "table", tmp_path / "traces.csv", manifest, "--every", 1, "--window", 1, "--out", table)
    printed = ran("extract", manifest, "--encoder", "acoustic", "--out", tmp_path / "s.zarr", "--spans", table)
    spans = open_cache(tmp_path / "s.zarr").spans
    assert (len(spans), spans.n_parents) == (8, 4)
    assert (spans.end - spans.start > 0.99).all()
    assert "cut" not in printed
