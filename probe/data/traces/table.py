"""Traces in tables: one table of all utterances, a table for each, or a folder of these for each target."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.schema import Target
from layerprobe.probe.data.manifest.table import TABLE_ENDINGS, log_notes, read_text_table
from layerprobe.probe.data.manifest.validate import RowProblems, with_decimal_points
from layerprobe.probe.data.span_files.span_table import SPAN_COLUMNS, UTTERANCE
from layerprobe.probe.data.traces.corpora import is_gold_standard
from layerprobe.probe.data.traces.source import RaterTrace, Recording, TargetTraces, TraceSource
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import normalise_name, normalise_names
from layerprobe.probe.nearest_path import missing_file
from layerprobe.probe.problem import Problem

TIME = ("time", "seconds", "t")  # names of the column of times, in any case
RATER = ("rater", "rater_id", "annotator")
VALUE = ("value", "rating")  # names of a column of ratings whose target is named otherwise
EMPTY = frozenset(("", "nan", "na"))  # cells without a rating, in any case
_OF_RATER = re.compile(r"(?P<target>.+)_r(?P<rater>\d+)")

Samples = dict[tuple[str, str, str], RaterTrace]  # by utterance, target and rater; CONSENSUS is none
CONSENSUS = "gold standard"


def table_traces(path: Path, targets: Sequence[str] = (), scales: Mapping[str, Target] | None = None) -> TraceSource:
    """Return the traces of a table, or of a folder of tables, CSV, TSV or Parquet.

    A table has the columns ``time`` (seconds from the beginning of the utterance) and one for each target, or, as
    ``TARGET_r1``, for each of its raters. With a column ``utterance_id``, in any case, it is of several utterances, and
    else it has the name of one, or of its audio file. With a column ``rater`` each row is of one rater. In a folder of
    folders each of these is a target, and the columns of its tables are raters.

    Args:
        path: of the table or folder
        targets: columns that are targets; by default all that hold numbers. Where there is none of that name, the
            only target is the column ``value`` or ``rating``.
        scales: of targets, where they are known

    Raises:
        InputError: if there is no table, a table lacks a column, or two have one name
        ManifestError: naming every problem of a table with its row
    """
    samples: Samples = {}
    if path.is_dir():
        files = [(file, "") for file in _tables(path)]
        if not files:
            files = [
                (file, folder.name) for folder in sorted(path.iterdir()) if folder.is_dir() for file in _tables(folder)
            ]
            chosen = {target for _, target in files}
            files = [(file, target) for file, target in files if not targets or target in targets]
            if chosen and not files:
                raise _no_target(path, targets, sorted(chosen))
    else:
        files = [(path, "")] if path.exists() else []
    if not files:
        missing = f"{path} has no table in it" if path.is_dir() else missing_file(path, endings=TABLE_ENDINGS)
        raise InputError("LP182", f"{missing}. Give a table with time and ratings, or a folder of these.")
    for file, target in files:
        for key, trace in _read(file, target, targets).items():
            if key in samples:
                raise InputError("LP182", f"{file}: {key[0]!r} has ratings in another table, too. Keep one of them.")
            samples[key] = trace
    found: dict[str, dict[str, dict[str, RaterTrace]]] = defaultdict(lambda: defaultdict(dict))
    for (utterance, target, rater), trace in samples.items():
        found[utterance][target][rater] = trace
    recordings: dict[str, Recording] = {
        utterance: {
            target: TargetTraces(tuple(t for r, t in of.items() if r != CONSENSUS), of.get(CONSENSUS))
            for target, of in of_utterance.items()
        }
        for utterance, of_utterance in found.items()
    }
    return TraceSource(
        path.stem,
        recordings.__getitem__,
        tuple(recordings),
        {name: (name, 0.0) for name in recordings},
        dict(scales or {}),
    )


def _tables(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in TABLE_ENDINGS and not file.name.startswith(".")
    )


def _read(path: Path, target: str, targets: Sequence[str]) -> Samples:
    """Return the traces of one table; ``target`` is that of its folder, '' where the columns are targets."""
    table = read_text_table(path, wanted=lambda _: True)
    cells = table.cells
    time, rater, utterance = _column(cells, TIME), _column(cells, RATER), _column(cells, (UTTERANCE,))
    if time is None:
        raise InputError("LP182", f"{path} has no column time. Name the column of seconds so, and those of ratings.")
    columns = [c for c in map(str, cells) if c not in (time, rater, utterance, *SPAN_COLUMNS)]
    columns = [c for c in columns if (~cells[c].str.strip().str.lower().isin(EMPTY)).any()]
    if not target:
        columns = _of_targets(path, cells, columns, targets)
    problems = RowProblems(path, table.row_numbers)
    raw, decimal = with_decimal_points(cells, [time, *columns], problems)
    seconds = _numbers(raw[time], problems, may_be_empty=False)
    ratings = {c: _numbers(raw[c], problems) for c in columns}
    own = normalise_name(path.stem)
    utterances = normalise_names(cells[utterance]) if utterance else [own] * len(cells)
    unnamed = np.array([not name for name in utterances], dtype=bool)
    problems.add(np.flatnonzero(unnamed), lambda _: Problem("LP140", "utterance_id is empty"))
    problems.raise_if_any()
    log_notes(path, (*table.notes, *([f"decimal commas in {', '.join(decimal)}"] if decimal else [])))
    raters = cells[rater].str.strip().tolist() if rater else [""] * len(cells)
    found: Samples = {}
    for column in columns:
        name, of_column = _place(column, target, columns, targets)
        for key, at in _rows_of(utterances, [of_column or given for given in raters]).items():
            found[key[0], name, key[1]] = RaterTrace.in_order(key[1], seconds[at], ratings[column][at])
    return found


def _rows_of(utterances: Sequence[str], raters: Sequence[str]) -> dict[tuple[str, str], list[int]]:
    """Return the rows of each rater of each utterance."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(utterances, raters, strict=True)):
        found[key].append(row)
    return found


