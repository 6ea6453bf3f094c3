"""Small databases in the layouts that audformat's documentation shows, without audio in their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import audformat
import numpy as np
import pandas as pd

from layerprobe.probe.data.importers.base import write_imported
from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.data.manifest.read import read_manifest

FILES = [f"wav/{name}.wav" for name in ("03a01Fa", "03a01Nc", "08a02Wb", "08b01Fd", "16a01Ec", "16b03Te")]
SPEAKERS = ["s03", "s03", "s08", "s08", "s16", "s16"]
EMOTIONS = ["happiness", "neutral", "anger", "happiness", "anger", "neutral"]
CLASSES = ["anger", "happiness", "neutral"]
PEOPLE = {
    "s03": {"gender": "male", "age": 31},
    "s08": {"gender": "female", "age": 34},
    "s16": {"gender": "female"},  # whose age is not known
}
RATINGS = {"rater1": [1.0, 2.0, 6.0, 5.0, None, 3.0], "rater2": [2.0, 2.0, 7.0, 4.0, 4.0, None]}
SENTENCES = {"a01": "Der Lappen liegt auf dem Eisschrank.", "a02": "Das will sie am Mittwoch abgeben.", "b01": "Was?"}
CODES = ["a01", "a01", "a02", "b01", "a01", "b01"]


def new(name: str = "small") -> Any:
    return audformat.Database(name, source="x", usage="unrestricted", license="CC0-1.0")


def add(db: Any, table: str, column: str, values: list[Any], index: Any = None, **of_column: str) -> None:
    """Add a column to a table, which is made if there is none; a filewise one of `FILES` by default."""
    if table not in db:
        split = {"split_id": table.split(".")[1]} if "." in table and table.split(".")[1] in db.splits else {}
        db[table] = audformat.Table(audformat.filewise_index(FILES) if index is None else index, **split)
    db[table][column] = audformat.Column(**of_column)
    db[table][column].set(values)


def spans(files: list[str] = FILES[:3], seconds: float = 1.5) -> Any:
    """Two spans of each file."""
    twice = [f for f in files for _ in range(2)]
    starts = [f"{(k % 2) * seconds}s" for k in range(len(twice))]
    return audformat.segmented_index(
        twice, starts=starts, ends=[f"{(k % 2 + 1) * seconds}s" for k in range(len(twice))]
    )


def emodb() -> Any:
    """The worked example: speakers and transcriptions in ``files``, what is known of speakers in a misc table."""
    db = new("emodb")
    db.raters["gold"] = audformat.Rater()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    db.schemes["confidence"] = audformat.Scheme("float", minimum=0, maximum=1)
    db.schemes["age"] = audformat.Scheme("int", minimum=0)
    db.schemes["gender"] = audformat.Scheme(labels=["female", "male"])
    db.schemes["language"] = audformat.Scheme("str")
    db.schemes["transcription"] = audformat.Scheme(labels=SENTENCES)
    db["speaker"] = audformat.MiscTable(pd.Index([3, 8, 16], name="speaker"))
    people = {"age": [31, 34, None], "gender": ["male", "female", "female"], "language": ["deu"] * 3}
    for column, values in people.items():
        db["speaker"][column] = audformat.Column(scheme_id=column)
        db["speaker"][column].set(values)
    db.schemes["speaker"] = audformat.Scheme(labels="speaker", dtype="int")
    add(db, "files", "speaker", [int(s[1:]) for s in SPEAKERS], scheme_id="speaker")
    add(db, "files", "transcription", CODES, scheme_id="transcription")
    add(db, "emotion", "emotion", EMOTIONS, scheme_id="emotion", rater_id="gold")
    add(db, "emotion", "emotion.confidence", [0.9, 1, 0.95, 0.85, 1, 0.9], scheme_id="confidence", rater_id="gold")
    return db


def speaker_labels() -> Any:
    """Speakers in ``files``, whose labels in the header are dictionaries."""
    db = new()
    db.schemes["speaker"] = audformat.Scheme(labels=PEOPLE)
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    add(db, "files", "speaker", SPEAKERS, scheme_id="speaker")
    add(db, "emotion", "emotion", EMOTIONS, scheme_id="emotion")
    return db


def raters_alone() -> Any:
    """A column for each rater, named after the rater, and no consensus."""
    db = new()
    db.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=7)
    db.schemes["speaker"] = audformat.Scheme("str")
    for rater, ratings in RATINGS.items():
        db.raters[rater] = audformat.Rater()
        add(db, "arousal", rater, ratings, scheme_id="arousal", rater_id=rater)
    add(db, "files", "speaker", SPEAKERS, scheme_id="speaker")
    return db


def gold_standard() -> Any:
    """Raters in one table, and their gold standard in another."""
    db = raters_alone()
    db.raters["gold_standard"] = audformat.Rater("vote")
    gold = [1.25, 2, 6.5, 4.5, 4, 3]
    add(db, "arousal.gold_standard", "arousal", gold, scheme_id="arousal", rater_id="gold_standard")
    return db


def splits() -> Any:
    """One table for each part of the split."""
    db = new()
    db.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=7)
    db.schemes["speaker"] = audformat.Scheme(labels=PEOPLE)
    for part, kind in (("train", "train"), ("dev", "dev"), ("test", "test")):
        db.splits[part] = audformat.Split(kind)
    for k, part in enumerate(("train", "dev", "test")):
        index = audformat.filewise_index(FILES[2 * k : 2 * k + 2])
        add(db, f"arousal.{part}", "arousal", [1.5 + k, 2.5 + k], index, scheme_id="arousal")
    add(db, "files", "speaker", SPEAKERS, scheme_id="speaker")
    return db


def segments() -> Any:
    """Everything of segments, in two tables; a span without an end."""
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    db.schemes["speaker"] = audformat.Scheme(labels=PEOPLE)
    db.schemes["transcription"] = audformat.Scheme("str")
    index = audformat.segmented_index(FILES[:4], starts=["0s", "0.5s", "0s", "1s"], ends=["1s", "2.25s", "3s", pd.NaT])
    add(db, "segments", "speaker", SPEAKERS[:4], index, scheme_id="speaker")
    add(db, "segments", "transcription", ["one", "two", None, "four"], scheme_id="transcription")
    add(db, "emotion", "emotion", EMOTIONS[:4], index, scheme_id="emotion")
    return db


def segments_of_files() -> Any:
    """Ratings of segments, speakers of files."""
    db = new()
    db.schemes["valence"] = audformat.Scheme("float", minimum=-1, maximum=1)
    db.schemes["speaker"] = audformat.Scheme(labels=PEOPLE)
    add(db, "valence", "valence", [0.5, -0.5, 0.25, 1, -1, 0], spans(), scheme_id="valence")
    index = audformat.filewise_index(FILES[:3])
    add(db, "files", "speaker", SPEAKERS[:3], index, scheme_id="speaker")
    return db


def numbers_for_texts() -> Any:
    """Integers for classes and sentences, each with its text in the header."""
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels={0: "anger", 1: "happiness", 2: "neutral"})
    db.schemes["transcription"] = audformat.Scheme(labels={0: "hello", 1: "goodbye"})
    db.schemes["speaker"] = audformat.Scheme(labels={"spk1": {"gender": "male"}, "spk2": {"gender": "female"}})
    add(db, "files", "transcription", [0, 1, 1, 0, None, 0], scheme_id="transcription")
    add(db, "files", "speaker", ["spk2", "spk1", "spk1", "spk1", None, "spk2"], scheme_id="speaker")
    add(db, "emotion", "emotion", [CLASSES.index(e) for e in EMOTIONS], scheme_id="emotion")
    return db


def classes_in_misc_table() -> Any:
    """A code for each class, whose name is a column of a misc table."""
    db = new()
    db["code"] = audformat.MiscTable(pd.Index(["F", "N", "W"], name="code"))
    db["code"]["emotion"] = audformat.Column()
    db["code"]["emotion"].set(["happiness", "neutral", "anger"])
    db.schemes["code"] = audformat.Scheme(labels="code", dtype="str")
    db.schemes["speaker"] = audformat.Scheme("str")
    add(db, "files", "speaker", SPEAKERS, scheme_id="speaker")
    add(db, "categories", "code", ["F", "N", "W", "F", "W", "N"], scheme_id="code")
    return db


def several_tables() -> Any:
    """Two tables with classes of the same files, which agree, and a third with the rest."""
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    db.schemes["speaker"] = audformat.Scheme("str")
    db.splits["train"], db.splits["test"] = audformat.Split("train"), audformat.Split("test")
    for table, rows in (
        ("emotion.train.gold", slice(0, 4)),
        ("emotion.train.more", slice(2, 4)),
        ("emotion.test", slice(4, 6)),
    ):
        add(db, table, "emotion", EMOTIONS[rows], audformat.filewise_index(FILES[rows]), scheme_id="emotion")
    add(db, "files", "speaker", SPEAKERS, scheme_id="speaker")
    return db


def partly_missing() -> Any:
    """Files that lack a class, a speaker or a row in one of the tables."""
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    db.schemes["dominance"] = audformat.Scheme("int", minimum=1, maximum=5)
    db.schemes["speaker"] = audformat.Scheme(labels=PEOPLE)
    add(db, "emotion", "emotion", [*EMOTIONS[:3], None, None], audformat.filewise_index(FILES[:5]), scheme_id="emotion")
    add(db, "dominance", "dominance", [1, None, 5], audformat.filewise_index(FILES[3:]), scheme_id="dominance")
    add(db, "files", "speaker", ["s03", None, "s08"], audformat.filewise_index(FILES[:3]), scheme_id="speaker")
    return db


def without_schemes() -> Any:
    """Columns of the usual names, none with a scheme."""
    db = new()
    db.schemes["arousal"] = audformat.Scheme("float", minimum=0, maximum=1)
    add(db, "files", "speaker", SPEAKERS)
    add(db, "files", "gender", ["m", "m", "f", "f", "f", "f"])
    add(db, "arousal", "arousal", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], scheme_id="arousal")
    return db


LAYOUTS: dict[str, tuple[Callable[[], Any], str, tuple[str, ...]]] = {
    # what makes it, its target, and further schemes that Database.get finds
    "emodb": (emodb, "emotion", ("speaker", "gender", "age", "language", "transcription")),
    "speaker-labels": (speaker_labels, "emotion", ("speaker", "gender", "age")),
    "raters-alone": (raters_alone, "arousal", ("speaker",)),
    "gold-standard": (gold_standard, "arousal", ("speaker",)),
    "splits": (splits, "arousal", ("speaker", "gender", "age")),
    "segments": (segments, "emotion", ("speaker", "gender", "transcription")),
    "segments-of-files": (segments_of_files, "valence", ("speaker", "gender")),
    "numbers-for-texts": (numbers_for_texts, "emotion", ("speaker", "gender", "transcription")),
    "classes-in-misc-table": (classes_in_misc_table, "emotion", ("speaker",)),
    "several-tables": (several_tables, "emotion", ("speaker",)),
    "partly-missing": (partly_missing, "emotion", ("speaker", "gender", "dominance")),
    "without-schemes": (without_schemes, "arousal", ("speaker", "gender")),
}


def save(db: Any, root: Path, storage_format: str = "parquet") -> Path:
    """Write a database with an empty audio file for each that its tables list."""
    db.save(str(root), storage_format=storage_format)
    for name in db.files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def imported(db, tmp_path, storage_format="parquet"):
    """Return the manifest's table by file and span, as it is read back, and what the importer returned."""
    found = import_corpus("audformat", save(db, tmp_path / "db", storage_format))
    write_imported(found, tmp_path / "out.csv")
    manifest = read_manifest(tmp_path / "out.csv")
    table = manifest.table
    start = table["start"].fillna(0.0) if "start" in table else 0.0
    end = table["end"].fillna(np.inf) if "end" in table else np.inf
    file = [p.removeprefix(f"{tmp_path}/db/") for p in table["path"]]
    return table.set_index(pd.MultiIndex.from_frame(pd.DataFrame({"file": file, "start": start, "end": end}))), found
