"""A corpus of M4A files and segments of a video is extracted like one of WAV files, under the same plan."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from helpers.audio_bytes import RATE
from helpers.command_line import run as command
from helpers.media_files import write_media, write_video
from helpers.voices import voice, write_table

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data import media_decoder as decoder


@pytest.fixture
def corpus(tmp_path):
    """Two M4A files without loss, a WAV, an M4A that is cut, and two segments of a video."""
    for k in range(3):
        samples = voice(1.0 + k / 4, pitch=100 + 30 * k)
        soundfile.write(tmp_path / f"{k}.wav", samples, RATE, subtype="PCM_16")
        if k:
            (tmp_path / "alac.m4a").unlink(missing_ok=True)
            write_media(tmp_path, "alac.m4a", samples).rename(tmp_path / f"{k}.m4a")
    (tmp_path / "cut.m4a").write_bytes((tmp_path / "1.m4a").read_bytes()[:9_000])
    write_video(tmp_path / "v.mp4", voice(3.0), audio=("-c:a", "alac"))
    soundfile.write(tmp_path / "v.wav", voice(3.0), RATE, subtype="PCM_16")
    return tmp_path


def rows(ending):
    files = [("0.wav", None, None), *((f"{k}.{ending}", None, None) for k in (1, 2))]
    video = "v.mp4" if ending == "m4a" else "v.wav"
    files += [(video, 0.5, 1.25), (video, 1.5, 2.9)]
    return [
        {"utterance_id": f"u{k}", "path": path, "speaker_id": f"s{k}", "start": start, "end": end, "arousal": 1 + k}
        for k, (path, start, end) in enumerate(files)
    ]


def extract(folder, table, out):
    done = command("extract", write_table(folder, table), "--encoder", "acoustic", "--out", folder / out)
    assert done.exit_code == 0, done.output
    return open_cache(folder / out), " ".join(done.output.split())


def test_embeddings_and_plan_are_those_of_the_wav_files(corpus):
    plain, printed = extract(corpus, rows("wav"), "plain.zarr")
    assert "decoded by" not in printed
    cut = {"utterance_id": "cut", "path": "cut.m4a", "speaker_id": "s9", "arousal": 2}
    media, printed = extract(corpus, [*rows("m4a"), cut], "media.zarr")
    assert media.plan == plain.plan
    np.testing.assert_array_equal(media.read_rows(np.arange(5)), plain.read_rows(np.arange(5)))
    assert "4 utterances were decoded by PyAV (libavcodec " in printed
    assert media.quarantine["utterance_id"].tolist() == ["cut"]
    assert media.quarantine["reason"][0].startswith(("truncated", "could not be decoded"))
    assert "4 utterances were decoded by PyAV (libavcodec " in " ".join(
        command("cache", "info", media.path).output.split()
    )


def test_without_a_decoder_the_rest_is_extracted_and_a_later_run_adds_what_needs_one(corpus, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(decoder, "has_pyav", lambda: False)
        without.setenv("PATH", "")
        cache, _ = extract(corpus, rows("m4a"), "a.zarr")
        assert list(cache.utterance_ids) == ["u0"]
        assert cache.quarantine["reason"][0].startswith("is MPEG-4 audio (M4A, AAC), which libsndfile can't decode; ")
    cache, _ = extract(corpus, rows("m4a"), "a.zarr")
    assert sorted(cache.utterance_ids) == [f"u{k}" for k in range(5)]


def test_validation_names_what_is_doubtful_and_not_every_decoded_file(corpus):
    lines = command("manifest", "validate", write_table(corpus, rows("m4a")), "--audio").output
    assert "decoded by" not in lines
    assert "undecodable" not in lines
