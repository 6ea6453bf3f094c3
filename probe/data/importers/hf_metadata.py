"""Folders of audio with a file of metadata, as ``load_dataset("audiofolder")`` reads them: no library is needed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pandas as pd

from layerprobe.probe.data.importers.base import split_named
from layerprobe.probe.data.importers.flat_json import json_lines
from layerprobe.probe.data.importers.hf_columns import DatasetPart
from layerprobe.probe.data.manifest.table import read_text_table
from layerprobe.probe.exceptions import InputError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"


def metadata_parts(folder: Path) -> list[DatasetPart]:
    """Return a part for each file of metadata below a folder; [] where there is none.

    Args:
        folder: with ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet``, or folders of splits that have these

    Raises:
        InputError: if a file of metadata has no column ``file_name``
    """
    return [_part(path, folder) for path in sorted(folder.rglob("metadata.*")) if path.name in METADATA]


def _part(path: Path, folder: Path) -> DatasetPart:
    if path.suffix == ".jsonl":
        table = pd.DataFrame(list(json_lines(path)), dtype=object).fillna("")
    else:
        table = read_text_table(path).cells
    if FILE_NAME not in table:
        raise InputError(
            "LP196",
            f"{path} has no column {FILE_NAME} (there are {', '.join(map(str, table))}). Rename the column of audio "
            "files, or import the table: layerprobe manifest import table.",
        )
    files = [str(path.parent.absolute() / name) for name in table[FILE_NAME]]
    folders = (folder.resolve().name, *path.relative_to(folder).parts[:-1])  # none above, which are not the dataset's
    split = next((name for name in reversed(folders) if split_named(name)), "")
    return DatasetPart(
        path,
        split,
        {str(c): list(table[c]) for c in table if c != FILE_NAME},
        files,
        [PurePosixPath(name).stem for name in files],
        {},
        (),
    )
