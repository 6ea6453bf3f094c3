"""audformat databases in the layouts of the format's documentation, compared with its own ``Database.get``."""

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
    LAYOUTS,
    RATINGS,
    SPEAKERS,
    add,
    emodb,
    gold_standard,
    new,
    partly_missing,
    raters_alone,
    save,
    segments_of_files,
    spans,
    speaker_labels,
    splits,
)

from layerprobe.probe.data.importers.base import write_imported
from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own calls of pandas
COLUMNS = {"speaker": "speaker_id", "transcription": "transcript"}


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


def by_the_format(db, target, schemes, tables):
    """Return what ``Database.get`` finds by file and span in seconds; several raters' numbers are averaged."""
    chosen = {"tables": tables} if tables else {}
    frame = db.get(
        target, list(schemes), **chosen, aggregate_function=lambda y: y.mean() if target == "arousal" else y[0]
    )
    keys = audformat.utils.to_segmented_index(frame.index).to_frame(index=False)
    keys["start"] = keys["start"].dt.total_seconds()
    keys["end"] = keys["end"].dt.total_seconds().fillna(np.inf)
    return frame.set_axis(pd.MultiIndex.from_frame(keys))


def as_texts(column):
    """Return cells as comparable text: '' for missing ones, numbers in one form."""
    cells = []
    for value in column.astype(object):
        text = "" if pd.isna(value) or value in ("", "Unknown") else str(value)
        try:
            cells.append(f"{float(text):.9g}")
        except ValueError:
            cells.append(text)
    return cells


