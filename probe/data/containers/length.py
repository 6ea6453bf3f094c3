"""What the bytes of an audio file show about its length, and a file seen with a header that states the true one."""

from __future__ import annotations

import io
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from layerprobe.probe.data.stored.stored_audio import StoredAudio
from layerprobe.probe.problem import Problem

Bytes = bytes | mmap.mmap  # a file, without reading all of it
# A header may state so many seconds more or less than there are; more is a file that was cut, or something appended.
TOLERANCE_SECONDS = 0.01


class ForeignFormat(NamedTuple):
    """A format that libsndfile can't decode."""

    name: str  # to follow "is"
    demuxer: str  # FFmpeg's name; no other is tried, so that a file can't pass for a list of other files
    states_length: bool = True  # whether its header can state a length


@dataclass(frozen=True)
class StreamLength:
    """What the bytes of an audio file show about its length."""

    stated: bool = True  # whether the header states a length
    frames: int | None = None  # samples of each channel, where the decoder can't know their number
    fault: Problem | None = None  # why the audio can't be read whole; None where it can
    remark: str = ""  # what the header misstates, where the audio is read whole nevertheless
    header: bytes = b""  # with the true length, in place of the first ``skipped`` bytes; empty where none is needed
    skipped: int = 0
    end: int = 0  # offset at which a decoder must find the end of the file; 0 for where it is
    foreign: ForeignFormat | None = None  # what the file is, where libsndfile can't decode it
    size: int = 0  # bytes, at least, that a decoder must find, by zeros at the end if need be

    @property
    def corrects(self) -> bool:
        """Whether a decoder must see the file with a true header, or another end."""
        return self.skipped > 0 or self.end > 0 or self.size > 0


class CorrectedFile(io.RawIOBase):
    """A file whose first bytes are replaced by another header, and which zeros may follow."""

    def __init__(self, path: Path | StoredAudio, length: StreamLength) -> None:
        """Open a file with the header, and the size, that its length needs."""
        super().__init__()
        self._file = path.open("rb")
        self._header, self._skipped = length.header, length.skipped
        n_kept = (length.end or path.stat().st_size) - self._skipped
        self._end = len(self._header) + n_kept  # of what isn't zeros
        self._size = max(self._end, length.size)
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as there are bytes, and return their number."""
        n = len(buffer)
        content = self._header[self._position : self._position + n]
        if len(content) < n:
            at = self._position + len(content)
            self._file.seek(self._skipped + at - len(self._header))
            content += self._file.read(max(0, min(n - len(content), self._end - at)))
            content = content.ljust(min(n, max(0, self._size - self._position)), b"\0")
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def after_tag(data: Bytes, at: int) -> int:
    """Return the offset behind a tag (ID3v1, ID3v2, APEv2) at an offset; 0 where there is none."""
    name = data[at : at + 10]
    if name[:3] == b"ID3" and len(name) == 10 and max(name[6:]) < 0x80:
        size = name[6] << 21 | name[7] << 14 | name[8] << 7 | name[9]
        return at + 10 + size + (10 if name[5] & 0x10 else 0)
    if name[:3] == b"TAG" and at + 128 <= len(data):
        return at + 128
    if name[:8] == b"APETAGEX" and at + 32 <= len(data):
        size, _, flags = struct.unpack("<III", data[at + 12 : at + 24])
        return int(at + 32 + (size if flags & 1 << 29 else 0))  # without that bit it is the footer, behind its items
    return 0


def end_without_tags(data: Bytes) -> int:
    """Return the offset at which a file's own content ends, before tags of ID3v1 and APEv2."""
    end = len(data)
    if data[max(0, end - 128) : end - 125] == b"TAG":
        end -= 128
    if data[max(0, end - 32) : end - 24] == b"APETAGEX":
        size, _, flags = struct.unpack("<III", data[end - 20 : end - 8])
        end = max(0, end - size - (32 if flags & 1 << 31 else 0))
    return end
