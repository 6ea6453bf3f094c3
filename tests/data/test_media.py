"""What libsndfile can't decode is decoded by PyAV or by ffmpeg, to the sample where the file states its delay."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from helpers.audio_bytes import RATE, ffmpeg
from helpers.media_files import (
    CASES,
    LOSSLESS,
    N_SAMPLES,
    UNSTATED,
    by_program,
    by_pyav,
    write_amr,
    write_media,
    write_video,
)
from helpers.voices import voice

from layerprobe.probe.data import media_decoder as decoder
from layerprobe.probe.data.audio import InvalidAudioError, audio_header, decode_audio_file, read_recording

LOSSY = 2e-7  # of full scale, between versions of FFmpeg


def lag(decoded, original):
    """Samples by which a decoding is later than the original, by cross-correlation."""
    n = 2 ** (len(original) + len(decoded)).bit_length()
    product = np.fft.rfft(decoded, n) * np.fft.rfft(original, n).conj()
    at = int(np.argmax(np.fft.irfft(product, n)))
    return at if at < n // 2 else at - n


def reason(path, **span):
    with pytest.raises(InvalidAudioError) as caught:
        decode_audio_file(path, **span)
    return caught.value.message


@pytest.mark.parametrize("name", CASES)
def test_samples_lie_where_they_were(files, samples, name):
    _, delay, as_many = CASES[name]
    decoded = decode_audio_file(files(name))
    original = samples if decoded.rate == RATE else soxr.resample(samples, RATE, decoded.rate, quality="HQ")
    assert decoded.remark == ""
    assert (abs(len(decoded.channels) - len(original)) <= decoded.rate / 1000) == as_many
    if delay is not None:
        assert lag(decoded.channels[:, 0], original) == delay
    if name in LOSSLESS:
        np.testing.assert_array_equal(decoded.channels[:, 0], samples)
    header = audio_header(files(name))
    assert (header.rate, header.stated, header.fault) == (decoded.rate, name not in UNSTATED, None)
    if name in UNSTATED:
        assert header.duration is None
    else:
        assert header.duration == pytest.approx(len(decoded.channels) / decoded.rate, abs=0.1)


@pytest.mark.parametrize("name", CASES)
def test_both_decoders_give_the_same_samples(files, monkeypatch, name):
    decoded = []
    for opened in (by_pyav, by_program):
        monkeypatch.setattr(decoder, "open_stream", opened)
        decoded.append(decode_audio_file(files(name)))
    np.testing.assert_allclose(decoded[0].channels, decoded[1].channels, rtol=0, atol=LOSSY)
    assert decoded[0].rate == decoded[1].rate


def test_amr_is_read_with_the_delay_of_its_encoder(each_decoder, tmp_path):
    original = voice(2.0, rate=8_000) * np.linspace(0.2, 1.0, 16_000)
    decoded = decode_audio_file(write_amr(tmp_path / "a.amr", original))
    assert (decoded.rate, len(decoded.channels)) == (8_000, 16_160)  # a frame more, which its encoder adds
    assert 0 <= lag(decoded.channels[:, 0], original) <= 100  # 5 ms of look-ahead (3GPP TS 26.090) and filters


@pytest.mark.skipif("LAYERPROBE_REAL_DATA" not in os.environ, reason="needs real speech")
@pytest.mark.parametrize(("name", "least"), [("aac.m4a", 0.99), ("opus.webm", 0.98), ("opus.mp4", 0.98)])
def test_real_speech_keeps_its_waveform(each_decoder, tmp_path, name, least):
    speech = sorted((Path(os.environ["LAYERPROBE_REAL_DATA"]) / "librispeech_mini").rglob("*.flac"))[0]
    original, rate = soundfile.read(speech, dtype="float32", frames=3 * RATE)
    decoded = read_recording(write_media(tmp_path, name, original, rate=rate), sampling_rate=rate).waveform
    assert len(decoded) == len(original)
    assert np.corrcoef(decoded, original)[0, 1] > least


@pytest.mark.parametrize("depth", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_depths_have_the_full_scale_of_soundfile(each_decoder, tmp_path, samples, depth):
    stereo = np.stack([samples, -0.5 * samples], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
    ffmpeg("-i", tmp_path / "a.wav", "-c:a", depth, tmp_path / "b.wav")
    ffmpeg("-i", tmp_path / "b.wav", "-c:a", "copy", tmp_path / "b.mkv")
    expected = decode_audio_file(tmp_path / "b.wav").channels
    np.testing.assert_array_equal(decode_audio_file(tmp_path / "b.mkv").channels, expected)


@pytest.mark.parametrize("name", ["aac.m4a", "opus.webm", "wmav2.wma", "a.wv", "raw.aac"])
def test_spans_are_cut_from_the_whole_in_any_order_and_thread(each_decoder, files, name):
    whole = decode_audio_file(files(name))
    rate = whole.rate

    def span(start, end):
        return decode_audio_file(files(name), start=start, end=end).channels

    starts = [0.0, 0.5, 1.0, 1.25, 0.25, 2.5]
    with ThreadPoolExecutor(3) as pool:
        spans = [*map(span, starts, [s + 0.3 for s in starts]), *pool.map(span, starts, [s + 0.3 for s in starts])]
    for start, decoded in zip(starts * 2, spans, strict=True):
        first = round(start * rate)
        np.testing.assert_array_equal(decoded, whole.channels[first : round((start + 0.3) * rate)])
    np.testing.assert_array_equal(span(2.0, None), whole.channels[2 * rate :])


def test_many_spans_of_one_video_are_decoded_in_one_pass(each_decoder, tmp_path, samples, monkeypatch):
    path = write_video(tmp_path / "a.mp4", samples)
    opened, whole = [], decode_audio_file(path).channels
    monkeypatch.setattr(decoder, "open_stream", lambda *a: opened.append(a) or each_decoder(*a))
    for k in range(30):
        part = decode_audio_file(path, start=k / 10, end=k / 10 + 0.15).channels  # each begins within the one before
        np.testing.assert_array_equal(part, whole[k * RATE // 10 : k * RATE // 10 + round(0.15 * RATE)])
    assert len(opened) <= 2
    opened.clear()
    for k in range(30):
        decode_audio_file(path, start=k / 10, end=k / 10 + 0.1)
    assert len(opened) <= 1


def test_the_first_of_several_audio_streams_is_read_with_a_remark(each_decoder, tmp_path, samples):
    for name, one in (("a", samples), ("b", samples[::-1])):
        soundfile.write(tmp_path / f"{name}.wav", one, RATE, subtype="PCM_16")
    inputs = ("-i", tmp_path / "a.wav", "-i", tmp_path / "b.wav", "-map", "0:a", "-map", "1:a")
    ffmpeg(*inputs, "-c:a", "alac", tmp_path / "two.m4a")
    recording = read_recording(tmp_path / "two.m4a", sampling_rate=RATE)
    np.testing.assert_array_equal(recording.waveform, samples)
    assert [str(one) for one in recording.remarks][1:] == ["2 audio streams are in it; the first one was read"]


def test_audio_that_begins_after_its_video_is_read_from_its_first_sample_with_a_remark(each_decoder, tmp_path, samples):
    path = write_video(tmp_path / "a.mkv", samples, audio=("-c:a", "flac"))
    ffmpeg("-i", path, "-itsoffset", "0.5", "-i", path, "-map", "0:v", "-map", "1:a", "-c", "copy", tmp_path / "b.mkv")
    recording = read_recording(tmp_path / "b.mkv", sampling_rate=RATE)
    np.testing.assert_array_equal(recording.waveform, samples)
    text = "its audio begins 0.50 s after its video; times count from the first sample"
    assert [str(one) for one in recording.remarks][1:] == [text]


def test_the_decoder_and_its_version_are_remarked_on(files, monkeypatch):
    import av

    major, minor = av.library_versions["libavcodec"][:2]
    found = read_recording(files("aac.m4a"), sampling_rate=RATE).remarks
    assert [str(one) for one in found] == [f"decoded by PyAV (libavcodec {major}.{minor})"]
    monkeypatch.setattr(decoder, "open_stream", by_program)
    printed = ffmpeg("-version").decode()
    (by_ffmpeg,) = read_recording(files("aac.m4a"), sampling_rate=RATE).remarks
    major, minor = re.search(r"libavcodec +(\d+)\. *(\d+)", printed).groups()
    assert str(by_ffmpeg) == f"decoded by the program ffmpeg (libavcodec {major}.{minor})"


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNSTATED])
def test_a_truncated_file_is_refused(each_decoder, files, tmp_path, name):
    content = files(name).read_bytes()
    (tmp_path / name).write_bytes(content[: round(0.8 * len(content))])
    assert reason(tmp_path / name).startswith(("truncated", "could not be decoded"))


@pytest.mark.parametrize("name", ["aac.m4a", "faststart.m4a", "fragments.mp4", "opus.webm", "flac.mka", "pcm.avi"])
def test_a_single_missing_byte_is_counted(files, tmp_path, name):
    content = files(name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1])
    assert reason(tmp_path / name) == f"truncated: {len(content) - 1} of {len(content)} bytes are there"
    assert audio_header(tmp_path / name) is None or audio_header(tmp_path / name).fault


def test_what_a_pipe_leaves_unstated_is_no_truncation(each_decoder, files, tmp_path, samples):
    for name, muxer in (("flac.mka", "matroska"), ("pcm.avi", "avi"), ("fragments.mp4", "mp4")):
        options = ("-movflags", "frag_keyframe+empty_moov") if muxer == "mp4" else ()
        (tmp_path / name).write_bytes(ffmpeg("-i", files(name), "-c", "copy", *options, "-f", muxer, "-"))
        n_more = len(decode_audio_file(tmp_path / name).channels) - len(decode_audio_file(files(name)).channels)
        assert 0 <= n_more < (1024 if muxer == "mp4" else 1)  # the last packet of AAC is full there


@pytest.mark.parametrize("name", ["raw.aac", "a.amr"])
def test_a_stream_without_a_length_is_refused_where_its_last_frame_is_cut(each_decoder, files, tmp_path, name):
    path = tmp_path / name
    content = (write_amr(path, voice(1.0, rate=8_000)) if name == "a.amr" else files(name)).read_bytes()
    path.write_bytes(content[: len(content) - 9])
    assert reason(path).startswith("truncated or damaged: not all samples could be decoded (")


def test_a_stated_length_that_is_too_short_is_remarked_on(each_decoder, files, tmp_path):
    content = files("flac.mka").read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # the length in ms, as a double
    stated = np.frombuffer(content[at : at + 8], ">f8")[0]
    assert stated == pytest.approx(1000 * N_SAMPLES / RATE, abs=1)
    content = content[:at] + np.array([1000.0], dtype=">f8").tobytes() + content[at + 8 :]
    (tmp_path / "a.mka").write_bytes(content.replace(b"DURATION", b"DURATIOM"))
    decoded = decode_audio_file(tmp_path / "a.mka")
    assert len(decoded.channels) == N_SAMPLES
    assert decoded.remark == "its header states 1.00 s, and more follows, which was read"


def test_limits_hold_before_anything_is_decoded(each_decoder, files):
    assert reason(files("aac.m4a"), max_duration=3.0) == (
        "3 s long, over the maximum of 3 s; cut it into spans with start and end"
    )
    assert reason(files("aac.m4a"), start=4.0, end=5.0).startswith("span 4 to 5 s lies outside the recording of 3.2")
    assert reason(files("aac.m4a"), start=1.0, end=5.0).startswith("span 1 to 5 s lies outside the recording of 3.2")
    assert "of unknown length, over the maximum of 3 s" in reason(files("raw.aac"), max_duration=3.0)


def test_a_file_without_audio_is_named(each_decoder, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1", "-c:v", "mpeg4", tmp_path / "a.mp4")
    text = "holds no audio: 1 stream is in it, of video or other data; name another file"
    assert reason(tmp_path / "a.mp4") == text
    assert audio_header(tmp_path / "a.mp4") is None


def test_an_empty_stream_is_named(each_decoder, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    ffmpeg("-i", tmp_path / "a.wav", "-c:a", "pcm_s16le", tmp_path / "a.mka")
    assert reason(tmp_path / "a.mka").startswith(("empty: it holds no samples", "could not be decoded"))
