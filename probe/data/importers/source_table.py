"""Table of a source with columns of its own, and the manifest that is made of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.base import (
    Imported,
    counted,
    split_named,
    without_empty_columns,
    without_impossible_ratings,
)
from layerprobe.probe.data.importers.choices import ColumnChoices, columns_of_template, fill
from layerprobe.probe.data.importers.source_targets import DURATION, RATED, TargetColumns, targets_of
from layerprobe.probe.data.manifest.schema import TIMES, TRANSCRIPT, Header
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import is_unknown, normalise_names
from layerprobe.probe.splits import UNKNOWN_SPEAKER

ID, PATH, SPEAKER, SPLIT, GENDER = "utterance_id", "path", "speaker_id", "split", "gender"
SOURCE_SPLIT = "source_split"  # column of splits that are not those of a manifest
OF_FILES = ("file", "folder", "split", "row")  # names in templates that no column needs to have
# Names of columns in use, without blanks and underscores, in lower case.
USUAL = {
    SPEAKER: ("speakerid", "speaker", "spkid", "spk", "spkrid", "spkr", "speakername", "actorid", "actor", "talker"),
    TRANSCRIPT: ("transcript", "transcription", "sentence", "text", "txt"),
    GENDER: ("gender", "sex"),
}
IDS = ("utteranceid", "uttid", "utterance", "id", "segmentid")


@dataclass(frozen=True)
class SourceTable:
    """Utterances of a source with its own columns; cells are text, '' where there is none."""

    name: str  # of the source, for messages
    cells: pd.DataFrame  # one row per utterance
    paths: list[str]  # absolute path, address or URL of each utterance's audio
    files: list[str]  # name of each audio file without its ending
    row_name: Callable[[int], str]  # where a row lies, for messages, such as "train.parquet, row 17"
    places: list[str]  # unique name of each row's place, such as train-17
    splits: list[str] = field(default_factory=list)  # of each utterance; [] where the source has none
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of columns that are declared to be nominal
    timed: bool = False  # whether columns start and end are spans of the audio
    about: Header = field(default_factory=lambda: Header(""))  # corpus, version, licence and notes
    dropped: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)


def imported_from(source: SourceTable, choices: ColumnChoices) -> Imported:
    """Return a source as a manifest, with the columns that were chosen and those with usual names.

    Rows stay in the source's order, in which archives and tables are read best.

    Raises:
        InputError: if a chosen column is not there, speakers or scales are not stated, a rating is no number, or ids
            are repeated
    """
    _check_columns(source, choices)
    names, remarks = _names(source, choices)
    cells = pd.DataFrame(
        {new: _column(source, old) for new, old in names.items()}, index=source.cells.index, dtype=object
    )
    speakers, notes = _speakers(source, choices, cells)
    found = targets_of(source.name, cells, choices, _renamed(source.classes, names), source.row_name)
    split, split_notes = _split(source, cells)
    ids, id_notes = _ids(source, cells)
    table = pd.DataFrame({ID: ids, PATH: source.paths, SPEAKER: speakers})
    table = table.assign(**_in_order(cells, found, split, source.timed or bool(set(TIMES) & set(choices.columns))))
    about = source.about
    header = Header(about.corpus, about.version, about.licence, found.rated, about.notes, nominal=found.nominal)
    remarks = [*source.remarks, *id_notes, *remarks, *notes, *split_notes, *found.remarks]
    return without_impossible_ratings(Imported(without_empty_columns(table), header, +source.dropped, remarks))


def plain_name(name: str) -> str:
    """Return the name of a column without blanks, underscores and case, by which it is recognised."""
    return re.sub(r"[\s_.-]", "", name.casefold())


def names_of(cells: pd.DataFrame) -> list[str]:
    """Return the names of a table's columns."""
    return list(map(str, cells))


def listed(names: Sequence[str]) -> str:
    """Return the names of columns for a message."""
    return ", ".join(map(str, names)) or "none"


def _check_columns(source: SourceTable, choices: ColumnChoices) -> None:
    """Check that every column that was named is there."""
    own = names_of(source.cells)
    for new, old in choices.columns.items():
        wanted = columns_of_template(old) or [old]
        known = (*own, *OF_FILES) if columns_of_template(old) else own
        missing = [name for name in wanted if name not in known]
        if missing and new != PATH:
            raise InputError(
                "LP191",
                f"{source.name} has no column {missing[0]!r} for {new} (there are {listed(own)}). Name one of these.",
            )


def _names(source: SourceTable, choices: ColumnChoices) -> tuple[dict[str, str], list[str]]:
    """Return the source's column, or the template, of each column of the manifest, with remarks on what was guessed."""
    names = {new: old for new, old in choices.columns.items() if new != PATH}
    taken = set(choices.columns.values())
    remarks = []
    for new, usual in USUAL.items():
        if new in names or (new == SPEAKER and not choices.speakers):
            continue
        matching = [c for c in names_of(source.cells) if plain_name(c) in usual and (new == SPEAKER or c not in taken)]
        exact = [c for c in matching if c == new]
        if new == SPEAKER and len(matching) > 1 and not exact:
            raise InputError(
                "LP192",
                f"{source.name}: columns {listed(matching)} may each name the speakers. Choose one: --map "
                f"speaker_id={matching[0]}.",
            )
        best = exact or sorted(matching, key=lambda c: usual.index(plain_name(c)))
        if best:
            names[new] = best[0]
            remarks += [f"{new} is column {best[0]}"] if best[0] != new else []
    kept_out = {PATH, *(() if source.timed else TIMES)}
    others = [c for c in names_of(source.cells) if c not in {*names, *names.values(), *kept_out} and c not in taken]
    left = [c for c in TIMES if c in source.cells and c in kept_out and c not in taken]
    if left:
        remarks.append(
            f"columns {' and '.join(left)} left out: each audio file is one utterance (--map {left[0]}={left[0]} reads "
            "a span of it)"
        )
    return names | {c: c for c in others}, remarks


