"""Audio files, or spans of them, decoded to mono float32 at the encoder's sampling rate.

soundfile decodes (WAV, FLAC, OGG, MP3 of any rate, depth and channel count), and FFmpeg what it can't
(`probe.data.media_decoder`); `probe.data.reading` averages channels and resamples.

No stated length is believed: `probe.data.containers` counts what is there, and a header that states another length is
replaced by one that states the true one before anything is decoded. Decoding goes forward in blocks, so that no memory
is taken for samples that are promised and not there.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from layerprobe.probe.data.containers.inspection import inspect_length
from layerprobe.probe.data.containers.length import StreamLength
from layerprobe.probe.data.forward_decoding import ForwardDecoder, OpenDecoders
from layerprobe.probe.data.media_decoder import MediaDecoder
from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions, Recording, make_recording
from layerprobe.probe.data.remarks import MISSTATED_LENGTH, Remark
from layerprobe.probe.data.stored.stored_audio import StoredAudio, locate, problem_of
from layerprobe.probe.exceptions import InvalidAudioError as InvalidAudioError
from layerprobe.probe.foreign_files import HEAD, recognise, recognise_start
from layerprobe.probe.problem import Problem

# Label files round times, so a span may end this much after the recording; more is a wrong span.
SPAN_TOLERANCE_SECONDS = 0.01
# Sampling rates of recordings, Hz; a header that states another one is damaged.
LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000


def _open_decoder(path: Path | StoredAudio, length: StreamLength) -> ForwardDecoder:
    """Open a file by soundfile, or by FFmpeg where that can't decode it."""
    return ForwardDecoder(path, length) if length.foreign is None else MediaDecoder(path, length.foreign)


_DECODERS = OpenDecoders(new=_open_decoder)


@dataclass(frozen=True)
class Decoded:
    """Samples of an audio file, before its channels become one."""

    channels: np.ndarray  # (n_samples, n_channels) float32, at least one sample
    rate: int  # Hz
    remark: str = ""  # what the file's header misstates, where it was read whole nevertheless
    remarks: tuple[Remark, ...] = ()  # others, on the file


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
        path: a file that libsndfile or FFmpeg decodes, whatever its name ends in, or an address or URL of one, see
            `probe.data.stored.locations`
        sampling_rate: of the result, Hz; None for the file's own
        start: seconds from the beginning; None for the beginning
        end: seconds from the beginning; None for the end of the file
        max_duration: seconds; a longer span is refused before it is decoded, as far as its length is known
        reading: the channel, and whether silence at the ends of the span is trimmed

    Raises:
        InvalidAudioError: if the file is missing, empty, no audio, or truncated, or if the span is outside the
            recording, too long, not finite, beyond full scale or silent, or if its channels cancel
    """
    decoded = decode_audio_file(path, start=start, end=end, max_duration=max_duration)
    rate = decoded.rate
    recording = make_recording(
        decoded.channels, rate, sampling_rate=rate if sampling_rate is None else sampling_rate, reading=reading
    )
    remarks = (*recording.remarks, *decoded.remarks)
    if decoded.remark:
        remarks = (*remarks, Remark(MISSTATED_LENGTH, len(decoded.channels) / rate, decoded.remark))
    return replace(recording, remarks=remarks)


def decode_audio_file(
    path: Path | str | StoredAudio,
    *,
    start: float | None = None,
    end: float | None = None,
    max_duration: float = float("inf"),
) -> Decoded:
    """Decode an audio file, or a span of it, with all its channels at its own rate.

    Arguments and errors are those of `read_recording`, which checks the samples, too.
    """
    try:
        located = locate(path)
    except OSError as error:
        problem = problem_of(str(path), error)
        raise InvalidAudioError(problem.code, problem.text) from error
    try:
        length = inspect_length(located)
        whole = start is None and end is None
        if whole and (fault := length.fault):
            raise InvalidAudioError(fault.code, fault.text)
        with (
            contextlib.closing(_open_decoder(located, length))
            if whole
            else _DECODERS.lend(located, length, start or 0.0)
        ) as decoder:
            if fault := _rate_fault(decoder.rate):
                raise InvalidAudioError(fault.code, fault.text)
            channels = _decode_span(decoder, length.fault, start, end, max_duration)
            return Decoded(channels, decoder.rate, length.remark or decoder.misstated, decoder.remarks)
    except (soundfile.SoundFileRuntimeError, TypeError, OSError) as error:
        # TypeError is soundfile's answer to a name that promises headerless samples, such as .raw
        problem = _opening_problem(located, error)
        raise InvalidAudioError(problem.code, problem.text) from error


@dataclass(frozen=True)
class AudioHeader:
    """What is known of an audio file without decoding it."""

    duration: float | None  # seconds, by the bytes that are there; None where only decoding shows it
    rate: int  # Hz
    n_channels: int
    stated: bool  # whether the file states its length
    fault: Problem | None  # why it can't be read whole; None where it can


def audio_header(path: Path | str | StoredAudio) -> AudioHeader | None:
    """Return what is known of an audio file without decoding it; None where it can't be opened."""
    try:
        located = locate(path)
        length = inspect_length(located)
        with contextlib.closing(_open_decoder(located, length)) as decoder:
            duration = None if decoder.frames is None else decoder.frames / decoder.rate
            fault = length.fault or _rate_fault(decoder.rate)
            return AudioHeader(duration, decoder.rate, decoder.n_channels, length.stated, fault)
    except (soundfile.SoundFileRuntimeError, InvalidAudioError, TypeError, OSError):
        return None


