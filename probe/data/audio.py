"""Audio files, or spans of them, decoded to mono float32 at the encoder's sampling rate.

soundfile decodes (WAV, FLAC, OGG, MP3 of any rate, depth and channel count, no FFmpeg); `probe.data.reading` averages
channels and resamples.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import soundfile

from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions, Recording, make_recording
from layerprobe.probe.exceptions import InvalidAudioError as InvalidAudioError

# Label files round times, so a span may end this much after the recording; more is a wrong span.
SPAN_TOLERANCE_SECONDS = 0.01
# Without a Xing header the length of an MP3 is an estimate that can be off by a frame or two of 1152 samples.
MP3_LENGTH_TOLERANCE = 2 * 1152
OGG_HEADER_TYPE, OGG_END_OF_STREAM = 5, 0x04  # byte and bit of a page's header (RFC 3533, section 6)


def read_audio_file(
    path: Path | str,
    *,
    sampling_rate: int | None,
    start: float | None = None,
    end: float | None = None,
    max_duration: float = float("inf"),
    reading: ReadingOptions = DEFAULT_READING,
) -> np.ndarray:
    """Return the waveform ``(n_samples,)`` float32 of `read_recording`, without its remarks."""
    return read_recording(
        path, sampling_rate=sampling_rate, start=start, end=end, max_duration=max_duration, reading=reading
    ).waveform


def read_recording(
    path: Path | str,
    *,
    sampling_rate: int | None,
    start: float | None = None,
    end: float | None = None,
    max_duration: float = float("inf"),
    reading: ReadingOptions = DEFAULT_READING,
) -> Recording:
    """Decode an audio file, or only the span from ``start`` to ``end`` seconds of it.

    Args:
        path: a file that libsndfile decodes, whatever its name ends in
        sampling_rate: of the result, Hz; None for the file's own
        start: seconds from the beginning; None for the beginning
        end: seconds from the beginning; None for the end of the file
        max_duration: seconds; a longer span is refused before it is decoded
        reading: the channel, and whether silence at the ends of the span is trimmed

    Raises:
        InvalidAudioError: if the file is missing, empty, no audio, or truncated, or if the span is outside the
            recording, too long, not finite, beyond full scale or silent, or if its channels cancel
    """
    path = Path(path)
    try:
        with soundfile.SoundFile(path) as file:
            channels, rate = _decode_span(file, path, start, end, max_duration)
    except (soundfile.SoundFileRuntimeError, TypeError) as error:
        # TypeError is soundfile's answer to a name that promises headerless samples, such as .raw
        raise InvalidAudioError(_opening_error(path, error)) from error
    return make_recording(
        channels, rate, sampling_rate=rate if sampling_rate is None else sampling_rate, reading=reading
    )


def audio_duration(path: Path | str) -> float:
    """Return the duration in seconds by the file's header, without decoding; 0 where it can't be opened."""
    try:
        return float(soundfile.info(str(path)).duration)
    except (soundfile.SoundFileRuntimeError, TypeError):
        return 0.0


def _decode_span(
    file: soundfile.SoundFile, path: Path, start: float | None, end: float | None, max_duration: float
) -> tuple[np.ndarray, int]:
    """Return the samples ``(n_samples, n_channels)`` float32 at the file's own rate, and that rate."""
    rate, seconds = file.samplerate, file.frames / file.samplerate
    whole = start is None and end is None
    begin = 0.0 if start is None else start
    stop = seconds if end is None else end
    if file.frames == 0:
        raise InvalidAudioError("empty: it holds no samples")
    if whole and (reason := _truncation(path, file.format)):
        raise InvalidAudioError(reason)
    if begin >= seconds or stop > seconds + SPAN_TOLERANCE_SECONDS:
        raise InvalidAudioError(f"span {begin:g} to {stop:g} s lies outside the recording of {seconds:g} s")
    if stop - begin > max_duration:
        raise InvalidAudioError(
            f"{stop - begin:.0f} s long, over the maximum of {max_duration:g} s; cut it into spans with start and end"
        )
    first = round(begin * rate)
    expected = min(round(stop * rate), file.frames) - first
    if first:
        file.seek(first)
    channels = file.read(expected, dtype="float32", always_2d=True)
    slack = MP3_LENGTH_TOLERANCE if file.format == "MP3" else 0
    if len(channels) < expected - slack or len(channels) == 0:
        raise InvalidAudioError(f"truncated: {len(channels)} of {expected} samples could be decoded")
    return channels, rate


def _opening_error(path: Path, error: Exception) -> str:
    if not path.exists():
        return "no such file"
    if path.stat().st_size == 0:
        return "empty: it holds no bytes"
    return f"could not be decoded ({str(error).strip().rstrip('.')})"


def _truncation(path: Path, container: str) -> str:
    """Return why a file ends too early, in the containers where libsndfile reads what is left without an error."""
    if container in ("WAV", "WAVEX"):
        promised, present = _wav_data_bytes(path)
        if present < promised:
            return f"truncated: {present} of {promised} bytes of samples are there"
    elif container == "OGG" and not _ogg_stream_ends(path):
        return "truncated: the stream has no end page"
    return ""


def _wav_data_bytes(path: Path) -> tuple[int, int]:
    """Return the bytes that the data chunk promises, and the bytes that follow its header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, _, _ = struct.unpack("<4sI4s", file.read(12))
        position = 12
        while magic == b"RIFF" and len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            position += len(header)
            if name == b"data":
                streamed = length in (0, 0xFFFFFFFF)  # written to a pipe: the length was never known
                return (0 if streamed else length), size - position
            position += length + length % 2
            file.seek(position)
    return 0, 0  # big-endian or 64-bit variants, whose own headers libsndfile checks


def _ogg_stream_ends(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16))  # a page is smaller than 64 KiB
        tail = file.read()
    page = tail.rfind(b"OggS")
    return page >= 0 and len(tail) > page + OGG_HEADER_TYPE and bool(tail[page + OGG_HEADER_TYPE] & OGG_END_OF_STREAM)
