"""Traces of corpora in their exact layouts, and of tables in every form: where they lie in time, and each fault."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from helpers.corpus_trees import RECOLA_HEADER, TRACE_HEAD, msp_conversation, recola, write

from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.data.importers.traces import read_traces
from layerprobe.probe.data.manifest.schema import ManifestError, Target
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.data.traces.registry import read_trace_source
from layerprobe.probe.data.traces.span_ratings import rate_spans
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress


def rated(source, utterances, *, every=0.2, window=0.2, lag=0.0, lengths=None):
    spans = SpanOptions(every=every, window=window).read(utterances)
    return rate_spans(utterances, spans, source, lag=lag, lengths=lengths or {}, progress=NullProgress())


def utterances(*rows):
    return pd.DataFrame(rows, columns=["utterance_id", "path", "start", "end"])


def test_recola_is_rated_by_the_audio_file_from_the_start_of_each_turn(tmp_path):
    folder = recola(tmp_path)
    table = import_corpus("recola", folder).table
    found = rated(read_trace_source("recola", folder), table, lag=0.2)
    rows = found.table.set_index("span_id")
    assert rows["utterance_id"].nunique() == 5
    # P16's second turn starts at 0.8 s; its second window, 0.2 s later, has the frames at 1.20, 1.24, … 1.36 s
    one = rows.loc["P16_002#0001"]
    assert (one["start"], one["end"]) == (0.2, 0.4)
    assert one["arousal"] == pytest.approx(
        np.mean([r / 10 + t / 1000 for r in range(6) for t in 1.2 + 0.04 * np.arange(5)])
    )
    assert one["valence"] == -one["arousal"]
    assert (one["arousal_n_samples"], one["arousal_n_raters"]) == (30, 6)
    assert found.agreement["arousal"].n_pairs == 15
    assert found.scales["arousal"] == Target(-1, 1, "very calm to very active")
    assert sum(found.dropped.values()) == 0


def test_names_of_raters_have_no_blanks_and_a_gold_standard_is_the_rating(tmp_path):
    folder = recola(tmp_path)
    ratings = folder / "RECOLA-Annotation" / "emotional_behaviour"
    source = read_trace_source("recola", folder)
    assert [t.rater for t in source.load("P16")["arousal"].raters] == ["FM1", "FM2", "FM3", "FF1", "FF2", "FF3"]
    rows = [f"{k / 25:.2f};" + ";".join(["0.1"] * 6) + f";{k / 100:.2f}" for k in range(50)]
    write(ratings / "arousal" / "P16.csv", "\n".join([f"{RECOLA_HEADER};Gold Standard ", *rows]) + "\n")
    found = rated(read_trace_source("recola", ratings), utterances(("a", "P16.wav", 0.0, 1.0)))  # the inner folder
    assert found.table["arousal"][1] == pytest.approx(np.mean(np.arange(5, 10) / 100))
    assert found.table["arousal_n_raters"].tolist() == [6] * 5
    assert found.table["arousal_n_samples"].tolist() == [5] * 5


def test_gaps_and_damaged_lines_of_recola_are_no_ratings_and_counted(tmp_path):
    folder = recola(tmp_path)
    path = folder / "RECOLA-Annotation" / "emotional_behaviour" / "arousal" / "P16.csv"
    lines = path.read_text().splitlines()
    lines[1:6] = ["0.00;;;;;;", "0.04;NaN;1;1;1;1;1", "0.08;7;0.5;;;;", "0.12;;;;;;0.25", "0.16;;;;;;"]
    write(path, "\n".join(lines))
    found = rated(read_trace_source("recola", folder), utterances(("a", "P16.wav", 0.0, 0.2)))
    # FM2 gave 0.5 and FF3 0.25; 7 of FM1 is outside of the scale, and the line with NaN is no line of numbers
    assert found.table[["arousal", "arousal_n_samples", "arousal_n_raters"]].to_numpy().tolist() == [[0.375, 2, 2]]
    assert "1 sample of arousal outside of its scale left out" in found.remarks
    assert "1 line among the ratings of arousal without numbers left out" in found.remarks


@pytest.mark.parametrize("from_conversation", [False, True])
def test_turns_of_conversations_are_rated_where_they_are_whichever_way_they_are_timed(tmp_path, from_conversation):
    folder = msp_conversation(tmp_path, from_conversation=from_conversation)
    source = read_trace_source("msp-conversation", folder)
    table = import_corpus("msp-conversation", folder).table
    found = rated(source, table).table.set_index("span_id")
    # rater r gives 10 r + 20 p in part p: 50 and 60 in part 2
    assert found.loc["MSP-PODCAST_0021_0021#0000", ["arousal", "arousal_n_raters"]].tolist() == [55, 2]
    assert found.loc["MSP-PODCAST_0047_0020#0000", "arousal"] == 55  # whose file has a third cell in each line
    assert found.loc["MSP-PODCAST_0079_0010#0000", "arousal"] == 35
    # a turn whose audio is MSP-Podcast's own, and a whole conversation, have the same ratings
    other = utterances(
        ("MSP-PODCAST_0021_0021", "Audios/MSP-PODCAST_0021_0021.wav", np.nan, np.nan),
        ("whole", "Audio/msp-conversation_0021.wav", np.nan, np.nan),
    )
    lengths = dict(zip(other["path"], (0.5, 4.0), strict=True))
    own = rated(source, other, every=0.5, window=0.5, lengths=lengths).table
    assert own["utterance_id"].tolist() == ["MSP-PODCAST_0021_0021", *["whole"] * 8]
    assert own["arousal"].tolist() == [55, 35, 35, 35, 35, 55, 55, 55, 55]
    assert own["arousal_n_samples"].tolist() == [50] * 9


def test_the_lag_leads_beyond_the_end_of_a_turn_but_not_of_the_traces(tmp_path):
    source = read_trace_source("msp-conversation", msp_conversation(tmp_path))
    one = utterances(("MSP-PODCAST_0021_0010", "a.wav", np.nan, np.nan))  # from 0.1 to 0.6 s of part 1
    found = rated(source, one, every=0.5, window=0.5, lag=1.7, lengths={"a.wav": 0.5}).table
    # from 1.8 to 2.3 s: ten samples of each rater in part 1, and fifteen in part 2
    assert found["arousal"][0] == pytest.approx((10 * 35 + 15 * 55) / 25)
    with pytest.raises(InputError, match=r"none of the 1 spans has a rating within it, 9 s later\. .*\[LP185\]$"):
        rated(source, one, every=0.5, window=0.5, lag=9, lengths={"a.wav": 0.5})


def test_conversations_without_turns_are_found_by_their_audio(tmp_path):
    folder = msp_conversation(tmp_path)
    (folder / "Time_Labels" / "segments.json").unlink()
    found = rated(
        read_trace_source("msp-conversation", folder), utterances(("a", "MSP-Conversation_0021.wav", 2.0, 3.0))
    )
    assert found.table["arousal"].tolist() == [55] * 5


def test_what_is_left_out_is_counted(tmp_path):
    source = read_trace_source("recola", recola(tmp_path))
    rows = utterances(
        ("a", "P16.wav", 0.0, 1.0),
        ("b", "P99.wav", 0.0, 1.0),
        ("c", "P17.wav", 0.5, np.nan),
        ("d", "P19.wav", 1.9, 2.3),
    )
    found = rated(source, rows)
    assert found.dropped == {"without traces": 1, "of audio whose length can't be read": 1}
    assert found.n_unrated == {"arousal": 1, "valence": 1}  # traces end at 1.96 s
    assert found.table["arousal_n_samples"].tolist()[-2:] == [12, 0]
    assert found.table["arousal"].isna().tolist() == [False] * 6 + [True]
    with pytest.raises(InputError) as error:
        rated(source, rows.iloc[[1, 1]])
    assert str(error.value) == (
        "no utterance can be rated: 2 without traces (first utterance: b; first of the traces: P16). Name traces by "
        "utterance_id, or by the audio file. [LP183]"
    )


def test_names_of_columns_are_read_where_they_are_names(tmp_path):
    assert read_traces(write(tmp_path / "a.csv", f"{TRACE_HEAD}\n0.0,1\n\n0.1,2\nend\n"), separator=",").raters == ()
    found = read_traces(write(tmp_path / "b.csv", "time;a ; b\n0;1;2\n"), separator=";")
    assert (found.raters, found.n_unread) == (("a", "b"), 0)
    assert read_traces(write(tmp_path / "c.csv", "0;1;2\n1;x;2\n"), separator=";").n_unread == 1
    # no numbers to Python, or none that is finite
    assert read_traces(write(tmp_path / "e.csv", "0;1\n\x1f1;2\n1;1e999\n2;3\n"), separator=";").n_unread == 2
    assert read_traces(write(tmp_path / "d.csv", "time;a;a\n0;1;2\n"), separator=";").raters == ()


@pytest.mark.parametrize(
    ("name", "folder", "code", "message"),
    [
        (
            "Recola",
            "x",
            "LP181",
            "format 'Recola' of traces is unknown; choose one of msp-conversation, recola, table.",
        ),
        ("recola", "none", "LP151", "none is not a folder."),
        ("recola", "x", "LP160", "x is no RECOLA: it has no ratings in RECOLA-Annotation/emotional_behaviour, in arou"),
        ("msp-conversation", "x", "LP160", "x is no MSP-Conversation: it has no folder Annotations."),
        ("msp-conversation", "y", "LP160", "y is no MSP-Conversation: it has no folder Time_Labels."),
    ],
)
def test_what_is_no_such_corpus_is_refused(tmp_path, name, folder, code, message):
    write(tmp_path / "x" / "readme.txt", "nothing")
    (tmp_path / "y" / "annotations").mkdir(parents=True)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_trace_source(name, tmp_path / folder)
    assert error.value.code == code


def test_options_of_tables_are_refused_for_corpora(tmp_path):
    with pytest.raises(InputError, match=r"--target and --scale go with the format table; recola states its own\."):
        read_trace_source("recola", recola(tmp_path), targets=("arousal",))


def loaded(source):
    """Everything of a source: by recording, target and rater its times and ratings."""
    found = {}
    for name in source.recordings:
        for target, traces in source.load(name).items():
            own = {"consensus": traces.consensus} if traces.consensus is not None else {}
            for rater, trace in {**{t.rater: t for t in traces.raters}, **own}.items():
                found[name, target, rater] = list(zip(trace.times.tolist(), trace.ratings.tolist(), strict=True))
    return found


EXPECTED = {
    ("u1", "arousal", "1"): [(0.0, 1.0), (0.5, 2.0)],
    ("u1", "arousal", "2"): [(0.0, 3.0), (0.5, 4.0)],
    ("u2", "arousal", "1"): [(0.25, 5.0)],
    ("u2", "arousal", "2"): [(0.25, 6.0)],
}
FORMS = {
    "one table": {"t.csv": "utterance_id,time,arousal_r1,arousal_r2\nu1,0.5,2,4\nu1,0,1,3\nu2,0.25,5,6\n"},
    "columns with capitals": {
        "t.csv": "Utterance_ID,TIME,arousal_r1,arousal_r2\nu1,0.5,2,4\nu1,0,1,3\nu2,0.25,5,6\n"
    },
    "decimal commas": {"t.csv": "utterance_id;Time;arousal_r1;arousal_r2\nu1;0,5;2;4\nu1;0,0;1;3\nu2;0,25;5;6\n"},
    "a row for each rater": {
        "t.tsv": "utterance_id\trater\tseconds\tarousal\nu1\t1\t0\t1\nu1\t2\t0\t3\nu1\t1\t.5\t2\nu1\t2\t.5\t4\n"
        "u2\t1\t.25\t5\nu2\t2\t.25\t6\n"
    },
    "a table for each": {
        "u1.csv": "time,arousal_r1,arousal_r2\n0,1,3\n0.5,2,4\n", "u2.csv": "time,arousal_r1,arousal_r2\n.25,5,6"
    },
    "a folder for each target": {
        "arousal/u1.csv": "time;1 ; 2\n0;1;3\n0.5;2;4\n", "arousal/u2.csv": "time;1 ; 2\n.25;5;6\n",
        "arousal/._u1.csv": "x",
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_table_gives_the_same_traces_in_every_form(tmp_path, form):
    for name, text in FORMS[form].items():
        write(tmp_path / name, text)
    path = tmp_path if len(FORMS[form]) > 1 else tmp_path / next(iter(FORMS[form]))
    assert loaded(read_trace_source("table", path)) == EXPECTED


def test_a_parquet_table_is_read(tmp_path):
    table = pd.DataFrame({"utterance_id": ["u1", "u1"], "time": [0.0, 0.5], "joy": [1.0, np.nan], "note": ["a", "b"]})
    table.to_parquet(tmp_path / "t.parquet")
    found = read_trace_source("table", tmp_path / "t.parquet").load("u1")
    assert list(found) == ["joy"]
    np.testing.assert_array_equal(found["joy"].raters[0].ratings, [1, np.nan])


def test_targets_are_chosen_and_a_column_value_is_named(tmp_path):
    path = write(tmp_path / "u1.csv", "time,frame,value,label\n0,17,1,x\n1,18,,x\n2,19,NaN,x\n")
    assert set(read_trace_source("table", path).load("u1")) == {"frame", "value"}
    found = read_trace_source("table", path, targets=("arousal",)).load("u1")["arousal"]
    np.testing.assert_array_equal(found.raters[0].ratings, [1, np.nan, np.nan])
    two = write(tmp_path / "u2.csv", "time,arousal,arousal_r1,arousal_r2,other\n0,9,1,2,0\n")
    found = loaded(read_trace_source("table", two, targets=("arousal",)))
    assert {key[2]: values for key, values in found.items()} == {"1": [(0, 1)], "2": [(0, 2)], "consensus": [(0, 9)]}


def test_an_utterance_is_found_by_its_id_before_its_audio_file(tmp_path):
    write(tmp_path / "t" / "u1.csv", "time,arousal\n0,1\n1,2\n2,3\n3,4\n")
    source = read_trace_source("table", tmp_path / "t", scales={"arousal": Target(1, 9)})
    rows = utterances(("u1", "deep/x.wav", 2.0, 4.0), ("part", "deep/U1.wav", 2.0, 4.0))
    found = rated(source, rows, every=1, window=1)
    assert found.table["arousal"].tolist() == [
        1,
        2,
        3,
        4,
    ]  # the table of u1 begins with u1; that of U1.wav with the file
    assert found.scales == {"arousal": Target(1, 9)}


@pytest.mark.parametrize(
    ("files", "targets", "message"),
    [
        (
            {"t.csv": "utterance_id,frame,arousal\nu,0,1\n"},
            (),
            "t.csv has no column time. Name the column of seconds so",
        ),
        (
            {"t.csv": "time,note\n0,x\n"},
            (),
            "t.csv has no column of ratings. Name each after its target, such as arousal.",
        ),
        (
            {"t.csv": "time,note\n0,x\n"},
            ("joy",),
            "t.csv has no ratings of joy (there are 'note'). Name one of these with",
        ),
        (
            {"joy/u.csv": "time,a\n0,1\n"},
            ("fear",),
            " has no ratings of fear (there are 'joy'). Name one of these with --t",
        ),
        (
            {"u.csv": "time,a\n0,1\n", "u.tsv": "time\ta\n0\t1\n"},
            (),
            "u.tsv: 'u' has ratings in another table, too. Keep",
        ),
        ({"notes.txt": "x"}, (), " has no table in it. Give a table with time and ratings, or a folder of these."),
    ],
)
def test_a_table_with_a_fault_is_refused(tmp_path, files, targets, message):
    for name, text in files.items():
        write(tmp_path / "t" / name, text)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_trace_source("table", tmp_path / "t", targets=targets)
    assert error.value.code == "LP182"
    assert str(tmp_path / "t") in str(error.value)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv does not exist.*Give a table with time and ratings.*\[LP182\]"):
        read_trace_source("table", tmp_path / "none.csv")


def test_a_row_without_an_utterance_is_named(tmp_path):
    path = write(tmp_path / "t.csv", "utterance_id,time,arousal\nu1,0,1\n ,1,2\n")
    with pytest.raises(ManifestError, match=r"row 3: utterance_id is empty \[LP140\]"):
        read_trace_source("table", path)


def test_all_faults_of_a_table_are_named_with_their_rows(tmp_path):
    path = write(tmp_path / "t.csv", "time,arousal\n0,1\nx,2\n,3\n1,high\n2,inf\n3,\n")
    with pytest.raises(ManifestError) as error:
        read_trace_source("table", path)
    for fault in (
        "row 3: time is 'x', not a number of seconds [LP182]",
        "row 4: time is '', not a number of seconds [LP182]",
        "row 5: arousal is 'high', not a rating, which is a number or empty [LP182]",
        "row 6: arousal is 'inf', not a rating, which is a number or empty [LP182]",
    ):
        assert fault in str(error.value)
    assert str(error.value).startswith(f"{path} has 4 problems:")
