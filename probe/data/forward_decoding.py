"""Audio decoded forward only; between spans of one file its decoder stays open, so that it is decoded once.

soundfile seeks after each block that it reads, and libsndfile's seeking isn't exact in most compressed formats: MP3 is
off by the last bit or more, and Vorbis by hundreds of samples near the end of a file.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from layerprobe.probe.data.containers.length import CorrectedFile, StreamLength
from layerprobe.probe.data.remarks import Remark
from layerprobe.probe.data.stored.stored_audio import StoredAudio, version_of

BLOCK = 2**20  # samples of each channel that are decoded at once
UNKNOWN_FRAMES = 2**62  # libsndfile's count where a stream states none is this or more
MOST_OPEN = 8
Key = tuple[int, Path | StoredAudio, int, int, int]  # process, path, size, modification time, inode
# Seeking in these is exact: each sample has bytes of its own, or FLAC's frames decode to what was encoded.
EXACT_SEEKING = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile's own types are not installed
    """An audio file that soundfile reads without seeking."""

    def seekable(self) -> bool:
        return False


class ForwardDecoder:
    """Decoder of an audio file, at a position."""

    def __init__(self, path: Path | StoredAudio, length: StreamLength) -> None:
        """Open a file, with the header that its length needs.

        Raises:
            soundfile.SoundFileRuntimeError, TypeError: if it can't be decoded
        """
        self._file = _ForwardFile(_decodable(path, length))
        self.rate: int = self._file.samplerate
        frames = self._file.frames if length.frames is None else length.frames
        self.frames: int | None = frames if frames < UNKNOWN_FRAMES else None  # None where only decoding shows it
        self.n_channels: int = self._file.channels
        self.slack = 0  # samples that may be missing from ``frames``
        self.is_counted = True  # whether ``frames`` were counted, and not only stated
        self.misstated = ""  # what ``frames`` misstate, as far as it is decoded
        self.remarks: tuple[Remark, ...] = ()
        self.seeks_exactly = self._file.subtype in EXACT_SEEKING and self.frames is not None
        self.position = 0

    def read(self, first: int, n_samples: int | None) -> np.ndarray:
        """Decode samples from ``first`` on, which isn't before the position unless the format seeks exactly.

        Memory is taken for what is decoded, a block at a time.

        Args:
            first: sample
            n_samples: of each channel; None for all that follow

        Returns:
            samples ``(n_samples, n_channels)`` float32; fewer where the file ends

        Raises:
            soundfile.SoundFileRuntimeError: if the file is damaged
        """
        if self.seeks_exactly and first != self.position:
            self.position = self._file.seek(first)
        while self.position < first and len(self._block(first - self.position)):
            pass
        blocks = [np.empty((0, self.n_channels), dtype=np.float32)]
        missing = n_samples
        while (missing is None or missing > 0) and len(block := self._block(missing)):
            blocks.append(block)
            missing = None if missing is None else missing - len(block)
        return blocks[1] if len(blocks) == 2 else np.concatenate(blocks)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _block(self, at_most: int | None) -> np.ndarray:
        n = BLOCK if at_most is None else min(BLOCK, at_most)
        block: np.ndarray = self._file.read(n, dtype="float32", always_2d=True)
        self.position += len(block)
        return block


Opening = Callable[[Path | StoredAudio, StreamLength], ForwardDecoder]


class OpenDecoders:
    """Decoders that stay open for the next span of their file; one is used by one thread at a time."""

    def __init__(self, most: int = MOST_OPEN, *, new: Opening | None = None) -> None:
        """Start with none; of more than ``most`` the one that was used longest ago is closed, and ``new`` opens one."""
        self._most, self._lock, self._new = most, threading.Lock(), new or ForwardDecoder
        self._open: OrderedDict[int, tuple[Key, ForwardDecoder]] = OrderedDict()

    @contextlib.contextmanager
    def lend(self, path: Path | StoredAudio, length: StreamLength, start: float) -> Iterator[ForwardDecoder]:
        """Lend the decoder of a file that is nearest before a time in seconds, or a new one.

        Raises:
            soundfile.SoundFileRuntimeError, TypeError: if the file can't be decoded
        """
        key = _key(path)
        decoder = self._take(key, start) or self._new(path, length)
        try:
            yield decoder
        except BaseException:
            decoder.close()
            raise
        if decoder.seeks_exactly:
            decoder.close()
        else:
            self._keep(key, decoder)

    def _take(self, key: Key, start: float) -> ForwardDecoder | None:
        with self._lock:
            fitting = [
                (decoder.position, number)
                for number, (known, decoder) in self._open.items()
                if known == key and decoder.position <= round(start * decoder.rate)
            ]
            return self._open.pop(max(fitting)[1])[1] if fitting else None

    def _keep(self, key: Key, decoder: ForwardDecoder) -> None:
        with self._lock:
            self._open[id(decoder)] = (key, decoder)
            closing = [self._open.popitem(last=False)[1][1] for _ in range(len(self._open) - self._most)]
        for other in closing:
            other.close()


def _decodable(path: Path | StoredAudio, length: StreamLength) -> Path | BinaryIO | CorrectedFile:
    """Return what soundfile opens: a path where there is one, which it decodes without calling Python."""
    if length.corrects:
        return CorrectedFile(path, length)
    return path.open("rb") if isinstance(path, StoredAudio) else path


def _key(path: Path | StoredAudio) -> Key:
    """Return what a decoder belongs to: a process, which may be a fork of another, and a file that didn't change."""
    status = version_of(path)
    return os.getpid(), path, status.st_size, status.st_mtime_ns, status.st_ino