def _column(source: SourceTable, column: str) -> list[str]:
    """Return a column of the source, or a template filled for each row."""
    wanted = columns_of_template(column)
    if not wanted:
        return list(source.cells[column])
    given: dict[str, list[str]] = {name: list(source.cells[name]) for name in wanted if name in source.cells}
    given |= {"row": [str(k) for k in range(len(source.paths))], "file": source.files}
    given["folder"] = [path.rpartition("/")[0].rpartition("/")[2] for path in source.paths]
    if source.splits:
        given["split"] = source.splits
    if missing := [name for name in wanted if name not in given]:
        raise InputError(
            "LP191",
            f"{source.name} has no column {missing[0]!r} for {column} (there are {listed(names_of(source.cells))}). "
            "Name one of these.",
        )
    return [fill(column, {name: given[name][k] for name in wanted}) for k in range(len(source.paths))]


def _renamed(classes: dict[str, tuple[str, ...]], names: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {new: classes[old] for new, old in names.items() if old in classes}


def _speakers(source: SourceTable, choices: ColumnChoices, cells: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the speaker of each utterance, and a remark on those who are not known."""
    if not choices.speakers:
        return [UNKNOWN_SPEAKER] * len(source.paths), ["speakers are not known: each utterance counts as one"]
    if SPEAKER not in cells:
        raise InputError(
            "LP192",
            f"{source.name}: no column names the speakers (there are {listed(names_of(source.cells))}). Name one: "
            "--map speaker_id=COLUMN; --no-speakers imports without them, and scores may then be too optimistic.",
        )
    speakers = [name if name.strip() else UNKNOWN_SPEAKER for name in cells[SPEAKER]]
    n_unknown = sum(map(is_unknown, normalise_names(speakers)))
    note = f"{counted(n_unknown, 'utterance')} without a speaker; each counts as a speaker of its own"
    return speakers, [note] if n_unknown else []


def _split(source: SourceTable, cells: pd.DataFrame) -> tuple[dict[str, list[str]], list[str]]:
    """Return the column ``split``, or ``source_split`` where it is no split of a manifest, with the reason."""
    written = list(cells[SPLIT]) if SPLIT in cells else source.splits
    if len(set(written)) < 2:
        return {}, []
    splits = [split_named(text) for text in written]
    if all(splits):
        return {SPLIT: splits}, []
    first = next(text for text, split in zip(written, splits, strict=True) if not split)
    return {SOURCE_SPLIT: written}, [
        f"{first!r} is no split that a manifest has; column {SOURCE_SPLIT} has what is known"
    ]


def _ids(source: SourceTable, cells: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the ids of the utterances, and a remark on where they are from if no column was named for them.

    Raises:
        InputError: if the column that was named repeats an id
    """
    if ID in cells:
        return _unique_ids(source, list(cells[ID])), []
    for column in sorted((c for c in names_of(cells) if plain_name(c) in IDS), key=lambda c: IDS.index(plain_name(c))):
        if cells[column].is_unique and (cells[column] != "").all():
            return list(cells[column]), [f"utterance_id is column {column}"]
    if len(set(source.files)) == len(source.files) and all(source.files):
        return source.files, ["utterance_id is the name of the audio file"]
    return _unique_ids(source, source.places), [
        f"utterance_id is the place of the row, such as {source.places[0]}, because names of audio files are repeated "
        "or missing (--id states another)"
    ]


def _unique_ids(source: SourceTable, ids: list[str]) -> list[str]:
    first: dict[str, int] = {}
    for k, name in enumerate(ids):
        if not name.strip():
            raise InputError(
                "LP199", f"{source.row_name(k)}: the utterance id is empty. Fill it in, or choose another by --id."
            )
        if first.setdefault(name, k) != k:
            raise InputError(
                "LP199",
                f"{source.row_name(k)}: utterance id {name!r} is also that of {source.row_name(first[name])}. Choose "
                "ids that differ, such as --id '{split}-{file}'.",
            )
    return ids


def _in_order(
    cells: pd.DataFrame, found: TargetColumns, split: dict[str, list[str]], timed: bool
) -> dict[str, list[str] | np.ndarray]:
    """Return the columns after the speaker in their order: times, split, group, text, targets, raters, others."""
    columns: dict[str, list[str] | np.ndarray] = {}
    if timed:
        columns |= {c: found.numbers[c] for c in TIMES if c in found.numbers}
    columns |= split
    columns |= {c: list(cells[c]) for c in (GENDER, TRANSCRIPT) if c in cells}
    columns |= {c: found.numbers[c] for c in found.rated}
    columns |= {c: list(cells[c]) for c in found.nominal}
    columns |= {c: values for c, values in found.numbers.items() if c not in columns and c not in TIMES}
    given = {ID, PATH, SPEAKER, SPLIT, *TIMES, DURATION, *RATED}
    others: dict[str, list[str] | np.ndarray] = {
        c: list(cells[c]) for c in names_of(cells) if c not in columns and c not in given
    }
    return {**columns, **others}
