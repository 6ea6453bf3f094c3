"""Files that libsndfile can't decode, written by ffmpeg or, where that lacks the encoder, by PyAV; the two decoders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from helpers.audio_bytes import RATE, ffmpeg
from helpers.voices import voice

from layerprobe.probe.data.media_program import ProgramStream, find_programs
from layerprobe.probe.data.media_pyav import PyAVStream

if TYPE_CHECKING:
    from layerprobe.probe.data.containers.length import ForeignFormat

N_SAMPLES = round(3.2 * RATE) + 137  # no multiple of any codec's frame
VIDEO = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=9")
# By name: the options of ffmpeg, samples that come before those of the original (negative: that are missing; None:
# it depends on the speech), and whether there are as many as in the original, within the ms of an edit list.
CASES: dict[str, tuple[tuple[str, ...], int | None, bool]] = {
    "aac.m4a": (("-c:a", "aac"), 0, True),
    "faststart.m4a": (("-c:a", "aac", "-movflags", "+faststart"), 0, True),
    "fragments.mp4": (("-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"), 1024, False),
    "alac.m4a": (("-c:a", "alac"), 0, True),
    "pcm.mov": (("-c:a", "pcm_s24le"), 0, True),
    "aac.3gp": (("-c:a", "aac"), 0, True),
    "mp3.mp4": (("-c:a", "libmp3lame"), 0, True),
    "opus.mp4": (("-c:a", "libopus"), 0, True),
    "opus.webm": (("-c:a", "libopus"), 0, True),
    "vorbis.webm": (("-c:a", "libvorbis"), 0, False),
    "flac.mka": (("-c:a", "flac"), 0, True),
    "aac.mka": (("-c:a", "aac"), 1024, False),
    "raw.aac": (("-c:a", "aac"), 1024, False),
    "wmav2.wma": (("-c:a", "wmav2"), -512, False),
    "a.wv": (("-c:a", "wavpack"), 0, True),
    "a.tta": (("-c:a", "tta"), 0, True),
    "pcm.avi": (("-c:a", "pcm_s16le"), 0, True),
    "mp3.flv": (("-c:a", "libmp3lame", "-ar", "22050"), 1105, False),
    "aac.ts": (("-c:a", "aac"), 1024, False),
    "mp2.mpg": (("-c:a", "mp2"), 481, False),
    "a.ac3": (("-c:a", "ac3", "-ar", "48000"), 256, False),
    "real.rm": (("-c:a", "real_144", "-ar", "8000"), None, False),
    "speex.ogg": (("-c:a", "libspeex"), None, False),
}
LOSSLESS = ("alac.m4a", "pcm.mov", "flac.mka", "a.wv", "a.tta", "pcm.avi")
UNSTATED = ("raw.aac", "real.rm", "aac.ts", "mp2.mpg", "a.ac3")  # whose length no header states


def by_pyav(path: Path, found: ForeignFormat) -> PyAVStream:
    """Open a file by PyAV."""
    return PyAVStream(path.open("rb"), found)


def by_program(path: Path, found: ForeignFormat) -> ProgramStream:
    """Open a file by the program ffmpeg; the test is skipped where there is none."""
    programs = find_programs()
    if programs is None:
        pytest.skip("ffmpeg is not installed")
    return ProgramStream(path.open("rb"), found, programs)


def changing_voice() -> np.ndarray:
    """A voice of which no second is like another, in steps of 16 bits, ``(N_SAMPLES,)``."""
    rng = np.random.default_rng(0)
    loudness = np.interp(np.arange(N_SAMPLES), np.linspace(0, N_SAMPLES, 30), rng.uniform(0.1, 1.0, 30))
    return np.round(voice(N_SAMPLES / RATE) * loudness * 32767).astype(np.float32) / 32768


def write_media(folder: Path, name: str, samples: np.ndarray, *, rate: int = RATE) -> Path:
    """Write samples ``(n_samples,)`` or ``(n_samples, n_channels)`` to a file named as in `CASES`."""
    source = folder / f"{name}.wav"
    soundfile.write(source, samples, rate, subtype="PCM_16")
    ffmpeg("-y", "-i", source, *CASES[name][0], folder / name)
    source.unlink()
    return folder / name


def write_video(path: Path, samples: np.ndarray, *, audio: tuple[str, ...] = ("-c:a", "aac")) -> Path:
    """Write a video of the length of its audio."""
    source = path.with_suffix(".wav")
    soundfile.write(source, samples, RATE, subtype="PCM_16")
    codec = "libvpx" if path.suffix == ".webm" else "mpeg4"
    ffmpeg("-y", "-i", source, *VIDEO, "-shortest", *audio, "-c:v", codec, path)
    return path


def write_amr(path: Path, samples: np.ndarray) -> Path:
    """Write AMR of 8,000 Hz, whose encoder is part of PyAV's wheel."""
    import av

    with av.open(path, "w", format="amr") as container:
        stream = container.add_stream("libopencore_amrnb", rate=8_000, layout="mono")
        stream.bit_rate = 12_200
        values = np.round(samples * 32767).astype(np.int16)
        for k in range(0, len(values) - 159, 160):
            frame = av.AudioFrame.from_ndarray(values[None, k : k + 160], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8_000, k, Fraction(1, 8_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
