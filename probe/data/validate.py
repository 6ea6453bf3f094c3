"""The checks of a manifest's rows, and the numbers and paths that they make of its texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.schema import Header, ManifestError, Nominal, Target, rater_columns
from layerprobe.probe.splits import UNKNOWN_SPEAKER

REQUIRED = ("utterance_id", "path", "speaker_id")
TIMES = ("start", "end")
SPLITS = ("train", "development", "test", "test1", "test2", "test3")
Report = Callable[[np.ndarray, Callable[[int], str]], None]  # rows (n_rows,), and what is wrong with each


class Problems:
    """What is wrong with the rows of one table."""

    def __init__(self, path: Path, *, first_row: int) -> None:
        """Name the file, and the number that its first utterance has in it."""
        self._path, self._first_row = path, first_row
        self._found: list[tuple[int, str]] = []

    def report(self, rows: np.ndarray, text: Callable[[int], str]) -> None:
        """Note the same problem of some rows."""
        self._found.extend((int(r), text(int(r))) for r in rows)

    def refuse(self) -> None:
        """Stop if there are any.

        Raises:
            ManifestError: naming each with its row, in the rows' order
        """
        if self._found:
            problems = [f"row {row + self._first_row}: {text}" for row, text in sorted(self._found)]
            raise ManifestError(self._path, problems)


def checked_utterances(raw: pd.DataFrame, report: Report, *, folder: Path, first_row: int) -> pd.DataFrame:
    """The table with absolute paths and times in seconds; whatever is wrong with names, paths and spans is reported.

    Args:
        raw: texts, with the columns `REQUIRED`
        report: is told of each problem
        folder: that paths are relative to
        first_row: the number of the first utterance in the file
    """
    table = raw.copy()
    _check_names(raw, report, first_row=first_row)
    _check_paths(table, report, folder=folder)
    for column in TIMES:
        if column in table:
            table[column] = _numbers(raw, column, report)
    _check_spans(table, report)
    return table


def check_targets(table: pd.DataFrame, raw: pd.DataFrame, header: Header, report: Report, *, header_name: str) -> None:
    """Make ratings numbers, in place, and report those beyond their scale, unknown classes and unknown splits.

    Args:
        table: as of `checked_utterances`
        raw: the same as texts
        header: which describes the targets
        report: is told of each problem
        header_name: the header's file
    """
    _check_split(raw, report)
    for target, scale in header.targets.items():
        for column in [target, *rater_columns(raw, target)]:
            table[column] = _numbers(raw, column, report)
            _check_scale(table[column], column, scale, report, header_name=header_name)
    for name, nominal in header.nominal.items():
        _check_classes(table[name], nominal, report, header_name=header_name)


def missing_columns(raw: pd.DataFrame, header: Header, path: Path) -> list[str]:
    """Columns that a manifest must have and has not, each in a sentence."""
    problems = [f"column {c} is missing" for c in REQUIRED if c not in raw]
    if "speaker_id" not in raw:
        problems[-1] += " (--no-speakers goes on without it; scores may then be too good)"
    problems += [
        f"column {t} is missing, but {path.with_suffix('.toml').name} describes it as a target"
        for t in (*header.targets, *header.nominal)
        if t not in raw
    ]
    return problems


def _check_names(raw: pd.DataFrame, report: Report, *, first_row: int) -> None:
    ids = raw["utterance_id"]
    report(np.flatnonzero(ids.str.strip() == ""), lambda _: "utterance_id is empty")
    first_seen = ids.map(dict(zip(ids[::-1], range(len(ids) - 1, -1, -1), strict=True)))
    repeated = np.flatnonzero((first_seen != np.arange(len(ids))) & (ids.str.strip() != ""))
    report(repeated, lambda r: f"utterance_id {ids[r]!r} is also in row {first_seen[r] + first_row}")
    report(
        np.flatnonzero(raw["speaker_id"].str.strip() == ""),
        lambda _: f"speaker_id is empty (write {UNKNOWN_SPEAKER} for a talker nobody knows)",
    )


def _check_paths(table: pd.DataFrame, report: Report, *, folder: Path) -> None:
    written = table["path"].copy()
    exists: dict[str, bool] = {}  # many spans can share one file, and a network folder is slow to ask
    table["path"] = [str(folder / p) for p in written]
    for p in table["path"].unique():
        exists[p] = Path(p).is_file()
    empty = (written.str.strip() == "").to_numpy()
    missing = ~table["path"].map(exists).to_numpy(dtype=bool) & ~empty
    report(np.flatnonzero(empty), lambda _: "path is empty")
    report(np.flatnonzero(missing), lambda r: f"no file at {table['path'][r]}")


def _numbers(raw: pd.DataFrame, column: str, report: Report) -> pd.Series[float]:
    text = raw[column].str.strip()
    values = pd.to_numeric(text, errors="coerce").astype(float)
    values = values.where(np.isfinite(values))
    wrong = np.flatnonzero((text != "") & values.isna())
    report(wrong, lambda r: f"{column} is {raw[column][r]!r}, not a number")
    return values


def _check_spans(table: pd.DataFrame, report: Report) -> None:
    for column in TIMES:
        if column in table:
            report(
                np.flatnonzero(table[column] < 0),
                lambda r, c=column: f"{c} is {table[c][r]:g} s, before the sound begins",  # type: ignore[misc]
            )
    if set(TIMES) <= set(table):
        report(
            np.flatnonzero(table["end"] <= table["start"].fillna(0)),
            lambda r: f"end {table['end'][r]:g} s is not after start {table['start'].fillna(0)[r]:g} s",
        )


def _check_split(raw: pd.DataFrame, report: Report) -> None:
    if "split" in raw:
        unknown = np.flatnonzero(~raw["split"].isin(SPLITS))
        report(unknown, lambda r: f"split {raw['split'][r]!r} is unknown; choose one of {', '.join(SPLITS)}")


def _check_scale(values: pd.Series[float], column: str, scale: Target, report: Report, *, header_name: str) -> None:
    outside = np.flatnonzero((values < scale.minimum) | (values > scale.maximum))
    report(
        outside,
        lambda r: f"{column} is {values[r]:g}, outside the scale {scale.minimum:g}..{scale.maximum:g} of {header_name}",
    )


def _check_classes(values: pd.Series[str], nominal: Nominal, report: Report, *, header_name: str) -> None:
    strange = np.flatnonzero((values != "") & ~values.isin(nominal.classes))
    shown = ", ".join(nominal.classes)
    report(strange, lambda r: f"{values.name} is {values[r]!r}, none of the classes {shown} of {header_name}")
