"""Numbers written with decimal commas: recognised by column, and never guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

# "3,5" and "1234,5" can't be groups of thousands; "1,234" can, and so can "1.234" where commas are decimal.
_WITH_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_WITH_POINT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:[,.]\d{3})+")


@dataclass(frozen=True)
class DecimalColumns:
    """Columns of numbers with decimal points, and the cells that can be read in two ways."""

    cells: dict[str, pd.Series[str]]  # columns whose decimal commas became points
    unclear: dict[str, np.ndarray]  # by column, rows whose number can be read in two ways, or which mix both marks
    mixed: frozenset[str] = frozenset()  # columns of these that have commas in some rows and points in others


def read_decimals(cells: pd.DataFrame, columns: Sequence[str]) -> DecimalColumns:
    """Return the columns that are written with decimal commas with points, and the rows that can't be decided.

    A column has decimal commas if one of its cells can be nothing else ("3,5"). Where every comma of a column may
    separate thousands ("1,234"), the other columns decide: one of them must have decimal commas, and none decimal
    points. In turn "1.234" is not read as a decimal where the other columns have decimal commas alone.

    Args:
        cells: of the table, as text
        columns: names of those that hold numbers
    """
    numeric = {c: cells[c].str.strip() for c in columns if c in cells}
    if not any(text.str.contains(",", regex=False).any() for text in numeric.values()):
        return DecimalColumns({}, {})
    marks = {name: _Marks.of(text) for name, text in numeric.items()}
    commas, points = (any(getattr(m, kind) for m in marks.values()) for kind in ("proves_comma", "proves_point"))
    found: dict[str, pd.Series[str]] = {}
    unclear: dict[str, np.ndarray] = {}
    for name, mark in marks.items():
        if not mark.commas.size:
            if mark.points.size and not mark.proves_point and commas and not points:
                unclear[name] = mark.points
        elif not mark.points.size and (mark.proves_comma or (commas and not points)):
            found[name] = numeric[name].str.replace(",", ".", regex=False)
        else:
            unclear[name] = mark.commas
    mixed = frozenset(name for name, mark in marks.items() if mark.commas.size and mark.points.size)
    return DecimalColumns(found, unclear, mixed)


@dataclass(frozen=True)
class _Marks:
    """The cells of a column that hold a number with a comma or a point, and what they prove."""

    commas: np.ndarray  # row indices
    points: np.ndarray
    proves_comma: bool  # some cell can only be a number with a decimal comma
    proves_point: bool

    @classmethod
    def of(cls, text: pd.Series[str]) -> _Marks:
        commas, points = (
            np.array([k for k, cell in enumerate(text) if pattern.fullmatch(cell)], dtype=np.int64)
            for pattern in (_WITH_COMMA, _WITH_POINT)
        )
        proofs = [any(_THOUSANDS.fullmatch(cell) is None for cell in text.iloc[rows]) for rows in (commas, points)]
        return cls(commas, points, *proofs)
