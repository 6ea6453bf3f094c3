"""The decoder of what libsndfile can't read, with the interface of that of what it can.

PyAV comes first where both it and the program are installed: it reads what is in memory without a copy, starts no
process (an M4A of 4 s takes 2 ms in place of 500), and its version is that of the environment. Both give the
same samples, up to the last bits of lossy codecs between versions of FFmpeg.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layerprobe.probe.data.containers.length import ForeignFormat
from layerprobe.probe.data.forward_decoding import BLOCK, ForwardDecoder
from layerprobe.probe.data.media_program import ProgramStream, find_programs
from layerprobe.probe.data.media_pyav import PyAVStream, has_pyav
from layerprobe.probe.data.media_stream import MediaStream, audio_blocks, unknown_codec
from layerprobe.probe.data.stored.stored_audio import StoredAudio
from layerprobe.probe.exceptions import InvalidAudioError


class MediaDecoder(ForwardDecoder):
    """Decoder of the first audio stream of a file by FFmpeg, at a position."""

    def __init__(self, path: Path | StoredAudio, found: ForeignFormat) -> None:
        """Open a file of a format that libsndfile can't decode.

        Raises:
            InvalidAudioError: if it is damaged, holds no audio, or nothing is installed that decodes it
            OSError: if it can't be read
        """
        self._stream = open_stream(path, found)
        facts = self._stream.facts
        if facts.rate <= 0 or self._stream.n_channels <= 0:
            self._stream.close()
            raise unknown_codec()
        self.rate, self.frames, self.n_channels = facts.rate, facts.frames, self._stream.n_channels
        self.slack, self.is_counted, self.misstated = facts.slack, False, ""
        self.remarks = (self._stream.decoded_by, *facts.remarks())
        self.seeks_exactly = False
        self.position = 0
        self._blocks = audio_blocks(self._stream)
        self._waiting = np.empty((0, self.n_channels), dtype=np.float32)  # decoded, and not yet read

    def close(self) -> None:
        """End decoding, and close the file."""
        self._stream.close()

    def _block(self, at_most: int | None) -> np.ndarray:
        wanted = BLOCK if at_most is None else min(BLOCK, at_most)
        blocks, n = [self._waiting], len(self._waiting)
        while n < wanted and (block := next(self._blocks, None)) is not None:
            blocks.append(block)
            n += len(block)
        decoded = np.concatenate(blocks)
        self._waiting = decoded[wanted:]
        self.position += min(n, wanted)
        if self.frames is not None and self.position > self.frames + self.slack:
            self.misstated = f"its header states {self.frames / self.rate:.2f} s, and more follows, which was read"
        return decoded[:wanted]


def open_stream(path: Path | StoredAudio, found: ForeignFormat) -> MediaStream:
    """Open the first audio stream of a file by what is installed, PyAV first.

    Raises:
        InvalidAudioError: if it can't be decoded, or nothing is installed that decodes it
        OSError: if it can't be read
    """
    if has_pyav():
        return PyAVStream(path.open("rb"), found)
    if programs := find_programs():
        return ProgramStream(path.open("rb"), found, programs)
    raise InvalidAudioError(
        "LP203",
        f"is {found.name}, which libsndfile can't decode; pip install 'layerprobe[media]', or install the program "
        "ffmpeg, and it is read",
    )
