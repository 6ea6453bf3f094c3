"""Columns of a Parquet table as text, by the type that each has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from layerprobe.probe.data.stored.audio_tables import is_audio
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote


def read_parquet_names(path: Path) -> list[str]:
    """Return the names of all columns as they are written, repeated ones included.

    Raises:
        InputError: if the file is no Parquet table
    """
    return list(_schema(path).names)


def audio_column(path: Path) -> str:
    """Return the column of audio of a table that has no column ``path``, '' where it has one, or no audio.

    Audio is a structure of bytes and a path, as datasets and the hub keep it.

    Raises:
        InputError: if the file is no Parquet table
    """
    schema = _schema(path)
    if "path" in schema.names:
        return ""
    return next((str(field.name) for field in schema if is_audio(field.type)), "")


def read_parquet_columns(path: Path, wanted: Callable[[str], bool]) -> dict[str, list[str]]:
    """Return the columns of text and numbers as text, '' where a value is missing; bytes are decoded as UTF-8.

    Columns of bytes are read if they are wanted, and columns of other types (lists, structures, times) not at all.

    Args:
        path: of the table
        wanted: whether a column is needed, by its name

    Raises:
        InputError: if the file is no Parquet table, or a wanted column has another type or is not UTF-8
    """
    schema = _schema(path)
    for field in schema:
        if wanted(field.name) and not (_is_plain(field.type) or _is_bytes(field.type)):
            raise InputError(
                "LP107",
                f"{path}: column {field.name} holds {field.type}, not texts or numbers. Save it as one of these.",
            )
    names = [f.name for f in schema if _is_plain(f.type) or (_is_bytes(f.type) and wanted(f.name))]
    try:
        source, store = _source(path)
        table = pq.read_table(source, columns=names, filesystem=store)
    except (ValueError, OSError) as error:  # what Arrow raises for a file that is damaged inside
        raise _unreadable(path, error) from error
    return {name: _texts(table.column(name), path, name) for name in names}


def _schema(path: Path) -> Any:
    try:
        source, store = _source(path)
        return pq.ParquetDataset(source, filesystem=store).schema
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _source(path: Path) -> tuple[Any, Any]:
    """Return what Arrow opens: a path, and the client of the store that it is in, or None."""
    if not is_remote(path):
        return path, None
    remote: Any = path
    return remote.path, remote.fs


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError("LP104", f"{path} can't be read as a table: {str(error).rstrip('.')}. Save it again.")


def _is_plain(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer,
             pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)  # fmt: skip
    return any(test(kind) for test in tests) or str(kind) == "string_view"


def _is_bytes(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests) or str(kind) == "binary_view"


def _texts(column: Any, path: Path, name: str) -> list[str]:
    try:
        values = column.to_pylist()
        return [v.decode() if isinstance(v, bytes) else "" if pd.isna(v) else str(v) for v in values]
    except UnicodeDecodeError as error:
        raise InputError(
            "LP107",
            f"{path}: column {name} holds bytes that are not UTF-8 text (0x{error.object[error.start]:02x}). Save it "
            "as text.",
        ) from error
