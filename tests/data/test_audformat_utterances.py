"""audformat databases: files and segments, speakers, splits, what is skipped, and what can't be read."""

from __future__ import annotations

import pickle

import audformat
import numpy as np
import pandas as pd
import pytest
from helpers.audformat_databases import (
    CLASSES,
    EMOTIONS,
    FILES,
    SPEAKERS,
    add,
    emodb,
    imported,
    new,
    partly_missing,
    save,
    segments_of_files,
    spans,
    speaker_labels,
    splits,
)

from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.exceptions import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own calls of pandas


def test_splits_are_those_of_the_tables_or_a_column_with_the_reason(tmp_path):
    table, _ = imported(splits(), tmp_path / "a")
    assert table["split"].tolist() == ["train"] * 2 + ["development"] * 2 + ["test"] * 2
    db = splits()
    add(db, "arousal.test.more", "arousal", [1.5], audformat.filewise_index(FILES[:1]), scheme_id="arousal")
    table, found = imported(db, tmp_path / "b")
    assert "split" not in table
    assert table["database_split"].iloc[0] == "test+train"
    assert any(
        "because 1 utterance is in several parts of it (wav/03a01Fa.wav: test, train)" in w for w in found.warnings
    )


def test_a_column_of_splits_is_read(tmp_path):
    db = speaker_labels()
    add(db, "files", "split", ["train"] * 2 + ["valid"] * 2 + ["test"] * 2)
    table, _ = imported(db, tmp_path / "a")
    assert table["split"].tolist() == ["train"] * 2 + ["development"] * 2 + ["test"] * 2
    db["files"]["split"].set(["train"] * 5 + [None])
    table, found = imported(db, tmp_path / "b")
    assert "split" not in table
    assert table["database_split"].tolist() == ["train"] * 5 + [""]
    assert any("because 1 utterance is in no part of it" in w for w in found.warnings)


def test_what_is_skipped_is_counted(tmp_path):
    db = partly_missing()
    add(db, "files.all", "speaker", ["s03"], audformat.filewise_index(["wav/unlabelled.wav"]), scheme_id="speaker")
    db["pairs"] = audformat.MiscTable(pd.MultiIndex.from_tuples([("a", "b")], names=["one", "other"]))
    root = save(db, tmp_path / "db")
    (root / FILES[0]).unlink()
    (root / "wav" / "._x.wav").touch()
    (root / "wav" / "spare.wav").touch()
    found = import_corpus("audformat", root)
    assert found.dropped == {
        "listed, but audio is missing": 1,
        "file without a rating or a class": 1,
        "audio that no table lists": 1,
        "hidden file": 1,
    }
    assert found.summary() == (
        "5 utterances of 1 speaker written, 4 of them of unknown speakers; 4 skipped: "
        "listed, but audio is missing (1), file without a rating or a class (1), audio that no table lists (1), "
        "hidden file (1)."
    )
    assert "tables without files in their index are not read: pairs (its index is one, other)" in found.warnings
    assert "4 utterances without a speaker; each counts as a speaker of its own" in found.warnings


def test_labels_that_the_scheme_does_not_list_are_counted(tmp_path):
    """audformat leaves them empty without a word."""
    root = save(speaker_labels(), tmp_path / "db", "csv")
    path = root / "db.emotion.csv"
    path.write_text(path.read_text().replace("neutral", "calm"))
    found = import_corpus("audformat", root)
    assert "2 labels of emotion.emotion are not in its scheme and left empty (calm)" in found.warnings


def test_that_no_speaker_is_named_is_stated_with_where_it_was_looked_for(tmp_path):
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    add(db, "emotion", "emotion", EMOTIONS, scheme_id="emotion")
    add(db, "files", "actor", SPEAKERS)
    table, found = imported(db, tmp_path)
    assert table["actor"].tolist() == SPEAKERS
    assert set(table["speaker_id"]) == {"Unknown"}
    assert found.warnings == [
        "speakers are unknown, so each utterance counts as one: no column, scheme or field of labels in 2 tables is "
        "named speaker or speaker_id (there are actor, emotion)"
    ]


def test_a_misc_table_named_after_a_column_is_looked_up_by_it(tmp_path):
    """The scheme of speakers has no labels, so the format itself does not connect them."""
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    db.schemes["speaker"] = audformat.Scheme("int")
    db["people"] = audformat.MiscTable(pd.Index([3, 8], name="speaker"))
    db["people"]["gender"] = audformat.Column()
    db["people"]["gender"].set(["male", "female"])
    add(db, "emotion", "emotion", EMOTIONS, scheme_id="emotion")
    add(db, "files", "speaker", [3, 3, 8, 8, 16, 16], scheme_id="speaker")
    table, found = imported(db, tmp_path)
    assert table["gender"].tolist() == ["male"] * 2 + ["female"] * 2 + [""] * 2
    assert found.warnings == []


