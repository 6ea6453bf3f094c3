"""Tables of a dataset on disk: a folder of Parquet files as the hub has it, a folder by ``save_to_disk``, one table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from layerprobe.probe.data.importers.base import split_named
from layerprobe.probe.exceptions import InputError

PARQUET, ARROW = ".parquet", ".arrow"
TABLES = (PARQUET, ARROW)
DATA = "data"  # folder of a dataset's default configuration on the hub
_LETTERS = re.compile(r"[A-Za-z]+\d?")  # of a file's name


def dataset_tables(source: Path, *, subset: str | None = None) -> list[tuple[str, Path]]:
    """Return the split and path of every table of a dataset, in order; [] where the folder has none.

    Args:
        source: a table, or a folder
        subset: of a dataset that has several, each in a folder; None for the only one

    Raises:
        InputError: if a folder has several subsets and none is named, or none of that name
    """
    if source.is_file():
        return [(split_of_name(source.stem), source)] if source.suffix.lower() in TABLES else []
    if (source / "dataset_dict.json").is_file():
        splits = _listed(source / "dataset_dict.json", "splits")
        return [(str(split), table) for split in splits for _, table in _saved(source / str(split))]
    if (source / "state.json").is_file():
        return _saved(source)
    return _from_hub(source, subset)


def split_of_name(name: str) -> str:
    """Return the split that the name of a file states, as it is written there, '' where it states none.

    >>> split_of_name("train-00000-of-00003"), split_of_name("msp_test1-0001"), split_of_name("shard-000")
    ('train', 'test1', '')
    """
    return next((word for word in _LETTERS.findall(name) if split_named(word)), "")


def _saved(folder: Path) -> list[tuple[str, Path]]:
    """Return the tables of a split that ``Dataset.save_to_disk`` wrote."""
    split = str(_json(folder / "state.json").get("_split") or "")
    files = _listed(folder / "state.json", "_data_files")
    names = [file.get("filename") if isinstance(file, dict) else None for file in files]
    if not all(isinstance(name, str) for name in names):
        raise _unreadable(folder / "state.json", "_data_files names no files")
    return [(split, folder / str(name)) for name in names]


def _from_hub(folder: Path, subset: str | None) -> list[tuple[str, Path]]:
    """Return the Parquet tables below a folder: ``data/SPLIT-00000-of-00001.parquet``, or in a folder per subset."""
    found = [p for p in sorted(folder.rglob(f"*{PARQUET}")) if not _is_other(p.relative_to(folder))]
    of_subset: dict[str, list[Path]] = {}
    for path in found:
        of_subset.setdefault(_subset(path.relative_to(folder)), []).append(path)
    if subset is not None and subset not in of_subset:
        raise InputError(
            "LP197",
            f"{folder} has no subset {subset!r} (there are {', '.join(filter(None, of_subset)) or 'none'}). Name one "
            "of these by --subset, or leave it out.",
        )
    if subset is None and len(of_subset) > 1:
        raise InputError(
            "LP197",
            f"{folder} has several subsets, {', '.join(name or 'that of the folder itself' for name in of_subset)}. "
            "Choose one by --subset.",
        )
    chosen = of_subset.get(subset or "", []) if subset is not None else found
    return [(_split(path.relative_to(folder)), path) for path in chosen]


def _subset(path: Path) -> str:
    """Return the folder that a table's subset is named by, '' for the default: SUBSET/train-00000-of-00001.parquet."""
    first = path.parts[0] if len(path.parts) > 1 else ""
    return "" if first in ("", DATA, "default") or split_named(first) else first


def _split(path: Path) -> str:
    """Return a table's split by its name, or by the folder that it is in."""
    folders = [part for part in reversed(path.parts[:-1]) if split_named(part)]
    return split_of_name(path.stem) or (folders[0] if folders else path.stem.partition("-")[0])


def _is_other(path: Path) -> bool:
    """Return whether a table is hidden, or the metadata of a folder of audio files."""
    return path.name == "metadata.parquet" or any(part.startswith((".", "__")) for part in path.parts)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return content if isinstance(content, dict) else {}


def _listed(path: Path, key: str) -> list[Any]:
    found = _json(path).get(key)
    if not isinstance(found, list):
        raise _unreadable(path, f"it has no list {key}")
    return found


def _unreadable(path: Path, reason: object) -> InputError:
    return InputError("LP198", f"{path} can't be read ({reason}). Save the dataset again: save_to_disk.")
