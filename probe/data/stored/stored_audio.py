"""Audio that is no file of its own, read as if it were one: a member of an archive, a row of a table, an object.

`locate` gives a path for a file, and for anything else a `StoredAudio`, which has the part of a path's interface that
readers of audio use. Indices of archives and opened tables are kept between rows, each until its file changes; so is
the content of objects that were just read, for their length, samples and hash are read one after the other.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from layerprobe.probe.data.stored.audio_tables import ArrowAudio, AudioTable, ParquetAudio
from layerprobe.probe.data.stored.kept import Kept, once
from layerprobe.probe.data.stored.locations import (
    TABLES as TABLE_KINDS,
    Address,
    absolute,
    name_of,
    parse_address,
    scheme_of,
)
from layerprobe.probe.data.stored.remote_files import open_remote, read_remote, remote_status
from layerprobe.probe.data.stored.tar_archives import TarIndex, read_tar_index
from layerprobe.probe.problem import Problem, StoredAudioError

ARCHIVES, TABLES = 256, 8  # indices of archives and opened tables that are kept
OBJECT_BYTES = 2**25  # of objects and members that are kept; of a larger one, that one alone
STATUS_SECONDS = 10.0  # for which the status of an archive or a table in a store is remembered


@dataclass(frozen=True)
class AudioStatus:
    """What `os.stat_result` states of a file."""

    st_size: int
    st_mtime_ns: int  # of an object, a number that changes with it
    st_ino: int = 0


_INDICES: Kept[TarIndex] = Kept(ARCHIVES)
_TABLES: Kept[AudioTable] = Kept(TABLES)
_OBJECTS: Kept[bytes] = Kept(OBJECT_BYTES, len)
_STATUSES: Kept[AudioStatus] = Kept(ARCHIVES)


@dataclass(frozen=True)
class StoredAudio:
    """Audio at an absolute address or URL; an object of this class looks once at what is there."""

    path: str  # as `probe.data.stored.locations.absolute` returns it

    def __str__(self) -> str:
        """Return the address."""
        return self.path

    @property
    def name(self) -> str:
        """Name of the audio, for messages."""
        return name_of(self.path)

    @property
    def suffix(self) -> str:
        """Ending of the file's name, with its point."""
        return PurePosixPath(self.name).suffix

    def exists(self) -> bool:
        """Return whether there is something at the address."""
        return self.is_file()

    def is_file(self) -> bool:
        """Return whether there is audio at the address, as far as this is known without reading it."""
        return self.problem() is None

    def problem(self) -> Problem | None:
        """Return why nothing can be read at the address, as far as this is known without reading audio; else None."""
        try:
            self.version()
        except OSError as error:
            return problem_of(self.path, error)
        return None

    def version(self) -> AudioStatus:
        """Return what changes whenever the audio does, known without reading it: often that of an archive or table.

        Raises:
            OSError: if there is nothing at the address, or it can't be read
        """
        raise NotImplementedError

    def stat(self) -> AudioStatus:
        """Return size and modification time.

        Raises:
            OSError: if it can't be read
        """
        version = self.version()
        return AudioStatus(len(self.read_bytes()), version.st_mtime_ns, version.st_ino)

    def read_bytes(self) -> bytes:
        """Return the whole content.

        Raises:
            OSError: if it can't be read
        """
        raise NotImplementedError

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Open the audio for reading.

        Raises:
            OSError: if it can't be read
        """
        if mode != "rb":
            raise ValueError(f"mode is {mode!r}; stored audio is only read, as bytes")
        return io.BytesIO(self.read_bytes())


@dataclass(frozen=True)
class ReceivedAudio(StoredAudio):
    """Audio that was received and is in memory alone; ``path`` is what messages call it."""

    content: bytes = field(default=b"", compare=False, repr=False)

    def version(self) -> AudioStatus:
        """Return the size."""
        return AudioStatus(len(self.content), 0)

    def read_bytes(self) -> bytes:
        """Return the content, without a copy."""
        return self.content


class RemoteAudio(StoredAudio):
    """An object of a store, or what a web server has at a URL."""

    def version(self) -> AudioStatus:
        """Return the size that the store states, and a number that changes with the object."""
        return self._version

    def read_bytes(self) -> bytes:
        """Return the whole content, which is kept for the next reader."""
        return _OBJECTS.get((self.path, self._version), lambda: read_remote(self.path))

    @once
    def _version(self) -> AudioStatus:
        return _remote_version(self.path)


@dataclass(frozen=True)
class ContainedAudio(StoredAudio):
    """Audio within a file."""

    address: Address = field(compare=False)

    @once
    def _file(self) -> AudioStatus:
        """Status of the archive or table."""
        file = self.address.file
        if scheme_of(file):
            return _STATUSES.get((file, int(time.monotonic() / STATUS_SECONDS)), lambda: _remote_version(file))
        return _file_version(Path(file))


class ArchiveMember(ContainedAudio):
    """A member of a tar archive."""

    def version(self) -> AudioStatus:
        """Return the size of the member and the modification time of its archive."""
        return AudioStatus(self._extent[1], self._file.st_mtime_ns, self._file.st_ino)

    def stat(self) -> AudioStatus:
        """Return the version, in which the size is the member's."""
        return self.version()

    def read_bytes(self) -> bytes:
        """Return the content, which is kept for the next reader and for the next span of a long recording."""
        return _OBJECTS.get((self.path, self.version()), self._read)

    @once
    def _extent(self) -> tuple[int, int]:
        """Offset and size in the archive."""
        archive = self.address.file
        return _INDICES.get((archive, self._file), lambda: _index(archive)).find(self.address.place)

    def _read(self) -> bytes:
        (offset, size), archive = self._extent, self.address.file
        if scheme_of(archive):
            content = read_remote(archive, offset, offset + size) if size else b""
        else:
            with Path(archive).open("rb", buffering=0) as opened:
                opened.seek(offset)
                content = opened.read(size)
        if len(content) < size:
            text = f"{archive} is cut within this member: {len(content)} of its {size} bytes are there. Copy it again"
            raise StoredAudioError(Problem("LP236", text))
        return content


