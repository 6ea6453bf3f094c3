"""Decoding by FFmpeg's libraries, which the wheel of PyAV brings: ``pip install layerprobe[media]``."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from layerprobe.probe.data.containers.length import ForeignFormat
from layerprobe.probe.data.media_stream import (
    StreamFacts,
    damaged,
    no_audio,
    tagged_seconds,
    unknown_codec,
    version_number,
)
from layerprobe.probe.data.remarks import BY_PYAV, Remark
from layerprobe.probe.exceptions import InvalidAudioError

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

OLDEST = (17, 1)  # earlier ones end the process on Flash video, or have no side data of packets
MICROSECONDS = 1_000_000  # FFmpeg's unit of the length of a container
SKIP_SAMPLES = "skip_samples"


@functools.cache
def has_pyav() -> bool:
    """Return whether PyAV is installed, in a version that serves."""
    try:
        found = version("av")
    except PackageNotFoundError:
        return False
    return tuple(map(int, found.split(".")[:2])) >= OLDEST


class _Seekable(io.RawIOBase):
    """A file that answers a seek to nowhere, as of a damaged file, as FFmpeg expects it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1  # AVERROR(EPERM)


class PyAVStream:
    """The first audio stream of an open file."""

    def __init__(self, file: BinaryIO, found: ForeignFormat) -> None:
        """Open the stream; the file is closed with it.

        Raises:
            InvalidAudioError: if there is none, or the file is damaged
        """
        import av
        from av.error import FFmpegError

        self._file = file
        with contextlib.ExitStack() as opened:
            opened.callback(file.close)
            try:
                # Protocols are off: what is read is the open file alone.
                self._container: InputContainer = av.open(
                    _Seekable(file),
                    "r",
                    format=found.demuxer,
                    options={"protocol_whitelist": ""},
                    metadata_errors="replace",
                )
                opened.callback(self._container.close)
                self._open(found)
            except FFmpegError as error:
                raise InvalidAudioError("LP204", f"could not be decoded (PyAV: {error.strerror})") from error
            except IndexError as error:
                raise damaged("PyAV: a packet of an unknown stream") from error
            opened.pop_all()
        self.decoded_by = Remark(BY_PYAV, version_number(*av.library_versions["libavcodec"][:2]))

    def _open(self, found: ForeignFormat) -> None:
        streams = self._container.streams
        if not streams.audio:
            raise no_audio(len(streams))
        stream = self._stream = streams.audio[0]
        self._packets = self._container.demux(stream)
        self._first = next(self._packets, None)
        codec: AudioCodecContext | None = stream.codec_context
        if codec is None:
            raise unknown_codec()
        self.n_channels = codec.channels
        self.facts = StreamFacts(
            demuxer=found.demuxer,
            codec=codec.name,
            rate=codec.sample_rate,
            seconds=_stream_seconds(stream) if found.states_length else None,
            seconds_of_all=(self._container.duration or 0) / MICROSECONDS if found.states_length else None,
            n_streams=len(streams),
            n_audio_streams=len(streams.audio),
            begins=_start(stream) - (self._container.start_time or 0) / MICROSECONDS,
            header=codec.extradata or b"",
            skipped=_skipped(self._first),
        )

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield samples ``(n_samples, n_channels)`` float32, a frame of the codec at a time.

        Raises:
            InvalidAudioError: if the file is damaged
        """
        # a name of this call: when the interpreter ends, a generator may be closed after the module av was emptied
        from av.error import FFmpegError

        try:
            packet = self._first
            while packet is not None:
                for frame in packet.decode():
                    yield self._samples(frame)
                packet = next(self._packets, None)
        except FFmpegError as error:
            raise damaged(f"PyAV: {error.strerror}") from error
        except IndexError as error:  # PyAV's answer to a packet of a stream that no header announced
            raise damaged("PyAV: a packet of an unknown stream") from error

    def close(self) -> None:
        """Close the container and the file."""
        self._container.close()
        self._file.close()

    def _samples(self, frame: AudioFrame) -> np.ndarray:
        n_channels = len(frame.layout.channels)
        if (frame.sample_rate, n_channels) != (self.facts.rate, self.n_channels):
            raise damaged(f"its sampling rate or its channels change to {frame.sample_rate} Hz, {n_channels}")
        values = frame.to_ndarray()
        samples = values.T if frame.format.is_planar else values.reshape(-1, n_channels)
        return np.ascontiguousarray(_to_float(samples), dtype=np.float32)


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Return samples of any depth with full scale -1 to 1, as FFmpeg converts them."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return samples


def _stream_seconds(stream: AudioStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return tagged_seconds(stream.metadata, _start(stream))


def _start(stream: AudioStream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _skipped(packet: Any) -> int | None:
    """Return the samples that a packet states are to be left out at its beginning; None where it states none."""
    if packet is None or not packet.has_sidedata(SKIP_SAMPLES):
        return None
    return int.from_bytes(bytes(packet.get_sidedata(SKIP_SAMPLES))[:4], "little")
