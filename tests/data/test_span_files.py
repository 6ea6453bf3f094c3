"""CTM files, tables and folders of spans, each fault of them, and mutated files of every kind."""

from __future__ import annotations

import random
import re

import numpy as np
import pandas as pd
import pytest
from helpers.mutated_bytes import mutated

from layerprobe.probe.data.manifest.schema import ManifestError
from layerprobe.probe.data.span_files.ctm import read_ctm
from layerprobe.probe.data.span_files.read import read_span_files
from layerprobe.probe.data.span_files.span_table import read_span_table
from layerprobe.probe.data.span_files.textgrid import read_tiers
from layerprobe.probe.exceptions import InputError

GRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1\ntiers? <exists>\nsize = 1\nitem []:\n'
    '    item [1]:\n        class = "IntervalTier"\n        name = "words"\n        xmin = 0\n        xmax = 1\n'
    "        intervals: size = 2\n        intervals [1]:\n            xmin = 0\n            xmax = 0.4\n"
    '            text = "not ""now"""\n        intervals [2]:\n            xmin = 0.4\n            xmax = 1\n'
    '            text = "früh"\n'
)
CTM = """\
;; sclite's example, with a comment
;; CATEGORY "0" "" ""
u8 A 0.70 0.30 later 0.5 lex spk1
u7 1 0.00 0.35 not 0.93
u7 1 0.35 0.41 today NA ;; at the end of a line
u7 1 * * <ALT_BEGIN>
u7 1 0.80 0.10 uh-huh
u7 1 * * <ALT>
u7 1 0.80 0.10 @
u7 1 * * <ALT>
u7 1 0.80 0.12 mhm
u7 1 * * <ALT_END>
u7 1 1.00 0.50 <eps>

u8 A 0.10 0.20 sooner
"""
TABLE = 'span_id,utterance_id,start,end,label,tone\nx,007,0.25,1.5,"a, ""b""",H\ny,007,1.5,2,,L\nz,u8,0.1,0.9,früh,L\n'


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_ctm_file_has_the_first_alternative_in_the_order_of_time_without_comments_and_silences(tmp_path):
    path = written(tmp_path / "a.ctm", CTM)
    spoken = [(0.0, 0.35, "not"), (0.35, 0.76, "today"), (0.8, 0.9, "uh-huh")]
    assert read_ctm(path) == {"u8": [(0.1, 0.3, "sooner"), (0.7, 1.0, "later")], "u7": spoken}
    assert read_ctm(path, silences=True)["u7"] == [*spoken, (1.0, 1.5, "<eps>")]
    assert list(read_ctm(path, channel="A")) == ["u8"]


def test_ends_of_a_ctm_file_are_the_sums_of_its_decimals(tmp_path):
    """0.1 + 0.2 is 0.3, where the next one starts, and not 0.30000000000000004."""
    found = read_ctm(written(tmp_path / "a.ctm", "u 1 0.1 0.2 a\nu 1 0.3 0.1 b\n"))["u"]
    assert found[0].end == found[1].start == 0.3


