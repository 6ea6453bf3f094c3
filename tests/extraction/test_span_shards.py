"""Shards of an extraction have the spans that one process has: a table is read for the whole manifest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.command_line import run
from helpers.voices import manifest_of

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.acoustic import AcousticEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed.shards import Shard, extract_shard, merge
from layerprobe.probe.extraction.extract import run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings


def spans_of(folder, *rows, name="spans.csv", columns=("utterance_id", "start", "end", "label")):
    pd.DataFrame(rows, columns=list(columns)).to_csv(folder / name, index=False)
    return ExtractionSettings(spans=SpanOptions(folder / name))


def sharded(manifest, out, settings, n=2):
    for k in range(1, n + 1):
        extract_shard(manifest, AcousticEncoder(), out, Shard(k, n), settings)
    merge(out, manifest)
    return open_cache(out)


def refused_by_all(manifest, folder, settings):
    """The message of one process, which every shard must give, too."""
    with pytest.raises(InputError) as one:
        run_extraction(manifest, AcousticEncoder(), folder / "one.zarr", settings)
    for k in (1, 2):
        with pytest.raises(InputError) as error:
            extract_shard(manifest, AcousticEncoder(), folder / "m.zarr", Shard(k, 2), settings)
        assert str(error.value) == str(one.value)
    return str(one.value)


def test_an_entry_with_the_name_of_two_files_is_refused_by_every_shard(tmp_path, write_audio):
    rows = [
        {"utterance_id": name, "path": str(write_audio(f"{name}/001.wav", 0.5)), "speaker_id": name, "arousal": 1}
        for name in ("anna", "ben")
    ]
    manifest = manifest_of(tmp_path, rows)
    assert "its entry '001' has the name of two audio files" in refused_by_all(
        manifest, tmp_path, spans_of(tmp_path, ("001", 0.1, 0.3, "a"))
    )


def test_one_id_for_spans_of_two_utterances_is_refused_by_every_shard(tmp_path, write_audio):
    file = str(write_audio("take.wav", 1.0))
    rows = [{"utterance_id": u, "path": file, "speaker_id": u, "arousal": 1} for u in ("u1", "u2")]
    columns = ("span_id", "utterance_id", "start", "end", "label")
    settings = spans_of(tmp_path, ("w1", "take", 0.1, 0.3, "a"), columns=columns)
    assert "two spans have the id 'w1'" in refused_by_all(manifest_of(tmp_path, rows), tmp_path, settings)


def test_an_id_of_one_shard_is_no_file_of_another(tmp_path, write_audio):
    rows = [
        {"utterance_id": "001", "path": str(write_audio("a.wav", 0.5)), "speaker_id": "s1", "arousal": 1},
        {"utterance_id": "b", "path": str(write_audio("001.wav", 0.5)), "speaker_id": "s2", "arousal": 1},
    ]
    manifest, settings = manifest_of(tmp_path, rows), spans_of(tmp_path, ("001", 0.1, 0.3, "a"))
    run_extraction(manifest, AcousticEncoder(), tmp_path / "one.zarr", settings)
    one, several = open_cache(tmp_path / "one.zarr"), sharded(manifest, tmp_path / "m.zarr", settings)
    assert one.utterance_ids.tolist() == several.utterance_ids.tolist() == ["001#0000"]
    assert one.quarantine["utterance_id"].tolist() == several.quarantine["utterance_id"].tolist() == ["b"]
    np.testing.assert_array_equal(one.read_rows(np.arange(1)), several.read_rows(np.arange(1)))


def test_processes_count_entries_of_no_utterance(tmp_path, ten_voices):
    spans_of(tmp_path, ("u0", 0.0, 0.1, "a"), ("q", 0.0, 0.1, "a"))
    options = ("--encoder", "acoustic", "--spans", tmp_path / "spans.csv", "--processes", 1)
    result = run("extract", ten_voices.path, *options, "--out", tmp_path / "p.zarr")
    assert result.exit_code == 0, result.output
    sentence = f"1 entry of {tmp_path / 'spans.csv'} is of no utterance of the manifest (first: q).\n"
    assert result.stderr.count(sentence) == 1


def test_a_span_never_takes_the_row_of_an_utterance_that_stays(tmp_path, corpus):
    columns = ("span_id", "utterance_id", "start", "end", "label")
    ids = {"columns": columns, "name": "ids.csv"}
    out, encoder = tmp_path / "s.zarr", AcousticEncoder()
    both = [("v", "u0", 0.1, 0.3, "a"), ("w", "u1", 0.1, 0.3, "b")]
    run_extraction(manifest_of(tmp_path, corpus[:2]), encoder, out, spans_of(tmp_path, *both, **ids))
    other = manifest_of(tmp_path, corpus[2:3])
    taken = spans_of(tmp_path, ("w", "u2", 0.1, 0.3, "c"), **ids)
    for extract_it in (
        lambda: run_extraction(other, encoder, out, taken),
        lambda: sharded(other, out, taken, n=1),
    ):
        with pytest.raises(InputError, match="span id 'w' is of utterance u1, and one of u2 has it, too") as error:
            extract_it()
        assert error.value.code == "LP463"
        assert open_cache(out).spans.parent.tolist() == ["u0", "u1"]
    # a corrected table may exchange ids
    exchanged = [("w", "u0", 0.1, 0.3, "a"), ("v", "u1", 0.1, 0.3, "b")]
    run_extraction(manifest_of(tmp_path, corpus[:2]), encoder, out, spans_of(tmp_path, *exchanged, **ids))
    cache = open_cache(out)
    assert dict(zip(cache.utterance_ids, cache.spans.parent, strict=True)) == {"w": "u0", "v": "u1"}
