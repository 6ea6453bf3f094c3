"""Databases in audformat (Wagner et al., 2023), read by the format's own library.

Utterances are the files and segments for which arousal, valence, dominance or ``emotion`` is annotated, in whichever
tables. Speakers, genders, transcripts and all other columns are looked up in every table, in the labels of schemes and
in misc tables; what is stated of a whole file is stated of its segments, as in ``Database.get``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.data.importers.audformat_annotations import (
    EMOTION,
    END,
    FILE,
    GENDER,
    KEYS,
    RATED,
    SPEAKER,
    SPLIT,
    START,
    TRANSCRIPTION,
    Annotations,
    key_text,
    read_annotations,
)
from layerprobe.probe.data.importers.audformat_load import load_database
from layerprobe.probe.data.importers.audformat_raters import (
    AnnotationConflictError,
    Joined,
    describe_target,
    join,
)
from layerprobe.probe.data.importers.audformat_unmapped import unmapped_labels
from layerprobe.probe.data.importers.audio_files import HIDDEN, walk_audio
from layerprobe.probe.data.importers.base import AUDIO_MISSING, SPLITS, Imported, counted, split_named, tidy
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Header, Nominal, Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import is_unknown, normalise_names
from layerprobe.probe.splits import UNKNOWN_SPEAKER

WHOLE = (0.0, float("inf"))  # start and end of a whole file
LARYNGOGRAPH = "laryngo"  # what the names of tables of such recordings begin with
RESERVED = ("utterance_id", "path", "speaker_id", START, END, FILE, "corpus", "asr_transcript")


def import_audformat(folder: Path) -> Imported:
    """Read an audformat database.

    Raises:
        InputError: if the folder is none, the library is missing, no table has a target, or tables disagree on a
            target or a speaker
    """
    database = load_database(folder)
    left_out = _without_laryngographs(database)
    annotations = read_annotations(database)
    names = list(dict.fromkeys(a.name for a in annotations.found))
    joined, remarks = _joined(annotations, names, folder)
    remarks += [*left_out, *annotations.remarks]
    targets, described, notes = _targets(joined, folder)
    if not targets:
        raise InputError(
            "LP173",
            f"{folder}: no column, scheme or field of labels named {', '.join((*RATED, EMOTION))} in "
            f"{counted(len(annotations.rows), 'table')} of files or segments has ratings or two classes (there are "
            f"{', '.join(names) or 'none'}). Rename one of these in the database.",
        )
    remarks += notes
    keys, of_files = _utterances(targets)
    columns, notes = _columns(keys, joined)
    split, split_notes = _splits(keys, annotations)
    table = pd.DataFrame({**keys.to_frame(index=False), **columns})
    remarks += [*of_files, *notes, *split_notes]
    table, dropped = _present(_named(table.assign(**split)), annotations, folder)
    remarks += [*_on_speakers(table, annotations), *unmapped_labels(database, folder)]
    in_table = {name: d for name, d in described.items() if name in table}
    header = Header(
        str(database.name),
        str(database.meta.get("version", "1")),
        str(database.license or ""),
        {name: d for name, d in in_table.items() if isinstance(d, Target)},
        notes="Imported from audformat tables.",
        nominal={name: d for name, d in in_table.items() if isinstance(d, Nominal)},
    )
    return Imported(table, header, +dropped, remarks)


def _without_laryngographs(database: Any) -> list[str]:
    """Drop the tables of laryngograph recordings, as EmoDB 2.0 has them, and return a clause on them.

    They hold the contact of the vocal folds in place of speech, with the labels of the speech.
    """
    tables = [name for name in database.tables if name.partition(".")[0] == LARYNGOGRAPH]
    if not tables:
        return []
    n = len({file for name in tables for file in database[name].files})
    database.drop_tables(tables)
    return [f"{counted(n, 'laryngograph recording')} left out, because they hold no speech (tables {LARYNGOGRAPH}.*)"]


def _targets(joined: dict[str, Joined], folder: Path) -> tuple[list[Joined], dict[str, Target | Nominal], list[str]]:
    """Return the targets that have values, their scales and classes, and remarks."""
    targets: list[Joined] = []
    described: dict[str, Target | Nominal] = {}
    remarks: list[str] = []
    for one in (joined[name] for name in (*RATED, EMOTION) if name in joined):
        if not any((values != "").any() for values in (one.values, *one.raters.values())):
            remarks.append(f"{one.name} has no values")
            continue
        scale, notes = describe_target(one, str(folder))
        if isinstance(scale, Nominal) and len(scale.classes) < 2:
            remarks.append(f"{one.name} is no target, because it has one class only ({scale.classes[0]})")
            continue
        targets.append(one)
        described[one.name] = scale
        remarks += [*one.remarks, *notes]
    return targets, described, remarks


def _joined(annotations: Annotations, names: Iterable[str], folder: Path) -> tuple[dict[str, Joined], list[str]]:
    """Return the annotations of each name joined, and a clause for each column that is left out.

    Raises:
        InputError: if tables disagree on a target or a speaker
    """
    joined, remarks = {}, []
    for name in names:
        try:
            joined[name] = join(annotations.named(name), name)
        except AnnotationConflictError as error:
            if name in (*RATED, EMOTION, SPEAKER):
                raise InputError(
                    "LP174",
                    f"{folder}: {error.message}. Remove the column that is wrong from the database, and import again.",
                ) from error
            remarks.append(f"{name} is left out, because tables disagree: {error.message}")
    return joined, remarks


def _utterances(targets: list[Joined]) -> tuple[pd.MultiIndex, list[str]]:
    """Return file, start and end of all utterances, and a clause on files whose segments are taken.

    A file is an utterance of its own where it is annotated as a whole; where other targets of it are annotated in
    segments, these are the utterances, except if one target is annotated both ways.
    """
    every = [s.index for t in targets for s in (t.values, *t.raters.values())]
    keys = pd.MultiIndex.from_tuples(sorted({key for index in every for key in index}), names=KEYS)
    in_segments = {k[0] for k in keys if k[1:] != WHOLE}
    both: set[str] = set()
    for target in targets:
        filled = target.values[target.values != ""].index
        segmented = {k[0] for k in filled if k[1:] != WHOLE}
        both |= {k[0] for k in filled if k[1:] == WHOLE and k[0] in segmented}
    kept = [k[1:] != WHOLE or k[0] not in in_segments or k[0] in both for k in keys]
    remarks = []
    if not all(kept):
        remarks.append(
            f"{counted(len(kept) - sum(kept), 'file')} annotated as a whole and in segments: segments are taken"
        )
    if both:
        remarks.append(f"{counted(len(both), 'file')} rated as a whole and in segments, as different utterances")
    return keys[kept], remarks


def _columns(keys: pd.MultiIndex, joined: dict[str, Joined]) -> tuple[dict[str, Any], list[str]]:
    """Return the column of each name and of its raters, one value per utterance, with remarks."""
    columns: dict[str, Any] = {}
    remarks: list[str] = []
    for name, one in joined.items():
        if name == SPLIT:
            continue
        if name in RESERVED:
            remarks.append(f"column {name} is left out, because a manifest's column of that name is another")
            continue
        target = name in (*RATED, EMOTION)
        values, n_of_file, n_lifted = _looked_up(keys, one.values, target=target)
        if n_of_file and (target or name == TRANSCRIPTION):
            remarks.append(f"{counted(n_of_file, 'segment')} with the {name} of the whole file")
        if n_lifted:
            remarks.append(f"{counted(n_lifted, 'whole file')} with the {name} that all segments have")
        as_numbers = one.is_numeric and name in RATED
        columns[name] = pd.to_numeric(pd.Series(values), errors="coerce").astype(float) if as_numbers else values
        for k, rated in enumerate(one.raters.values()):
            texts = _looked_up(keys, rated, target=target)[0]
            columns[f"{name}_r{k + 1}"] = (
                pd.to_numeric(pd.Series(texts), errors="coerce").astype(float) if as_numbers else texts
            )
        if not target:
            remarks += one.remarks
    return columns, remarks


def _looked_up(keys: pd.MultiIndex, values: pd.Series[str], *, target: bool) -> tuple[list[str], int, int]:
    """Return one value per utterance: its own, else that of its whole file, '' where there is neither.

    A whole file without a value takes that of its segments if it is the same in all; not so a target, and no segment
    takes a target of the whole file where other segments of that file have their own.

    Returns:
        the values, how many segments have that of their file, and how many files that of their segments
    """
    filled: dict[Any, str] = {k: v for k, v in values.items() if v != ""}
    of_segments: dict[str, set[str]] = {}
    for key, value in filled.items():
        if key[1:] != WHOLE:
            of_segments.setdefault(key[0], set()).add(value)
    found, n_of_file, n_lifted = [], 0, 0
    for key in keys:
        value, inside = filled.get(key, ""), of_segments.get(key[0], set())
        if value == "" and key[1:] != WHOLE and not (target and inside):
            value = filled.get((key[0], *WHOLE), "")
            n_of_file += value != ""
        elif value == "" and key[1:] == WHOLE and len(inside) == 1 and not target:
            value = next(iter(inside))
            n_lifted += 1
        found.append(value)
    return found, n_of_file, n_lifted


def _splits(keys: pd.MultiIndex, annotations: Annotations) -> tuple[dict[str, list[str]], list[str]]:
    """Return the column ``split``, or ``database_split`` where it is no manifest's split, with the reason."""
    parts: dict[Any, set[str]] = {}
    for table_id, index in annotations.rows.items():
        if annotations.splits[table_id]:
            for key in index:
                parts.setdefault(key, set()).add(annotations.splits[table_id])
    for annotation in annotations.named(SPLIT):
        for key, value in annotation.values.items():
            if value != "":
                parts.setdefault(key, set()).add(split_named(value) or value)
    if not parts:
        return {}, []
    found = [parts.get(key) or parts.get((key[0], *WHOLE)) or set() for key in keys]
    texts = ["+".join(sorted(p)) for p in found]
    n_without = texts.count("")
    several = [k for k, p in enumerate(found) if len(p) > 1]
    if several:
        span: Any = keys[several[0]]
        first = f"{key_text(span)}: {', '.join(sorted(found[several[0]]))}"
        reason = f"{_are(len(several))} in several parts of it ({first})"
    elif n_without:
        reason = f"{_are(n_without)} in no part of it"
    elif not set(texts) <= set(SPLITS.values()):
        reason = f"{sorted(set(texts) - set(SPLITS.values()))[0]!r} is no part that a manifest has"
    else:
        return {SPLIT: texts}, []
    return {"database_split": texts}, [
        f"the database's split is left out, because {reason}; column database_split has what is known"
    ]