def _column(cells: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((c for name in names for c in map(str, cells) if c.lower() == name), None)


def _of_targets(path: Path, cells: pd.DataFrame, columns: list[str], targets: Sequence[str]) -> list[str]:
    """Return the columns of the targets that are requested, or all columns with a number.

    Raises:
        InputError: if one is missing, or there is none
    """
    if not targets:
        numeric = [c for c in columns if pd.to_numeric(cells[c].str.replace(",", "."), errors="coerce").notna().any()]
        if not numeric:
            raise InputError("LP182", f"{path} has no column of ratings. Name each after its target, such as arousal.")
        return numeric
    chosen = [c for c in columns if c in targets or ((m := _OF_RATER.fullmatch(c)) and m["target"] in targets)]
    if not chosen and len(targets) == 1:
        chosen = [c for c in columns if c.lower() in VALUE][:1]
    if not chosen:
        raise _no_target(path, targets, columns)
    return chosen


def _no_target(path: Path, targets: Sequence[str], there: Sequence[str]) -> InputError:
    listed = ", ".join(map(repr, there)) or "none"
    return InputError(
        "LP182", f"{path} has no ratings of {', '.join(targets)} (there are {listed}). Name one of these with --target."
    )


def _place(column: str, target: str, columns: Sequence[str], targets: Sequence[str]) -> tuple[str, str]:
    """Return the target of a column and its rater, "" where the table names the rater or there is one alone."""
    if target:
        return target, CONSENSUS if is_gold_standard(column) else column
    if found := _OF_RATER.fullmatch(column):
        return found["target"], found["rater"]
    if any((m := _OF_RATER.fullmatch(c)) and m["target"] == column for c in columns):
        return column, CONSENSUS  # as in a manifest: the rating next to those of single raters
    return (targets[0], "") if len(targets) == 1 and column not in targets else (column, "")


def _numbers(text: pd.Series[str], problems: RowProblems, *, may_be_empty: bool = True) -> np.ndarray:
    """Return a column as float64, NaN where it is empty."""
    stripped = text.str.strip()
    is_empty = stripped.str.lower().isin(EMPTY)
    values = pd.to_numeric(stripped.mask(is_empty, "nan"), errors="coerce").astype(float)
    wrong = ~np.isfinite(values) & (~is_empty | (not may_be_empty))
    unit = "a rating, which is a number or empty" if may_be_empty else "a number of seconds"
    problems.add(np.flatnonzero(wrong), lambda r: Problem("LP182", f"{text.name} is {text[r]!r}, not {unit}"))
    return values.to_numpy()
