"""audformat databases in the layouts of the format's documentation, compared with its own ``Database.get``."""

from __future__ import annotations

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
    imported,
    new,
    raters_alone,
    save,
    speaker_labels,
)

from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.exceptions import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own calls of pandas
COLUMNS = {"speaker": "speaker_id", "transcription": "transcript"}


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
    if layout == "segments-of-files" and not hasattr(audformat.Database, "_expand_filewise_to_segmented"):
        pytest.skip("this version's own look-up gives segments nothing of their files")
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


def test_models_among_raters_have_columns_and_no_vote(tmp_path):
    db = raters_alone()
    db.raters["model"] = audformat.Rater("machine")
    add(db, "arousal", "model", [7.0] * 6, scheme_id="arousal", rater_id="model")
    table, found = imported(db, tmp_path)
    assert table["arousal"].tolist() == [1.5, 2, 6.5, 4.5, 4, 3]
    assert table["arousal_r1"].tolist() == [7.0] * 6
    assert "arousal is the mean of 2 raters, without the model model" in found.warnings


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
    with pytest.raises(
        InputError, match="no column, scheme or field of labels named arousal, valence, dominance, emotion"
    ):
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


def test_a_target_without_values_or_with_one_class_is_none(tmp_path):
    db = new()
    db.schemes["arousal"] = audformat.Scheme("float")
    db.schemes["valence"] = audformat.Scheme("float", minimum=1, maximum=7)
    add(db, "arousal", "arousal", [None] * 6, scheme_id="arousal")
    add(db, "classes", "emotion", ["calm"] * 6)
    with pytest.raises(InputError, match="has ratings or two classes"):
        import_corpus("audformat", save(db, tmp_path / "none"))
    add(db, "valence", "valence", [1, 2, 3, 4, 5, 6], scheme_id="valence")
    table, found = imported(db, tmp_path)
    assert list(found.header.targets) == ["valence"]
    assert not found.header.nominal
    assert table["emotion"].tolist() == ["calm"] * 6
    assert found.warnings[:2] == [
        "arousal has no values", "emotion is no target, because it has one class only (calm)"
    ]  # fmt: skip


def test_a_scale_of_numbered_labels_is_a_scale(tmp_path):
    db = new()
    db.schemes["arousal"] = audformat.Scheme(labels=[1, 2, 3, 4, 5])
    add(db, "arousal", "arousal", [1, 2, 4, 4, None, 3], scheme_id="arousal")
    table, found = imported(db, tmp_path)
    assert (found.header.targets["arousal"].minimum, found.header.targets["arousal"].maximum) == (1, 5)
    assert table["arousal"].tolist() == pytest.approx([1, 2, 4, 4, np.nan, 3], nan_ok=True)
