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
from collections.abc import Iterator
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
    with open_audio(path, start=start, end=end, shared=True) as opened:
        channels = _decode_span(opened.decoder, opened.fault, start, end, max_duration)
        decoder = opened.decoder
        return Decoded(channels, decoder.rate, opened.remark or decoder.misstated, decoder.remarks)


@dataclass(frozen=True)
class OpenAudio:
    """An audio file that is open for decoding."""

    decoder: ForwardDecoder
    fault: Problem | None  # why it can't be read whole; None where it can
    remark: str  # what its header misstates


@contextlib.contextmanager
def open_audio(
    path: Path | str | StoredAudio,
    *,
    start: float | None = None,
    end: float | None = None,
    shared: bool = False,
) -> Iterator[OpenAudio]:
    """Open an audio file for decoding; errors of the decoder within the block become those of the audio.

    Args:
        path: as of `read_recording`
        start: seconds from the beginning; None for the beginning
        end: seconds from the beginning; None for the end of the file
        shared: whether the decoder of a span stays open for the next span of the file

    Raises:
        InvalidAudioError: if the file is missing, no audio, or can't be read whole where it is to be
    """
    # a name of this call: when the interpreter ends, a generator may be closed after modules were emptied
    no_decoding = (soundfile.SoundFileRuntimeError, TypeError, OSError)
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
            _DECODERS.lend(located, length, start or 0.0)
            if shared and not whole
            else contextlib.closing(_open_decoder(located, length))
        ) as decoder:
            if fault := _rate_fault(decoder.rate):
                raise InvalidAudioError(fault.code, fault.text)
            yield OpenAudio(decoder, length.fault, length.remark)
    except no_decoding as error:
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
    extent = span_extent(decoder, fault, start, end, max_duration)
    if extent.at_most is None:
        channels = _decode_to_the_end(decoder, extent.first, max_duration)
    else:
        channels = _read(decoder, extent.first, extent.at_most)
    extent.check(len(channels))
    return channels


@dataclass(frozen=True)
class Extent:
    """Samples of a file that are read."""

    first: int
    at_most: int | None  # None for all that follow
    expected: int | None  # how many there must be; None where nothing states that

    def check(self, n: int) -> None:
        """Check the number of samples that could be decoded.

        Raises:
            InvalidAudioError: if there are none, or too few
        """
        if self.expected is None and n == 0:
            raise InvalidAudioError("LP206", "empty: it holds no samples there")
        if self.expected is not None and (n < self.expected or n == 0):
            raise InvalidAudioError("LP210", f"truncated: {n} of {self.expected} samples could be decoded")


def span_extent(
    decoder: ForwardDecoder, fault: Problem | None, start: float | None, end: float | None, max_duration: float
) -> Extent:
    """Return which samples of a file a span takes; arguments and errors are those of `read_recording`."""
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
        return Extent(first, None, None)
    if frames is not None and end is None and not decoder.is_counted:
        return Extent(first, None, frames - slack - first)
    at_most = round(stop * rate) if frames is None else min(round(stop * rate), frames + slack)
    return Extent(first, at_most - first, (at_most if frames is None else min(at_most, frames - slack)) - first)


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
    with decoding_errors():
        return decoder.read(first, n_samples)


@contextlib.contextmanager
def decoding_errors() -> Iterator[None]:
    """Turn an error of the decoder within the block into that of damaged audio."""
    try:
        yield
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
