"""MP3, FLAC and Ogg: frames are counted, not believed; spans equal the whole decoded and cut, bit for bit."""

from __future__ import annotations

import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.audio_bytes import (
    RATE,
    decoded_by_ffmpeg,
    ffmpeg,
    with_flac_total,
    with_ogg_position,
    without_xing,
    write_vbr,
)
from helpers.voices import voice

from layerprobe.probe.data.audio import InvalidAudioError, audio_header, decode_audio_file
from layerprobe.probe.data.containers.flac import crc16
from layerprobe.probe.data.containers.length import CorrectedFile, StreamLength
from layerprobe.probe.data.containers.mpeg import scan_frames
from layerprobe.probe.data.forward_decoding import OpenDecoders

SECONDS = 3.0
N = round(SECONDS * RATE)
ID3V2 = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 8, 0, 0) + bytes(8)  # a footer, with 8 bytes of items before it


@pytest.fixture(scope="module")
def signals():
    """Signals of variable rate: steady, quiet at first (a decoder estimates too much), loud at first (too little)."""
    rng = np.random.default_rng(0)
    noise = (0.2 * rng.standard_normal(N // 2)).astype(np.float32)
    quiet = (1e-5 * rng.standard_normal(N // 2)).astype(np.float32)
    return {
        "steady": voice(SECONDS),
        "quiet first": np.concatenate([quiet, noise]),
        "loud first": np.concatenate([noise, quiet]),
    }


def reason(path, **span):
    with pytest.raises(InvalidAudioError) as caught:
        decode_audio_file(path, **span)
    return caught.value.message


def assert_spans_are_cut_from_the_whole(path):
    whole = decode_audio_file(path)
    n, rate = len(whole.channels), whole.rate
    for first, end in ((1, 2_000), (n // 3, n // 2), (n // 2 + 1_000, n), (n - 600, n - 1)):
        span = decode_audio_file(path, start=first / rate, end=end / rate).channels
        np.testing.assert_array_equal(span, whole.channels[first:end])
    return whole.channels


@pytest.mark.parametrize("name", ["steady", "quiet first", "loud first"])
@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_that_states_no_length_is_read_whole(tmp_path, signals, name, rate, channels):
    path = write_vbr(tmp_path / "a.mp3", np.stack([signals[name]] * channels, axis=1), rate)
    trimmed = decode_audio_file(path).channels  # the encoder's delay and what it added at the end are left out
    assert len(trimmed) == N
    without_xing(path)
    whole = assert_spans_are_cut_from_the_whole(path)
    n_frames = scan_frames(path.read_bytes()).n_frames
    assert len(whole) == n_frames * (1152 if rate > 24_000 else 576)
    # LAME's delay of 576 samples and a decoder's own of 529, in the bits that the frames have
    np.testing.assert_allclose(whole[1_105 : 1_105 + N], trimmed, atol=1e-6)
    header = audio_header(path)
    assert (header.duration, header.stated) == (len(whole) / rate, False)
    assert decode_audio_file(path).remark == ""


def test_an_mp3_of_constant_rate_without_a_length_is_read_whole(tmp_path, signals):
    path = tmp_path / "a.mp3"
    soundfile.write(path, signals["steady"], RATE, format="MP3", bitrate_mode="CONSTANT")
    trimmed = decode_audio_file(path).channels
    whole = assert_spans_are_cut_from_the_whole(without_xing(path))
    np.testing.assert_allclose(whole[1_105 : 1_105 + N], trimmed, atol=1e-6)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize(
    ("before", "behind"),
    [(ID3V2, b""), (b"", ID3V1), (ID3V2, bytes(8) + APE + ID3V1), (b"", ID3V2), (ID3V2 + ID3V2, b"")],
)
def test_tags_around_an_mp3_are_no_audio(tmp_path, signals, stated, before, behind):
    path = write_vbr(tmp_path / "a.mp3", signals["loud first"])
    if not stated:
        without_xing(path)
    plain = decode_audio_file(path).channels
    path.write_bytes(before + path.read_bytes() + behind)
    np.testing.assert_array_equal(decode_audio_file(path).channels, plain)


@pytest.mark.parametrize("stated", [True, False])
def test_bytes_in_an_mp3_that_are_no_frames_are_reported(tmp_path, signals, stated):
    path = write_vbr(tmp_path / "a.mp3", signals["steady"])
    if not stated:
        without_xing(path)
    content, plain = path.read_bytes(), decode_audio_file(path).channels
    path.write_bytes(content + b"<html>not found</html>" * 9)
    assert (
        decode_audio_file(path).remark == f"198 bytes from byte {len(content)} on are no MPEG audio, and were skipped"
    )
    np.testing.assert_array_equal(decode_audio_file(path).channels, plain)
    path.write_bytes(b"some lines" * 9 + content)
    np.testing.assert_array_equal(decode_audio_file(path).channels, plain)
    path.write_bytes(content[:5_000] + bytes(3_000) + content[5_000:])
    assert reason(path).endswith("are no MPEG audio; cut them out")


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("kept", [0.5, 0.9, -1])
def test_a_cut_mp3_is_refused_with_the_reason(tmp_path, signals, stated, kept):
    path = write_vbr(tmp_path / "a.mp3", signals["steady"])
    if not stated:
        without_xing(path)
    content = path.read_bytes()
    path.write_bytes(content[:kept] if kept == -1 else content[: int(len(content) * kept) | 1])
    expected = r"MPEG frames are there" if stated else "truncated: its last MPEG frame has"
    assert expected in reason(path)


def test_two_mp3_files_in_one_are_read_to_the_end_of_the_second(tmp_path, signals):
    first, second = (write_vbr(tmp_path / f"{k}.mp3", signals[k]) for k in ("steady", "loud first"))
    n_frames = [scan_frames(p.read_bytes()).n_frames for p in (first, second)]
    first.write_bytes(first.read_bytes() + second.read_bytes())
    recording = decode_audio_file(first)
    assert len(recording.channels) > 2 * N
    assert f"its header states {n_frames[0] - 1} MPEG frames, {sum(n_frames) - 1} are there" in recording.remark


@pytest.mark.parametrize("difference", [1, -1, -20])
def test_a_number_of_frames_that_is_wrong_is_reported_and_all_is_read(tmp_path, signals, difference):
    path = write_vbr(tmp_path / "a.mp3", signals["steady"])
    plain = decode_audio_file(path).channels
    content = bytearray(path.read_bytes())
    at = content.index(b"Xing" if b"Xing" in content else b"Info") + 8
    (n_frames,) = struct.unpack_from(">I", content, at)
    struct.pack_into(">I", content, at, n_frames + difference)
    path.write_bytes(content)
    recording = decode_audio_file(path)
    assert (
        recording.remark
        == f"its header states {n_frames + difference} MPEG frames, {n_frames} are there; all were read"
    )
    np.testing.assert_array_equal(recording.channels, plain)


def test_free_format_and_other_bytes_are_left_to_the_decoder(tmp_path):
    assert scan_frames(b"\xff\xfb\x00\x00" * 300) is None
    (tmp_path / "a.mp3").write_bytes(b"no audio at all")
    assert reason(tmp_path / "a.mp3").startswith("could not be decoded (")


@pytest.mark.parametrize("total", [0, 2**36 - 1, 16_000, N - 1, N + 1])
@pytest.mark.parametrize("tail", [b"", ID3V1])
@pytest.mark.parametrize(("channels", "subtype"), [(1, "PCM_16"), (2, "PCM_24")])
def test_a_flac_that_states_no_length_or_a_wrong_one_is_read_whole(tmp_path, total, tail, channels, subtype):
    path = tmp_path / "a.flac"
    samples = np.stack([voice(SECONDS, seed=k) for k in range(channels)], axis=1)
    soundfile.write(path, samples, RATE, subtype=subtype)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0]
    with_flac_total(path, total).write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(assert_spans_are_cut_from_the_whole(path), expected)
    unstated = total in (0, 2**36 - 1)
    header = audio_header(path)
    assert (header.duration, header.stated, header.fault) == (SECONDS, not unstated, None)
    remark = "" if unstated else f"its header states {total} samples, {N} are there; all were read"
    assert decode_audio_file(path).remark == remark


@pytest.mark.parametrize("total", [0, N])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_cut_flac_is_refused(tmp_path, total, kept):
    path = tmp_path / "a.flac"
    soundfile.write(path, voice(SECONDS), RATE)
    content = with_flac_total(path, total).read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    expected = "truncated or damaged: not all" if total else "truncated, or followed by something else: it states no"
    assert reason(path).startswith(expected)


def test_a_flac_cut_between_two_frames_is_refused_by_its_stated_length(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, voice(SECONDS), RATE)
    content = path.read_bytes()
    ends = (k for k in range(len(content) - 2, 0, -1) if content[k : k + 2] == b"\xff\xf8")
    path.write_bytes(content[: next(ends)])
    assert reason(path) == f"truncated: {N - N % 4096} of {N} samples are there"


def test_two_flac_or_ogg_files_in_one_are_refused(tmp_path):
    for ending in ("flac", "ogg"):
        path = tmp_path / f"a.{ending}"
        soundfile.write(path, voice(SECONDS), RATE)
        path.write_bytes(2 * path.read_bytes())
        assert "streams follow each other in it; split it" in reason(path)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_last_page_or_the_end_of_it_is_refused(tmp_path, subtype):
    path = tmp_path / "a.ogg"
    soundfile.write(path, voice(SECONDS), RATE, subtype=subtype)
    assert len(assert_spans_are_cut_from_the_whole(path)) == N
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    assert reason(path).startswith("truncated: its last Ogg page has ")
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert reason(path) == "truncated: the stream has no end page"


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("position", [2**61, 2**40, 0])
def test_an_ogg_with_an_impossible_position_is_refused_without_taking_memory(tmp_path, subtype, position):
    path = tmp_path / "a.ogg"
    soundfile.write(path, voice(SECONDS), RATE, subtype=subtype)
    same = int.from_bytes(path.read_bytes()[path.read_bytes().rindex(b"OggS") + 6 :][:8], "little")
    before = path.read_bytes()
    assert with_ogg_position(path, same).read_bytes() == before  # the checksum is right
    assert f"states the position {position}, which can't follow" in reason(with_ogg_position(path, position))


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "GSM610"), ("WAV", "G721_32"), ("AU", "G723_24"), ("XI", "DPCM_16"), ("MP3", None)],
)
def test_formats_that_cannot_seek_are_decoded_forward(tmp_path, container, subtype):
    path = tmp_path / "a.x"
    soundfile.write(path, voice(SECONDS), RATE, format=container, subtype=subtype)
    assert len(assert_spans_are_cut_from_the_whole(path)) == N


def test_spans_of_one_file_are_the_same_in_any_order_and_thread(tmp_path, signals):
    path = without_xing(write_vbr(tmp_path / "a.mp3", signals["steady"]))
    whole = decode_audio_file(path).channels
    starts = [0.0, 0.5, 1.0, 1.25, 0.25, 2.5, 0.75, 2.0]
    spans = [(round(s * RATE), decode_audio_file(path, start=s, end=s + 0.25).channels) for s in starts]
    with ThreadPoolExecutor(4) as pool:
        reading = [(s, pool.submit(decode_audio_file, path, start=s, end=s + 0.25)) for s in starts * 3]
        spans += [(round(s * RATE), one.result().channels) for s, one in reading]
    for first, span in spans:
        np.testing.assert_array_equal(span, whole[first : first + RATE // 4])


def test_a_decoder_goes_on_where_the_last_span_ended_unless_the_file_changed(tmp_path, signals, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "layerprobe.probe.data.forward_decoding.CorrectedFile",
        lambda path, length: opened.append(path) or CorrectedFile(path, length),
    )
    path = without_xing(write_vbr(tmp_path / "a.mp3", signals["steady"]))
    for start in (0.0, 0.5, 1.0):
        decode_audio_file(path, start=start, end=start + 0.25)
    assert len(opened) == 1
    other = without_xing(write_vbr(tmp_path / "b.mp3", signals["loud first"]))
    path.write_bytes(other.read_bytes())
    span = decode_audio_file(path, start=2.0, end=2.5).channels
    np.testing.assert_array_equal(span, decode_audio_file(other).channels[2 * RATE : 5 * RATE // 2])


def test_no_more_than_a_few_decoders_stay_open(tmp_path, signals):
    decoders = OpenDecoders(most=2)
    first = write_vbr(tmp_path / "0.mp3", signals["steady"])
    paths = [first, *(Path(shutil.copy(first, tmp_path / f"{k}.mp3")) for k in range(1, 4))]
    lent = []
    for path in paths:
        with decoders.lend(path, StreamLength(), 0.0) as decoder:
            lent.append(decoder)
            assert len(decoder.read(0, 100)) == 100
    with decoders.lend(paths[3], StreamLength(), 1.0) as decoder:
        assert decoder is lent[3]
    with decoders.lend(paths[0], StreamLength(), 1.0) as decoder:
        assert decoder is not lent[0]


def test_a_long_recording_of_unknown_length_is_decoded_in_blocks_of_the_same_bits(tmp_path, monkeypatch, signals):
    path = without_xing(write_vbr(tmp_path / "a.mp3", signals["quiet first"]))
    whole = decode_audio_file(path).channels
    monkeypatch.setattr("layerprobe.probe.data.forward_decoding.BLOCK", 1_000)
    np.testing.assert_array_equal(decode_audio_file(path).channels, whole)
    np.testing.assert_array_equal(decode_audio_file(path, start=1.0).channels, whole[RATE:])


def test_a_maximum_duration_holds_for_what_is_counted(tmp_path, signals):
    path = without_xing(write_vbr(tmp_path / "a.mp3", signals["loud first"]))
    assert "3 s long, over the maximum of 2.9 s" in reason(path, max_duration=2.9)
    assert len(decode_audio_file(path, max_duration=3.2).channels) > N


def test_the_checksum_of_a_frame_is_that_of_the_standard():
    assert crc16(b"123456789") == 0xFEE8  # CRC-16/UMTS


def test_a_corrected_file_is_the_header_the_rest_and_zeros(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with CorrectedFile(path, StreamLength(header=b"abc", skipped=4, end=9, size=12)) as file:
        assert file.read() == b"abc45678" + bytes(4)
        assert file.seek(-6, 2) == 6
        assert file.read(3) == b"78\0"
        assert (file.seek(0, 1), file.seek(1), file.read(4)) == (9, 1, b"bc45")


FFMPEG_CASES = {
    "mp3": ("-q:a", "4", "-f", "mp3"),
    "constant mp3": ("-b:a", "64k", "-f", "mp3"),
    "mp3 without tags": ("-q:a", "5", "-id3v2_version", "0", "-write_xing", "0", "-f", "mp3"),
    "layer 2": ("-c:a", "mp2", "-f", "mp2"),
    "flac": ("-f", "flac"),
    "vorbis": ("-c:a", "libvorbis", "-f", "ogg"),
}


@pytest.mark.parametrize("case", list(FFMPEG_CASES))
@pytest.mark.parametrize("name", ["steady", "quiet first", "loud first"])
def test_what_ffmpeg_writes_to_a_pipe_is_read_as_ffmpeg_reads_it(tmp_path, signals, case, name):
    source, path = tmp_path / "a.wav", tmp_path / "piped"
    soundfile.write(source, signals[name], RATE)
    path.write_bytes(ffmpeg("-i", source, *FFMPEG_CASES[case], "-"))
    expected = decoded_by_ffmpeg(path)
    whole = assert_spans_are_cut_from_the_whole(path)
    assert len(whole) == len(expected)
    np.testing.assert_allclose(whole, expected, atol=2 / 32768)  # of 16 bits, by another decoder
