"""What sounds hold, by hash, remembered from run to run: a file is read again only if its size or time has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.filesystem import read_table, replace_file

AUDIO_HASHES = "audio_hashes.csv"
ROWS_AT_ONCE = 4_096
COLUMNS = ("path", "size", "modified_ns", "hash")

Row = dict[Hashable, Any]  # of the manifest, by column


class AudioHashes:
    """Sixteen hex digits over a file's bytes: the same after a move or a touch, another after an edit."""

    def __init__(self, folder: Path | None = None) -> None:
        """Remember what ``audio_hashes.csv`` in ``folder`` holds, if it is there."""
        self._file = None if folder is None else folder / AUDIO_HASHES
        self._known: dict[str, tuple[int, int, str]] = {}
        self._used: dict[str, tuple[int, int, str]] = {}
        if self._file is not None and self._file.exists():
            table = read_table(self._file, dtype={"path": str, "hash": str})
            columns = (table[name].tolist() for name in COLUMNS)
            self._known = {path: (size, time, digest) for path, size, time, digest in zip(*columns, strict=True)}

    def of_file(self, path: str) -> str:
        """The hash of one file.

        Raises:
            OSError: if it can't be read
        """
        status = Path(path).stat()
        seen = self._known.get(path)
        if seen is None or seen[:2] != (status.st_size, status.st_mtime_ns):
            with Path(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            seen = self._known[path] = (status.st_size, status.st_mtime_ns, digest)
        self._used[path] = seen
        return seen[2]

    def of_row(self, row: Row) -> str:
        """What an utterance was made from: its file's hash and the span, if it is one."""
        return self.of_file(str(row["path"])) + "".join(f" {k} {v!r}" for k, v in span_of(row).items())

    def save(self) -> None:
        """Write down the files that were asked for."""
        if self._file is not None:
            rows = [(path, *seen) for path, seen in self._used.items()]
            table = pd.DataFrame(rows, columns=list(COLUMNS))
            replace_file(self._file, table.to_csv(index=False, lineterminator="\n"))


def records(table: pd.DataFrame) -> Iterator[Row]:
    """A manifest's rows one by one; never all at once, which would take a kilobyte each."""
    for begin in range(0, len(table), ROWS_AT_ONCE):
        yield from table.iloc[begin : begin + ROWS_AT_ONCE].to_dict("records")


def span_of(row: Row) -> dict[str, float]:
    """Where in its file an utterance begins and ends, in seconds, as far as the manifest says."""
    return {name: float(row[name]) for name in ("start", "end") if pd.notna(row.get(name))}
