"""No name, list, missing decoder, hanging program or damaged file does harm when FFmpeg decodes."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.audio_bytes import RATE
from helpers.media_files import by_program, by_pyav, write_media
from helpers.voices import voice

from layerprobe.probe.data import audio, audio_stream, media_decoder as decoder, media_program as with_program
from layerprobe.probe.data.audio import InvalidAudioError, audio_header, decode_audio_file, read_recording
from layerprobe.probe.data.containers.foreign import foreign_format
from layerprobe.probe.data.containers.length import ForeignFormat
from layerprobe.probe.data.media_program import ProgramStream, find_programs


def reason(path, **span):
    with pytest.raises(InvalidAudioError) as caught:
        decode_audio_file(path, **span)
    return caught.value.message


@pytest.mark.parametrize("name", ["-i.m4a", "a\nb.m4a", "http:a.m4a", "concat:a|b.m4a", "%03d.m4a", "ünï 'x' $(y).wav"])
def test_odd_names_do_not_matter(each_decoder, files, tmp_path, monkeypatch, samples, name):
    shutil.copy(files("alac.m4a"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        np.testing.assert_array_equal(decode_audio_file(path).channels[:, 0], samples)


@pytest.mark.parametrize("kind", ["concat", "hls", "hls behind the first bytes of m4a"])
def test_no_file_leads_to_another_one(each_decoder, files, tmp_path, kind):
    other = Path(shutil.copy(files("alac.m4a"), tmp_path / "other.m4a"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n"
    path = tmp_path / "a.m4a"
    if kind == "concat":
        path.write_text(f"ffconcat version 1.0\nfile '{other}'\n")
    elif kind == "hls":
        path.write_text(playlist)
    else:
        path.write_bytes(b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42" + playlist.encode())
    assert reason(path).startswith(("could not be decoded (", "truncated: "))


def test_pyav_opens_nothing_but_the_file_that_it_is_given(files, tmp_path):
    shutil.copy(files("aac.ts"), tmp_path / "other.ts")
    path = tmp_path / "a.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/other.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InvalidAudioError, match="could not be decoded"):
        by_pyav(path, ForeignFormat("a playlist", "hls"))


def test_without_a_decoder_one_sentence_names_both(files, monkeypatch):
    path = files("aac.m4a")
    monkeypatch.setattr(decoder, "has_pyav", lambda: False)
    monkeypatch.setenv("PATH", "")
    assert reason(path) == (
        "is MPEG-4 audio (M4A, AAC), which libsndfile can't decode; pip install 'layerprobe[media]', or install the "
        "program ffmpeg, and it is read"
    )
    assert audio_header(path) is None


def test_the_program_is_used_where_pyav_is_not_installed(files, monkeypatch):
    if find_programs() is None:
        pytest.skip("ffmpeg is not installed")
    monkeypatch.setattr(decoder, "has_pyav", lambda: False)
    (remark,) = read_recording(files("aac.m4a"), sampling_rate=RATE).remarks
    assert str(remark).startswith("decoded by the program ffmpeg (libavcodec ")


@pytest.mark.parametrize("hanging", ["ffmpeg", "ffprobe"])
def test_a_program_that_gives_nothing_is_ended(files, tmp_path, monkeypatch, hanging):
    programs = {name: shutil.which(name) for name in ("ffmpeg", "ffprobe")}
    if None in programs.values():
        pytest.skip("ffmpeg is not installed")
    script = tmp_path / hanging
    script.write_text(f"#!/bin/sh\n[ $1 = -version ] || echo $$ > {tmp_path}/process && exec sleep 60\n")
    script.chmod(0o755)
    programs[hanging] = str(script)
    monkeypatch.setattr(with_program, "LIMIT_SECONDS", 1.0)
    monkeypatch.setattr(
        decoder, "open_stream", lambda path, found: ProgramStream(path.open("rb"), found, tuple(programs.values()))
    )
    text = f"{hanging} gave nothing for 1 s and was ended; the file is damaged, or the disk is slow"
    assert reason(files("a.wv")) == text
    process = int((tmp_path / "process").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_process_ends_with_its_decoder(files, monkeypatch):
    path, started = files("a.wv"), []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(with_program.subprocess, "Popen", Recorded)
    stream = by_program(path, foreign_format(path.read_bytes()))
    assert len(next(stream.blocks())) > 0
    stream.close()
    assert [one.poll() is not None for one in started] == [True, True]  # ffprobe and ffmpeg


def test_what_is_in_memory_is_read(files, samples):
    class Stored:
        def open(self, mode):
            return io.BytesIO(files("alac.m4a").read_bytes())

    found = foreign_format(files("alac.m4a").read_bytes())
    for opened in (by_pyav, by_program):
        stream = opened(Stored(), found)
        np.testing.assert_array_equal(np.concatenate(list(stream.blocks()))[:, 0], samples)
        stream.close()


def test_the_last_second_of_a_long_file_takes_no_more_memory_than_its_blocks(each_decoder, tmp_path):
    write_media(tmp_path, "a.wv", np.tile(voice(10.0), 60))  # 38 MB once decoded
    tracemalloc.start()
    try:
        assert len(decode_audio_file(tmp_path / "a.wv", start=599.0).channels) == RATE
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["aac.m4a", "opus.webm", "wmav2.wma", "a.wv", "pcm.avi"])
def test_a_damaged_file_is_refused_or_read_and_never_waits(files, tmp_path, rng, name):
    content = files(name).read_bytes()
    for _ in range(40):
        changed = bytearray(content)
        for at in rng.integers(min(len(content), 400), size=4):
            changed[at] = rng.integers(256)
        (tmp_path / name).write_bytes(changed[: rng.integers(1, len(changed) + 1)] if rng.random() < 0.3 else changed)
        audio_header(tmp_path / name)
        with contextlib.suppress(InvalidAudioError):
            assert len(decode_audio_file(tmp_path / name, max_duration=60.0).channels) > 0


@pytest.mark.usefixtures("each_decoder")
def test_a_stream_that_is_closed_after_modules_were_emptied_raises_nothing(files, monkeypatch):
    """What the interpreter does at its end: it empties modules, then closes the generators that are left."""
    decoded = audio_stream._decoded_blocks(str(files("aac.m4a")), 0.1, None)
    next(decoded)
    monkeypatch.setattr("av.error", None)
    monkeypatch.setattr(audio, "soundfile", None)
    decoded.close()


def test_a_pyav_stream_that_is_closed_late_raises_nothing(files, monkeypatch):
    stream = by_pyav(files("aac.m4a"), foreign_format(files("aac.m4a").read_bytes()))
    blocks = stream.blocks()
    next(blocks)
    monkeypatch.setattr("av.error", None)
    blocks.close()
    stream.close()