def test_speakers_of_segments_are_those_of_their_file_where_they_are_the_same(tmp_path):
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    add(db, "emotion", "emotion", EMOTIONS[:3], audformat.filewise_index(FILES[:3]), scheme_id="emotion")
    add(db, "segments", "speaker", ["a", "a", "b", "c", "d", None], spans())
    table, found = imported(db, tmp_path)
    assert table["speaker_id"].tolist() == ["a", "Unknown", "d"]
    assert "2 whole files with the speaker that all segments have" in found.warnings


def test_a_file_rated_as_a_whole_and_in_segments_is_several_utterances(tmp_path):
    db = segments_of_files()
    add(db, "whole", "valence", [0.75], audformat.filewise_index(FILES[:1]), scheme_id="valence")
    table, found = imported(db, tmp_path)
    assert len(table) == 7
    assert table.loc[(FILES[0], 0.0, np.inf), "valence"] == 0.75
    assert table.loc[(FILES[0], 0.0, 1.5), "valence"] == 0.5
    assert set(table["speaker_id"]) == {"s03", "s08"}
    assert "1 file rated as a whole and in segments, as different utterances" in found.warnings


def test_classes_of_whole_files_are_those_of_their_rated_segments(tmp_path):
    db = segments_of_files()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    add(db, "emotion", "emotion", EMOTIONS[:3], audformat.filewise_index(FILES[:3]), scheme_id="emotion")
    table, found = imported(db, tmp_path)
    assert table["emotion"].tolist() == [e for e in EMOTIONS[:3] for _ in range(2)]
    assert "6 segments with the emotion of the whole file" in found.warnings


def test_speakers_of_one_label_text_stay_separate(tmp_path):
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    db.schemes["speaker"] = audformat.Scheme(labels={1: "a man", 2: "a man", 3: "a woman"})
    add(db, "emotion", "emotion", EMOTIONS, scheme_id="emotion")
    add(db, "files", "speaker", [1, 2, 3, 1, 2, 3], scheme_id="speaker")
    table, _ = imported(db, tmp_path)
    assert table["speaker_id"].tolist() == ["1", "2", "3", "1", "2", "3"]


def test_files_of_one_name_in_two_folders_have_ids_of_their_own(tmp_path):
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    files = ["a/b.wav", "a_b.wav", "c.wav", "c.flac"]
    add(db, "emotion", "emotion", EMOTIONS[:4], audformat.filewise_index(files), scheme_id="emotion")
    table, _ = imported(db, tmp_path)
    assert sorted(table["utterance_id"]) == sorted(files)


def test_a_segment_and_a_file_named_like_it_have_ids_of_their_own(tmp_path):
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    add(db, "segments", "emotion", EMOTIONS[:2], spans(["a.wav"]), scheme_id="emotion")
    add(db, "files", "emotion", EMOTIONS[2:3], audformat.filewise_index(["a_1.wav"]), scheme_id="emotion")
    table, _ = imported(db, tmp_path)
    assert sorted(table["utterance_id"]) == ["a.wav_1", "a_0", "a_1.wav_0"]


def test_spellings_of_unknown_are_no_speakers(tmp_path):
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    add(db, "emotion", "emotion", EMOTIONS, scheme_id="emotion")
    add(db, "files", "speaker", ["unknown", "N/A", "s1", "s1 ", "s2", "-"])
    found = import_corpus("audformat", save(db, tmp_path / "db"))
    assert "3 utterances without a speaker; each counts as a speaker of its own" in found.warnings
    assert found.summary() == "6 utterances of 2 speakers written, 3 of them of unknown speakers; none skipped."


def test_a_broken_database_is_refused_in_one_sentence(tmp_path):
    root = save(emodb(), tmp_path / "db")
    (root / "db.files.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=r"db\.files\.parquet is no label file: it is a git-lfs pointer"):
        import_corpus("audformat", root)
    (root / "db.files.parquet").write_bytes(b"PAR1 and PAR1")
    with pytest.raises(InputError, match=r"audformat can't read the database .* \(Arrow"):
        import_corpus("audformat", root)
    (root / "db.yaml").write_text("[")
    with pytest.raises(InputError, match="audformat can't read the database"):
        import_corpus("audformat", root)


@pytest.mark.parametrize(
    "call", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/apply:os.mkdir", "!!python/name:os.system"]
)
def test_a_header_that_names_python_objects_runs_nothing(tmp_path, call):
    """audformat itself would call the function."""
    root = save(emodb(), tmp_path / "db")
    header = root / "db.yaml"
    header.write_text(f"{header.read_text()}\ntrap: {call} ['{tmp_path / 'trap'}']\n")
    with pytest.raises(InputError, match=r"db\.yaml names Python objects, which could run code"):
        import_corpus("audformat", root)
    assert not (tmp_path / "trap").exists()


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_tables_that_are_pickles_are_not_opened(tmp_path):
    root = save(emodb(), tmp_path / "db")
    trap = pickle.dumps(Trap(tmp_path / "trap"))
    (root / "db.files.pkl").write_bytes(trap)
    assert import_corpus("audformat", root).table["speaker_id"].nunique() == 3
    (root / "db.files.parquet").unlink()
    with pytest.raises(InputError, match=r"db\.files\.pkl is a table that is stored as a pickle alone"):
        import_corpus("audformat", root)
    assert not (tmp_path / "trap").exists()
