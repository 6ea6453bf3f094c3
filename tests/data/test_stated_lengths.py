"""Uncompressed audio whose header misstates its length is read whole, with a remark, or refused with the reason."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
import soundfile
from helpers.audio_bytes import RATE, decoded_by_ffmpeg, ffmpeg, with_number
from helpers.foreign import FOREIGN
from helpers.voices import voice

from layerprobe.probe.data.audio import InvalidAudioError, audio_header, decode_audio_file
from layerprobe.probe.data.containers.foreign import foreign_format

SECONDS, N = 1.0, RATE
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"
CHUNKED = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF"]
UNCHUNKED = ["AU", "NIST"]


@pytest.fixture
def write(tmp_path):
    """Write a second of a voice in a container, and return its path and its samples ``(n_samples, 1)``."""

    def write(container="WAV", subtype="PCM_16", channels=1):
        path = tmp_path / f"a.{container.lower()}"
        samples = np.stack([voice(SECONDS)] * channels, axis=1)
        soundfile.write(path, samples, RATE, format=container, subtype=subtype)
        return path, soundfile.read(path, dtype="float32", always_2d=True)[0]

    return write


def reason(path):
    with pytest.raises(InvalidAudioError) as caught:
        decode_audio_file(path)
    return caught.value.message


def assert_whole(path, samples, remark=""):
    """Assert that a file is read whole, that its spans are cut from that, and that the duration is known before."""
    recording = decode_audio_file(path)
    np.testing.assert_array_equal(recording.channels, samples)
    assert recording.remark == remark or (remark and remark in recording.remark)
    assert audio_header(path).duration == len(samples) / RATE
    span = decode_audio_file(path, start=0.25, end=0.75).channels
    np.testing.assert_array_equal(span, samples[4_000:12_000])


# written by sox, mplayer, espeak; arecord; ffmpeg; GStreamer; the same less the size of a header
UNKNOWN = [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0, 0x7FFFFFFF - 36, 0xFFFFFFFF - 36]


@pytest.mark.parametrize("number", UNKNOWN, ids=hex)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_wav_whose_size_means_unknown_is_read_to_its_end(write, number, subtype):
    path, samples = write(subtype=subtype)
    n_bytes = path.stat().st_size - path.read_bytes().index(b"data") - 8
    with_number(path, b"data", number)
    assert_whole(path, samples, f"its header states no length ({number:#x}); all {n_bytes} bytes that follow were read")
    assert not audio_header(path).stated


@pytest.mark.parametrize("stated", [2 * N + 2, 2 * N + 10, 2 * N + 44])
def test_a_shortfall_of_a_few_samples_is_read_with_a_remark(write, stated):
    path, samples = write()
    assert_whole(with_number(path, b"data", stated), samples, f"{2 * N} of {stated} bytes of samples are there")


@pytest.mark.parametrize("stated", [2 * N - 2, 2 * N - 21])
def test_a_few_samples_more_than_stated_are_read_with_a_remark(write, stated):
    path, samples = write()
    more = f"{2 * N - stated} more follow that are no metadata; these were read, too"
    assert_whole(with_number(path, b"data", stated), samples, more)


def test_many_more_bytes_than_stated_are_refused(write):
    path, _ = write()
    with_number(path, b"data", N)
    assert reason(path) == (
        "its header states 16000 bytes of samples, and 16000 more follow that are no metadata. Correct its header, or "
        "cut what follows"
    )


@pytest.mark.parametrize("behind", [LIST, LIST + LIST, b"\0" + LIST, b"TAG" + bytes(125), LIST[:-8], LIST + LIST[:12]])
def test_metadata_behind_the_samples_is_no_audio(write, behind):
    path, samples = write(subtype="PCM_U8")
    path.write_bytes(path.read_bytes() + behind)
    if behind.startswith(b"\0L"):
        with_number(path, b"data", N - 1)  # an odd number of bytes, and the one that makes it even
        path.write_bytes(path.read_bytes()[: -len(behind) - 1] + behind)
        samples = samples[:-1]
    np.testing.assert_array_equal(decode_audio_file(path).channels, samples)
    assert decode_audio_file(path).remark == ""


def test_a_header_with_metadata_alone_is_empty(write):
    path, _ = write()
    content = path.read_bytes()
    at = content.index(b"data")
    path.write_bytes(content[: at + 4] + bytes(4) + LIST)
    assert reason(path) == "empty: it holds no samples"


@pytest.mark.parametrize("container", [*CHUNKED, *UNCHUNKED])
def test_zeros_behind_the_samples_are_no_audio(write, container):
    path, samples = write(container)
    path.write_bytes(path.read_bytes() + bytes(4_096))
    assert_whole(path, samples, "4096 bytes of zeros follow its samples, which were not read")


@pytest.mark.parametrize("container", [*CHUNKED, *UNCHUNKED])
def test_a_file_cut_in_half_is_refused_and_a_few_bytes_less_are_read(write, container):
    path, samples = write(container)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reason(path).startswith("truncated: ")
    path.write_bytes(content[:-7])
    recording = decode_audio_file(path)
    np.testing.assert_array_equal(recording.channels, samples[:-4])
    assert "which were read" in recording.remark


@pytest.mark.parametrize("container", [*CHUNKED, *UNCHUNKED])
def test_two_files_in_one_are_refused(write, container):
    path, _ = write(container)
    path.write_bytes(2 * path.read_bytes())
    assert "follows its samples at byte" in reason(path)


@pytest.mark.parametrize("container", [*CHUNKED, *UNCHUNKED])
@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW"])
def test_a_true_header_is_no_reason_for_a_remark(write, container, subtype):
    path, samples = write(container, subtype, channels=2)
    assert_whole(path, samples)
    assert audio_header(path).stated


@pytest.mark.parametrize(
    ("container", "marker", "number", "form", "offset"),
    [
        ("AIFF", b"SSND", 0, ">I", 4),
        ("AIFF", b"SSND", 0xFFFFFFFF, ">I", 4),
        ("AU", b".snd", 0xFFFFFFFF, ">I", 8),
        ("AU", b".snd", 0, ">I", 8),
        ("RF64", b"ds64", 0, "<Q", 16),
        ("RF64", b"ds64", 2**64 - 1, "<Q", 16),
        ("W64", b"data\xf3\xac", 2**63 - 1, "<Q", 16),
        ("W64", b"data\xf3\xac", 24, "<Q", 16),
        ("CAF", b"data", 2**64 - 1, ">Q", 4),
    ],
)
def test_other_containers_may_leave_their_length_out(write, container, marker, number, form, offset):
    path, samples = write(container)
    with_number(path, marker, number, form=form, offset=offset)
    np.testing.assert_array_equal(decode_audio_file(path).channels, samples)
    assert audio_header(path).duration == SECONDS
    assert not audio_header(path).stated


def test_an_absurd_size_takes_no_memory_and_is_refused(write):
    path, _ = write()
    with_number(path, b"data", 0x50000000)
    assert reason(path) == f"truncated: {2 * N} of {0x50000000} bytes of samples are there"


def test_a_maximum_duration_holds_for_what_is_there(write):
    path, _ = write()
    with_number(path, b"data", 0xFFFFFFFF)
    with pytest.raises(InvalidAudioError, match=r"1 s long, over the maximum of 0\.5 s"):
        decode_audio_file(path, max_duration=0.5)
    assert len(decode_audio_file(path, max_duration=1.0).channels) == N


@pytest.mark.parametrize(
    ("container", "at", "damage"),
    [
        ("AIFF", 28, b"\x7f\xff"),  # the exponent of the sampling rate
        ("NIST", 8, b"\0\0\x80"),  # the size of the header
        ("AU", 4, b"\xff\xff\xff\xff"),  # the same
        ("WAV", 24, b"\xff\xff\xff\x7f"),  # the sampling rate
        ("WAV", 24, b"\x01\0\0\0"),
        ("WAV", 22, b"\0\0"),  # the number of channels
    ],
)
def test_a_header_with_an_impossible_number_is_refused(write, container, at, damage):
    path, _ = write(container)
    content = bytearray(path.read_bytes())
    content[at : at + len(damage)] = damage
    path.write_bytes(content)
    assert audio_header(path) is None or audio_header(path).fault
    assert reason(path)


@pytest.mark.parametrize("container", [*CHUNKED, *UNCHUNKED, "FLAC"])
def test_a_header_with_any_damage_is_read_or_refused(write, container, rng):
    path, _ = write(container)
    content, damaged = path.read_bytes(), path.with_suffix(".bin")
    for _ in range(60):
        changed = bytearray(content)
        for at in rng.integers(min(len(content), 80), size=3):
            changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        damaged.write_bytes(changed[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else changed)
        audio_header(damaged)
        with contextlib.suppress(InvalidAudioError):
            decode_audio_file(damaged, max_duration=60.0)


@pytest.mark.parametrize("kind", ["pointer", "page", "zeros"])
def test_what_stands_in_the_place_of_audio_is_named(tmp_path, kind):
    (tmp_path / "a.wav").write_bytes(FOREIGN[kind][0])
    stated = {"pointer": "is a git-lfs pointer", "page": "is a web page", "zeros": "holds zeros alone"}
    assert reason(tmp_path / "a.wav").startswith(stated[kind])
    assert "; " in reason(tmp_path / "a.wav")  # what to do


def test_damaged_formats_that_libsndfile_cannot_decode_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    for opening, name in ((b"\0\0\0\x20ftypM4A ", "MPEG-4 audio"), (b"\x1a\x45\xdf\xa3", "WebM"), (b"#!AMR\n", "AMR")):
        path.write_bytes(opening + bytes(1_000))
        assert foreign_format(path.read_bytes()).name.startswith(name)
        assert reason(path).startswith(("could not be decoded (", "truncated or damaged: not all samples could be "))
    assert reason(tmp_path) == "is a folder, not a file"


@pytest.mark.parametrize("muxer", ["wav", "aiff", "au", "caf", "w64"])
def test_what_ffmpeg_writes_to_a_pipe_is_read_whole(write, tmp_path, muxer):
    source, samples = write()
    path = tmp_path / "piped"
    path.write_bytes(ffmpeg("-i", source, "-f", muxer, "-"))
    np.testing.assert_array_equal(decode_audio_file(path).channels, samples)
    assert not audio_header(path).stated


@pytest.mark.parametrize("number", [0x7FFFF000, 0xFFFFFFFF, 2 * N + 10])
def test_ffmpeg_reads_the_same_of_a_wav_of_unknown_length(write, number):
    path, _ = write()
    with_number(path, b"data", number)
    np.testing.assert_array_equal(decode_audio_file(path).channels, decoded_by_ffmpeg(path))
