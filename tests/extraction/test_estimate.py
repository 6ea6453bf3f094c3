"""Estimates before an extraction: utterances, hours, disk space, memory and time; of a resumed one what is left."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from helpers.voices import manifest_of

from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.estimate import estimate_resources, size_text
from layerprobe.probe.extraction.extract import extract, run_extraction
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.filesystem import size_of
from layerprobe.probe.progress import LogProgress
from layerprobe.probe.system import peak_memory, resident_memory


def test_an_estimate_is_printed_before_the_extraction(corpus, encoder, tmp_path, capsys):
    corpus[0] |= {"start": 0.1, "end": 0.4}
    held = resident_memory() // 1e8 / 10  # GB, rounded down; what is printed is rounded
    done = run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr", progress=LogProgress())
    seconds = sum(0.5 + 0.17 * i for i in range(8)) - 0.2  # the span is 0.3 of 0.5 s
    pattern = r"8 utterances to extract, (\S+) h of audio, (\S+) kB on disk, (\S+) (MB|GB) of memory; about "
    hours, disk, memory, unit = re.search(pattern, capsys.readouterr().err).groups()
    assert hours == f"{seconds / 3600:.2f}"
    assert float(disk) == pytest.approx(size_of(tmp_path / "a.zarr") / 1e3, rel=0.1)
    # what the process held before, and what encoding may add
    assert -1 < float(memory) / {"MB": 1e3, "GB": 1}[unit] - held < 4
    assert done.audio_seconds == pytest.approx(seconds, abs=1e-3)
    assert 0.0 < done.stages.encode <= 1.0


def test_a_resumed_extraction_estimates_what_is_left(corpus, encoder, tmp_path, capsys):
    extract(manifest_of(tmp_path, corpus[:3]), encoder, tmp_path / "a.zarr")
    size = size_of(tmp_path / "a.zarr")
    run_extraction(manifest_of(tmp_path, corpus), encoder, tmp_path / "a.zarr", progress=LogProgress())
    pattern = (
        r"5 utterances to extract \(3 cached already\), 0.00 h of audio, (\S+) kB to write \((\S+) kB more on disk\), "
    )
    written, more = map(float, re.search(pattern, capsys.readouterr().err).groups())
    n_values = len(encoder.layers) * len(encoder.default_poolings) * encoder.dim
    assert 5 * n_values * 4 / 1e3 < written < 5 * n_values * 4 / 1e3 + 10  # float32, and an index
    # the last block has space for them: what grows is the index
    assert abs(size_of(tmp_path / "a.zarr") - size) / 1e3 <= more < 10


def test_sizes_have_the_unit_that_fits():
    assert [size_text(n) for n in (0, 950, 999.96, 50_000, 999_960, 2_345_678, 1e9)] == [
        "0 B", "950 B", "1.0 kB", "50.0 kB", "1.0 MB", "2.3 MB", "1.0 GB",
    ]  # fmt: skip


def test_memory_that_was_freed_before_does_not_hide_what_encoding_adds():
    """Memory that an encoder took only while it was loaded is no measure of what encoding takes."""
    held = np.ones(2**28, dtype=np.uint8)
    assert peak_memory() >= held.nbytes
    before = resident_memory()
    del held
    if peak_memory(anew=True) > before - 2**27:
        pytest.skip("the maximum memory of a process can't be reset here")
    more = np.ones(2**26, dtype=np.uint8)
    assert peak_memory() - resident_memory() < 2**25
    assert more.nbytes


def test_where_the_first_utterance_can_not_be_used_no_time_is_estimated(corpus, encoder, tmp_path, capsys):
    (tmp_path / "s0.wav").write_bytes(b"")
    extract(manifest_of(tmp_path, corpus[:3]), encoder, tmp_path / "a.zarr", progress=LogProgress())
    printed = capsys.readouterr().err
    assert "3 utterances to extract, 0.00 h of audio, " in printed
    assert "; about" not in printed


def test_the_estimated_disk_space_is_the_disk_space_taken(corpus, encoder, tmp_path):
    rows = [row | {"utterance_id": f"{row['utterance_id']}-{k}"} for k in range(50) for row in corpus]
    manifest = manifest_of(tmp_path, rows)
    for storage in ("float32", "float16"):
        settings = ExtractionSettings(storage_dtype=storage, jobs=2)
        reader = make_input_reader(encoder, manifest.table, AudioHashes(), settings)
        estimate = estimate_resources(manifest.table, encoder, reader, settings)
        extract(manifest, encoder, tmp_path / f"{storage}.zarr", storage_dtype=storage)
        assert estimate.n_bytes == pytest.approx(size_of(tmp_path / f"{storage}.zarr"), rel=0.1)


def test_a_disk_that_is_too_small_is_reported_before_anything_is_encoded(corpus, encoder, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        rows = [row | {"utterance_id": f"{row['utterance_id']}-{k}"} for k in range(50) for row in corpus]
        with pytest.raises(InputError, match=r"a.zarr needs \S+ [kM]B, and its disk has \S+ kB free\. Name an --out"):
            extract(manifest_of(tmp_path, rows), encoder, mount / "a.zarr")
    finally:
        subprocess.run(["umount", "-l", mount], check=True)
