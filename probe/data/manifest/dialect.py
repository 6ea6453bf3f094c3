"""How a table of text is written: its encoding, what separates its cells, and where its names are."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import normalise_name

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t]*\r?\n', re.IGNORECASE)  # which Excel reads and does not show
EMPTY = "".join(SEPARATORS) + '" \r\n\u00a0'  # what a row without any content is made of
END = "\0"  # a row that no table has, by which a quotation mark that is never closed is seen
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # marks of byte order
MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), *((mark, "utf-16") for mark in UTF_16))


@dataclass(frozen=True)
class RawTable:
    """The cells of a file of text, as they are written."""

    names: list[str]  # of the columns, normalised; '' where a column has none
    rows: list[list[str]]  # all below the names, blank ones included, of any length
    first_row: int  # number of the first of them, as a spreadsheet shows it
    notes: list[str]  # what is not usual and was recognised, each a clause


def read_raw_table(path: Path, known: Collection[str]) -> RawTable:
    """Read a table of text: UTF-8, UTF-16 or UTF-32, separated by commas, semicolons, tabs or vertical bars.

    Args:
        path: of the file
        known: names of columns, by which the separator is found

    Raises:
        InputError: if the encoding is another, or a quotation mark is never closed
        OSError: if the file can't be read
    """
    text, notes = decode_text(path, path.read_bytes())
    if "\0" in text:
        raise InputError(
            "LP104", f"{path} can't be read as a table: it holds zero bytes, so it is damaged. Save it again."
        )
    stated = SEP_LINE.match(text)
    text = text[stated.end() :] if stated else text
    lines = io.StringIO(text, newline="").readlines()
    n_blank = next((n for n, line in enumerate(lines) if line.strip(EMPTY)), 0)  # lines above the names
    lines = lines[n_blank:]
    separator = stated[1] if stated else _separator("".join(lines[:1]), known)
    if separator != ",":
        notes.append(f"cells separated by {SEPARATORS.get(separator, repr(separator))}")
    rows = _split(lines, separator)
    if rows is None:
        raise InputError(
            "LP104",
            f"{path} can't be read as a table: a quotation mark is opened and never closed, so it may be cut. Correct "
            "or save it again.",
        )
    names = [normalise_name(name) for name in (rows[0] if rows else [])]
    return RawTable(names, rows[1:], n_blank + 2, notes)


def decode_text(path: Path, raw: bytes, *, latin_1: bool = False) -> tuple[str, list[str]]:
    """Return the text of a file, and a clause where its encoding is not UTF-8.

    Args:
        path: of the file, for the error
        raw: its bytes
        latin_1: whether to read what is no form of Unicode as Latin-1, which any byte can be

    Raises:
        InputError: if they are in no form of Unicode, for other encodings look alike
    """
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), "")
    if not encoding and b"\0" in raw[:2]:
        encoding = "utf-16-le" if raw[1:2] == b"\0" else "utf-16-be"
    try:
        text = raw.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        if encoding:
            raise InputError(
                "LP104", f"{path} is not whole {encoding.upper()[:6]}, so it may be cut. Save it as UTF-8."
            ) from error
        if latin_1 and b"\0" not in raw:
            return raw.decode("latin-1"), ["encoding Latin-1"]
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            "LP105",
            f"{path} is not UTF-8 (line {line} has the byte 0x{raw[error.start]:02x}). Save it as UTF-8 (in Excel: CSV "
            f"UTF-8), or convert it from the encoding that it has, such as: iconv -f WINDOWS-1252 -t UTF-8 {path.name}",
        ) from error
    return text, [f"encoding {encoding.upper()[:6]}"] if encoding else []


def _separator(header: str, known: Collection[str]) -> str:
    """Return the separator that gives the most known names; where none does, the one that gives the most names."""

    def score(separator: str) -> tuple[int, int]:
        names = {normalise_name(name) for row in _split([header], separator) or [] for name in row}
        return len(names.intersection(known)), len(names)

    scores = {separator: score(separator) for separator in SEPARATORS}
    return max(scores, key=lambda s: (scores[s][0], scores[s][1] if not scores[s][0] else 0))


def _split(lines: list[str], separator: str) -> list[list[str]] | None:
    """Return the cells of each row, or None where a quotation mark is never closed."""
    with _cells_of_any_length():
        rows = list(csv.reader([*lines, END], delimiter=separator))
    return rows[:-1] if rows[-1] == [END] else None


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
