"""Audio whose header states no length or a wrong one: forecast, cached at its true length, and named."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from helpers.audio_bytes import RATE, with_flac_total, with_number, without_xing, write_vbr
from helpers.command_line import run as command
from helpers.voices import voice, write_table

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.importers.acted import import_ravdess
from layerprobe.probe.data.importers.durations import with_durations
from layerprobe.probe.progress import NullProgress


@pytest.fixture
def corpus(tmp_path):
    """A manifest of a WAV and a FLAC from a pipe, an MP3 without a length, a cut FLAC, and an ordinary WAV."""
    samples = voice(1.5)
    for name in ("plain.wav", "piped.wav", "piped.flac", "cut.flac"):
        soundfile.write(tmp_path / name, samples, RATE)
    with_number(tmp_path / "piped.wav", b"data", 0xFFFFFFFF)
    for name in ("piped.flac", "cut.flac"):
        content = with_flac_total(tmp_path / name, 0).read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[:-9])
    without_xing(write_vbr(tmp_path / "piped.mp3", np.concatenate([samples, 0.01 * samples])))
    names = ["plain.wav", "piped.wav", "piped.flac", "piped.mp3", "cut.flac"]
    rows = [
        {"utterance_id": name, "path": name, "speaker_id": f"s{k}", "arousal": 1 + k} for k, name in enumerate(names)
    ]
    return write_table(tmp_path, rows)


def test_the_forecast_names_unknown_lengths_and_the_cache_has_the_true_ones(corpus):
    out = corpus.with_name("a.zarr")
    planned = command("extract", corpus, "--encoder", "acoustic", "--out", out, "--dry-run")
    forecast = "5 utterances to extract, 0.00 h of audio, 4 of them of unknown length by their headers, "
    assert forecast in planned.stdout
    done = command("extract", corpus, "--encoder", "acoustic", "--out", out)
    assert done.exit_code == 0, done.output
    assert forecast in done.output
    assert "1 utterance has audio that was read whole although the header states another length, or none" in done.output
    cache = open_cache(out)
    seconds = np.exp(cache.read_layer("duration", np.arange(cache.n_utterances))[:, 0])
    assert list(cache.utterance_ids) == ["plain.wav", "piped.wav", "piped.flac", "piped.mp3"]
    np.testing.assert_allclose(seconds, [1.5, 1.5, 1.5, 3.096], atol=1e-3)  # 86 frames of 576 samples
    assert cache.quarantine["utterance_id"].tolist() == ["cut.flac"]
    assert cache.quarantine["reason"][0].startswith("truncated, or followed by something else")


def test_a_forecast_of_nothing_but_unknown_lengths_gives_no_hours(corpus):
    rows = [{"utterance_id": "u", "path": "cut.flac", "speaker_id": "s", "arousal": 1}]
    manifest = write_table(corpus.parent, rows)
    planned = command("extract", manifest, "--encoder", "acoustic", "--out", corpus.with_name("a.zarr"), "--dry-run")
    assert "1 utterances to extract, 1 of them of unknown length by their headers, " in planned.stdout
    assert "about" not in planned.stdout


def test_a_manifest_is_validated_with_what_is_misstated_and_what_is_cut(corpus):
    lines = command("manifest", "validate", corpus, "--audio").stdout.splitlines()
    names = ("[undecodable-audio]", "[misstated-length]")
    warned = [line for line in lines if line.startswith("warning ") and any(name in line for name in names)]
    assert [line.split("row ")[1].split(": ")[:2] for line in warned] == [["6", "cut.flac"], ["3", "piped.wav"]]
    assert "[misstated-length] row 3: piped.wav: its header states no length (0xffffffff); all 48000 bytes" in warned[1]


def test_an_importer_writes_the_durations_that_are_there(tmp_path):
    names = [f"03-01-0{k}-01-01-01-01.wav" for k in (1, 2, 3)]
    (tmp_path / "Actor_01").mkdir()
    paths = [tmp_path / "Actor_01" / name for name in names]
    for path in paths:
        soundfile.write(path, voice(1.5), RATE)
    with_number(paths[0], b"data", 0x7FFFF000)
    paths[1].write_bytes(paths[1].read_bytes()[:20_000])
    without_xing(write_vbr(paths[2], voice(1.5)))  # content decides, not the name
    imported = with_durations(import_ravdess(tmp_path), progress=NullProgress())
    found = imported.table.set_index(imported.table["path"].str[-20:])["duration"]
    np.testing.assert_allclose(
        found[[str(p)[-20:] for p in paths]], [1.5, np.nan, 1.584], atol=1e-4
    )  # 44 frames of 576
    assert any("1 audio files can't be read; layerprobe manifest validate" in line for line in imported.warnings)
