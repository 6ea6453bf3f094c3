"""Audio in the rows of Parquet and Arrow tables, as ``datasets`` and the hub keep it: bytes, or the name of a file.

A Parquet file can only be read forward within a row group. Rows are therefore read in batches, the last of which are
kept, and reading resumes where it was: rows that are requested about in order are read once. An Arrow file is mapped
into memory, and its rows are read in any order.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.problem import Problem, StoredAudioError

BYTES, PATH = "bytes", "path"  # fields of a column of audio
BATCH_BYTES = 2**21  # of audio, about, that are decoded at once
MOST_ROWS = 64  # of a batch
KEPT_BYTES = 2**25  # of batches that are kept for each table, beyond the last one
BUFFER = 2**20  # bytes that are read of a file at once


@dataclass(frozen=True)
class RowAudio:
    """What the cell of a row holds."""

    content: bytes | None  # of an audio file
    path: str = ""  # of the file in its place where there is no content; else its original name, or ""


class AudioTable(Protocol):
    """A column of audio."""

    n_rows: int

    def audio(self, row: int) -> RowAudio:
        """Return a row's audio; ``0 <= row < n_rows``."""

    def path_instead(self, row: int) -> str:
        """Return the path of the file that a row names in place of bytes; "" for a row that holds bytes, or null."""


class ParquetAudio:
    """A column of a Parquet file, read forward by one thread at a time."""

    def __init__(self, source: Any, table: str, column: str) -> None:
        """Read the metadata.

        Args:
            source: path of the file, or the file opened
            table: its path or URL, for messages
            column: name of the column

        Raises:
            StoredAudioError: if it is no Parquet file, or has no such column of audio
        """
        self._table, self._column, self._lock = table, column, threading.Lock()
        try:
            self._file = pq.ParquetFile(source, memory_map=False, buffer_size=BUFFER, pre_buffer=False)
            schema, metadata = self._file.schema_arrow, self._file.metadata
        except (ValueError, OSError, pa.ArrowException) as error:
            raise _damaged(table, error) from error
        _check_column(schema, table, column)
        groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
        self._begins = [0]
        for group in groups:
            self._begins.append(self._begins[-1] + group.num_rows)
        self.n_rows = self._begins[-1]
        self._has_bytes = [_no_nulls(group, column) for group in groups]
        size = sum(_column_bytes(group, column) for group in groups)
        self._batch_rows = max(1, min(MOST_ROWS, BATCH_BYTES * max(1, self.n_rows) // max(1, size)))
        self._kept: OrderedDict[int, tuple[list[RowAudio], int]] = (
            OrderedDict()
        )  # batches and their bytes, by first row
        self._kept_bytes = 0
        self._ahead: Iterator[Any] = iter(())
        self._group, self._next = -1, 0  # the row group that is read, and the row that its next batch begins with

    def audio(self, row: int) -> RowAudio:
        """Return a row's audio.

        Raises:
            StoredAudioError: if the file is damaged there
        """
        with self._lock:
            first, cells = self._batch(row)
            return cells[row - first]

    def path_instead(self, row: int) -> str:
        """Return the path of the file that a row names in place of bytes; nothing is read where all rows have bytes."""
        if self._has_bytes[bisect.bisect_right(self._begins, row) - 1]:
            return ""
        found = self.audio(row)
        return found.path if found.content is None else ""

    def _batch(self, row: int) -> tuple[int, list[RowAudio]]:
        """Return the batch that has a row, and its first row."""
        for first, (cells, _) in reversed(self._kept.items()):
            if first <= row < first + len(cells):
                return first, cells
        group = bisect.bisect_right(self._begins, row) - 1
        if group != self._group or row < self._next:
            self._ahead, self._group, self._next = self._batches(group), group, self._begins[group]
        try:
            while True:
                batch, first = next(self._ahead), self._next
                self._next += batch.num_rows
                if row < self._next:
                    break
        except (ValueError, OSError, pa.ArrowException, StopIteration) as error:
            self._group = -1
            raise _damaged(self._table, error) from error
        cells = [_cell(value) for value in batch.column(0).to_pylist()]
        self._keep(first, cells)
        return first, cells

    def _batches(self, group: int) -> Iterator[Any]:
        return self._file.iter_batches(  # type: ignore[no-any-return]
            self._batch_rows, row_groups=[group], columns=[self._column], use_threads=False
        )

    def _keep(self, first: int, cells: list[RowAudio]) -> None:
        n_bytes = sum(len(cell.content or b"") for cell in cells)
        self._kept[first] = cells, n_bytes
        self._kept_bytes += n_bytes
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1][1]


class ArrowAudio:
    """A column of an Arrow file, as ``Dataset.save_to_disk`` and the cache of ``datasets`` write it."""

    def __init__(self, file: Path, column: str) -> None:
        """Map the file into memory.

        Raises:
            StoredAudioError: if it is no Arrow file, or has no such column of audio
        """
        try:
            opened = open_arrow(pa.memory_map(str(file)))
            _check_column(opened.schema, str(file), column)
            table = opened.read_all().select([column])
        except (ValueError, OSError, pa.ArrowException) as error:
            if isinstance(error, StoredAudioError):
                raise
            raise _damaged(str(file), error) from error
        self._cells, self.n_rows = table.column(0), table.num_rows

    def audio(self, row: int) -> RowAudio:
        """Return a row's audio."""
        return _cell(self._cells[row].as_py())

    def path_instead(self, row: int) -> str:
        """Return the path of the file that a row names in place of bytes; "" for a row that holds bytes, or null."""
        found = self.audio(row)
        return found.path if found.content is None else ""


def open_arrow(source: Any) -> Any:
    """Open an Arrow table in either of its two formats, a stream or a file."""
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source)


