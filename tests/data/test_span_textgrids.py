"""TextGrids: read as Praat and the package textgrid read them, in every form and encoding that they write."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import parselmouth
import pytest
import textgrid
from parselmouth.praat import call, run

from layerprobe.probe.data.span_files.labelled_span import LabelledSpan
from layerprobe.probe.data.span_files.textgrid import Tier, read_textgrid, read_tiers
from layerprobe.probe.exceptions import InputError

LABELS = ("", "not", 'a "quoted" one', '"', '""', "früh", "ʃaʊ", "! no comment", "<exists>", "3.5", "two\nlines", "sil")
ALIGNED = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0.0
xmax = 2.3
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0.0
        xmax = 2.3
        intervals: size = 4
        intervals [1]:
            xmin = 0.0
            xmax = 0.35
            text = "so"
        intervals [2]:
            xmin = 0.35
            xmax = 0.41
            text = ""
        intervals [3]:
            xmin = 0.41
            xmax = 1.87
            text = "today"
        intervals [4]:
            xmin = 1.87
            xmax = 2.3
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0.0
        xmax = 2.3
        intervals: size = 5
        intervals [1]:
            xmin = 0.0
            xmax = 0.2
            text = "S"
        intervals [2]:
            xmin = 0.2
            xmax = 0.35
            text = "OW1"
        intervals [3]:
            xmin = 0.35
            xmax = 0.41
            text = "sp"
        intervals [4]:
            xmin = 0.41
            xmax = 1.87
            text = "spn"
        intervals [5]:
            xmin = 1.87
            xmax = 2.3
            text = "sil"
"""  # as the Montreal Forced Aligner writes it; MSP-Podcast has such a file for each turn
SHORT = """\
"ooTextFile"
"TextGrid"
0
2
<exists>
2
"IntervalTier"
"words"
0
2
1
0
2
"a"
"TextTier"
"tones"
0
2
1
0.5
"H*"
"""


def written(path, text, encoding="utf-8"):
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def random_tiers(rng):
    """Tiers with labels that are hard to quote, in the order of time without gaps, as Praat keeps them."""
    tiers = []
    for k in range(int(rng.integers(1, 4))):
        times = np.round(np.sort(rng.choice(np.arange(1, 900), size=int(rng.integers(1, 6)), replace=False)) / 100, 2)
        labels = [str(label) for label in rng.choice(LABELS, size=len(times) + 1)]
        if rng.random() < 0.3:
            spans = [LabelledSpan(float(t), float(t), label) for t, label in zip(times, labels[1:], strict=True)]
            tiers.append(Tier(f"tier {k}", "points", tuple(spans)))
            continue
        bounds = [0.0, *times.tolist(), 10.0]
        spans = [LabelledSpan(a, b, label) for a, b, label in zip(bounds, bounds[1:], labels, strict=False)]
        tiers.append(Tier(f"tier {k}", "intervals", tuple(spans)))
    return tiers


def in_praat(tiers):
    """The object of Praat with these tiers."""
    points = " ".join(t.name.replace(" ", "_") for t in tiers if t.kind == "points")
    grid = call("Create TextGrid", 0, 10, " ".join(t.name.replace(" ", "_") for t in tiers), points)
    for n, tier in enumerate(tiers, start=1):
        call(grid, "Set tier name", n, tier.name)
        for k, span in enumerate(tier.spans, start=1):
            if tier.kind == "points":
                call(grid, "Insert point", n, span.start, span.label)
            elif span.start > 0:
                call(grid, "Insert boundary", n, span.start)
            if tier.kind == "intervals":
                call(grid, "Set interval text", n, k, span.label)
    return grid


def read_by_praat(path):
    """Tiers of a file as Praat reads it."""
    grid = parselmouth.read(str(path))
    tiers = []
    for n in range(1, int(call(grid, "Get number of tiers")) + 1):
        name = call(grid, "Get tier name", n)
        if not call(grid, "Is interval tier", n):
            times = [
                (call(grid, "Get time of point", n, k), call(grid, "Get label of point", n, k))
                for k in range(1, int(call(grid, "Get number of points", n)) + 1)
            ]
            tiers.append(Tier(name, "points", tuple(LabelledSpan(t, t, label) for t, label in times)))
            continue
        intervals = range(1, int(call(grid, "Get number of intervals", n)) + 1)
        spans = [
            LabelledSpan(
                call(grid, "Get start time of interval", n, k),
                call(grid, "Get end time of interval", n, k),
                call(grid, "Get label of interval", n, k),
            )
            for k in intervals
        ]
        tiers.append(Tier(name, "intervals", tuple(spans)))
    return tiers


@pytest.fixture
def encoded():
    """Set the encoding that Praat writes; UTF-8 again afterwards."""
    yield lambda name: run(f'Text writing preferences: "{name}"')
    run('Text writing preferences: "UTF-8"')


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "try ISO Latin-1, then UTF-16"])
@pytest.mark.parametrize("form", ["text file", "short text file"])
def test_what_praat_writes_is_read_in_both_forms_and_every_encoding(tmp_path, rng, encoded, form, encoding):
    encoded(encoding)
    for k in range(12):
        tiers = random_tiers(rng)
        path = tmp_path / f"{k}.TextGrid"
        call(in_praat(tiers), f"Save as {form}", str(path))
        assert read_tiers(path) == tiers


