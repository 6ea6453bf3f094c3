"""The table of ratings as a file: CSV, Parquet or JSON, by its ending."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replacing


def _write_csv(table: pd.DataFrame, file: BinaryIO) -> None:
    file.write(table.to_csv(index=False, lineterminator="\n").encode())


def _write_json(table: pd.DataFrame, file: BinaryIO) -> None:
    """Write a list of objects, one per row, with null where there is no number."""
    file.write((table.to_json(orient="records", double_precision=15, force_ascii=False, indent=1) + "\n").encode())


def _write_parquet(table: pd.DataFrame, file: BinaryIO) -> None:
    table.to_parquet(file, index=False)


WRITERS: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}


def check_ending(path: Path) -> None:
    """Check that ratings can be written to a file of that name.

    Raises:
        InputError: if its ending is none of `WRITERS`
    """
    if path.suffix not in WRITERS:
        raise InputError(
            "LP947", f"--out {path} ends in none of {', '.join(WRITERS)}, which choose the format. Name one of these."
        )


def check_same_unit(path: Path, *, windows: bool) -> None:
    """Check that ratings of windows and of whole recordings do not replace each other.

    Args:
        path: to write; what it holds is replaced, unless that is a table of ratings of the other unit
        windows: whether ratings are of windows

    Raises:
        InputError: if it holds ratings of the other unit
    """
    columns = _columns_of(path)
    if "reason" in columns and ("start" in columns) != windows:
        has, new = ("whole recordings", "windows") if windows else ("windows", "whole recordings")
        raise InputError(
            "LP949",
            f"--out {path} holds ratings of {has}, which ratings of {new} would overwrite. Name another --out, or "
            "delete that file.",
        )


def _columns_of(path: Path) -> list[str]:
    """Return the columns of a table of ratings that is there; none where there is no file, or it is no table."""
    try:
        if path.suffix == ".csv":
            return list(pd.read_csv(path, nrows=0).columns)
        return list((pd.read_json(path) if path.suffix == ".json" else pd.read_parquet(path)).columns)
    except (OSError, ValueError):  # of pandas and pyarrow, whose errors of damaged files are these
        return []


def write_ratings(path: Path, table: pd.DataFrame) -> None:
    """Write a table of ratings, whole or not at all; its folder is created."""
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        WRITERS[path.suffix](table, file)
