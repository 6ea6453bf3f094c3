"""Annotations of an audformat database by scheme: columns of its tables, and fields of the labels of their schemes.

audformat's ``Database.get`` looks for a scheme in the same places: columns that are assigned to it, columns of its
name, and labels that are dictionaries or rows of a misc table with a field of its name (Wagner et al., 2023).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.base import split_named

SPEAKER, GENDER, TRANSCRIPTION, EMOTION, SPLIT = "speaker", "gender", "transcription", "emotion", "split"
RATED = ("arousal", "valence", "dominance")
ROLES = {  # what a scheme, a column or a field of labels of this name holds
    **{name: name for name in (*RATED, EMOTION, SPEAKER, GENDER, TRANSCRIPTION, SPLIT)},
    "speaker_id": SPEAKER,
    "sex": GENDER,
    "transcript": TRANSCRIPTION,
    "text": TRANSCRIPTION,
}
CONSENSUS = {"gold", "goldstandard", "consensus", "majority", "vote", "mean", "average"}  # in names of raters
CONSENSUS_TYPES = ("vote", "ground truth")  # of raters
FILE, START, END = "file", "start", "end"
KEYS = [FILE, START, END]
TEXT_FIELDS = ("name", "label", "category", "word", "sentence")  # of labels that are codes
RATER_LEVELS = ("rater", "rater_id", "annotator", "worker")  # in the index of a misc table, next to files


@dataclass(frozen=True)
class Annotation:
    """Values of one column, or of one field of its labels, for files and segments."""

    name: str  # a value of `ROLES`, or the column's own name
    source: str  # TABLE.COLUMN, for messages
    rater: str  # '' for what all raters agree on, and where no rater is named
    values: pd.Series[str]  # '' where empty; index: file, start and end in seconds, which is infinite for the file's
    scheme: Any  # audformat's, which limits the values; None where there is none
    labels: tuple[str, ...]  # texts that the scheme allows; () where any
    is_machine: bool = False  # whether the rater is a model

    @property
    def description(self) -> str:
        """What the scheme states of its values, '' where nothing."""
        return str(getattr(self.scheme, "description", None) or "")


@dataclass(frozen=True)
class Annotations:
    """Everything that the tables of a database hold."""

    found: tuple[Annotation, ...]
    rows: dict[str, pd.MultiIndex]  # file, start and end of the rows of each table, by its name
    splits: dict[str, str]  # part of the split that a table is, by its name; '' for none
    remarks: list[str]  # what is not read, or under another name

    def named(self, name: str) -> list[Annotation]:
        """Return the annotations of one name, in the order of their tables."""
        return [a for a in self.found if a.name == name]


def read_annotations(database: Any) -> Annotations:
    """Read every table of a database whose rows are files or segments, those of misc tables among them."""
    found: list[Annotation] = []
    rows: dict[str, pd.MultiIndex] = {}
    splits, unread = {}, []
    looked_up = _looked_up(database)
    for table_id in sorted([*database.tables, *database.misc_tables]):
        table = database[table_id]
        levels = list(table.df.index.names)
        by_rater = [n for n in levels if n not in KEYS and n in RATER_LEVELS]
        if [n for n in levels if n not in by_rater] not in ([FILE], KEYS) or len(by_rater) > 1:
            if table_id not in looked_up:
                unread.append(f"{table_id} (its index is {', '.join(map(str, levels))})")
            continue
        index = rows[table_id] = _seconds(table.df.index)
        splits[table_id] = _split_of(database, table, table_id)
        raters = table.df.index.get_level_values(by_rater[0]).map(text) if by_rater else pd.Index([""] * len(index))
        for column_id, column in table.columns.items():
            texts = pd.Series(list(map(text, table.df[column_id])), index=index, dtype=object)
            for rater in raters.unique():
                values = texts[raters == rater]
                found += _read_column(database, f"{table_id}.{column_id}", column_id, column, values, rater)
    remarks = [f"tables without files in their index are not read: {'; '.join(unread)}"] if unread else []
    for role in (*RATED, EMOTION, SPEAKER, GENDER):
        variants = sorted({a.name for a in found if a.name.startswith(f"{role}-")})
        if len(variants) == 1 and all(a.name != role for a in found):  # as in emotion-felt
            found = [replace(a, name=role) if a.name == variants[0] else a for a in found]
            remarks.append(f"{role} is read from {variants[0]}")
    return Annotations(tuple(found), rows, splits, remarks)


def text(value: Any) -> str:
    """Return a value as text: '' for a missing one, whole numbers without a point, durations in seconds."""
    if not pd.api.types.is_scalar(value):
        return str(value)
    if pd.isna(value):
        return ""
    if isinstance(value, pd.Timedelta):
        value = value.total_seconds()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def key_text(key: tuple[str, float, float]) -> str:
    """Return a file with its segment, for messages."""
    file, start, end = key
    if start == 0 and end == float("inf"):
        return file
    return f"{file} from {start:g} s to {'its end' if end == float('inf') else f'{end:g} s'}"


def _looked_up(database: Any) -> set[str]:
    """Return the misc tables whose rows are the labels of a scheme, or are looked up by a column without labels."""
    found = {str(s.labels) for s in database.schemes.values() if isinstance(s.labels, str)}
    for table in database.tables.values():
        for column_id, column in table.columns.items():
            scheme = _scheme(database, column)
            if scheme is None or scheme.labels is None:
                found.add(_misc_table(database, column_id, column.scheme_id))
    return found


def _seconds(index: pd.Index) -> pd.MultiIndex:
    """Return the rows of a table as files with start and end in seconds; a whole file is from 0 to infinity."""
    frame = index.to_frame(index=False)
    times = {
        START: frame[START].dt.total_seconds().fillna(0.0) if START in frame else 0.0,
        END: frame[END].dt.total_seconds().fillna(float("inf")) if END in frame else float("inf"),
    }
    return pd.MultiIndex.from_frame(pd.DataFrame({FILE: frame[FILE].astype(str), **times}))


def _split_of(database: Any, table: Any, table_id: str) -> str:
    """Return the part of the split that a table states, else the one part of its name that is one."""
    if table.split_id:
        kind = str(database.splits[table.split_id].type)
        return split_named(str(table.split_id)) or split_named(kind)
    parts = {split for part in re.split(r"[.\-]", table_id) if (split := split_named(part))}
    return parts.pop() if len(parts) == 1 else ""


def _scheme(database: Any, column: Any) -> Any:
    return database.schemes.get(column.scheme_id)


def _role(*names: str | None) -> str:
    return next((ROLES[n.lower()] for n in names if n is not None and n.lower() in ROLES), "")


def _read_column(
    database: Any, source: str, column_id: str, column: Any, codes: pd.Series[str], level: str
) -> list[Annotation]:
    """Return a column's values and, for each field of its labels, the values that these have.

    ``level`` is the rater in the index of a misc table, '' where there is none.
    """
    scheme = _scheme(database, column)
    name = _role(column.scheme_id, column_id) or _own_name(database, source, column_id, column)
    rater = _rater(database, column_id, column, name) if level == "" else "" if _is_consensus(level) else level
    fields = _label_fields(database, column_id, column, scheme)
    texts_of = (name, *TEXT_FIELDS) if name in (EMOTION, TRANSCRIPTION) else (name,)
    own = next((f for n in texts_of for f in fields if f.name == n), None)
    if own is not None and (name != SPEAKER or _one_to_one(own.mapping)):
        fields = [f for f in fields if f is not own]
        direct = Annotation(name, source, rater, codes.map(own.mapping).fillna(""), own.scheme or scheme, own.labels)
    else:
        texts = _label_texts(scheme)
        if name == SPEAKER and not _one_to_one(texts):
            texts = {}
        direct = Annotation(name, source, rater, _decoded(codes, texts), scheme, _allowed(database, scheme, texts))
    if rater and rater == column.rater_id and rater in database.raters:
        direct = replace(direct, is_machine=str(database.raters[rater].type) == "machine")
    values = [(f, codes.map(f.mapping).fillna("")) for f in fields]
    return [direct, *(Annotation(f.name, f"{source} ({f.name})", "", v, f.scheme, f.labels) for f, v in values)]


def _own_name(database: Any, source: str, column_id: str, column: Any) -> str:
    """Return the name of a column without a role; of one that is named after a rater, its scheme's or its table's."""
    named_after_rater = column_id == column.rater_id or column_id in database.raters or _is_consensus(column_id)
    if not named_after_rater:
        return column_id
    return str(column.scheme_id or _role(source.split(".", 1)[0]) or column_id)


def _rater(database: Any, column_id: str, column: Any, name: str) -> str:
    """Return who annotated a column, '' for a consensus and where no rater is named."""
    rater = str(column.rater_id or "")
    kind = str(database.raters[rater].type) if rater in database.raters else ""
    if kind in CONSENSUS_TYPES or _is_consensus(rater) or _is_consensus(column_id):
        return ""
    if rater:
        return rater
    return "" if column_id in (column.scheme_id, name) or _role(column_id) == name else column_id


def _is_consensus(name: str) -> bool:
    return bool({re.sub(r"[^a-z]", "", name.lower()), *re.split(r"[^a-z]+", name.lower())} & CONSENSUS)


@dataclass(frozen=True)
class _Field:
    name: str
    mapping: dict[str, str]  # value by label
    scheme: Any
    labels: tuple[str, ...]


def _label_fields(database: Any, column_id: str, column: Any, scheme: Any) -> list[_Field]:
    """Return what the labels of a column state further, such as the gender of a speaker.

    Labels are dictionaries of fields, or name a misc table whose rows they are. Where a scheme has no labels, the rows
    of a misc table that has its name, or the column's, are looked up.
    """
    labels, fields = None if scheme is None else scheme.labels, list[_Field]()
    if isinstance(labels, dict):
        by_code = {text(code): of_code for code, of_code in labels.items() if isinstance(of_code, dict)}
        for n in dict.fromkeys(str(n) for of_code in by_code.values() for n in of_code):
            own = database.schemes.get(n)
            texts = _label_texts(own)
            mapping = {c: texts.get(text(f.get(n)), text(f.get(n))) for c, f in by_code.items()}
            fields.append(_Field(_role(n) or n, mapping, own, _allowed(database, own, texts)))
        return fields
    if isinstance(labels, str):
        misc_id = labels
    else:
        misc_id = "" if labels is not None else _misc_table(database, column_id, column.scheme_id)
    if misc_id not in database.misc_tables:
        return []
    misc = database.misc_tables[misc_id]
    codes = [text(code) for code in misc.df.index]
    for field_id, field in misc.columns.items():
        own = _scheme(database, field)
        texts = _label_texts(own)
        values = _decoded(pd.Series(list(map(text, misc.df[field_id])), dtype=object), texts)
        name = _role(field.scheme_id, field_id) or field_id
        fields.append(_Field(name, dict(zip(codes, values, strict=True)), own, _allowed(database, own, texts)))
    return fields


def _misc_table(database: Any, *names: str | None) -> str:
    """Return the misc table with one index level whose level or own name is one of these, '' if there is none."""
    for table_id, table in database.misc_tables.items():
        levels = list(table.df.index.names)
        if len(levels) == 1 and levels != [FILE] and any(n in (levels[0], table_id) for n in names if n):
            return str(table_id)
    return ""


def _label_texts(scheme: Any) -> dict[str, str]:
    """Return the texts that a scheme gives its codes, {} where labels are texts themselves."""
    labels = None if scheme is None else scheme.labels
    if not isinstance(labels, dict):
        return {}
    return {text(code): text(t) for code, t in labels.items() if not isinstance(t, dict) and text(t) != ""}


def _allowed(database: Any, scheme: Any, texts: dict[str, str]) -> tuple[str, ...]:
    labels = None if scheme is None else scheme.labels
    if isinstance(labels, str):
        labels = list(database.misc_tables[labels].df.index) if labels in database.misc_tables else []
    return tuple(dict.fromkeys(texts.get(text(code), text(code)) for code in labels or ()))


def _decoded(codes: pd.Series[str], texts: dict[str, str]) -> pd.Series[str]:
    return codes.map(lambda code: texts.get(code, code)) if texts else codes


def _one_to_one(mapping: dict[str, str]) -> bool:
    return max(Counter(mapping.values()).values(), default=1) == 1