def test_latin_1_of_praat_is_read(tmp_path, encoded):
    encoded("try ISO Latin-1, then UTF-16")
    tiers = [Tier("words", "intervals", (LabelledSpan(0.0, 10.0, "fr\xfch"),))]
    call(in_praat(tiers), "Save as text file", str(tmp_path / "a.TextGrid"))
    assert b"fr\xfch" in (tmp_path / "a.TextGrid").read_bytes()
    assert read_textgrid(tmp_path / "a.TextGrid") == [(0.0, 10.0, "fr\xfch")]


def test_what_the_package_textgrid_writes_is_read(tmp_path, rng):
    for k in range(20):
        tiers = random_tiers(rng)
        grid = textgrid.TextGrid(maxTime=10.0)
        for tier in tiers:
            kind = textgrid.IntervalTier if tier.kind == "intervals" else textgrid.PointTier
            made = kind(tier.name, 0.0, 10.0)
            for span in tier.spans:
                made.add(*((span.start, span.end) if tier.kind == "intervals" else (span.start,)), span.label)
            grid.append(made)
        path = tmp_path / f"{k}.TextGrid"
        grid.write(str(path))
        assert read_tiers(path) == tiers


def test_a_file_of_the_aligner_is_read_alike_by_all_three(tmp_path):
    path = written(tmp_path / "MSP-PODCAST_0001_0008.TextGrid", ALIGNED)
    theirs = [
        Tier(t.name, "intervals", tuple(LabelledSpan(i.minTime, i.maxTime, i.mark or "") for i in t))
        for t in textgrid.TextGrid.fromFile(str(path))
    ]
    assert read_tiers(path) == theirs == read_by_praat(path)


def test_the_tier_of_aligners_is_read_by_default_and_silences_are_left_out(tmp_path):
    path = written(tmp_path / "a.TextGrid", ALIGNED)
    assert read_textgrid(path) == [(0.0, 0.35, "so"), (0.41, 1.87, "today")]
    assert [span.label for span in read_textgrid(path, silences=True)] == ["so", "", "today", ""]
    # spn is speech that the aligner has no phones for, so it is no silence
    assert [span.label for span in read_textgrid(path, "phones")] == ["S", "OW1", "spn"]
    assert [span.label for span in read_textgrid(path, "PHONES", silences=True)] == ["S", "OW1", "sp", "spn", "sil"]


def test_the_short_form_is_read_with_comments_blanks_and_any_line_ends(tmp_path):
    expected = read_by_praat(written(tmp_path / "a.TextGrid", SHORT))
    assert expected[0].spans == (LabelledSpan(0.0, 2.0, "a"),)
    with_comments = SHORT.replace('\n"words"', ' ! a tier\n\n   "words"').replace("\n0.5", "\n+5e-1")
    for text in (SHORT, with_comments, SHORT.replace("\n", "\r\n"), SHORT.replace("\n", "\r"), "\ufeff" + SHORT):
        assert read_tiers(written(tmp_path / "b.TextGrid", text)) == expected


def test_the_only_tier_of_intervals_needs_no_name(tmp_path):
    path = written(tmp_path / "a.TextGrid", SHORT.replace('"words"', '"syllables"'))
    assert read_textgrid(path) == [(0.0, 2.0, "a")]


def test_a_grid_without_tiers_has_none(tmp_path):
    path = written(tmp_path / "a.TextGrid", '"ooTextFile"\n"TextGrid"\n0\n2\n<absent>\n')
    assert read_tiers(path) == []
    with pytest.raises(InputError, match=r"it has no tier 'words', and no other is chosen \(there are none\)"):
        read_textgrid(path)


TWO = ALIGNED.replace('"phones"', '"tones"').replace('"words"', '"Words"')


@pytest.mark.parametrize(
    ("text", "tier", "fault"),
    [
        (ALIGNED, "word", "no tier has the name 'word' (there are 'words' (intervals), 'phones' (intervals))"),
        (SHORT, "tones", "tier 'tones' has points in time, which have no audio between them"),
        (ALIGNED.replace('"phones"', '"words"'), "words", "2 tiers have the name 'words'"),
        (ALIGNED.replace('"words"', '"x"'), "", "it has no tier 'words', and no other is chosen (there are 'x' (int"),
    ],
)
def test_a_tier_that_is_not_there_or_can_not_be_meant_is_refused(tmp_path, text, tier, fault):
    path = written(tmp_path / "a.TextGrid", text)
    with pytest.raises(InputError, match=re.escape(f"{path}: {fault}")) as error:
        read_textgrid(path, tier)
    assert str(error.value).endswith("Name a tier of intervals: --tier NAME, or rename it in Praat. [LP177]")