def _are(n: int) -> str:
    return f"{counted(n, 'utterance')} {'is' if n == 1 else 'are'}"


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with utterance ids, speakers, and columns in their order."""
    files = table[FILE]
    plain = files.map(lambda f: str(Path(f).with_suffix("")).replace("/", "_"))
    clashes = files.groupby(plain).nunique()  # x.wav and x.flac, a/b.wav and a_b.wav
    name = plain.where(~plain.isin(clashes.index[clashes > 1]), files)
    numbers = table.groupby(FILE).cumcount().astype(str)
    whole = table[END] == WHOLE[1]
    ids = name.where(~name.duplicated(keep=False), name + "_" + numbers)
    table = table.assign(
        utterance_id=ids.where(~ids.duplicated(keep=False), files + "_" + numbers),  # a_1.wav and a.wav's second
        start=table[START].where(~whole | (table[START] > 0)),
        end=table[END].where(~whole),
        speaker_id=table[SPEAKER].replace("", UNKNOWN_SPEAKER) if SPEAKER in table else UNKNOWN_SPEAKER,
    ).rename(columns={TRANSCRIPTION: TRANSCRIPT})
    first = ["utterance_id", FILE, "speaker_id", START, END, SPLIT, GENDER, TRANSCRIPT, *RATED, EMOTION]
    order = [*(c for c in first if c in table), *(c for c in table if c not in (*first, SPEAKER))]
    return table[order]


def _present(table: pd.DataFrame, annotations: Annotations, folder: Path) -> tuple[pd.DataFrame, Counter[str]]:
    """Return the utterances whose audio exists, and how many are left out for which reason.

    Raises:
        InputError: if none is left
    """
    paths = {f: (folder / f).absolute() for f in table[FILE].unique()}
    exists = table[FILE].map({f: p.is_file() for f, p in paths.items()}).astype(bool)
    empty = table[END].notna() & (table[END] <= table[START].fillna(0))
    listed = {f for index in annotations.rows.values() for f in index.get_level_values(FILE)}
    named = {str((folder / f).absolute()) for f in listed}
    found = [reason for path, reason in walk_audio(folder) if str(path.absolute()) not in named]
    dropped = Counter(
        {
            AUDIO_MISSING: int((~exists).sum()),
            "segment that ends before it starts": int((exists & empty).sum()),
            "file without a rating or a class": len(listed - set(table[FILE])),
            "audio that no table lists": found.count(""),
            HIDDEN: found.count(HIDDEN),
        }
    )
    if not exists.any():
        raise InputError("LP162", f"{folder}: none of the {len(paths)} listed audio files exists. Load the media, too.")
    kept = table[exists & ~empty]
    kept.insert(1, "path", kept[FILE].map(lambda f: str(paths[f])))
    return tidy(kept.drop(columns=FILE)), dropped


def _on_speakers(table: pd.DataFrame, annotations: Annotations) -> list[str]:
    """Return a clause on unknown speakers, with where they were looked for."""
    n_unknown = sum(map(is_unknown, normalise_names(table["speaker_id"])))
    if not n_unknown:
        return []
    if annotations.named(SPEAKER):
        return [f"{counted(n_unknown, 'utterance')} without a speaker; each counts as a speaker of its own"]
    found = sorted({a.name for a in annotations.found})
    return [
        f"speakers are unknown, so each utterance counts as one: no column, scheme or field of labels in "
        f"{len(annotations.rows)} tables is named speaker or speaker_id (there are {', '.join(found)})"
    ]
