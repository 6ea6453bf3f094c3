"""The table of a manifest as text, with the row that a spreadsheet shows for each utterance."""

from __future__ import annotations

import logging
import multiprocessing
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.dialect import RawTable, read_raw_table
from layerprobe.probe.data.manifest.file_kind import no_table
from layerprobe.probe.data.manifest.parquet import audio_column, read_parquet_columns, read_parquet_names
from layerprobe.probe.data.manifest.schema import KNOWN_COLUMNS, NEEDED_COLUMNS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import normalise_name, similar_names
from layerprobe.probe.nearest_path import missing_file

TEXT_ENDINGS = (".csv", ".tsv")
TABLE_ENDINGS = (*TEXT_ENDINGS, ".parquet")
DATASETS = {".arrow": "hf", ".tar": "webdataset", ".jsonl": "lhotse", ".jsonl.gz": "lhotse"}  # importers by ending
_log = logging.getLogger("layerprobe.manifest")  # written to standard error, unless a program decides otherwise
NAMES_SOUGHT = 20  # rows in which the names of columns are looked for if they are not in the first
# Names that pandas and Arrow write for an index that has none.
INDEX_NAME = re.compile(r"Unnamed: \d+(_level_\d+|\.\d+)*|__index_level_\d+__|")


@dataclass(frozen=True)
class TextTable:
    """Cells of a table as text, and where its rows are in the file."""

    cells: pd.DataFrame  # strings, '' where empty
    row_numbers: np.ndarray  # (n_utterances,) as a spreadsheet shows them: the header is row 1
    notes: tuple[str, ...] = ()  # how the file differs from a usual one, each a clause


def check_table_file(path: Path, *, what: str = "table") -> None:
    """Check that a file is there and may hold a table.

    Args:
        path: of the table
        what: it is, for the message

    Raises:
        InputError: if there is no file, it has another ending, or it is a pointer, a web page, empty or cut
    """
    if not path.exists():
        raise InputError(
            "LP101", f"{missing_file(path, endings=TABLE_ENDINGS)}. Give the path of a {what}, .csv or .parquet."
        )
    if path.suffix.lower() not in TABLE_ENDINGS:
        advice = f"Import it: {command}" if (command := import_command(path)) else "Save the table as one of these"
        raise InputError("LP102", f"{path} is neither .csv nor .parquet. {advice}.")
    if path.is_file() and (fault := no_table(path)):
        raise InputError("LP103", f"{path} can't be read as a table: {fault}.")
    if path.suffix.lower() == ".parquet" and (column := audio_column(path)):
        raise InputError(
            "LP190",
            f"{path} is a table of a Hugging Face dataset, with its audio in column {column}. Import it: "
            f"layerprobe manifest import hf {path} --out {path.stem}.csv.",
        )


def import_command(path: Path) -> str:
    """Return the command that imports a dataset of another format, '' where a path is none.

    Args:
        path: of a file, or of a folder

    >>> import_command(Path("data/cuts.jsonl.gz"))
    'layerprobe manifest import lhotse data/cuts.jsonl.gz --out cuts.csv'
    """
    importer = next((name for ending, name in DATASETS.items() if path.name.lower().endswith(ending)), "")
    if path.is_dir() and (any(path.glob("*_*.json")) or any(path.rglob("*.parquet"))):
        importer = "hf"
    return f"layerprobe manifest import {importer} {path} --out {path.name.partition('.')[0]}.csv" if importer else ""


def read_text_table(path: Path, *, wanted: Callable[[str], bool] = NEEDED_COLUMNS.__contains__) -> TextTable:
    """Read a ``.csv``, ``.tsv`` or ``.parquet`` table as text; blank rows are left out, but counted.

    Args:
        path: of the table
        wanted: whether a column is needed, by its name; others are read only where they hold texts or numbers

    Raises:
        InputError: if the file can't be read as a table, two columns have one name, or there are no utterances
    """
    check_table_file(path)
    try:
        if path.suffix.lower() in TEXT_ENDINGS:
            table = _from_text(path, read_raw_table(path, KNOWN_COLUMNS))
        else:
            table = _from_parquet(path, wanted)
    except OSError as error:
        raise InputError("LP104", f"{path} can't be read as a table: {error}. Save it again as UTF-8 CSV.") from error
    if table.cells.empty:
        raise InputError("LP106", f"{path} has no utterances. Add a row for each.")
    return table


def log_notes(path: Path, notes: Sequence[str]) -> None:
    """Log how a file differs from a usual one and how it was read: one line, and none in a worker process.

    Args:
        path: of the table
        notes: each a clause
    """
    if notes and multiprocessing.parent_process() is None:
        _log.warning("%s: %s.", path, "; ".join(notes))