def _cell(value: Any) -> RowAudio:
    if isinstance(value, dict):
        return RowAudio(value.get(BYTES), value.get(PATH) or "")
    return RowAudio(None, value) if isinstance(value, str) else RowAudio(value)


def _check_column(schema: Any, table: str, column: str) -> None:
    """Check that a column can hold audio: bytes, a path, or a structure of both.

    Raises:
        StoredAudioError: if there is none of the name, or it is of another type
    """
    if column not in schema.names:
        fitting = [field.name for field in schema if _holds_audio(field.type)]
        other = f"; {' and '.join(fitting)} may be it: {_kind(table)}://…?column={fitting[0]}#…" if fitting else ""
        raise StoredAudioError(Problem("LP235", f"{table} has no column {column!r}{other}"))
    kind = schema.field(column).type
    if not _holds_audio(kind) and not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        text = f"{table}: column {column!r} holds {kind}, not the bytes or paths of audio files. Name another column"
        raise StoredAudioError(Problem("LP235", text))


def is_audio(kind: Any) -> bool:
    """Return whether a type is that of a column of audio, a structure of bytes, which may all be null, and a path."""
    if not pa.types.is_struct(kind) or (k := kind.get_field_index(BYTES)) < 0:
        return False
    return _is_bytes(kind.field(k).type) or bool(pa.types.is_null(kind.field(k).type))


def _holds_audio(kind: Any) -> bool:
    return is_audio(kind) or _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or str(kind) == "binary_view")


def _kind(table: str) -> str:
    return "arrow" if table.endswith(".arrow") else "parquet"


def _leaves(group: Any, column: str) -> list[Any]:
    """Return the metadata of a column's leaf of bytes in a row group."""
    leaves = [group.column(k) for k in range(group.num_columns)]
    return [leaf for leaf in leaves if leaf.path_in_schema in (column, f"{column}.{BYTES}")]


def _no_nulls(group: Any, column: str) -> bool:
    """Return whether statistics show that each row of a row group has bytes."""
    found = [leaf.statistics for leaf in _leaves(group, column) if leaf.physical_type == "BYTE_ARRAY"]
    return bool(found) and all(s is not None and s.has_null_count and s.null_count == 0 for s in found)


def _column_bytes(group: Any, column: str) -> int:
    return sum(leaf.total_uncompressed_size for leaf in _leaves(group, column))


def _damaged(table: str, error: Exception) -> StoredAudioError:
    text = f"{table} can't be read as a table ({first_line(error)}). Save it again, or copy it again"
    return StoredAudioError(Problem("LP236", text))
