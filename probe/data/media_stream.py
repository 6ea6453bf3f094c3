"""What FFmpeg states of the audio stream that is read, and how many samples of it there must be.

What an encoder added at the beginning, and what fills the last packet, is left out as far as a file states it: FFmpeg
does so for edit lists (ISO/IEC 14496-12, section 8.6.6), the delay of WebM and the tag of MP3. A raw AAC or AMR stream
states nothing, so its delay stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from layerprobe.probe.data.remarks import LATE_AUDIO, SEVERAL_STREAMS, Remark
from layerprobe.probe.exceptions import InvalidAudioError

EXACT = ("mov", "wv", "tta")  # formats that state their length in samples
LOSSLESS = ("alac", "flac", "pcm_", "tta", "wavpack")  # beginnings of codecs' names
# Samples that a stated length may count and no decoder gives: an encoder's delay (2,112 of AAC at most) and the filling
# of a packet (2,048 of WMA).
SLACK_SAMPLES = 4_096
SLACK_SECONDS = 0.1  # lengths may be rounded to a frame of the video
ROUNDED_SECONDS = 0.001  # edit lists of most writers count in ms
SLACK_OF_VIDEO_SECONDS = 1.0  # where only the length of the whole is stated, audio may end before the video
LATE_SECONDS = 0.05  # audio that begins later than what is with it
OPUS_RATE = 48_000  # Hz, in which Opus counts, whatever the sampling rate of its source was (RFC 7845, section 4.2)
PRE_SKIP = slice(10, 12)  # bytes of Opus' header


@dataclass(frozen=True)
class StreamFacts:
    """What is stated of an audio stream."""

    demuxer: str  # FFmpeg's name of the format
    codec: str
    rate: int  # Hz
    seconds: float | None  # of the audio stream
    seconds_of_all: float | None  # of the longest stream
    n_streams: int  # of any kind
    n_audio_streams: int
    begins: float  # seconds after the beginning of what is longest
    header: bytes = field(default=b"", repr=False)  # of the codec
    skipped: int | None = None  # samples that FFmpeg leaves out at the beginning, where a packet states them

    @property
    def frames(self) -> int | None:
        """Samples of each channel that are stated; None where no length is."""
        seconds = self.seconds or (self.seconds_of_all or 0.0) - max(0.0, self.begins)
        return round(seconds * self.rate) if seconds > 0 else None

    @property
    def is_exact(self) -> bool:
        """Whether the length is stated in samples, and what follows it fills the last packet."""
        return self.demuxer in EXACT and bool(self.seconds)

    @property
    def slack(self) -> int:
        """Samples that may be missing from the stated length."""
        if self.is_exact and self.codec.startswith(LOSSLESS):
            return round(ROUNDED_SECONDS * self.rate)
        of_video = not self.seconds and self.n_streams > 1
        return max(SLACK_SAMPLES, round((SLACK_OF_VIDEO_SECONDS if of_video else SLACK_SECONDS) * self.rate))

    @property
    def n_delay(self) -> int:
        """Samples to leave out at the beginning that FFmpeg doesn't.

        It counts those of Opus at the sampling rate of its source, where the file states that as the stream's.
        """
        if self.codec != "opus" or self.skipped is None or self.header[:8] != b"OpusHead":
            return 0
        return max(0, int.from_bytes(self.header[PRE_SKIP], "little") * self.rate // OPUS_RATE - self.skipped)

    def remarks(self) -> tuple[Remark, ...]:
        """Return remarks on what else is in the file."""
        several = (Remark(SEVERAL_STREAMS, self.n_audio_streams),) if self.n_audio_streams > 1 else ()
        late = (Remark(LATE_AUDIO, self.begins),) if self.begins > LATE_SECONDS else ()
        return (*several, *late)


class MediaStream(Protocol):
    """An audio stream that is decoded from its beginning to its end."""

    facts: StreamFacts
    n_channels: int
    decoded_by: Remark

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield samples ``(n_samples, n_channels)`` float32.

        Raises:
            InvalidAudioError: if the file is damaged
        """

    def close(self) -> None:
        """End decoding."""


def audio_blocks(stream: MediaStream) -> Iterator[np.ndarray]:
    """Yield the samples of a stream without what encoders added, as far as it is stated.

    Raises:
        InvalidAudioError: if the file is damaged
    """
    facts = stream.facts
    blocks = _without_first(stream.blocks(), facts.n_delay)
    return _without_filling(blocks, facts.frames) if facts.is_exact and facts.frames else blocks


def version_number(major: int, minor: int) -> float:
    """Return a version as a number that orders as versions do.

    >>> version_number(59, 37)
    59.037
    """
    return round(major + minor / 1000, 3)


def damaged(reason: str) -> InvalidAudioError:
    """Return the error of a stream that can't be decoded to its end."""
    return InvalidAudioError("LP210", f"truncated or damaged: not all samples could be decoded ({reason})")


def no_audio(n_streams: int) -> InvalidAudioError:
    """Return the error of a file with so many streams, none of them of audio."""
    streams = "1 stream is" if n_streams == 1 else f"{n_streams} streams are"
    return InvalidAudioError("LP244", f"holds no audio: {streams} in it, of video or other data; name another file")


def unknown_codec() -> InvalidAudioError:
    """Return the error of a stream whose header is damaged, or of a codec that FFmpeg doesn't have."""
    return InvalidAudioError("LP204", "could not be decoded (its codec, sampling rate or channels are unknown)")


def tagged_seconds(tags: dict[str, str], begin: float) -> float | None:
    """Return the length of a stream from its beginning to where Matroska's tag ``DURATION`` has its end; None without.

    >>> tagged_seconds({"DURATION": "00:01:03.500000000"}, 0.5), tagged_seconds({}, 0.0)
    (63.0, None)
    """
    parts = tags.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds - max(0.0, begin)


def _without_first(blocks: Iterator[np.ndarray], n: int) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block[n:]
        n = max(0, n - len(block))


def _without_filling(blocks: Iterator[np.ndarray], n_stated: int) -> Iterator[np.ndarray]:
    """Yield what comes before a stated end, and what comes after it only if that is more than fills a packet."""
    position, behind = 0, []
    for block in blocks:
        n_before = min(len(block), max(0, n_stated - position))
        position += len(block)
        yield block[:n_before]
        if n_before < len(block):
            behind.append(block[n_before:])
        if position > n_stated + SLACK_SAMPLES:
            yield from behind
            behind = []