def unread_columns(path: Path, cells: pd.DataFrame) -> list[str]:
    """Return the named columns of a Parquet table that are not among the cells read from it, for their types."""
    if path.suffix.lower() in TEXT_ENDINGS:
        return []
    names = map(normalise_name, read_parquet_names(path))
    return [name for name in names if name not in cells and INDEX_NAME.fullmatch(name) is None]


def _from_text(path: Path, raw: RawTable) -> TextTable:
    _check_repeated(path, raw.names)
    filled = np.array([any(cell.strip() for cell in row) for row in raw.rows], dtype=bool)
    numbers = np.flatnonzero(filled) + raw.first_row
    rows = [row for row, is_filled in zip(raw.rows, filled, strict=True) if is_filled]
    width = len(raw.names)
    _check_names_row(path, raw)
    _check_lengths(path, rows, numbers, width)
    columns = list(zip(*(row[:width] for row in rows), strict=True)) if rows else [()] * width
    kept, notes = _without_index(raw.names, columns)
    cells = pd.DataFrame({raw.names[k]: pd.Series(columns[k], dtype=str) for k in kept})
    return TextTable(cells, numbers, (*raw.notes, *notes))


def _from_parquet(path: Path, wanted: Callable[[str], bool]) -> TextTable:
    written = read_parquet_names(path)
    spelled = {name: normalise_name(name) for name in written}
    _check_repeated(path, [spelled[name] for name in written])
    columns = read_parquet_columns(path, lambda name: wanted(spelled[name]))
    names, values = [spelled[name] for name in columns], list(columns.values())
    kept, notes = _without_index(names, values)
    cells = pd.DataFrame({names[k]: pd.Series(values[k], dtype=str) for k in kept})
    return TextTable(cells, np.arange(len(cells)) + 2, tuple(notes))


def _check_repeated(path: Path, names: list[str]) -> None:
    repeated = [name for name, n in Counter(names).items() if n > 1 and name]
    if repeated:
        places = ", ".join(str(k + 1) for k, name in enumerate(names) if name == repeated[0])
        raise InputError(
            "LP112",
            f"{path} has {names.count(repeated[0])} columns of the name {repeated[0]} (columns {places}). Rename or "
            "remove all but one.",
        )
    for similar in similar_names([name for name in names if name]):
        if NEEDED_COLUMNS.intersection(similar.names):
            raise InputError(
                "LP112",
                f"{path} has the columns {' and '.join(similar.names)}, which differ only in {similar.difference}. "
                "Rename or remove all but one.",
            )


def _check_names_row(path: Path, raw: RawTable) -> None:
    """Check that the names of columns are not in a row below others, such as a title or a comment."""
    if KNOWN_COLUMNS.intersection(raw.names):
        return
    for k, row in enumerate(raw.rows[:NAMES_SOUGHT]):
        if len(KNOWN_COLUMNS.intersection(map(normalise_name, row))) > 1:
            raise InputError(
                "LP108",
                f"{path} has the names of its columns in row {raw.first_row + k}, not in its first one. Remove the "
                "rows above it.",
            )


def _check_lengths(path: Path, rows: list[list[str]], numbers: np.ndarray, width: int) -> None:
    """Check that each row has a cell for each name; cells beyond them may be there if they are empty."""
    too_long = [k for k, row in enumerate(rows) if any(cell.strip() for cell in row[width:])]
    if too_long and len(too_long) == len(rows):
        raise InputError(
            "LP109",
            f"{path}: its rows have more cells than its header has names. Name every column, and write a cell that "
            "holds a separator (a text, a decimal comma) in quotation marks.",
        )
    too_short = [k for k, row in enumerate(rows) if len(row) < width]
    faults = [(k, "a text that holds a separator needs quotation marks") for k in too_long[:1]]
    faults += [(k, "the file may be cut") for k in too_short[:1]]
    for k, cause in faults:
        raise InputError(
            "LP109",
            f"{path}: row {numbers[k]} has {len(rows[k])} cells, and the header {width} names; {cause}. Correct the "
            "row, or save the table again.",
        )


def _without_index(names: Sequence[str], columns: Sequence[Sequence[str]]) -> tuple[list[int], list[str]]:
    """Return the numbers of columns with a name, and a clause on each that is left out and not empty."""
    kept, notes = [], []
    for k, (name, cells) in enumerate(zip(names, columns, strict=True)):
        if INDEX_NAME.fullmatch(name) is None:
            kept.append(k)
        elif any(cell.strip() for cell in cells):
            kind = "an index that was saved with the table" if all(c.strip().isdecimal() for c in cells) else "no name"
            notes.append(f"column {k + 1} left out ({kind})")
    return kept, notes
