"""A long recording that is read in blocks is the one that is read whole, in the memory of a few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.media_files import write_media
from helpers.voices import voice

from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.audio_stream import cut_windows, measure_recording
from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.system import peak_memory

RATE = 16_000
FILES = {"a.wav": 16_000, "b.flac": 44_100, "c.ogg": 22_050, "d.mp3": 48_000, "aac.m4a": 16_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of 23 s, more than two blocks, in several formats, of two channels that differ."""
    folder = tmp_path_factory.mktemp("long")
    for name, rate in FILES.items():
        one = voice(23.0, rate=rate)
        stereo = np.stack([one, 0.3 * np.roll(one, 40)], axis=1).astype(np.float32)
        if name == "aac.m4a":
            write_media(folder, name, stereo, rate=rate)
        else:
            soundfile.write(folder / name, stereo, rate)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_blocks_are_the_waveform_of_the_whole_file(folder: Path, name: str) -> None:
    path = str(folder / name)
    for reading in (DEFAULT_READING, ReadingOptions("first"), ReadingOptions("loudest")):
        recording = measure_recording(path, reading=reading)
        blocks = list(recording.blocks(RATE))
        assert max(map(len, blocks)) <= 11 * RATE
        np.testing.assert_array_equal(
            np.concatenate(blocks), read_audio_file(path, sampling_rate=RATE, reading=reading)
        )
    assert recording.seconds == pytest.approx(23.0, abs=0.1)


def test_blocks_of_a_span_are_those_of_the_span(folder: Path) -> None:
    path = str(folder / "b.flac")
    blocks = measure_recording(path, start=1.5, end=20.25, reading=DEFAULT_READING).blocks(RATE)
    np.testing.assert_array_equal(
        np.concatenate(list(blocks)), read_audio_file(path, sampling_rate=RATE, start=1.5, end=20.25)
    )


def test_what_can_not_be_read_whole_is_refused_for_the_same_reason(folder: Path, tmp_path: Path) -> None:
    one = voice(12.0)
    whole = (folder / "a.wav").read_bytes()
    made = {"opposite.wav": np.stack([one, -one], axis=1), "silent.wav": np.zeros(RATE), "loud.wav": 90 * one}
    for name, samples in made.items():
        soundfile.write(tmp_path / name, samples, RATE, subtype="FLOAT")
    not_finite = one.astype(np.float32)
    not_finite[-3] = np.nan
    soundfile.write(tmp_path / "nan.wav", not_finite, RATE, subtype="FLOAT")
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.wav").write_bytes(b"")
    for path in [*map(str, sorted(tmp_path.iterdir())), str(tmp_path / "missing.wav")]:
        with pytest.raises(InvalidAudioError) as expected:
            read_audio_file(path, sampling_rate=RATE)
        with pytest.raises(InvalidAudioError) as found:
            measure_recording(path, reading=DEFAULT_READING)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(("length", "hop"), [(40, 10), (40, 40), (30, 45), (1_000, 10), (7, 3)])
@pytest.mark.parametrize("n", [1, 39, 40, 41, 100, 237])
def test_windows_are_those_that_a_loop_cuts(length: int, hop: int, n: int) -> None:
    whole = np.arange(n, dtype=np.float32)
    expected = [whole[:length]]
    while len(expected) * hop < n and (len(expected) - 1) * hop + length < n:
        expected.append(whole[len(expected) * hop :][:length])
    blocks = iter(np.split(whole, [k for k in (13, 50, 51, 180) if k < n]))
    found = list(cut_windows(blocks, length=length, first=lambda k: k * hop))
    assert [first for first, _ in found] == [k * hop for k in range(len(expected))]
    for (_, window), one in zip(found, expected, strict=True):
        np.testing.assert_array_equal(window, one)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    second = np.stack([voice(1.0, rate=44_100)] * 2, axis=1)
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 44_100, 2) as file:
        for _ in range(300):
            file.write(second)
    before = peak_memory(anew=True)
    recording = measure_recording(str(tmp_path / "long.flac"), reading=DEFAULT_READING)
    windows = cut_windows(recording.blocks(RATE), length=5 * RATE, first=lambda k: k * RATE)
    assert sum(1 for _ in windows) == 296
    assert peak_memory() - before < 30e6  # the whole file takes 106 MB
