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


def write_ratings(path: Path, table: pd.DataFrame) -> None:
    """Write a table of ratings, whole or not at all; its folder is created."""
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        WRITERS[path.suffix](table, file)
