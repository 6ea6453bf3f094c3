"""Controls of a cache of spans: random weights and acoustic features of its very spans, without the file of these."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.command_line import run as command
from helpers.speech_models import load_exact
from helpers.voices import voice, write_table

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.control_caches import control_caches
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.results.run_folder import read_run


@pytest.fixture
def corpus(tmp_path):
    rows = []
    for i in range(24):
        soundfile.write(tmp_path / f"s{i}.wav", voice(0.9, pitch=80 + 5 * i, seed=i), 16_000)
        rows.append({"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 12}", "arousal": 1 + i / 4})
    return write_table(tmp_path, rows)


def marked(folder, n=24):
    """Spans of utterances; the last one of each ends after the audio, and is cut."""
    rows = [(f"u{i}", *span) for i in range(n) for span in ((0, 0.25, "so"), (0.3, 0.55, "it"), (0.55, 0.95, "is"))]
    pd.DataFrame(rows, columns=["utterance_id", "start", "end", "label"]).to_csv(folder / "marked.csv", index=False)
    return SpanOptions(folder / "marked.csv")


def rows_of(cache):
    """The spans of a cache by id."""
    return cache.spans.frame().assign(span_id=cache.utterance_ids).sort_values("span_id").reset_index(drop=True)


@pytest.mark.parametrize("kind", ["marked", "windows"])
def test_controls_hold_the_spans_of_the_cache_under_study(corpus, folders, tmp_path, kind):
    manifest = read_manifest(corpus)
    spans = marked(tmp_path, n=23) if kind == "marked" else SpanOptions(every=0.25, window=0.5)
    cache = extract(manifest, load_exact(folders["hubert"]), tmp_path / "h.zarr", spans=spans)
    (tmp_path / "marked.csv").unlink(missing_ok=True)
    found = control_caches([cache], manifest, random_weights=[])
    made = [*found.random_weights, *found.acoustic]
    assert [one.path.name for one in made] == ["h-random-0.zarr", "h-acoustic.zarr"]
    assert made[0].plan.random_init == 0
    for one in made:
        pd.testing.assert_frame_equal(rows_of(one), rows_of(cache))
        assert one.plan.spans == cache.plan.spans
    if kind == "marked":  # oracle: the encoder with random weights on the file of the spans
        again = extract(
            manifest, load_exact(folders["hubert"], random_init=0), tmp_path / "r.zarr", spans=marked(tmp_path, n=23)
        )
        assert again.utterance_ids.tolist() == made[0].utterance_ids.tolist()
        np.testing.assert_array_equal(again.read_layer(1), made[0].read_layer(1))
    before = [one.generation for one in made]
    found = control_caches([cache], manifest, random_weights=[])
    assert [one.generation for one in (*found.random_weights, *found.acoustic)] == before  # nothing is encoded again


def test_one_flag_extracts_and_probes_every_control_in_the_bins_of_the_cache(corpus, folders, tmp_path):
    manifest = read_manifest(corpus)
    extract(manifest, load_exact(folders["hubert"]), tmp_path / "h.zarr", spans=marked(tmp_path))
    (tmp_path / "marked.csv").unlink()
    options = ("--controls", "all", "--folds", 3, "--weighted-sum-seeds", 0, "--permutations", 19, "--jobs", 1)
    done = command(
        "sweep", tmp_path / "h.zarr", corpus, "--by", "label", "--out", tmp_path / "run", *options
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    swept = read_run(tmp_path / "run")
    assert swept.encoders == ["hubert", "acoustic"]
    scores = swept.scores[swept.scores["baseline"] == ""]
    for rows in (scores[scores["control"] == "random_init"], scores[scores["encoder"] == "acoustic"]):
        assert set(rows["bin"]) == {"", "so", "it", "is"}


def test_the_command_for_an_encoder_that_is_gone_names_its_spans(corpus, folders, tmp_path):
    manifest = read_manifest(corpus)
    shutil.copytree(folders["hubert"], tmp_path / "hubert")
    caches = [
        extract(manifest, load_exact(tmp_path / "hubert"), tmp_path / f"{name}.zarr", spans=spans)
        for name, spans in (("marked", marked(tmp_path)), ("windows", SpanOptions(every=0.25, window=0.5)))
    ]
    (tmp_path / "hubert").rename(tmp_path / "renamed")
    for cache, options in zip(caches, (r"--spans TABLE\.csv", "--every 0.25 --window 0.5"), strict=True):
        with pytest.raises(InputError, match=rf"-random-0\.zarr {options} \[LP435\]$"):
            control_caches([cache], manifest, random_weights=[])
