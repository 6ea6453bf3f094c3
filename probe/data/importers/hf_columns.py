"""Columns of a Parquet or Arrow table of a dataset: labels as text, and where each row's audio lies.

The bytes of audio are not read: of a Parquet table the other columns alone, of an Arrow table, which is mapped into
memory, what the rows' validity states.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from layerprobe.probe.data.stored.audio_tables import BYTES, PATH, is_audio, open_arrow
from layerprobe.probe.data.stored.locations import row_address
from layerprobe.probe.exceptions import InputError


@dataclass(frozen=True)
class DatasetPart:
    """Rows of one table of a dataset."""

    file: Path  # the table
    split: str  # name of the dataset's split, '' where it has none
    columns: dict[str, list[str]]  # as text, '' where empty; fields of structures as NAME.FIELD
    audio: list[str]  # address of each row's bytes, or its path where the table holds no bytes; '' where neither
    names: list[str]  # name of each audio file without its ending, '' where it has none
    classes: dict[str, tuple[str, ...]]  # of columns that are ClassLabel
    unread: tuple[str, ...]  # columns of other types, such as lists


def read_part(file: Path, split: str, audio_column: str | None) -> DatasetPart:
    """Read the columns of a table whose name ends in ``.parquet`` or ``.arrow``.

    Args:
        file: the table
        split: of the dataset
        audio_column: the column of audio; None for the only one

    Raises:
        InputError: if the file can't be read, or has no column of audio, or several
    """
    try:
        if file.suffix.lower() == ".parquet":
            return _from_parquet(file, split, audio_column)
        with pa.memory_map(str(file)) as source:
            table = open_arrow(source).read_all()
            return _part(table, table, file, split, find_audio(table.schema, file, audio_column))
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError("LP198", f"{file} can't be read as a table of a dataset: {reason}. Get it again.") from error


def find_audio(schema: Any, file: Path, wanted: str | None) -> str:
    """Return the name of the column of audio.

    Raises:
        InputError: if there is none, or there are several and none is wanted
    """
    found = [f.name for f in schema if is_audio(f.type)]
    if wanted is not None and (wanted in found or (wanted in schema.names and _is_text(schema.field(wanted).type))):
        return wanted  # text: the paths of files
    listed = ", ".join(schema.names)
    if not found or wanted is not None:
        name = f"column {wanted!r}" if wanted is not None else "column"
        raise InputError(
            "LP196",
            f"{file} has no {name} of audio, a structure of bytes and path (there are {listed}). Where its audio is in "
            "files, save the table as CSV and import that: layerprobe manifest import table.",
        )
    if len(found) > 1:
        raise InputError(
            "LP197",
            f"{file} has several columns of audio, {', '.join(found)}. Choose one: --map path={found[0]}.",
        )
    return str(found[0])


def _from_parquet(file: Path, split: str, audio_column: str | None) -> DatasetPart:
    with pq.ParquetFile(file, memory_map=True) as table:
        schema = table.schema_arrow
        audio = find_audio(schema, file, audio_column)
        kind = schema.field(audio).type
        has_path = pa.types.is_struct(kind) and kind.get_field_index(PATH) >= 0
        plain = [f.name for f in schema if _is_label(f.type)]
        read = table.read(columns=[*plain, *([f"{audio}.{PATH}"] if has_path else [])])
        return _part(read, table, file, split, audio)


def _part(table: Any, source: Any, file: Path, split: str, audio: str) -> DatasetPart:
    schema = source.schema if isinstance(source, pa.Table) else source.schema_arrow
    classes = _class_names(schema)
    columns: dict[str, list[str]] = {}
    for field in schema:
        if field.name != audio and _is_label(field.type):
            columns |= _texts(field.name, table.column(field.name), classes)
    paths = _paths(table, audio)
    with_bytes = _with_bytes(source, audio)
    place = str(file.absolute())
    where = [
        row_address(place, row, column=audio) if held else path
        for row, (held, path) in enumerate(zip(with_bytes, paths, strict=True))
    ]
    names = [PurePosixPath(path).stem for path in paths]
    unread = tuple(f.name for f in schema if f.name != audio and not _is_label(f.type))
    return DatasetPart(file, split, columns, where, names, {c: classes[c] for c in classes if c in columns}, unread)


def _paths(table: Any, audio: str) -> list[str]:
    kind = table.schema.field(audio).type if audio in table.column_names else None
    if kind is not None and _is_text(kind):
        return [text or "" for text in table.column(audio).to_pylist()]
    if kind is None or kind.get_field_index(PATH) < 0:
        return [""] * table.num_rows
    return [text or "" for text in pc.struct_field(table.column(audio), PATH).to_pylist()]


def _with_bytes(source: Any, audio: str) -> np.ndarray:
    """Return whether each row holds bytes, ``(n_rows,)``; of a Parquet table they are read where some are null."""
    schema = source.schema if isinstance(source, pa.Table) else source.schema_arrow
    if _is_text(schema.field(audio).type):
        return np.zeros(source.num_rows if isinstance(source, pa.Table) else source.metadata.num_rows, dtype=bool)
    if isinstance(source, pa.Table):
        return np.asarray(pc.is_valid(pc.struct_field(source.column(audio), BYTES)).to_numpy(), dtype=bool)
    leaf = f"{audio}.{BYTES}"
    number = _leaf_number(source.metadata, leaf)
    held = []
    for group in range(source.num_row_groups):
        n_rows = source.metadata.row_group(group).num_rows
        found = source.metadata.row_group(group).column(number).statistics
        if found is not None and found.has_null_count and found.null_count in (0, n_rows):
            held.append(np.full(n_rows, found.null_count == 0))
        else:
            column = source.read_row_group(group, columns=[leaf]).column(audio)
            held.append(np.asarray(pc.is_valid(pc.struct_field(column, BYTES)).to_numpy(), dtype=bool))
    return np.concatenate(held) if held else np.zeros(0, dtype=bool)


def _leaf_number(metadata: Any, path: str) -> int:
    first = metadata.row_group(0) if metadata.num_row_groups else None
    return next((k for k in range(metadata.num_columns) if first and first.column(k).path_in_schema == path), 0)


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of classes of each column that datasets declares as ClassLabel."""
    written = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(written)["info"]["features"] if written else {}
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):  # of another program
        return {}


def _texts(name: str, column: Any, classes: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Return a column as text, or each field of a structure as a column of its own."""
    if pa.types.is_struct(column.type):
        found: dict[str, list[str]] = {}
        for field in column.type:
            if _is_readable(field.type):
                found |= _texts(f"{name}.{field.name}", pc.struct_field(column, field.name), classes)
        return found
    if name in classes and pa.types.is_integer(column.type):
        known = classes[name]
        return {name: [known[k] if k is not None and 0 <= k < len(known) else "" for k in column.to_pylist()]}
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return {name: ["" if text is None or text == "nan" else text for text in column.cast(pa.string()).to_pylist()]}


def _is_label(kind: Any) -> bool:
    """Return whether a column is read as one of labels: what is readable and no audio."""
    return _is_readable(kind) and not is_audio(kind)


def _is_readable(kind: Any) -> bool:
    """Return whether a column is read: texts, numbers, truth values, times, and structures that have any of these."""
    if pa.types.is_dictionary(kind):
        return _is_readable(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_is_readable(field.type) for field in kind)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer,
             pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal, pa.types.is_null)  # fmt: skip
    return any(test(kind) for test in tests)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
