"""Hashes of audio files, stored between runs: a file is hashed again only if its size or modification time changed.

Of audio in an archive or a table these are the archive's or table's, and of an object in a store a number that changes
with what the store states of it; the hash is always one of the audio's own bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.stored.stored_audio import locate, version_of
from layerprobe.probe.filesystem import read_table, replace_file
from layerprobe.probe.version import CACHE_FORMAT_VERSION

AUDIO_HASHES = "audio_hashes.csv"
ROWS_AT_ONCE = 4_096
COLUMNS = ("path", "size", "modified_ns", "hash")

Row = dict[Hashable, Any]  # of the manifest, by column


class AudioHashes:
    """Hashes of sixteen hex digits over files' bytes; moving a file changes nothing, editing it does."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load ``audio_hashes.csv`` of ``folder`` where it exists; with None nothing is loaded or saved.

        A file of another format version is not trusted: all audio files are hashed anew, and it is replaced.
        """
        self._file = None if folder is None else folder / AUDIO_HASHES
        self._known: dict[str, tuple[int, int, str]] = {}
        self._used: dict[str, tuple[int, int, str]] = {}
        if self._file is not None and self._file.exists():
            table = read_table(self._file, dtype={"path": str, "hash": str})
            if "format_version" not in table or (table["format_version"] != CACHE_FORMAT_VERSION).any():
                return
            columns = (table[name].tolist() for name in COLUMNS)
            self._known = {path: (size, time, digest) for path, size, time, digest in zip(*columns, strict=True)}

    def hash_file(self, path: str) -> str:
        """Return the hash of one file.

        Raises:
            OSError: if it can't be read
        """
        located = locate(path)
        status = version_of(located)
        entry = self._known.get(path)
        if entry is None or entry[:2] != (status.st_size, status.st_mtime_ns):
            with located.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            entry = self._known[path] = (status.st_size, status.st_mtime_ns, digest)
        self._used[path] = entry
        return entry[2]

    def hash_row(self, row: Row) -> str:
        """Return what identifies an utterance's audio: its file's hash, and the span where it has one."""
        return self.hash_file(str(row["path"])) + "".join(f" {k} {v!r}" for k, v in span_of(row).items())

    def save(self) -> None:
        """Write the hashes of the files that were looked up."""
        if self._file is not None:
            rows = [(path, *entry) for path, entry in self._used.items()]
            table = pd.DataFrame(rows, columns=list(COLUMNS)).assign(format_version=CACHE_FORMAT_VERSION)
            replace_file(self._file, table.to_csv(index=False, lineterminator="\n"))


def records(table: pd.DataFrame) -> Iterator[Row]:
    """Yield a manifest's rows one by one; all at once they would take a kilobyte each."""
    for begin in range(0, len(table), ROWS_AT_ONCE):
        yield from table.iloc[begin : begin + ROWS_AT_ONCE].to_dict("records")


def span_of(row: Row) -> dict[str, float]:
    """Return ``start`` and ``end`` of an utterance in its file, in seconds, where the manifest states them."""
    return {name: float(row[name]) for name in ("start", "end") if pd.notna(row.get(name))}