def test_a_channel_of_several_is_chosen(tmp_path):
    path = written(tmp_path / "a.ctm", "u7 A 0 1 a\nu7 B 0 2 b\nu7 A 1 1 c\n")
    assert read_ctm(path, channel="B") == {"u7": [(0.0, 2.0, "b")]}
    with pytest.raises(
        InputError, match=r"recording 'u7' has the channels A \(line 1\), B \(line 2\)\. Keep the lines"
    ):
        read_ctm(path)
    with pytest.raises(InputError, match=r"a\.ctm has no spans of channel 'C'\. Write a line for each: RECORDING CHAN"):
        read_ctm(path, channel="C")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("u7 1 0.00 0.35", "it has 4 fields, not RECORDING CHANNEL START DURATION LABEL [CONFIDENCE]"),
        ("u7 1 zero 0.35 a", "the start 'zero' is no number"),
        ("u7 1 0.00 1e999 a", "the duration '1e999' is no number"),
        ("u7 1 0.00 nan a", "the duration 'nan' is no number"),
        ("u7 1 0.00 0.35 a sure", "the confidence 'sure' is no number"),
        ("u7 1 -0.5 0.35 a", "it starts at -0.5 s and lasts 0.35 s"),
        ("u7 1 0.50 0 a", "it starts at 0.5 s and lasts 0 s"),
        ("u7 1 * * <ALT>", "<ALT> stands before <ALT_BEGIN>"),
        ("u7 1 * * <ALT_END>", "<ALT_END> stands before <ALT_BEGIN>"),
        ("u7 1 * * <ALT_BEGIN>\nu7 1 * * <ALT_BEGIN>", "alternatives begin within others"),
        ("u7 1 * * <ALT_BEGIN>\nu7 1 0 1 b", "the file ends between <ALT_BEGIN> and <ALT_END>, so it may be cut"),
    ],
)
def test_a_line_of_a_ctm_file_with_a_fault_is_named(tmp_path, line, fault):
    path = written(tmp_path / "a.ctm", f";; first\nu7 1 5 1 a\n{line}")
    number = 2 + len(line.splitlines())
    with pytest.raises(InputError) as error:
        read_ctm(path)
    assert str(error.value) == f"{path}, line {number}: {fault}. Correct the line, or write the file again. [LP178]"


