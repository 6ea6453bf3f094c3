"""Tables of spans: CSV, TSV or Parquet, a row for each span of an utterance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.schema import TIMES, ManifestError
from layerprobe.probe.data.manifest.table import log_notes, read_text_table
from layerprobe.probe.data.manifest.validate import RowProblems, missing_required, with_decimal_points
from layerprobe.probe.identities import normalise_names
from layerprobe.probe.problem import Problem

SPAN_ID, UTTERANCE, LABEL = "span_id", "utterance_id", "label"
SPAN_COLUMNS = (SPAN_ID, UTTERANCE, *TIMES, LABEL)


def read_span_table(path: Path | str) -> pd.DataFrame:
    """Read a table with the columns ``utterance_id``, ``start`` and ``end``, and check every row.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.parquet`` table; ``label`` and ``span_id`` may be in it, and others

    Returns:
        ``span_id`` ('' in all rows where the table has none), ``utterance_id``, ``start``, ``end`` (float64, seconds
        from the beginning of the utterance), ``label`` ('' where it has none), and the other columns as text

    Raises:
        InputError: if the file is missing or can't be read
        ManifestError: naming every problem with its row as a spreadsheet shows it
    """
    path = Path(path)
    table = read_text_table(path, wanted=SPAN_COLUMNS.__contains__)
    if missing := missing_required(table.cells, (UTTERANCE, *TIMES)):
        raise ManifestError(path, missing)
    problems = RowProblems(path, table.row_numbers)
    raw, decimal = with_decimal_points(table.cells, list(TIMES), problems)
    cells = raw.assign(**{UTTERANCE: normalise_names(raw[UTTERANCE])})
    for column in (SPAN_ID, LABEL):
        cells[column] = raw[column].str.strip() if column in raw else ""
    _check_names(cells, problems, has_ids=SPAN_ID in raw)
    for column in TIMES:
        cells[column] = _times(raw[column], problems)
    _check_order(cells, problems)
    problems.raise_if_any()
    notes = [f"decimal commas in {', '.join(decimal)}"] if decimal else []
    log_notes(path, (*table.notes, *notes))
    return cells[[*SPAN_COLUMNS, *(c for c in cells if c not in SPAN_COLUMNS)]].reset_index(drop=True)


def _check_names(cells: pd.DataFrame, problems: RowProblems, *, has_ids: bool) -> None:
    problems.add(np.flatnonzero(cells[UTTERANCE] == ""), lambda _: Problem("LP140", "utterance_id is empty"))
    if not has_ids:
        return
    ids = cells[SPAN_ID]
    first = ids.map({name: k for k, name in reversed(list(enumerate(ids)))})
    problems.add(np.flatnonzero(ids == ""), lambda _: Problem("LP179", "span_id is empty, and other rows have one"))
    problems.add(
        np.flatnonzero((first != np.arange(len(ids))) & (ids != "")),
        lambda r: Problem("LP179", f"span_id {ids[r]!r} is also in row {problems.row_numbers[int(first[r])]}"),
    )


def _times(text: pd.Series[str], problems: RowProblems) -> pd.Series[float]:
    values = pd.to_numeric(text.str.strip(), errors="coerce").astype(float)
    values = values.where(np.isfinite(values))
    problems.add(
        np.flatnonzero(values.isna()),
        lambda r: Problem("LP179", f"{text.name} is {text[r]!r}, not a number of seconds"),
    )
    problems.add(
        np.flatnonzero(values < 0),
        lambda r: Problem("LP179", f"{text.name} is {values[r]:g} s, before the utterance starts"),
    )
    return values


def _check_order(cells: pd.DataFrame, problems: RowProblems) -> None:
    start, end = cells["start"], cells["end"]
    problems.add(
        np.flatnonzero(end <= start),
        lambda r: Problem("LP179", f"end {end[r]:g} s is not after start {start[r]:g} s"),
    )