def _rate_fault(rate: int) -> Problem | None:
    """Return why a sampling rate can't be that of a recording; None where it can."""
    if LOWEST_RATE <= rate <= HIGHEST_RATE:
        return None
    return Problem("LP205", f"its header states {rate:,} Hz, which no recording has; save it again at its true rate")


def _decode_span(
    decoder: ForwardDecoder, fault: Problem | None, start: float | None, end: float | None, max_duration: float
) -> np.ndarray:
    """Return the samples of a file, or of a span of one that may have a fault, ``(n_samples, n_channels)`` float32."""
    rate, frames = decoder.rate, decoder.frames
    seconds = float("inf") if frames is None else frames / rate
    begin, stop = 0.0 if start is None else start, seconds if end is None else end
    if frames == 0:
        raise InvalidAudioError("LP206", "empty: it holds no samples")
    slack = decoder.slack
    if begin >= seconds or (frames is not None and stop > seconds + max(SPAN_TOLERANCE_SECONDS, slack / rate)):
        cause = f" ({fault.text})" if fault else ""
        raise InvalidAudioError(
            "LP220", f"span {begin:g} to {stop:g} s lies outside the recording of {seconds:g} s{cause}"
        )
    if stop - begin > max_duration and stop != float("inf"):
        raise InvalidAudioError("LP221", _too_long(f"{stop - begin:.0f} s long", max_duration))
    first = round(begin * rate)
    if frames is None and end is None:
        channels = _decode_to_the_end(decoder, first, max_duration)
        if len(channels) == 0:
            raise InvalidAudioError("LP206", "empty: it holds no samples there")
        return channels
    if frames is not None and end is None and not decoder.is_counted:
        channels, expected = _decode_to_the_end(decoder, first, max_duration), frames - slack - first
    else:
        at_most = round(stop * rate) if frames is None else min(round(stop * rate), frames + slack)
        channels = _read(decoder, first, at_most - first)
        expected = (at_most if frames is None else min(at_most, frames - slack)) - first
    if len(channels) < expected or len(channels) == 0:
        raise InvalidAudioError("LP210", f"truncated: {len(channels)} of {expected} samples could be decoded")
    return channels


def _decode_to_the_end(decoder: ForwardDecoder, first: int, max_duration: float) -> np.ndarray:
    """Return all samples from one on, where nothing states how many there are."""
    most = None if max_duration == float("inf") else round(max_duration * decoder.rate)
    channels = _read(decoder, first, None if most is None else most + 1)
    if most is not None and len(channels) > most:
        raise InvalidAudioError("LP221", _too_long("of unknown length", max_duration))
    return channels


def _too_long(text: str, max_duration: float) -> str:
    return f"{text}, over the maximum of {max_duration:g} s; cut it into spans with start and end"


def _read(decoder: ForwardDecoder, first: int, n_samples: int | None) -> np.ndarray:
    try:
        return decoder.read(first, n_samples)
    except soundfile.SoundFileRuntimeError as error:
        text = f"truncated or damaged: not all samples could be decoded ({_text(error)})"
        raise InvalidAudioError("LP210", text) from error


def _text(error: Exception) -> str:
    """Return the text of an error, without the place in memory of what was opened, which each run has another of."""
    return re.sub(r"Error opening <[^>]*>: ", "", str(error)).strip().rstrip(".")


def _opening_problem(path: Path | StoredAudio, error: Exception) -> Problem:
    if isinstance(path, StoredAudio):
        return _stored_problem(path, error)
    if not path.exists():
        return Problem("LP200", "no such file")
    if not path.is_file():
        return Problem("LP200", "is a folder, not a file")
    if isinstance(error, OSError):
        return Problem("LP201", f"could not be read ({_text(error)})")
    if path.stat().st_size == 0:
        return Problem("LP202", "empty: it holds no bytes")
    if found := recognise(path):
        return Problem("LP202", f"{found.clause}; {found.advice}")
    return _undecodable(error)


def _stored_problem(stored: StoredAudio, error: Exception) -> Problem:
    """Return why audio that is no file of its own can't be decoded."""
    try:
        if isinstance(error, OSError):
            return problem_of(stored.path, error)
        if found := recognise_start(stored.read_bytes()[:HEAD]):
            return Problem("LP202", f"{found.clause}; {found.advice}")
        return _undecodable(error)
    except OSError as later:  # it was read before, and is gone
        return problem_of(stored.path, later)


def _undecodable(error: Exception) -> Problem:
    return Problem("LP204", f"could not be decoded ({_text(error)})")