def test_a_ctm_file_of_comments_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.ctm has no spans\. Write a line for each: .* \[LP178\]"):
        read_ctm(written(tmp_path / "a.ctm", ";; nothing\n\n"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolons", "UTF-16", "parquet"])
def test_a_table_is_read_in_every_form(tmp_path, kind):
    path = tmp_path / f"spans.{kind if kind in ('tsv', 'parquet') else 'csv'}"
    frame = pd.read_csv(written(tmp_path / "plain.csv", TABLE), dtype={"utterance_id": str}, keep_default_na=False)
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        separator = {"tsv": "\t", "semicolons": ";"}.get(kind, ",")
        frame.to_csv(path, index=False, sep=separator, encoding="utf-16" if kind == "UTF-16" else "utf-8")
    table = read_span_table(path)
    assert table["span_id"].tolist() == ["x", "y", "z"]
    assert table["utterance_id"].tolist() == ["007", "007", "u8"]
    assert table[["start", "end"]].to_numpy().tolist() == [[0.25, 1.5], [1.5, 2.0], [0.1, 0.9]]
    assert table["label"].tolist() == ['a, "b"', "", "früh"]
    assert table["tone"].tolist() == ["H", "L", "L"]
    assert read_span_files(path) == {"007": [(0.25, 1.5, 'a, "b"'), (1.5, 2.0, "")], "u8": [(0.1, 0.9, "früh")]}


def test_decimal_commas_are_read_and_reported(tmp_path, caplog):
    path = written(tmp_path / "a.csv", "utterance_id;start;end\nu;0,25;1,5\n")
    assert read_span_table(path)[["start", "end"]].to_numpy().tolist() == [[0.25, 1.5]]
    assert caplog.messages == [f"{path}: cells separated by semicolons; decimal commas in start, end."]


def test_all_faults_of_a_table_are_named_with_their_rows(tmp_path):
    rows = [
        "span_id,utterance_id,start,end",
        "a,u,0,1",
        "a,u,1,2",
        ",u,2,3",
        "c,,3,4",
        "d,u,4,4",
        "e,u,x,5",
        "f,u,-1,5",
    ]
    path = written(tmp_path / "a.csv", "\n".join([*rows, "g,u,1,inf"]))
    with pytest.raises(ManifestError) as error:
        read_span_table(path)
    listed = str(error.value)
    for fault in (
        "row 3: span_id 'a' is also in row 2 [LP179]",
        "row 4: span_id is empty, and other rows have one [LP179]",
        "row 5: utterance_id is empty [LP140]",
        "row 6: end 4 s is not after start 4 s [LP179]",
        "row 7: start is 'x', not a number of seconds [LP179]",
        "row 8: start is -1 s, before the utterance starts [LP179]",
        "row 9: end is 'inf', not a number of seconds [LP179]",
    ):
        assert fault in listed
    assert listed.startswith(f"{path} has 7 problems:")


def test_a_table_without_its_columns_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"column end is missing \[LP110\]"):
        read_span_table(written(tmp_path / "a.csv", "utterance_id,start,stop\nu,0,1\n"))


def test_a_folder_has_an_utterance_in_each_textgrid_at_any_depth(tmp_path):
    for name in ("u1.TextGrid", "deep/er/u2.textgrid", "._u1.TextGrid", "notes.txt"):
        written(tmp_path / "grids" / name, GRID)
    found = read_span_files(tmp_path / "grids")
    assert sorted(found) == ["u1", "u2"]
    assert found["u2"] == [(0.0, 0.4, 'not "now"'), (0.4, 1.0, "früh")] == found["u1"]
    assert read_span_files(tmp_path / "grids" / "u1.TextGrid") == {"u1": found["u1"]}
    written(tmp_path / "grids" / "other" / "u1.TextGrid", GRID)
    with pytest.raises(InputError, match=r"u1\.TextGrid and .*u1\.TextGrid have the name of one utterance\. Remove"):
        read_span_files(tmp_path / "grids")


@pytest.mark.parametrize(
    ("name", "tier", "code", "fault"),
    [
        ("none.ctm", "", "LP180", "Give a .TextGrid, a folder of these, a .ctm file, or a table"),
        ("notes.eaf", "", "LP180", "notes.eaf has the ending '.eaf', which no file of spans has. Give a .TextGrid"),
        ("empty", "", "LP180", "empty has no .TextGrid in it. Give a .TextGrid"),
        ("a.ctm", "words", "LP177", "a.ctm is no TextGrid, so it has no tier 'words'. Leave --tier out."),
        ("pointer.ctm", "", "LP180", "pointer.ctm is no file of spans: "),
    ],
)
def test_what_is_no_file_of_spans_is_refused(tmp_path, name, tier, code, fault):
    written(tmp_path / "notes.eaf", "<x/>")
    written(tmp_path / "a.ctm", CTM)
    written(tmp_path / "pointer.ctm", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=re.escape(fault)) as error:
        read_span_files(tmp_path / name, tier)
    assert error.value.code == code
    assert str(tmp_path / name) in str(error.value)


def test_a_ctm_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Give the path of a file of spans\. \[LP180\]"):
        read_ctm(tmp_path / "none.ctm")


SHORT = "\n".join(line.split(" = ")[-1] for line in GRID.splitlines() if " = " in line or "<" in line)
KINDS = {
    "long.TextGrid": (GRID.encode(), 60),
    "short.TextGrid": (SHORT.replace("tiers? ", "").encode(), 60),
    "utf-16.TextGrid": (GRID.encode("utf-16"), 40),
    "a.ctm": (CTM.encode(), 80),
    "a.csv": (TABLE.encode(), 60),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_is_read_or_refused_in_words(tmp_path, name):
    """300 in all; each of the kinds below was tried with 1,500 more."""
    raw, n = KINDS[name]
    assert read_span_files(written(tmp_path / name, raw))  # as it is, it can be read
    rng = random.Random(name)
    outcomes, messages = set(), []
    for _ in range(n):
        path = written(tmp_path / name, mutated(raw, rng))
        try:
            spans = [span for of in read_span_files(path).values() for span in of]
            tiers = read_tiers(path) if path.suffix == ".TextGrid" else []
        except InputError as error:
            outcomes.add(error.code)
            messages.append(str(error))
        else:
            outcomes.add("read")
            times = [t for span in (*spans, *(s for tier in tiers for s in tier.spans)) for t in span[:2]]
            assert np.isfinite(times).all()
            assert all(0 <= span.start < span.end for span in spans)
    assert [message for message in messages if str(tmp_path / name) not in message] == []
    assert len(outcomes) >= 3  # some are read, and some have faults of several kinds
