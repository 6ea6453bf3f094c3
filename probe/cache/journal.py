"""The journal of a cache: which blocks are complete, named only after they are on disk; a torn last line is ignored.

A line is ``{"format_version": 2, "block": 3, "rows": 512, "files": {"embeddings": "0f…", …}}``. ``files`` holds the
digest of each of the block's files as it was written, which reveals a file that was exchanged for another, checksums
and all. The last line of a block counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import append_line, replace_file
from layerprobe.probe.version import CACHE_FORMAT_VERSION

FILES = "extraction"  # folder in the cache of everything that is no array, see `probe.cache.layout`
JOURNAL = f"{FILES}/journal.jsonl"


class CacheDamagedError(InputError):
    """The cache does not hold what its journal promises."""


@dataclass(frozen=True)
class BlockLine:
    """An entry of the journal: a complete block and the digests of its files."""

    block: int
    rows: int
    files: dict[str, str] = field(default_factory=dict)  # digest by array; empty while they are rewritten


def check_format_version(path: Path, found: object) -> None:
    """Check that a cache, or a file in it, has the format version of this program.

    Args:
        path: of the cache or file
        found: its format version as a number or text; None or "" if it states none

    Raises:
        InputError: if it has another, or none
    """
    if str(found or "") != str(CACHE_FORMAT_VERSION):
        raise InputError(
            "LP402",
            f"{path} has {f'format {found}' if found else 'no format_version'}, but this version of layerprobe reads "
            f"format {CACHE_FORMAT_VERSION}: make the cache anew with layerprobe extract and another --out.",
        )


def read_journal(path: Path, *, tolerant: bool = False) -> dict[int, BlockLine]:
    """Read the last entry of each complete block, in order; a torn last line is left out.

    Args:
        path: of the cache
        tolerant: whether unreadable lines and missing blocks are skipped instead of raising

    Raises:
        CacheDamagedError: if a line before the last can't be read, or a block before the last is missing
        InputError: if a line has another format version
    """
    raw = (path / JOURNAL).read_bytes().split(b"\n")
    lines: dict[int, BlockLine] = {}
    for number, line in enumerate(raw):
        if not line.strip(b"\0 "):
            continue
        try:
            entry = json.loads(line)
            files = {str(name): str(digest) for name, digest in entry.get("files", {}).items()}
            block = BlockLine(int(entry["block"]), int(entry["rows"]), files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if any(rest.strip(b"\0 ") for rest in raw[number + 1 :]) and not tolerant:
                raise CacheDamagedError(
                    "LP412",
                    f"{path / JOURNAL}, line {number + 1} can't be read. Repair it with layerprobe cache repair.",
                ) from error
            continue
        check_format_version(path / JOURNAL, entry.get("format_version"))
        lines[block.block] = block
    if not tolerant and sorted(lines) != list(range(len(lines))):
        raise CacheDamagedError(
            "LP412", f"{path / JOURNAL} does not name every block. Repair it with layerprobe cache repair."
        )
    return dict(sorted(lines.items()))


def n_complete_rows(lines: dict[int, BlockLine]) -> int:
    """Return the number of rows in complete blocks, including removed ones."""
    return sum(line.rows for line in lines.values())


def rewrite_journal(path: Path, lines: Iterable[BlockLine]) -> None:
    """Write the journal anew: empty for a new cache, or without what was torn."""
    replace_file(path / JOURNAL, "".join(_text(line) for line in lines))


def append_block(path: Path, line: BlockLine) -> None:
    """Name a block complete; the line is on disk when this returns."""
    append_line(path / JOURNAL, _text(line))


def _text(line: BlockLine) -> str:
    return json.dumps({"format_version": CACHE_FORMAT_VERSION, **asdict(line)}) + "\n"
