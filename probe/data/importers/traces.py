"""Time-continuous ratings of single raters, and their means within a span."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layerprobe.probe.data.importers.base import read_text
from layerprobe.probe.exceptions import InputError

NO_TRACES = (
    "ratings are means over each utterance, one column per rater; traces in time are not kept, and the delay of raters "
    "is not compensated"
)
_NAME = re.compile(r"\w")  # no name is a row of marks, such as %%%%%%, after which the ratings of a tool begin
_NUMBER = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*")


@dataclass(frozen=True)
class Traces:
    """Ratings in time: of one rater or of several."""

    times: np.ndarray  # (n_times,) seconds
    ratings: np.ndarray  # (n_raters, n_times), NaN where a rater gave none
    raters: tuple[str, ...] = ()  # names of the columns of ratings, without blanks at their ends; () where not stated
    n_unread: int = 0  # lines after the first one of numbers that hold something else

    def means(self, start: float, end: float) -> np.ndarray:
        """Return each rater's mean between two times, ``(n_raters,)``; NaN where a rater gave none there."""
        inside = self.ratings[:, (self.times >= start) & (self.times <= end)]
        rated = np.isfinite(inside)
        n = rated.sum(axis=1)
        total = np.where(rated, inside, 0.0).sum(axis=1)
        means: np.ndarray = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
        return means


def read_traces(path: Path, *, separator: str) -> Traces:
    """Read a text of times and ratings; lines before them, of names or of the annotation tool, are skipped.

    Args:
        path: of the file
        separator: of the cells in a line, which are a time and one or more ratings

    Raises:
        InputError: if the file has no ratings
    """
    lines = [line for line in read_text(path, latin_1=True).splitlines() if line.strip()]
    first = next((k for k, line in enumerate(lines) if _is_numeric(line.split(separator))), None)
    if first is None:
        raise InputError(
            "LP157",
            f"{path} has no lines of a time and ratings, so it is no file of traces. Download it again.",
        )
    table = _regular(lines[first:], separator)
    if table is None:
        numbers = [row for row in (line.split(separator) for line in lines[first:]) if _is_numeric(row)]
        width = min(map(len, numbers))
        table = np.array([[float(cell) if cell.strip() else np.nan for cell in row[:width]] for row in numbers])
    n_ratings = table.shape[1] - 1
    names = [name.strip() for name in lines[first - 1].split(separator)[1 : n_ratings + 1]] if first else []
    is_named = len(names) == n_ratings and all(map(_NAME.search, names)) and len(set(names)) == len(names)
    return Traces(table[:, 0], table[:, 1:].T, tuple(names) if is_named else (), len(lines) - first - len(table))


def _regular(lines: list[str], separator: str) -> np.ndarray | None:
    """Return lines of numbers alone, with as many in each; None if they are not so. It is fast: files have 50,000."""
    if not all(map(re.compile(rf"[\d.eE+\- \t{re.escape(separator)}]*").fullmatch, lines)):
        return None
    try:
        table = np.loadtxt(lines, delimiter=separator, comments=None, ndmin=2)
    except ValueError:  # an empty cell, or lines of other lengths
        return None
    return table if np.isfinite(table).all() else None


def _is_numeric(row: list[str]) -> bool:
    """Return whether a line has a time and ratings, some of which may be empty."""
    is_number = all(not cell.strip() or (_NUMBER.fullmatch(cell) and math.isfinite(float(cell))) for cell in row)
    return len(row) > 1 and is_number and bool(row[0].strip())
