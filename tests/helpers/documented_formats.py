"""What docs/formats.md states of each file, read from its tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
TYPES = {"text", "integer", "number", "boolean", "table", "list"}


@dataclass(frozen=True)
class Field:
    """A column, key or array of a file."""

    name: str
    type: str  # of `TYPES`, or a dtype with dimensions for arrays
    optional: bool  # may be missing, or empty where it does not apply
    values: tuple[str, ...]  # those that are allowed; none if any
    since: str


@dataclass
class Section:
    """What the page states under one heading: the files it is about, and their fields."""

    files: tuple[str, ...]
    fields: dict[str, Field] = field(default_factory=dict)


def documented() -> list[Section]:
    """Return the sections of the page whose headings name files in backticks."""
    sections: list[Section] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            sections.append(Section(tuple(re.findall(r"`([^`]+)`", line))))
        elif line.startswith("| `") and sections:
            name, kind, values, _, since = (cell.strip() for cell in line.strip("|").split("|"))
            key = name.strip("`")
            found = Field(
                key, kind.removesuffix("?").strip(), kind.endswith("?"), tuple(re.findall(r"`([^`]*)`", values)), since
            )
            if key in sections[-1].fields:
                raise ValueError(f"{PAGE} documents {key} of {sections[-1].files} twice")
            sections[-1].fields[key] = found
    return [s for s in sections if s.files]


def fields_of(file: str) -> dict[str, Field]:
    """Return the documented fields of a file, by the name in the heading."""
    found = [s.fields for s in documented() if file in s.files]
    if len(found) != 1:
        raise ValueError(f"{PAGE} has {len(found)} sections about {file}")
    return found[0]


def differences(file: str, columns: list[str]) -> dict[str, list[str]]:
    """Return columns that the page lacks, and documented ones that the file lacks without being optional."""
    fields = fields_of(file)
    return {
        "undocumented": [c for c in columns if c not in fields],
        "missing": [n for n, f in fields.items() if n not in columns and not f.optional],
    }


def wrong_values(file: str, table: pd.DataFrame) -> list[str]:
    """Return a line for each column of text cells (``dtype=str``) with a value of another type or not allowed."""
    faults = []
    for name, column in fields_of(file).items():
        if name not in table:
            continue
        cells = table[name][table[name] != ""] if column.optional else table[name]
        if column.type in ("number", "integer"):
            numbers = pd.to_numeric(cells, errors="coerce")
            bad = cells[numbers.isna() | ((numbers % 1 != 0) & (column.type == "integer"))]
        elif column.type == "boolean":
            bad = cells[~cells.isin(["True", "False"])]
        else:
            bad = cells[~cells.isin(column.values)] if column.values else cells[:0]
        if len(bad):
            faults.append(f"{file}, {name}: {bad.iloc[0]!r} is no {column.type} of {column.values or 'any value'}")
    return faults
