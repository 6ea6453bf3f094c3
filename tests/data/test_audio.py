"""Audio files of every kind become mono float32 at the encoder's rate, or are refused with the reason."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.voices import voice

from layerprobe.probe.data.audio import InvalidAudioError, read_audio_file
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import MAX_DURATION


def reason(path, **options):
    with pytest.raises(InvalidAudioError) as caught:
        read_audio_file(path, sampling_rate=16_000, **options)
    return caught.value.message


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "PCM_U8"])
def test_depths_of_wav_give_the_same_waveform(write_audio, subtype):
    waveform = read_audio_file(write_audio("a.wav", subtype=subtype), sampling_rate=16_000)
    assert waveform.dtype == np.float32
    assert np.abs(waveform - voice(1.0)).max() < (2 / 256 if subtype == "PCM_U8" else 2 / 32768)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_containers_rates_and_channels_give_the_same_voice(write_audio, ending, rate, channels):
    waveform = read_audio_file(write_audio(f"a.{ending}", 2.0, rate=rate, channels=channels), sampling_rate=16_000)
    assert abs(len(waveform) - 32_000) <= 2
    middle = slice(2_000, 30_000)
    spectrum, expected = (np.abs(np.fft.rfft(w[middle])) for w in (waveform, voice(2.0)[: len(waveform)]))
    audible = slice(100, 4_000)  # below 2.3 kHz, which every rate and codec keeps
    assert np.corrcoef(spectrum[audible], expected[audible])[0, 1] > 0.98


def test_without_a_sampling_rate_the_files_own_is_kept(write_audio):
    assert len(read_audio_file(write_audio("a.wav", rate=44_100), sampling_rate=None)) == 44_100


def test_channels_are_averaged_and_not_read_as_a_batch(tmp_path):
    left, right = voice(1.0, pitch=100), voice(1.0, pitch=170)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio_file(tmp_path / "a.wav", sampling_rate=16_000), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("frequency", [9_000, 12_000, 20_000])
def test_resampling_leaves_no_alias(tmp_path, frequency):
    time = np.arange(44_100) / 44_100
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * frequency * time), 44_100, subtype="FLOAT")
    middle = read_audio_file(tmp_path / "a.wav", sampling_rate=16_000)[1_000:-1_000]
    assert 20 * np.log10(np.sqrt(np.mean(middle**2)) / 0.5) < -100  # common defaults: -17 to -31 dB


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_span_is_the_same_as_cutting_the_whole(write_audio, ending):
    path = write_audio(f"a.{ending}", 3.0)
    whole = read_audio_file(path, sampling_rate=16_000)
    span = read_audio_file(path, sampling_rate=16_000, start=0.5, end=1.75)
    np.testing.assert_allclose(span, whole[8_000:28_000], atol=1e-6)
    np.testing.assert_allclose(read_audio_file(path, sampling_rate=16_000, start=2.0), whole[32_000:], atol=1e-6)
    np.testing.assert_allclose(read_audio_file(path, sampling_rate=16_000, end=0.25), whole[:4_000], atol=1e-6)


def test_a_span_outside_the_recording_is_refused(write_audio):
    path = write_audio("a.wav", 1.0)
    assert reason(path, start=1.5, end=2.0) == "span 1.5 to 2 s lies outside the recording of 1 s"
    assert reason(path, start=0.5, end=1.5) == "span 0.5 to 1.5 s lies outside the recording of 1 s"
    assert len(read_audio_file(path, sampling_rate=16_000, start=0.5, end=1.009)) == 8_000  # a rounded time


def test_files_that_are_no_audio_are_refused_with_the_reason(tmp_path, write_audio):
    assert reason(tmp_path / "gone.wav") == "no such file"
    (tmp_path / "zero.wav").write_bytes(b"")
    assert reason(tmp_path / "zero.wav") == "empty: it holds no bytes"
    soundfile.write(tmp_path / "header.wav", np.zeros(0), 16_000)
    assert reason(tmp_path / "header.wav") == "empty: it holds no samples"
    (tmp_path / "text.flac").write_text("not audio")
    assert reason(tmp_path / "text.flac").startswith("could not be decoded (")
    shutil.copy(write_audio("a.wav"), tmp_path / "a.raw")
    assert reason(tmp_path / "a.raw").startswith("could not be decoded (")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    assert reason(tmp_path / "silent.wav") == "silent: every sample is the same"
    for bad in (np.nan, np.inf):
        broken = voice(1.0)
        broken[100] = bad
        soundfile.write(tmp_path / "nan.wav", broken, 16_000, subtype="FLOAT")
        assert reason(tmp_path / "nan.wav") == "holds samples that are not finite"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a24.wav"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_file_is_refused(write_audio, name, kept):
    path = write_audio(name, 3.0, subtype="PCM_24" if name == "a24.wav" else None)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "truncated" in reason(path) or "could not be decoded" in reason(path)


def test_a_wav_of_unknown_length_is_no_truncated_one(write_audio):
    path = write_audio("a.wav")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"  # as a recorder writes to a pipe
    path.write_bytes(content)
    assert len(read_audio_file(path, sampling_rate=16_000)) == 16_000


def test_a_wrong_ending_and_odd_names_do_not_matter(write_audio, tmp_path):
    expected = read_audio_file(write_audio("a.flac"), sampling_rate=16_000)
    odd = tmp_path / ("ünï cödé " + "x" * 150) / "a b.wav"
    odd.parent.mkdir()
    shutil.copy(tmp_path / "a.flac", odd)
    link = tmp_path / "link.wav"
    link.symlink_to(odd)
    np.testing.assert_array_equal(read_audio_file(link, sampling_rate=16_000), expected)


def test_audio_above_the_maximum_duration_is_refused_before_it_is_decoded(write_audio):
    path = write_audio("a.wav", 3.0)
    assert reason(path, max_duration=2.0).startswith("3 s long, over the maximum of 2 s; cut it into spans")
    assert len(read_audio_file(path, sampling_rate=16_000, start=1.0, max_duration=2.0)) == 32_000


def test_two_hours_in_one_file_are_refused_by_their_header_and_their_spans_are_read(tmp_path):
    minute = voice(60.0, rate=8_000)
    with soundfile.SoundFile(tmp_path / "a.wav", "w", samplerate=8_000, channels=1, subtype="PCM_U8") as file:
        for _ in range(120):
            file.write(minute)
    assert reason(tmp_path / "a.wav", max_duration=MAX_DURATION).startswith("7200 s long, over the ")
    last = read_audio_file(tmp_path / "a.wav", sampling_rate=16_000, start=7_199.0, max_duration=MAX_DURATION)
    assert len(last) == 16_000
    assert np.ptp(last) > 0.1


def test_six_channels_are_averaged_and_one_sample_is_refused(tmp_path):
    channels = np.stack([voice(0.5, seed=k) for k in range(6)], axis=1)
    soundfile.write(tmp_path / "surround.wav", channels, 16_000, subtype="FLOAT")
    waveform = read_audio_file(tmp_path / "surround.wav", sampling_rate=16_000)
    np.testing.assert_allclose(waveform, channels.mean(axis=1), atol=1e-6)
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), 16_000)
    assert reason(tmp_path / "one.wav") == "silent: every sample is the same"


def test_the_hash_follows_the_bytes_and_not_the_name(write_audio, tmp_path):
    path = write_audio("a.wav")
    first = AudioHashes().hash_file(str(path))
    assert AudioHashes().hash_file(str(shutil.copy(path, tmp_path / "b.wav"))) == first
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert AudioHashes().hash_file(str(path)) != first


@pytest.mark.parametrize("version", [2, 3, None])
def test_saved_hashes_are_trusted_in_the_format_version_that_is_read(write_audio, tmp_path, version):
    path, file = write_audio("a.wav"), tmp_path / "audio_hashes.csv"
    hashes = AudioHashes(tmp_path)
    whole = hashes.hash_file(str(path))
    hashes.save()
    saved = pd.read_csv(file, dtype=str)
    assert saved["format_version"].tolist() == ["2"]
    saved["hash"] = "another"
    saved = saved.drop(columns="format_version") if version is None else saved.assign(format_version=version)
    saved.to_csv(file, index=False)
    assert AudioHashes(tmp_path).hash_file(str(path)) == ("another" if version == 2 else whole)