@pytest.mark.parametrize("storage_format", ["parquet", "csv"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_the_manifest_has_what_the_formats_own_look_up_finds(tmp_path, layout, storage_format):
    make, target, schemes = LAYOUTS[layout]
    tables = ["arousal.gold_standard"] if layout == "gold-standard" else None  # raters have the same scheme
    table, _ = imported(make(), tmp_path, storage_format)
    expected = by_the_format(audformat.Database.load(str(tmp_path / "db")), target, schemes, tables)
    assert set(expected.index) <= set(table.index)
    for scheme in (target, *schemes):
        assert as_texts(table.loc[expected.index, COLUMNS.get(scheme, scheme)]) == as_texts(expected[scheme]), scheme
    others = table.drop(expected.index)
    assert layout == "partly-missing" or others.empty


def test_the_worked_example_keeps_every_speaker_gender_and_transcript(tmp_path):
    table, found = imported(emodb(), tmp_path)
    assert table["speaker_id"].tolist() == ["3", "3", "8", "8", "16", "16"]
    assert table["gender"].tolist() == ["male"] * 2 + ["female"] * 4
    assert table["transcript"].iloc[2] == "Das will sie am Mittwoch abgeben."
    assert table["emotion.confidence"].tolist() == ["0.9", "1", "0.95", "0.85", "1", "0.9"]
    assert found.warnings == []
    assert found.summary() == "6 utterances of 3 speakers written; none skipped."


def test_a_gold_standard_is_the_rating_and_each_rater_has_a_column(tmp_path):
    table, found = imported(gold_standard(), tmp_path)
    assert table["arousal"].tolist() == [1.25, 2, 6.5, 4.5, 4, 3]
    for k, rater in enumerate(RATINGS):
        assert table[f"arousal_r{k + 1}"].tolist() == pytest.approx(
            [np.nan if r is None else r for r in RATINGS[rater]], nan_ok=True
        )
    assert "raters of arousal: arousal_r1 rater1, arousal_r2 rater2" in found.warnings


def test_without_a_gold_standard_ratings_are_the_raters_mean_and_this_is_stated(tmp_path):
    table, found = imported(raters_alone(), tmp_path)
    assert table["arousal"].tolist() == [1.5, 2, 6.5, 4.5, 4, 3]
    assert "arousal is the mean of 2 raters" in found.warnings


def test_raters_are_in_the_order_of_their_numbers(tmp_path):
    db = new()
    db.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=20)
    for k in (10, 2, 1):
        db.raters[f"rater{k}"] = audformat.Rater()
        add(db, "arousal", f"rater{k}", [float(k)] * 6, scheme_id="arousal", rater_id=f"rater{k}")
    table, _ = imported(db, tmp_path)
    assert [table[f"arousal_r{k}"].iloc[0] for k in (1, 2, 3)] == [1, 2, 10]


def test_the_class_of_several_raters_is_that_of_most_and_ties_are_empty(tmp_path):
    db = new()
    db.schemes["emotion"] = audformat.Scheme(labels=CLASSES)
    for k, chosen in enumerate((EMOTIONS, EMOTIONS, ["anger"] * 6, [None, "anger", *EMOTIONS[2:]])):
        add(db, "emotion", f"rater{k}", chosen, scheme_id="emotion")
    table, found = imported(db, tmp_path)
    assert table["emotion"].tolist() == ["happiness", "", *EMOTIONS[2:]]
    assert table["emotion_r1"].tolist() == EMOTIONS
    assert any("1 without a majority are left empty" in w for w in found.warnings)


def test_ratings_in_a_misc_table_of_files_and_raters_are_read(tmp_path):
    db = new()
    db.schemes["valence"] = audformat.Scheme("float", minimum=1, maximum=5)
    index = pd.MultiIndex.from_product([FILES[:2], ["anna", "bert"]], names=["file", "rater"])
    db["valence"] = audformat.MiscTable(index)
    db["valence"]["valence"] = audformat.Column(scheme_id="valence")
    db["valence"]["valence"].set([1.0, 2.0, 4.0, 5.0])
    add(db, "files", "speaker", SPEAKERS)
    table, _ = imported(db, tmp_path)
    assert table["valence"].tolist() == [1.5, 4.5]
    assert table["valence_r2"].tolist() == [2, 5]


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


@pytest.mark.parametrize(
    ("scheme", "values", "message"),
    [
        ("emotion", ["anger"] * 6, "wav/03a01Fa.wav has the emotion 'happiness' in emotion.emotion and 'anger'"),
        ("speaker", ["s16"] * 6, "wav/03a01Fa.wav has the speaker 's03' in files.speaker and 's16' in more.speaker"),
    ],
)
def test_tables_that_disagree_on_a_class_or_a_speaker_are_refused(tmp_path, scheme, values, message):
    db = speaker_labels()
    add(db, "more", scheme, values, scheme_id=scheme)
    with pytest.raises(InputError, match=message):
        import_corpus("audformat", save(db, tmp_path / "db"))


def test_tables_that_disagree_on_another_column_leave_it_out_and_this_is_stated(tmp_path):
    db = emodb()
    add(db, "more", "transcription", ["a02"] * 6, scheme_id="transcription")
    table, found = imported(db, tmp_path)
    assert "transcript" not in table
    assert any(
        w.startswith("transcription is left out, because tables disagree: wav/03a01Fa.wav") for w in found.warnings
    )


def test_a_scheme_with_a_suffix_is_read_where_it_is_the_only_one(tmp_path):
    """The format's convention for several schemes of one type is ``emotion-xxx``."""
    db = new()
    db.schemes["emotion-felt"] = audformat.Scheme(labels=CLASSES)
    add(db, "emotion", "emotion-felt", EMOTIONS, scheme_id="emotion-felt")
    table, found = imported(db, tmp_path / "one")
    assert table["emotion"].tolist() == EMOTIONS
    assert "emotion is read from emotion-felt" in found.warnings
    db.schemes["emotion-seen"] = audformat.Scheme(labels=CLASSES)
    add(db, "emotion", "emotion-seen", EMOTIONS, scheme_id="emotion-seen")
    with pytest.raises(InputError, match="a field of labels named arousal, valence, dominance, emotion"):
        import_corpus("audformat", save(db, tmp_path / "two"))


def test_raters_without_a_scheme_rate_what_their_table_is_named(tmp_path):
    db = new()
    db.raters["rater1"], db.raters["rater2"] = audformat.Rater(), audformat.Rater()
    for rater, ratings in RATINGS.items():
        add(db, "arousal", rater, ratings, rater_id=rater)
    table, _ = imported(db, tmp_path)
    assert table["arousal"].tolist() == [1.5, 2, 6.5, 4.5, 4, 3]


def test_a_description_of_a_class_is_not_the_class(tmp_path):
    db = new()
    db["emotion"] = audformat.MiscTable(pd.Index(CLASSES, name="class"))
    db["emotion"]["description"] = audformat.Column()
    db["emotion"]["description"].set(["very cross", "very glad", "neither"])
    db.schemes["emotion"] = audformat.Scheme(labels="emotion", dtype="str")
    add(db, "classes", "emotion", EMOTIONS, scheme_id="emotion")
    table, found = imported(db, tmp_path)
    assert table["emotion"].tolist() == EMOTIONS
    assert found.header.nominal["emotion"].classes == tuple(CLASSES)


def test_two_columns_of_one_scheme_are_raters(tmp_path):
    """The documentation's example of overlapping labels."""
    db = emodb()
    add(db, "emotion", "random", ["anger"] * 6, scheme_id="emotion")
    table, found = imported(db, tmp_path)
    assert table["emotion"].tolist() == EMOTIONS
    assert table["emotion_r1"].tolist() == ["anger"] * 6
    assert "raters of emotion: emotion_r1 random" in found.warnings


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


def test_a_scale_that_the_scheme_does_not_state_is_guessed_and_this_is_stated(tmp_path):
    db = new()
    db.schemes["arousal"] = audformat.Scheme("float")
    add(db, "arousal", "arousal", [1.5, 2, 6.5, 4.5, 4, 3], scheme_id="arousal")
    root = save(db, tmp_path / "db")
    found = import_corpus("audformat", root)
    assert (found.header.targets["arousal"].minimum, found.header.targets["arousal"].maximum) == (1, 7)
    assert any(
        "db.yaml states no scale of arousal; 1 to 7 is guessed from its ratings 1.5 to 6.5" in w for w in found.warnings
    )
    add(db, "arousal", "arousal", [15.0, 2, 6.5, 4.5, 4, 90], scheme_id="arousal")
    with pytest.raises(InputError, match=r"its ratings from 2 to 90 fit no usual scale\. State both in db\.yaml"):
        import_corpus("audformat", save(db, tmp_path / "wide"))


def test_a_scale_of_numbered_labels_is_a_scale(tmp_path):
    db = new()
    db.schemes["arousal"] = audformat.Scheme(labels=[1, 2, 3, 4, 5])
    add(db, "arousal", "arousal", [1, 2, 4, 4, None, 3], scheme_id="arousal")
    table, found = imported(db, tmp_path)
    assert (found.header.targets["arousal"].minimum, found.header.targets["arousal"].maximum) == (1, 5)
    assert table["arousal"].tolist() == pytest.approx([1, 2, 4, 4, np.nan, 3], nan_ok=True)


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


def test_a_broken_database_is_refused_in_one_sentence(tmp_path):
    root = save(emodb(), tmp_path / "db")
    (root / "db.files.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
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
