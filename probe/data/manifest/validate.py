"""Checks of a manifest's rows, which turn its cells of text into numbers and absolute paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.manifest.decimals import read_decimals
from layerprobe.probe.data.manifest.scales import SCALE_TOLERANCE
from layerprobe.probe.data.manifest.schema import (
    REQUIRED,
    TIMES,
    Header,
    ManifestError,
    Nominal,
    Target,
    rater_columns,
)
from layerprobe.probe.data.stored.locations import absolute, parse_address, scheme_of
from layerprobe.probe.data.stored.stored_checks import problems_of_stored
from layerprobe.probe.filesystem import is_remote
from layerprobe.probe.identities import has_lost_digits, likeness
from layerprobe.probe.nearest_path import NearestFile, NearestPaths
from layerprobe.probe.problem import Problem

AUDIO_ENDINGS = (
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".oga",
    ".opus",
    ".m4a",
    ".mp4",
    ".aac",
    ".aif",
    ".aiff",
    ".sph",
    ".webm",
    ".wma",
    ".amr",
    ".wv",
    ".3gp",
    ".mka",
)
NEAREST_SOUGHT = 500  # missing audio files for which the nearest file is looked for
SPLITS = ("train", "development", "test", "test1", "test2", "test3")


class RowProblems:
    """Problems found in the rows of one table."""

    def __init__(self, path: Path, row_numbers: np.ndarray) -> None:
        """Name the file and the number of each row in it, ``(n_rows,)``."""
        self.path, self.row_numbers = path, row_numbers
        self._found: list[tuple[int, Problem]] = []
        self._general: list[Problem] = []
        self._advice: list[str] = []

    def add(self, rows: np.ndarray, problem_of: Callable[[int], Problem]) -> None:
        """Record a problem of each of some rows, given as indices."""
        self._found.extend((int(r), problem_of(int(r))) for r in rows)

    def add_general(self, problems: list[Problem], *, advice: str = "") -> None:
        """Record problems of the whole table, and a sentence on what can be done about them."""
        self._general.extend(problems)
        self.advise(advice if problems else "")

    def advise(self, sentence: str) -> None:
        """Record a sentence that is printed after all problems, where there are any."""
        self._advice += [sentence] if sentence else []

    def raise_if_any(self) -> None:
        """Raise one error for all problems.

        Raises:
            ManifestError: naming those of the whole table, then each problem with its row, in the order of the rows
        """
        in_order = sorted(self._found, key=lambda found: (found[0], found[1].text))
        found = [problem.in_row(int(self.row_numbers[r])) for r, problem in in_order]
        if self._general or found:
            raise ManifestError(self.path, [*self._general, *found], self._advice)


def with_decimal_points(raw: pd.DataFrame, columns: list[str], problems: RowProblems) -> tuple[pd.DataFrame, list[str]]:
    """Return the cells with decimal points, and the columns that had decimal commas; record what can't be decided.

    Args:
        raw: cells of text
        columns: names of those that hold numbers
        problems: receives each number that can be read in two ways
    """
    decimals = read_decimals(raw, columns)
    for column, rows in decimals.unclear.items():
        mixed = column in decimals.mixed
        cause = "with a comma where other rows have points" if mixed else "which can have decimals or thousands"
        problems.add(
            rows,
            lambda r, c=column, cause=cause: Problem(  # type: ignore[misc]
                "LP145", f"{c} is {raw[c][r]!r}, {cause}; write decimal points and no thousands"
            ),
        )
    undecided = {c: raw[c].mask(np.isin(np.arange(len(raw)), rows), "") for c, rows in decimals.unclear.items()}
    return raw.assign(**decimals.cells, **undecided), list(decimals.cells)


def check_utterances(
    raw: pd.DataFrame, problems: RowProblems, *, folder: Path, missing_files: bool = False
) -> pd.DataFrame:
    """Return the table with absolute paths and times in seconds; record problems of names, paths and spans.

    Args:
        raw: cells of text, with the columns `REQUIRED`, names normalised
        problems: receives each problem
        folder: where relative paths start
        missing_files: whether audio that is not there is accepted, for the reader to refuse
    """
    table = raw.copy()
    _check_names(raw, problems)
    _check_paths(table, problems, folder=folder, missing_files=missing_files)
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
            ratings = _at_the_ends(_numbers(raw, column, problems), scale)
            _check_scale(ratings, column, scale, problems, header_name=header_name)
            table[column] = ratings
    for name, nominal in header.nominal.items():
        _check_classes(table[name], nominal, problems, header_name=header_name)


def missing_columns(raw: pd.DataFrame, header: Header, *, header_name: str) -> list[Problem]:
    """Return a problem for each column that the manifest must have and lacks."""
    problems = missing_required(raw, REQUIRED)
    problems += [
        Problem("LP111", f"column {t} is missing, but {header_name} describes it as a target{_similar_column(t, raw)}")
        for t in (*header.targets, *header.nominal)
        if t not in raw
    ]
    return problems


def missing_required(raw: pd.DataFrame, required: tuple[str, ...]) -> list[Problem]:
    """Return a problem for each required column that a table lacks, with a column of a similar name."""
    hints = {"speaker_id": " (--no-speakers runs without it; scores may then be too optimistic)"}
    return [
        Problem("LP110", f"column {c} is missing{_similar_column(c, raw)}{hints.get(c, '')}")
        for c in required
        if c not in raw
    ]


def _similar_column(name: str, raw: pd.DataFrame) -> str:
    like = next((c for c in map(str, raw) if likeness(c).replace("_", "") == likeness(name).replace("_", "")), None)
    return "" if like is None else f"; rename the column {like!r} to {name}"


def _check_names(raw: pd.DataFrame, problems: RowProblems) -> None:
    ids = raw["utterance_id"]
    problems.add(np.flatnonzero(ids == ""), lambda _: Problem("LP140", "utterance_id is empty"))
    first_seen = ids.map(dict(zip(ids[::-1], range(len(ids) - 1, -1, -1), strict=True)))
    repeated = np.flatnonzero((first_seen != np.arange(len(ids))) & (ids != ""))
    problems.add(
        repeated,
        lambda r: Problem(
            "LP141", f"utterance_id {ids[r]!r} is also in row {problems.row_numbers[int(first_seen[r])]}"
        ),
    )
    for column in ("utterance_id", "speaker_id"):
        problems.add(
            np.flatnonzero([has_lost_digits(name) for name in raw[column]]),
            lambda r, c=column: Problem(  # type: ignore[misc]
                "LP142", f"{c} {raw[c][r]!r} is a number whose last digits are lost; save the column as text"
            ),
        )


def _check_paths(table: pd.DataFrame, problems: RowProblems, *, folder: Path, missing_files: bool) -> None:
    written = table["path"].copy()
    exists: dict[str, bool] = {}  # many spans can be in one file, and a look-up on a network folder is slow
    incomplete = {p: text for p in written.unique() if (text := _address_fault(p))}
    table["path"] = [p if p in incomplete else absolute(p, folder) for p in written]
    empty = (written.str.strip() == "").to_numpy()
    stated = written.isin(list(incomplete)).to_numpy()
    problems.add(np.flatnonzero(stated), lambda r: Problem("LP239", f"path {written[r]!r} {incomplete[written[r]]}"))
    problems.add(np.flatnonzero(empty), lambda _: Problem("LP140", "path is empty"))
    if missing_files:
        return
    faults = problems_of_stored([p for p in table["path"].unique() if scheme_of(p) and p not in incomplete])
    for p in table["path"].unique():
        exists[p] = bool(scheme_of(p)) or _is_file(p)
    unreadable = np.flatnonzero(table["path"].isin(list(faults)))
    problems.add(unreadable, lambda r: faults[table["path"][r]])
    missing = np.flatnonzero(~table["path"].map(exists).to_numpy(dtype=bool) & ~empty)
    sought = list(dict.fromkeys(written.iloc[missing]))[:NEAREST_SOUGHT]
    nearest = NearestPaths(AUDIO_ENDINGS)
    start = Path("/") if is_remote(folder) else folder
    found = {w: file for w in sought if (file := nearest.find(w, start))}
    problems.add(missing, lambda r: _missing_file(Path(table["path"][r]), found.get(written[r])))
    if len(found) > 1:
        kinds = ", ".join(f"{kind} {n}" for kind, n in Counter(n.difference for n in found.values()).most_common())
        n_files = len(set(written.iloc[missing]))
        beginning = f"{n_files} audio files are missing"
        beginning += f"; of the first {len(sought)}" if n_files > len(sought) else "; of these"
        problems.advise(f"{beginning} {len(found)} resemble one that exists (they differ in: {kinds}).")


def _missing_file(path: Path, nearest: NearestFile | None) -> Problem:
    if nearest is not None:
        return Problem("LP143", f"no file at {path}, but at {nearest.path} (it differs in {nearest.difference})")
    return Problem("LP143", f"{path} is a folder, not a file" if _is_folder(path) else f"no file at {path}")


def _address_fault(path: str) -> str:
    """Return why an address is none, as a clause; "" where it is one, or a path."""
    try:
        parse_address(path)
    except ValueError as error:
        return str(error)
    return ""


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long for the file system
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # as above
        return False


def _at_the_ends(ratings: pd.Series[float], scale: Target) -> pd.Series[float]:
    """Return ratings with those that rounding put just outside the scale at its ends."""
    low, high = scale.minimum, scale.maximum
    below = (ratings < low) & (ratings >= low - SCALE_TOLERANCE)
    above = (ratings > high) & (ratings <= high + SCALE_TOLERANCE)
    return ratings.mask(below, low).mask(above, high)


def _numbers(raw: pd.DataFrame, column: str, problems: RowProblems) -> pd.Series[float]:
    text = raw[column].str.strip()
    values = pd.to_numeric(text, errors="coerce").astype(float)
    values = values.where(np.isfinite(values))
    wrong = np.flatnonzero((text != "") & values.isna())
    problems.add(wrong, lambda r: Problem("LP144", f"{column} is {raw[column][r]!r}, not a number"))
    return values


def _check_spans(table: pd.DataFrame, problems: RowProblems) -> None:
    for column in TIMES:
        if column in table:
            problems.add(
                np.flatnonzero(table[column] < 0),
                lambda r, c=column: Problem(  # type: ignore[misc]
                    "LP146", f"{c} is {table[c][r]:g} s, before the recording starts"
                ),
            )
    if set(TIMES) <= set(table):
        problems.add(
            np.flatnonzero(table["end"] <= table["start"].fillna(0)),
            lambda r: Problem(
                "LP146", f"end {table['end'][r]:g} s is not after start {table['start'].fillna(0)[r]:g} s"
            ),
        )


def _check_split(raw: pd.DataFrame, problems: RowProblems) -> None:
    if "split" in raw:
        unknown = np.flatnonzero(~raw["split"].isin(SPLITS))
        shown = ", ".join(SPLITS)
        problems.add(
            unknown, lambda r: Problem("LP147", f"split {raw['split'][r]!r} is unknown; choose one of {shown}")
        )


def _check_scale(
    values: pd.Series[float], column: str, scale: Target, problems: RowProblems, *, header_name: str
) -> None:
    outside = np.flatnonzero((values < scale.minimum) | (values > scale.maximum))
    problems.add(
        outside,
        lambda r: Problem(
            "LP148",
            f"{column} is {_shown(values[r])}, outside the scale {scale.minimum:g}..{scale.maximum:g} of {header_name}",
        ),
    )


def _shown(value: float) -> str:
    """Return a number in few digits where these are all that it has."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


def _check_classes(values: pd.Series[str], nominal: Nominal, problems: RowProblems, *, header_name: str) -> None:
    unknown = np.flatnonzero((values != "") & ~values.isin(nominal.classes))
    shown = ", ".join(nominal.classes)
    problems.add(
        unknown,
        lambda r: Problem("LP149", f"{values.name} is {values[r]!r}, none of the classes {shown} of {header_name}"),
    )
