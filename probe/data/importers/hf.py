"""Hugging Face datasets: Parquet files as the hub has them, folders by ``save_to_disk``, what ``load_dataset`` loads.

Parquet and Arrow tables are read by pyarrow, so that nothing of them is decoded or copied: a manifest's path is the
address of a row. The library ``datasets`` is needed for other datasets alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import AUDIO_MISSING, Imported, counted, split_named
from layerprobe.probe.data.importers.choices import ColumnChoices
from layerprobe.probe.data.importers.hf_columns import DatasetPart, read_part
from layerprobe.probe.data.importers.hf_files import TABLES, dataset_tables
from layerprobe.probe.data.importers.hf_library import load_parts
from layerprobe.probe.data.importers.hf_metadata import metadata_parts
from layerprobe.probe.data.importers.source_table import PATH, SourceTable, imported_from
from layerprobe.probe.data.manifest.schema import Header
from layerprobe.probe.data.stored.locations import scheme_of
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import first_line

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
NO_AUDIO = "row without audio"


def import_hf(
    source: str, choices: ColumnChoices, *, splits: Sequence[str] = (), subset: str | None = None
) -> Imported:
    """Read a dataset from a folder, a table, or the hub.

    Args:
        source: a folder, a ``.parquet`` or ``.arrow`` file, or a name on the hub with an optional ``@revision``
        choices: on its columns; ``path`` names the column of audio
        splits: names of those that are read; () for all
        subset: of a dataset that has several; None for the only one

    Raises:
        InputError: if there is no such dataset, or the choices do not fit it
    """
    folder, name, revision = _located(source)
    tables = dataset_tables(folder, subset=subset) if folder is not None else []
    audio = choices.columns.get(PATH)
    if tables:
        chosen = _chosen(tables, splits, name)
        parts = [read_part(file, split, audio) for split, file in chosen]
    else:
        found = metadata_parts(folder) if folder is not None and folder.is_dir() else []
        loaded = found or load_parts(source, audio, subset=subset)
        parts = [part for _, part in _chosen([(part.split, part) for part in loaded], splits, name)]
    return imported_from(_joined(parts, folder, name, revision), choices)


def _located(source: str) -> tuple[Path | None, str, str]:
    """Return the folder or file of a dataset, its name, and its commit on the hub ('' for one on disk)."""
    path = Path(source).expanduser()
    if path.exists():
        return path, path.resolve().name if path.is_dir() else path.stem, ""
    if HUB_NAME.fullmatch(source) is None or path.suffix.lower() in TABLES or source.startswith("."):
        raise InputError(
            "LP196", f"{source} is no folder or table of a dataset, and no name on the hub. Check the path."
        )
    repository, _, revision = source.partition("@")
    folder = _snapshot(repository, revision or None)
    return folder, repository, folder.name


def _snapshot(repository: str, revision: str | None) -> Path:
    """Return the folder in the hub's cache that holds the Parquet files of a dataset at a commit; loads what lacks."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=["*.parquet", "README.md"]
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            "LP196",
            f"{repository} is no folder here, and can't be had as a dataset of the hub ({first_line(error)}). Check "
            "the name and the connection, or give the folder that the dataset was saved to.",
        ) from error
    return Path(found)


def _chosen(tables: Sequence[tuple[str, Any]], splits: Sequence[str], name: str) -> list[tuple[str, Any]]:
    """Return the tables of the splits that were requested, by their names or by those that a manifest has."""
    found = list(dict.fromkeys(split for split, _ in tables))
    chosen = {w: [s for s in found if s == w or (split_named(w) and split_named(s) == split_named(w))] for w in splits}
    for wanted, matching in chosen.items():
        if not matching and not any(found):  # '' is the split of a table that names none
            raise InputError("LP197", f"{name} has no split {wanted!r}, because it names none. Leave out --split.")
        if not matching:
            raise InputError(
                "LP197", f"{name} has no split {wanted!r} (there are {', '.join(found)}). Name one of these by --split."
            )
    kept = {split for matching in chosen.values() for split in matching}
    return [(split, table) for split, table in tables if not splits or split in kept]


def _joined(parts: Sequence[DatasetPart], folder: Path | None, name: str, revision: str) -> SourceTable:
    """Return the rows of all parts that have audio as one table."""
    frames: list[pd.DataFrame] = []
    paths: list[str] = []
    files: list[str] = []
    splits: list[str] = []
    places: list[str] = []
    rows: list[tuple[str, int]] = []
    dropped, n_before = Counter[str](), Counter[str]()
    for part in parts:
        audio = [_found(where, folder, dropped) for where in part.audio]
        kept = [k for k, where in enumerate(audio) if where]
        frames.append(pd.DataFrame(part.columns, index=range(len(audio)), dtype=object).iloc[kept])
        paths += [audio[k] for k in kept]
        files += [part.names[k] for k in kept]
        splits += [part.split] * len(kept)
        rows += [(part.file.name, k) for k in kept]
        places += [f"{part.split or name}-{n_before[part.split] + k}" for k in kept]
        n_before[part.split] += len(audio)
    if not paths:
        raise InputError("LP162", f"{name}: no row has audio ({counted(dropped.total(), 'row')}). Load the audio, too.")
    unread = sorted({column for part in parts for column in part.unread})
    note = f"columns {', '.join(unread)} left out, because they hold no texts or numbers"
    return SourceTable(
        name,
        pd.concat(frames, ignore_index=True).fillna(""),
        paths,
        files,
        _row_names(rows),
        places,
        splits if any(splits) else [],
        {column: classes for part in parts for column, classes in part.classes.items()},
        about=Header(name, revision, _licence(folder), notes="Imported from a Hugging Face dataset."),
        dropped=dropped,
        remarks=[note] if unread else [],
    )


def _row_names(rows: list[tuple[str, int]]) -> Callable[[int], str]:
    return lambda k: f"{rows[k][0]}, row {rows[k][1]}"


def _found(where: str, folder: Path | None, dropped: Counter[str]) -> str:
    """Return the absolute address of a row's audio; '' where there is none, which is counted."""
    if scheme_of(where):
        return where
    if not where:
        dropped[NO_AUDIO] += 1
        return ""
    base = folder if folder is not None and folder.is_dir() else (folder or Path()).parent
    path = next((p for p in (base / where, Path(where)) if p.is_file()), None)  # its own, whatever else is here
    if path is None:
        dropped[AUDIO_MISSING] += 1
        return ""
    return str(path.absolute())


def _licence(folder: Path | None) -> str:
    """Return the licence that a dataset's card states, '' where there is none."""
    card = folder / "README.md" if folder is not None else None
    if card is None or not card.is_file():
        return ""
    head = card.read_text(encoding="utf-8", errors="replace").partition("\n---")[0]
    found = re.search(r"^licen[cs]e:\s*([\w.+-]+)\s*$", head, flags=re.MULTILINE)
    return found[1] if found else ""
