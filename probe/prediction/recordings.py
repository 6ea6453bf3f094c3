"""Recordings to rate: files, folders, tables and addresses become one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from layerprobe.probe.data.importers.audio_files import HIDDEN, walk_audio
from layerprobe.probe.data.manifest.read import read_utterances
from layerprobe.probe.data.manifest.schema import TIMES
from layerprobe.probe.data.stored.locations import CONTAINERS, absolute, scheme_of
from layerprobe.probe.exceptions import InputError

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
Inputs = pd.DataFrame | Path | str | Sequence[Path | str]


def collect_recordings(inputs: Inputs, *, text_column: str = "") -> pd.DataFrame:
    """Return a table of what is to be rated, in the order in which it was given.

    A file is named by its name, what lies in a folder by its path below the folder, and an utterance of a table by its
    ``utterance_id``. The same file under the same name is rated once.

    Args:
        inputs: tables (.csv, .tsv, .parquet) with ``utterance_id`` and ``path``, and ``start`` and ``end`` of spans in
            seconds; audio files, folders of them, and addresses as of `probe.data.stored.locations`; one or several
        text_column: of a table, that is kept as well

    Returns:
        ``utterance_id``; ``path``, absolute; ``start`` and ``end``, NaN without a span; ``text_column``, None where
        none is known

    Raises:
        InputError: if two recordings have the same name, or a folder holds none, or a table can't be read
    """
    several = [inputs] if isinstance(inputs, pd.DataFrame | Path | str) else list(inputs)
    parts = [_recordings_in(one, text_column) for one in several]
    columns = ["utterance_id", "path", *TIMES, *([text_column] if text_column else [])]
    rows = [row for part in parts for row in part.reindex(columns=columns).astype(object).to_dict("records")]
    table = pd.DataFrame(rows, columns=columns)
    table["utterance_id"], table["path"] = table["utterance_id"].astype(str), table["path"].astype(str)
    for name in TIMES:
        table[name] = table[name].astype(float)
    if not isinstance(inputs, pd.DataFrame):
        table = table.drop_duplicates(["utterance_id", "path", *TIMES], ignore_index=True)
    if text_column:
        table[text_column] = [None if pd.isna(text) else str(text) for text in table[text_column]]
    _check_names(table)
    return table


def _recordings_in(given: pd.DataFrame | Path | str, text_column: str) -> pd.DataFrame:
    if isinstance(given, pd.DataFrame):
        return given
    name = str(given)
    if scheme_of(name) not in CONTAINERS and PurePosixPath(name).suffix.lower() in TABLE_ENDINGS:
        return read_utterances(given, columns=(text_column,) if text_column else (), missing_files=True)
    if scheme_of(name):
        return _as_table([(name.partition("?")[0] if scheme_of(name) in ("http", "https") else name, name)])
    path = Path(given)
    if not path.is_dir():
        return _as_table([(path.name, str(path.absolute()))])
    found = sorted(file for file, reason in walk_audio(path) if reason != HIDDEN)
    if not found:
        raise InputError("LP942", f"{path} holds no audio file. Name a folder that does, or the files themselves.")
    return _as_table([(file.relative_to(path).as_posix(), str(file.absolute())) for file in found])


def _as_table(rows: list[tuple[str, str]]) -> pd.DataFrame:
    named = [(name, absolute(path, Path.cwd())) for name, path in rows]
    return pd.DataFrame(named, columns=["utterance_id", "path"])


def _check_names(table: pd.DataFrame) -> None:
    """Check that no two recordings have the same name.

    Raises:
        InputError: naming the first two that do
    """
    twice = table[table.duplicated("utterance_id", keep=False)]
    if twice.empty:
        return
    first, second = twice[twice["utterance_id"] == twice["utterance_id"].iloc[0]]["path"].iloc[:2]
    raise InputError(
        "LP943",
        f"{first} and {second} are both named {twice['utterance_id'].iloc[0]!r}, so their ratings would be "
        "confused. Give the folder that holds both, or a table with utterance_id and path.",
    )