FAULTS = {  # what stands in ALIGNED, what it is replaced by, the line that is named, and the fault
    "type": ('"ooTextFile"', '"ooText"', 1, "it should begin with the type \"ooTextFile\", and 'ooText' is not"),
    "class": ('= "TextGrid"', '= "Pitch 1"', 2, "it is a file of the class 'Pitch 1', not of one TextGrid"),
    "collection": ('= "TextGrid"', '= "Collection"', 2, "it is a file of the class 'Collection', not of one TextGrid"),
    "domain": ("xmax = 2.3", "xmax = -1", 5, "the recording ends at -1 s, before it starts at 0 s"),
    "flag": ("<exists>", '"exists"', 6, "the mark of whether there are tiers should be a flag in angle brackets, and"),
    "size": ("size = 2\n", "size = 2.5\n", 7, "the number of tiers should be a whole number, and 2.5 is not"),
    "tier": ('"IntervalTier"', '"Tier"', 10, "the class of a tier should be IntervalTier or TextTier, and 'Tier' is"),
    "name": ('name = "words"', "name = 5", 11, "the name of a tier should be a text in quotation marks, and '5' is"),
    "reversed": ("xmin = 0.35", "xmin = 0.5", 21, "an interval of tier 'words' runs from 0.5 to 0.41 s"),
    "infinite": ("xmax = 0.41", "xmax = 1e999", 21, "the end of an interval of tier 'words' should be a number, and"),
    "no number": ("xmax = 0.41", "xmax = nan\n", 23, "the end of an interval of tier 'words' should be a number, and"),
    "order": ("xmin = 0.41", "xmin = 0.1", 26, "0.1 s of tier 'words' is before 0.35 s, which precedes it"),
    "cut": (ALIGNED[-30:], "", 55, "the file ends before the end of an interval of tier 'phones', so it may be cut"),
    "quote": ('"sil"', '"sil', 56, "a quotation mark is opened and never closed, so the file may be cut"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_line(tmp_path, name):
    before, after, line, fault = FAULTS[name]
    assert before in ALIGNED
    path = written(tmp_path / "a.TextGrid", ALIGNED.replace(before, after, 1))
    with pytest.raises(InputError) as error:
        read_tiers(path)
    assert str(error.value).startswith(f"{path}, line {line}: {fault}")
    assert str(error.value).endswith("Open it in Praat, correct it, and choose Save as text file. [LP176]")


def test_a_point_before_the_recording_is_refused(tmp_path):
    path = written(tmp_path / "a.TextGrid", SHORT.replace("\n0.5\n", "\n-0.5\n"))
    with pytest.raises(InputError, match=r"line 20: a point of tier 'tones' is at -0\.5 s, before the recording"):
        read_tiers(path)


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ("chronological text file", ", line 1: it is in the chronological form, which is not read. Open it in Praat"),
        ("binary file", " is a binary file of Praat. Open it in Praat, and choose Save as text file."),
    ],
)
def test_other_forms_of_praat_are_refused(tmp_path, rng, form, fault):
    path = tmp_path / "a.TextGrid"
    call(in_praat(random_tiers(rng)), f"Save as {form}", str(path))
    with pytest.raises(InputError, match=re.escape(f"{path}{fault}")) as error:
        read_tiers(path)
    assert error.value.code == "LP176"


@pytest.mark.parametrize(
    ("raw", "code", "fault"),
    [
        (b"", "LP180", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "LP180", "git-lfs"),
        (b"<!DOCTYPE html><html></html>", "LP180", "web page"),
        (ALIGNED.replace("so", "\x93so\x94").encode("latin-1"), "LP105", "Save it as UTF-8"),
        (ALIGNED.replace("so", "s\0o").encode(), "LP176", "holds zero bytes, so it is damaged. Save it again."),
    ],
)  # fmt: skip
def test_what_is_no_text_of_praat_is_refused(tmp_path, raw, code, fault):
    path = written(tmp_path / "a.TextGrid", raw)
    with pytest.raises(InputError, match=fault) as error:
        read_textgrid(path)
    assert error.value.code == code
    assert str(path) in str(error.value)


def test_a_missing_file_is_refused_with_the_nearest_one(tmp_path):
    written(tmp_path / "u1.TextGrid", ALIGNED)
    with pytest.raises(InputError, match=r"u1\.TextGrid.*Give the path of a file of spans\. \[LP180\]$"):
        read_textgrid(Path(tmp_path / "U1.textgrid"))


def test_pauses_of_every_aligner_are_silences_and_labels_have_no_outer_blanks(tmp_path):
    """WebMAUS writes <p:>, others <pau>; a table's labels are stripped, too, so that classes are the same."""
    labels = ["<p:>", ' hi ""you"" ', "<PAU>", "so\t", "\u00a0"]
    lines = [f'{k}\n{k + 1}\n"{label}"' for k, label in enumerate(labels)]
    path = tmp_path / "u.TextGrid"
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "0", "5", "<exists>", "1", '"IntervalTier"']
    path.write_text("\n".join([*head, '"words"', "0", "5", "5", *lines]) + "\n", encoding="utf-8")
    assert read_textgrid(path) == [(1, 2, 'hi "you"'), (3, 4, "so")]
    assert [span.label for span in read_textgrid(path, silences=True)] == ["<p:>", 'hi "you"', "<PAU>", "so", ""]
