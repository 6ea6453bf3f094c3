"""Which stage bound an extraction: reading, encoding or writing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.voices import manifest_of

from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.encoding.stages import StageUtilisation
from layerprobe.probe.extraction.extract import run_extraction


@pytest.fixture
def manifest(write_audio, tmp_path):
    rows = []
    for k in range(3):
        write_audio(f"s{k}.wav", 0.3 + 0.2 * k, pitch=90 + 10 * k)
        rows.append({"utterance_id": f"u{k}", "path": f"s{k}.wav", "speaker_id": f"t{k}", "arousal": 1 + k})
    return manifest_of(tmp_path, rows)


@pytest.fixture
def encoder(folders):
    return load_audio_encoder(str(folders["hubert"]), precision="float32", forward="packed")


def test_one_line_states_what_bound_it(manifest, encoder, tmp_path):
    done = run_extraction(manifest, encoder, tmp_path / "a.zarr")
    assert all(0 <= part <= 1 for part in (done.stages.decode, done.stages.encode, done.stages.write))
    assert StageUtilisation(0.5, 0.2, 0.9, 1).sentence() == (
        "Bound by writing: encoder busy 20 %, readers 50 % of 1 thread, writer 90 %."
    )
    assert StageUtilisation(0.95, 0.2, 0.9, 4).bound_by == "decoding"
    again = run_extraction(manifest, encoder, tmp_path / "a.zarr")
    assert again.stages is None


def test_nothing_bound_an_extraction_in_which_nothing_could_be_read(manifest, encoder, tmp_path):
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"fLaC" + bytes(300))
    manifest = replace(manifest, table=manifest.table.assign(path=str(broken)))
    done = run_extraction(manifest, encoder, tmp_path / "a.zarr")
    assert len(done.quarantine) == 3
    assert done.stages is None
