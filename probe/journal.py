"""The journal of a cache: which blocks are whole, written only after they are on disk, tolerant of a torn last line."""

from __future__ import annotations

import json
import os
from pathlib import Path

from probe.errors import InputError

JOURNAL = "journal.jsonl"


class CacheDamaged(InputError):
    """The cache does not hold what its journal promises."""


def read_journal(path: Path) -> list[dict[str, int]]:
    """Lines of whole blocks in order of writing; a torn last line never became one and is left out."""
    raw = (path / JOURNAL).read_bytes().split(b"\n")
    lines: list[dict[str, int]] = []
    for number, line in enumerate(raw):
        if not line.strip(b"\0 "):
            continue
        try:
            entry = json.loads(line)
            lines.append({"block": int(entry["block"]), "rows": int(entry["rows"])})
        except (ValueError, KeyError, TypeError) as error:
            if any(rest.strip(b"\0 ") for rest in raw[number + 1 :]):
                raise CacheDamaged(f"{path / JOURNAL}, line {number + 1} can't be read. Extract it again.") from error
    return lines


def n_whole_rows(lines: list[dict[str, int]]) -> int:
    """Rows of whole blocks, by the last word on each: a block that grew is named again."""
    return sum({line["block"]: line["rows"] for line in lines}.values())


def rewrite_journal(path: Path, lines: list[dict[str, int]]) -> None:
    """Start the journal of a new cache, or drop what was torn from one."""
    replace_file(path / JOURNAL, "".join(json.dumps(line) + "\n" for line in lines))


def note_block(path: Path, *, block: int, rows: int) -> None:
    """Name a block whole; the line is on disk when this returns."""
    with (path / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(json.dumps({"block": block, "rows": rows}) + "\n")
        journal.flush()
        os.fsync(journal.fileno())


def make_durable(file: Path) -> None:
    """Flush a file and its folder to the disk; the store replaces files atomically but never syncs them."""
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
