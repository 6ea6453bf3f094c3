"""The generation of a cache: a token that changes whenever rows that could be read already are changed or moved.

Rows have their places on disk, and zarr reads by path, so that whoever has a cache open would read other rows after a
compaction, a repair, a replacement, a removal, or an extraction under the same name. A reader therefore remembers the
generation at opening and compares it after each read. A process that changes rows writes a new generation before the
first of them, marked as a rewriting, and another after the last: what was read before the first is right, whatever is
read later is seen to be of another generation. Rows that are only appended leave the generation as it is.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layerprobe.probe.cache.journal import FILES
from layerprobe.probe.cache.lease import LEASE
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.lease import is_held
from layerprobe.probe.version import CACHE_FORMAT_VERSION

GENERATION = f"{FILES}/generation.json"


class CacheChangedError(InputError):
    """Rows of a cache were changed or moved since it was opened."""

    def __init__(self, path: Path) -> None:
        """Name the cache."""
        super().__init__(
            "LP442",
            f"{path} has changed since it was opened: it was compacted, repaired or extracted anew, or utterances were "
            "replaced or removed. Nothing that was read since is used. Open it again, or run the same command again.",
        )
        self.path = path

    def __reduce__(self) -> tuple[type[CacheChangedError], tuple[Path]]:
        """Return what makes the error anew in another process."""
        return type(self), (self.path,)


@dataclass(frozen=True)
class Generation:
    """The generation of a cache at one moment."""

    token: str  # "" where the cache has none
    rewriting: bool = False


def read_generation(path: Path) -> Generation:
    """Read the generation of a cache; a file that is missing or unreadable is a generation of its own."""
    try:
        content = (path / GENERATION).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Generation("")
    try:
        entry = json.loads(content)
        return Generation(str(entry["generation"]), bool(entry["rewriting"]))
    except (ValueError, KeyError, TypeError):
        return Generation(content.hex())


def start_generation(path: Path, *, rewriting: bool = False) -> None:
    """Write a new generation, marked if rows are about to be changed; it is on disk when this returns."""
    entry = {"format_version": CACHE_FORMAT_VERSION, "generation": secrets.token_hex(8), "rewriting": rewriting}
    replace_file(path / GENERATION, json.dumps(entry), durable=True)


@contextmanager
def rewritten(path: Path) -> Iterator[None]:
    """Change rows in the body; after an error or a kill the mark stays until the next writer has finished the work."""
    start_generation(path, rewriting=True)
    yield
    start_generation(path)


def check_generation(path: Path, opened: Generation) -> None:
    """Check that a cache still has the generation that it was opened with.

    Raises:
        CacheChangedError: if it has another
    """
    if read_generation(path) != opened:
        raise CacheChangedError(path)


def stable_generation(path: Path) -> Generation:
    """Read the generation of a cache, of which no row is being changed right now.

    Raises:
        InputError: if a process that lives is changing rows
    """
    found = read_generation(path)
    if found.rewriting and is_held(path / LEASE):
        raise InputError(
            "LP440",
            f"{path} can't be read while another process replaces or removes utterances. Wait for it to end, then run "
            "the same command again.",
        )
    return found
