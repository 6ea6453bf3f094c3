"""The journal of a cache: which blocks are whole, written only after they are on disk, tolerant of a torn last line.

A line is ``{"block": 3, "rows": 512, "files": {"embeddings": "0f…", …}}``: the digests of the block's files as they
were written, by which a file that was swapped for another, checksums and all, is found out. The last line on a block
counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import append_line, replace_file

JOURNAL = "journal.jsonl"


class CacheDamagedError(InputError):
    """The cache does not hold what its journal promises."""


@dataclass(frozen=True)
class BlockLine:
    """What the journal says of a block."""

    block: int
    rows: int
    files: dict[str, str] = field(default_factory=dict)  # digest by array; empty while they are written anew


def read_journal(path: Path, *, mending: bool = False) -> dict[int, BlockLine]:
    """The last word on each whole block, in order; a torn last line never became one and is left out.

    Args:
        path: of the cache
        mending: whether a line that can't be read is no reason to stop

    Raises:
        CacheDamagedError: if a line that others follow can't be read, or a block is not named before the last one
    """
    raw = (path / JOURNAL).read_bytes().split(b"\n")
    lines: dict[int, BlockLine] = {}
    for number, line in enumerate(raw):
        if not line.strip(b"\0 "):
            continue
        try:
            entry = json.loads(line)
            files = {str(name): str(digest) for name, digest in entry.get("files", {}).items()}
            lines[int(entry["block"])] = BlockLine(int(entry["block"]), int(entry["rows"]), files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if any(rest.strip(b"\0 ") for rest in raw[number + 1 :]) and not mending:
                raise CacheDamagedError(
                    f"{path / JOURNAL}, line {number + 1} can't be read. Mend it with layerprobe cache repair."
                ) from error
    if not mending and sorted(lines) != list(range(len(lines))):
        raise CacheDamagedError(f"{path / JOURNAL} does not name every block. Mend it with layerprobe cache repair.")
    return dict(sorted(lines.items()))


def n_whole_rows(lines: dict[int, BlockLine]) -> int:
    """Rows of whole blocks."""
    return sum(line.rows for line in lines.values())


def rewrite_journal(path: Path, lines: Iterable[BlockLine]) -> None:
    """Start the journal of a new cache, or drop what was torn from one."""
    replace_file(path / JOURNAL, "".join(_text(line) for line in lines))


def append_block(path: Path, line: BlockLine) -> None:
    """Name a block whole; the line is on disk when this returns."""
    append_line(path / JOURNAL, _text(line))


def _text(line: BlockLine) -> str:
    return json.dumps(asdict(line)) + "\n"
