"""The table of a manifest as text, with the row that a spreadsheet shows for each utterance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.exceptions import InputError


@dataclass(frozen=True)
class TextTable:
    """Cells of a table as text, and where its rows are in the file."""

    cells: pd.DataFrame  # strings, '' where empty
    row_numbers: np.ndarray  # (n_utterances,) as a spreadsheet shows them: the header is row 1


def read_text_table(path: Path) -> TextTable:
    """Read every cell of a ``.csv`` or ``.parquet`` table as text; blank rows are left out, but counted.

    Raises:
        InputError: if the file can't be read as a table, or has no utterances
    """
    try:
        if path.suffix.lower() == ".csv":
            table = _read_csv(path)
        elif path.suffix.lower() == ".parquet":
            columns = _read_parquet(path)
            texts = {c: columns[c].map(lambda v: "" if pd.isna(v) else str(v)) for c in columns}
            table = TextTable(pd.DataFrame(texts), np.arange(len(columns)) + 2)
        else:
            raise InputError(f"{path} is neither .csv nor .parquet. Save the table as one of these.")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} can't be read as a table: {error}. Save it again as UTF-8 CSV.") from error
    if table.cells.empty:
        raise InputError(f"{path} has no utterances. Add a row for each.")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ValueError as error:  # what Arrow raises for a file that is not, or not only, parquet
        raise InputError(f"{path} can't be read as a table: {str(error).rstrip('.')}. Save it again.") from error


def _read_csv(path: Path) -> TextTable:
    with path.open(encoding="utf-8-sig") as file:
        n_blank = next((n for n, line in enumerate(file) if line.strip()), 0)  # lines above the header
    # Every cell as text: pandas would make a missing value of the speaker "NA" and 7 of the id "007". Blank rows are
    # read, too, so that the rows below them keep the numbers that a spreadsheet shows.
    cells = pd.read_csv(
        path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False, skiprows=n_blank
    )
    if not isinstance(cells.index, pd.RangeIndex):  # pandas takes columns without a name for row labels
        raise InputError(f"{path}: its rows have more cells than its header has names. Name every column.")
    blank = (cells.iloc[:, 0].str.strip() == "").to_numpy(copy=True)
    blank[blank] = (cells[blank].apply(lambda column: column.str.strip()) == "").all(axis=1)
    return TextTable(cells[~blank].reset_index(drop=True), np.flatnonzero(~blank) + 2 + n_blank)
