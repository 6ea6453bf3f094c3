"""Checks of a manifest's rows, which turn its cells of text into numbers and absolute paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.schema import Header, ManifestError, Nominal, Target, rater_columns
from layerprobe.probe.splits import UNKNOWN_SPEAKER

REQUIRED = ("utterance_id", "path", "speaker_id")
TIMES = ("start", "end")
SPLITS = ("train", "development", "test", "test1", "test2", "test3")


class RowProblems:
    """Problems found in the rows of one table."""

    def __init__(self, path: Path, row_numbers: np.ndarray) -> None:
        """Name the file and the number of each row in it, ``(n_rows,)``."""
        self._path, self.row_numbers = path, row_numbers
        self._found: list[tuple[int, str]] = []

    def add(self, rows: np.ndarray, message: Callable[[int], str]) -> None:
        """Record the same problem of some rows, given as indices, with a message for each."""
        self._found.extend((int(r), message(int(r))) for r in rows)

    def raise_if_any(self) -> None:
        """Raise one error for all problems.

        Raises:
            ManifestError: naming each problem with its row, in the order of the rows
        """
        if self._found:
            raise ManifestError(self._path, [f"row {self.row_numbers[r]}: {text}" for r, text in sorted(self._found)])


def check_utterances(raw: pd.DataFrame, problems: RowProblems, *, folder: Path) -> pd.DataFrame:
    """Return the table with absolute paths and times in seconds; record problems of names, paths and spans.

    Args:
        raw: cells of text, with the columns `REQUIRED`
        problems: receives each problem
        folder: where relative paths start
    """
    table = raw.copy()
    _check_names(raw, problems)
    _check_paths(table, problems, folder=folder)
    for column in TIMES:
        if column in table:
            table[column] = _numbers(raw, column, problems)
    _check_spans(table, problems)
    return table


def check_targets(
    table: pd.DataFrame, raw: pd.DataFrame, header: Header, problems: RowProblems, *, header_name: str
) -> None:
    """Turn ratings into numbers, in place, and record those outside their scale, unknown classes and unknown splits.

    Args:
        table: as `check_utterances` returns it
        raw: the same as text
        header: describes the targets
        problems: receives each problem
        header_name: name of the header's file, for messages
    """
    _check_split(raw, problems)
    for target, scale in header.targets.items():
        for column in [target, *rater_columns(raw, target)]:
            table[column] = _numbers(raw, column, problems)
            _check_scale(table[column], column, scale, problems, header_name=header_name)
    for name, nominal in header.nominal.items():
        _check_classes(table[name], nominal, problems, header_name=header_name)


def missing_columns(raw: pd.DataFrame, header: Header, *, header_name: str) -> list[str]:
    """Return a message for each column that the manifest must have and lacks."""
    problems = [f"column {c} is missing" for c in REQUIRED if c not in raw]
    if "speaker_id" not in raw:
        problems[-1] += " (--no-speakers runs without it; scores may then be too optimistic)"
    problems += [
        f"column {t} is missing, but {header_name} describes it as a target"
        for t in (*header.targets, *header.nominal)
        if t not in raw
    ]
    return problems


def _check_names(raw: pd.DataFrame, problems: RowProblems) -> None:
    ids = raw["utterance_id"]
    problems.add(np.flatnonzero(ids.str.strip() == ""), lambda _: "utterance_id is empty")
    first_seen = ids.map(dict(zip(ids[::-1], range(len(ids) - 1, -1, -1), strict=True)))
    repeated = np.flatnonzero((first_seen != np.arange(len(ids))) & (ids.str.strip() != ""))
    problems.add(
        repeated, lambda r: f"utterance_id {ids[r]!r} is also in row {problems.row_numbers[int(first_seen[r])]}"
    )
    problems.add(
        np.flatnonzero(raw["speaker_id"].str.strip() == ""),
        lambda _: f"speaker_id is empty (write {UNKNOWN_SPEAKER} for a speaker who is not identified)",
    )


def _check_paths(table: pd.DataFrame, problems: RowProblems, *, folder: Path) -> None:
    written = table["path"].copy()
    exists: dict[str, bool] = {}  # many spans can be in one file, and a look-up on a network folder is slow
    table["path"] = [str(folder / p) for p in written]
    for p in table["path"].unique():
        exists[p] = Path(p).is_file()
    empty = (written.str.strip() == "").to_numpy()
    missing = ~table["path"].map(exists).to_numpy(dtype=bool) & ~empty
    problems.add(np.flatnonzero(empty), lambda _: "path is empty")
    problems.add(np.flatnonzero(missing), lambda r: f"no file at {table['path'][r]}")


def _numbers(raw: pd.DataFrame, column: str, problems: RowProblems) -> pd.Series[float]:
    text = raw[column].str.strip()
    values = pd.to_numeric(text, errors="coerce").astype(float)
    values = values.where(np.isfinite(values))
    wrong = np.flatnonzero((text != "") & values.isna())
    problems.add(wrong, lambda r: f"{column} is {raw[column][r]!r}, not a number")
    return values


def _check_spans(table: pd.DataFrame, problems: RowProblems) -> None:
    for column in TIMES:
        if column in table:
            problems.add(
                np.flatnonzero(table[column] < 0),
                lambda r, c=column: f"{c} is {table[c][r]:g} s, before the recording starts",  # type: ignore[misc]
            )
    if set(TIMES) <= set(table):
        problems.add(
            np.flatnonzero(table["end"] <= table["start"].fillna(0)),
            lambda r: f"end {table['end'][r]:g} s is not after start {table['start'].fillna(0)[r]:g} s",
        )


def _check_split(raw: pd.DataFrame, problems: RowProblems) -> None:
    if "split" in raw:
        unknown = np.flatnonzero(~raw["split"].isin(SPLITS))
        problems.add(unknown, lambda r: f"split {raw['split'][r]!r} is unknown; choose one of {', '.join(SPLITS)}")


def _check_scale(
    values: pd.Series[float], column: str, scale: Target, problems: RowProblems, *, header_name: str
) -> None:
    outside = np.flatnonzero((values < scale.minimum) | (values > scale.maximum))
    problems.add(
        outside,
        lambda r: f"{column} is {values[r]:g}, outside the scale {scale.minimum:g}..{scale.maximum:g} of {header_name}",
    )


def _check_classes(values: pd.Series[str], nominal: Nominal, problems: RowProblems, *, header_name: str) -> None:
    unknown = np.flatnonzero((values != "") & ~values.isin(nominal.classes))
    shown = ", ".join(nominal.classes)
    problems.add(unknown, lambda r: f"{values.name} is {values[r]!r}, none of the classes {shown} of {header_name}")