class TableRow(ContainedAudio):
    """The audio of a row: bytes, or a file that the row names."""

    @property
    def suffix(self) -> str:
        """Return "", for a row need not state the name that its file had."""
        return ""

    def version(self) -> AudioStatus:
        """Return the status of the table, or of the file that the row names."""
        if instead := self._table.path_instead(self._row):
            return version_of(self._named(instead))
        return self._file

    def read_bytes(self) -> bytes:
        """Return the bytes, or those of the file that the row names."""
        cell = self._table.audio(self._row)
        if cell.content is not None:
            return cell.content
        if not cell.path:
            text = "its row holds no audio (null). Leave the row out of the manifest, or complete the table"
            raise StoredAudioError(Problem("LP237", text))
        return self._named(cell.path).read_bytes()

    @property
    def _row(self) -> int:
        return int(self.address.place)

    @once
    def _table(self) -> AudioTable:
        address = self.address
        table = _TABLES.get((address.kind, address.file, address.column, self._file), lambda: _open_table(address))
        if self._row >= table.n_rows:
            text = f"{address.file} has {table.n_rows} rows, so that row {self._row} (counted from 0) is beyond its end"
            raise StoredAudioError(Problem("LP235", text))
        return table

    def _named(self, path: str) -> Path | StoredAudio:
        """Return the file that a row names, whose path starts in the folder of the table.

        Raises:
            StoredAudioError: if it names no file: a row of a table, which may be that row itself, or an address in part
        """
        if scheme_of(path) in TABLE_KINDS or "\0" in path:
            text = "its row names a row of a table, or no path, in place of a file; write the file's path into the row"
            raise StoredAudioError(Problem("LP239", text))
        try:
            return locate(absolute(path, self.address.file.rpartition("/")[0] or "/"))
        except ValueError as error:
            raise StoredAudioError(Problem("LP239", f"{path} {error}")) from error


def locate(path: str | Path | StoredAudio) -> Path | StoredAudio:
    """Return a file's path, or the audio at an address or URL, with what of a path's interface is used to read it.

    Audio that is located already is returned as it is.

    Raises:
        StoredAudioError: if an address is incomplete
    """
    if isinstance(path, StoredAudio):
        return path
    text = str(path)
    scheme = "" if isinstance(path, Path) else scheme_of(text)
    if scheme in ("", "file"):
        return Path(text.removeprefix("file://")) if scheme else Path(path)
    try:
        address = parse_address(text)
    except ValueError as error:
        raise StoredAudioError(Problem("LP239", f"{path} {error}")) from error
    if address is None:
        return RemoteAudio(text)
    return ArchiveMember(text, address) if address.kind == "tar" else TableRow(text, address)


def version_of(found: Path | StoredAudio) -> AudioStatus:
    """Return what changes whenever audio does, known without reading it.

    Raises:
        OSError: if nothing is there, or it can't be read
    """
    if isinstance(found, StoredAudio):
        return found.version()
    status = found.stat()
    return AudioStatus(status.st_size, status.st_mtime_ns, status.st_ino)


def problem_of(path: str, error: OSError) -> Problem:
    """Return why a file can't be read, by the error of reading it."""
    if isinstance(error, StoredAudioError):
        return error.problem
    file = error.filename or path
    if isinstance(error, FileNotFoundError):
        return Problem("LP200", f"no such file: {file}")
    return Problem("LP201", f"{file} could not be read ({error.strerror or error})")


def _file_version(file: Path) -> AudioStatus:
    if file.is_dir():
        raise StoredAudioError(Problem("LP200", f"{file} is a folder, not a file"))
    return version_of(file)


def _remote_version(url: str) -> AudioStatus:
    status = remote_status(url)
    if status.version < 0:  # nothing shows whether it changed, so it counts as changed at every look
        return AudioStatus(status.size or 0, time.monotonic_ns())
    return AudioStatus(status.size or 0, status.version)


def _index(archive: str) -> TarIndex:
    with open_remote(archive) if scheme_of(archive) else Path(archive).open("rb") as file:
        return read_tar_index(file, archive)


def _open_table(address: Address) -> AudioTable:
    is_remote = bool(scheme_of(address.file))
    if address.kind == "parquet":
        source: Any = open_remote(address.file) if is_remote else address.file
        return ParquetAudio(source, address.file, address.column)
    if is_remote:
        text = f"{address.file} can't be read there: an Arrow table is read from a disk. Copy it, or save it as Parquet"
        raise StoredAudioError(Problem("LP239", text))
    return ArrowAudio(Path(address.file), address.column)
