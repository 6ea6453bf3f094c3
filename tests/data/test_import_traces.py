"""Corpora that are rated in time: each turn has the mean of every rater, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.audformat_databases import add, new
from helpers.corpus_trees import msp_conversation, recola, write

from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.data.importers.traces import Traces, read_traces
from layerprobe.probe.exceptions import InputError


def test_recola_turns_have_the_means_of_six_raters(tmp_path):
    found = import_corpus("recola", recola(tmp_path))
    rows = found.table.set_index("utterance_id")
    assert list(rows.index) == ["P16_001", "P16_002", "P17_001", "P17_002", "P19_001"]
    # frames at 0.20, 0.24, …, 0.60 s: rater r gives r / 10 + t / 1000, whose mean is at 0.4 s
    assert rows.loc["P16_001", [f"arousal_r{r + 1}" for r in range(6)]].tolist() == pytest.approx(
        [r / 10 + 0.4 / 1000 for r in range(6)], abs=1e-5
    )
    assert rows.loc["P16_001", "arousal"] == pytest.approx(0.25 + 0.4 / 1000, abs=1e-5)
    assert rows.loc["P16_001", "valence"] == -rows.loc["P16_001", "arousal"]
    assert rows["speaker_id"].tolist() == ["P16", "P16", "P17", "P17", "P19"]
    assert found.dropped == {"turn after the five minutes that were rated": 1, "audio without ratings": 1}
    assert "traces in time are not kept" in found.warnings[0]


def test_recola_without_turns_is_its_recordings(tmp_path):
    folder = recola(tmp_path)
    for path in (folder / "RECOLA-Audio_timings").iterdir():
        path.unlink()
    (folder / "RECOLA-Audio_timings").rmdir()
    found = import_corpus("recola", folder)
    assert found.table["end"].tolist() == [300.0] * 3
    assert any("each recording is one utterance" in warning for warning in found.warnings)


@pytest.mark.parametrize("from_conversation", [False, True])
def test_turns_of_conversations_by_what_their_times_start_with(tmp_path, from_conversation):
    """The data decide: both trees are the same corpus."""
    found = import_corpus("msp-conversation", msp_conversation(tmp_path, from_conversation=from_conversation))
    rows = found.table.set_index("utterance_id")
    turn = rows.loc["MSP-PODCAST_0021_0021"]  # the second turn of part 2, which starts at 2 s
    assert (turn["start"], turn["end"]) == (3.2, 3.7)
    assert (turn["arousal_r1"], turn["arousal_r2"], turn["arousal"]) == (50.0, 60.0, 55.0)
    assert rows.loc["MSP-PODCAST_0047_0020", "arousal_r1"] == 50.0  # whose file has a third cell in each line
    assert rows.groupby("split").size().to_dict() == {"train": 4, "development": 4, "test": 4}
    assert set(rows["speaker_id"]) == {"MSP-Conversation_0021", "MSP-Conversation_0047", "MSP-Conversation_0079"}
    expected = "conversation" if from_conversation else "part"
    assert f"times of turns start with their {expected}" in found.warnings


def test_times_that_fit_neither_are_refused(tmp_path):
    folder = msp_conversation(tmp_path)
    path = folder / "Time_Labels" / "segments.json"
    path.write_text(path.read_text().replace('"End_Time": 1.7', '"End_Time": 99.0'))
    with pytest.raises(InputError, match="times of turns fit neither their parts nor their conversations"):
        import_corpus("msp-conversation", folder)


def test_means_leave_gaps_out_and_are_nan_without_a_rating():
    traces = Traces(np.array([0.0, 1.0, 2.0, 3.0]), np.array([[1.0, np.nan, 3.0, 9.0], [np.nan, np.nan, np.nan, 1.0]]))
    assert traces.means(0.0, 2.0)[0] == 2.0
    assert np.isnan(traces.means(0.0, 2.0)[1])
    assert np.isnan(traces.means(0.2, 0.8)).all()


def test_regular_files_are_read_as_all_others(tmp_path, rng):
    """The second file has one line more, without numbers, so that its lines are read one by one."""
    rows = [f"{k / 25:.2f}; {a:+.4e};{b:.3f} " for k, (a, b) in enumerate(rng.normal(size=(200, 2)))]
    found = [
        read_traces(write(tmp_path / "a.csv", "\n".join(["time;A ;B", *rows, *more])), separator=";")
        for more in ([], ["end"])
    ]
    assert [one.n_unread for one in found] == [0, 1]
    assert found[0].raters == found[1].raters == ("A", "B")
    np.testing.assert_array_equal(found[0].times, found[1].times)
    np.testing.assert_array_equal(found[0].ratings, found[1].ratings)
    assert found[0].ratings.shape == (2, 200)


def test_a_file_without_traces_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no lines of a time and ratings"):
        read_traces(write(tmp_path / "a.csv", "time;FM1\nnothing here\n"), separator=";")


@pytest.mark.parametrize("line", ["1.0", "one;two", ";3.0"])
def test_a_turn_of_recola_without_its_times_is_refused(tmp_path, line):
    folder = recola(tmp_path)
    path = sorted((folder / "RECOLA-Audio_timings").iterdir())[0]
    write(path, f"{path.read_text().rstrip()}\n{line}\n")
    with pytest.raises(InputError, match=f"{line!r} has no start and end. Download it again"):
        import_corpus("recola", folder)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_laryngograph_recordings_of_emodb_2_are_left_out(tmp_path):
    """They have the emotions of the speech, and hold none: 3 utterances, not 6."""
    import audformat

    db = new("emodb")
    db.schemes["emotion"] = audformat.Scheme(labels=["anger", "neutral"])
    db.schemes["speaker"] = audformat.Scheme(labels={3: {"gender": "male"}, 8: {"gender": "female"}})
    for prefix, folder in (("", "wav"), ("laryngo.", "laryngo")):
        files = [f"{folder}/{name}.wav" for name in ("03a01Wa", "03a01Nc", "08a02Wb")]
        add(
            db,
            f"{prefix}emotion",
            "emotion",
            ["anger", "neutral", "anger"],
            audformat.filewise_index(files),
            scheme_id="emotion",
        )
        add(db, f"{prefix}files", "speaker", [3, 3, 8], audformat.filewise_index(files), scheme_id="speaker")
        for file in files:
            write(tmp_path / file)
    db.save(str(tmp_path), storage_format="csv")
    found = import_corpus("audformat", tmp_path)
    assert found.table["utterance_id"].tolist() == ["wav_03a01Nc", "wav_03a01Wa", "wav_08a02Wb"]
    assert pd.Series(found.table["gender"]).tolist() == ["male", "male", "female"]
    assert "3 laryngograph recordings left out, because they hold no speech (tables laryngo.*)" in found.warnings
