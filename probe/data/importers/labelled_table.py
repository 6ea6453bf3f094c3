"""Any table of labels with a folder of audio files: for corpora that have no importer of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from layerprobe.probe.data.importers.audio_files import walk_audio
from layerprobe.probe.data.importers.base import AUDIO_MISSING, Imported
from layerprobe.probe.data.importers.choices import ColumnChoices, columns_of_template, fill
from layerprobe.probe.data.importers.source_table import PATH, SourceTable, imported_from, listed, names_of, plain_name
from layerprobe.probe.data.manifest.schema import Header
from layerprobe.probe.data.manifest.table import read_text_table
from layerprobe.probe.data.stored.locations import scheme_of
from layerprobe.probe.exceptions import InputError

FILE_COLUMNS = ("path", "filename", "file", "filepath", "fileid", "wav", "wavfile", "audio", "audiofile", "audiopath")
UNLISTED = "audio that the table does not list"


def import_table(labels: Path, choices: ColumnChoices, *, audio: Path | None = None) -> Imported:
    """Read a table of labels, and find each row's audio file.

    Args:
        labels: a ``.csv``, ``.tsv`` or ``.parquet`` table with one row per utterance
        choices: on its columns; ``path`` names the one of files, or is a template such as ``{video}/{clip}.wav``
        audio: folder of the audio files; None for that of the table

    Raises:
        InputError: if the table can't be read, no column names files, a name is that of several files, or the choices
            do not fit
    """
    table = read_text_table(labels)
    if audio is not None and not audio.is_dir():
        raise InputError("LP151", f"{audio} is not a folder. Name the folder of the audio files by --audio.")
    cells = table.cells.reset_index(drop=True)
    where = [f"{labels}, row {number}" for number in table.row_numbers]
    written = _written(labels, cells, choices)
    files = _AudioTree(audio or labels.absolute().parent)
    paths = [files.find(name, where[k]) for k, name in enumerate(written)]
    kept = [k for k, path in enumerate(paths) if path]
    if not kept:
        raise InputError(
            "LP162",
            f"{labels}: none of the {len(set(written))} listed audio files exists in {files.folder} (first: "
            f"{written[0]}). Name their folder by --audio.",
        )
    dropped = Counter({AUDIO_MISSING: len(paths) - len(kept)})
    if audio is not None:  # all of whose files are to be listed
        dropped[UNLISTED] = files.n_other(paths)
        dropped += files.skipped
    source = SourceTable(
        labels.name,
        cells.iloc[kept].reset_index(drop=True),
        [paths[k] for k in kept],
        [_stem(paths[k]) for k in kept],
        lambda k: where[kept[k]],
        [f"{labels.stem}-{table.row_numbers[k]}" for k in kept],
        timed=True,
        about=Header(labels.stem, notes="Imported from a table of labels."),
        dropped=dropped,
        remarks=list(table.notes),
    )
    return imported_from(source, choices)


def _written(labels: Path, cells: pd.DataFrame, choices: ColumnChoices) -> list[str]:
    """Return the audio file of each row as the table states it.

    Raises:
        InputError: if no column names files, or several may
    """
    names, column = names_of(cells), choices.columns.get(PATH)
    if column is None:
        usual = sorted(
            (c for c in names if plain_name(c) in FILE_COLUMNS), key=lambda c: FILE_COLUMNS.index(plain_name(c))
        )
        if len(usual) != 1 and PATH not in usual:
            several = f"columns {listed(usual)} may each name" if usual else "no column names"
            raise InputError(
                "LP191",
                f"{labels}: {several} the audio files (there are {listed(names)}). Name one: --map path=COLUMN.",
            )
        column = PATH if PATH in usual else usual[0]
    wanted = columns_of_template(column) or [column]
    if missing := [name for name in wanted if name not in names]:
        raise InputError(
            "LP191",
            f"{labels} has no column {missing[0]!r} for {PATH} (there are {listed(names)}). Name one of these.",
        )
    if not columns_of_template(column):
        return list(cells[column])
    given = {name: list(cells[name]) for name in wanted}
    return [fill(column, {name: values[k] for name, values in given.items()}) for k in range(len(cells))]


class _AudioTree:
    """Audio files below a folder, by their paths and names with and without ending."""

    def __init__(self, folder: Path) -> None:
        """Set the folder; it is listed when a file is not where a row states it."""
        self.folder = folder
        self.skipped = Counter[str]()
        self._files: list[str] | None = None  # relative paths
        self._by_name: dict[str, list[str]] = {}

    def find(self, written: str, where: str) -> str:
        """Return the absolute path of a file by what a row states: a path, or a name with or without its ending.

        Raises:
            InputError: if several files have that name
        """
        if not written.strip():
            return ""
        if scheme_of(written):
            return written
        plain = PurePosixPath(written.strip().replace("\\", "/"))
        if (direct := self.folder / plain).is_file():
            return str(direct.absolute())
        self._list()
        for depth in range(len(plain.parts), 0, -1):  # with as many of its folders as are there
            tail = "/".join(plain.parts[-depth:]).casefold()
            found = self._by_name.get(tail, []) or self._by_name.get(tail.rpartition(".")[0], [])
            if len(found) > 1:
                raise InputError(
                    "LP197",
                    f"{where}: {written} is {self.folder / found[0]} and {self.folder / found[1]}. State its folder, "
                    "such as --map path='{speaker}/{file}.wav'.",
                )
            if found:
                return str((self.folder / found[0]).absolute())
        return ""

    def n_other(self, paths: Sequence[str]) -> int:
        """Return the number of audio files that are none of these."""
        self._list()
        return len({str((self.folder / name).absolute()) for name in self._files or ()} - set(paths))

    def _list(self) -> None:
        if self._files is not None:
            return
        self._files = []
        for path, reason in walk_audio(self.folder):
            if reason:
                self.skipped[reason] += 1
                continue
            name = path.relative_to(self.folder).as_posix()
            self._files.append(name)
            parts = PurePosixPath(name).parts
            for depth in range(1, len(parts) + 1):
                tail = "/".join(parts[-depth:]).casefold()
                for key in {tail, tail.rpartition(".")[0]}:
                    self._by_name.setdefault(key, []).append(name)


def _stem(path: str) -> str:
    return PurePosixPath(path).stem
