"""Spans of a manifest's utterances: from tables, TextGrids and CTM files, or windows at regular times."""

from __future__ import annotations

import math
import unicodedata

import numpy as np
import pandas as pd
import pytest

from layerprobe.probe.data.manifest.schema import ManifestError
from layerprobe.probe.data.remarks import CLIPPED_SPANS, NEAREST_FRAMES, Remark
from layerprobe.probe.data.span_times import SHORTEST, windows
from layerprobe.probe.data.spans import FRAMES, SpanOptions, unused_sentence, with_nearest
from layerprobe.probe.exceptions import InputError, InvalidAudioError

HEADER = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{end}\n<exists>\n{n}\n'


def table(*rows):
    """A manifest's table of utterance, path and perhaps start and end in the file."""
    columns = ["utterance_id", "path", "start", "end"]
    return pd.DataFrame([(*row, *[math.nan] * (4 - len(row))) for row in rows], columns=columns)


TWO = table(("u1", "/c/wav/one.wav"), ("u2", "/c/wav/two.wav"))


def textgrid(path, tiers, *, end=2.0):
    """A TextGrid in the short form with these tiers of (start, end, label)."""
    text = HEADER.format(end=end, n=len(tiers))
    for name, intervals in tiers.items():
        text += f'"IntervalTier"\n"{name}"\n0\n{end}\n{len(intervals)}\n'
        text += "".join(f'{start}\n{stop}\n"{label}"\n' for start, stop, label in intervals)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def csv(folder, *rows, columns="utterance_id,start,end,label"):
    path = folder / "spans.csv"
    path.write_text("\n".join([columns, *rows]))
    return path


def listed(source, manifest, name):
    """Id, start, end and label of the spans of one utterance."""
    row = manifest.set_index("utterance_id", drop=False).loc[name].to_dict()
    return [tuple(span) for span in source.given(row)]


def code_of(error):
    return error.value.code


def test_a_table_has_its_own_ids_or_numbers_in_the_order_of_time(tmp_path):
    path = csv(tmp_path, "u2,0.5,1,b", "u1,0,0.35,not", "u2,0,0.5,a")
    source = SpanOptions(path).read(TWO)
    assert listed(source, TWO, "u1") == [("u1#0000", 0.0, 0.35, "not")]
    assert listed(source, TWO, "u2") == [("u2#0000", 0.0, 0.5, "a"), ("u2#0001", 0.5, 1.0, "b")]
    assert source.name == str(path)
    assert source.mean_count(TWO, []) == 1.5
    path = csv(tmp_path, "z,u2,0.5,1,b", "y,u2,0,0.5,", columns="span_id,utterance_id,start,end,label")
    source = SpanOptions(path).read(TWO)
    assert [name for name, *_ in listed(source, TWO, "u2")] == ["y", "z"]
    assert listed(source, TWO, "u1") == []


def test_textgrids_of_a_folder_have_the_name_of_the_utterance_or_of_the_audio_file(tmp_path):
    spoken = [(0, 0.5, ""), (0.5, 0.9, "sehr"), (0.9, 2, "gut")]
    textgrid(tmp_path / "a" / "u1.TextGrid", {"words": spoken, "phones": [(0, 2, "x")]})
    textgrid(tmp_path / "a" / "two.TextGrid", {"words": spoken[1:], "phones": [(0, 1, "y"), (1, 2, "z")]})
    source = SpanOptions(tmp_path / "a").read(TWO)
    assert listed(source, TWO, "u1") == [("u1#0000", 0.5, 0.9, "sehr"), ("u1#0001", 0.9, 2.0, "gut")]
    assert [label for *_, label in listed(source, TWO, "u2")] == ["sehr", "gut"]
    phones = SpanOptions(tmp_path / "a", tier="phones").read(TWO)
    assert listed(phones, TWO, "u2") == [("u2#0000", 0.0, 1.0, "y"), ("u2#0001", 1.0, 2.0, "z")]
    one = SpanOptions(tmp_path / "a" / "two.TextGrid").read(TWO)
    assert (len(listed(one, TWO, "u2")), listed(one, TWO, "u1")) == (2, [])


def test_a_name_is_the_same_in_both_forms_of_its_accents(tmp_path):
    """Names of files on macOS are decomposed."""
    decomposed = unicodedata.normalize("NFD", "Amélie")
    manifest = table(("u1", f"/c/{decomposed}.wav"), ("Zoé", "/c/x.wav"))
    path = csv(tmp_path, "Amélie,0,1,a", f"{unicodedata.normalize('NFD', 'Zoé')},0,1,b")
    source = SpanOptions(path).read(manifest)
    assert [label for *_, label in listed(source, manifest, "u1") + listed(source, manifest, "Zoé")] == ["a", "b"]


def test_times_of_an_entry_by_the_file_count_from_its_beginning(tmp_path):
    """Rows of the manifest are parts of a file; a span belongs to the part in which its middle lies."""
    parts = table(("p1", "/c/talk.wav", 0, 2.2), ("p2", "/c/talk.wav", 2.2, 5))
    path = tmp_path / "talk.ctm"
    path.write_text("talk 1 0.5 0.5 a\ntalk 1 2.1 0.4 b\ntalk 1 3.3 0.2 c\ntalk 1 6 1 d\n")
    source = SpanOptions(path).read(parts)
    assert listed(source, parts, "p1") == [("p1#0000", 0.5, 1.0, "a")]
    # 2.1 to 2.5 is cut at 2.2; 3.3 - 2.2 is 1.0999999999999996 in binary
    assert listed(source, parts, "p2") == [("p2#0000", 0.0, 0.3, "b"), ("p2#0001", 1.1, 1.3, "c")]
    by_id = SpanOptions(csv(tmp_path, "p2,0.5,1,e")).read(parts)
    assert listed(by_id, parts, "p2") == [("p2#0000", 0.5, 1.0, "e")]


def test_an_entry_with_the_id_of_an_utterance_is_of_no_other_one(tmp_path):
    manifest = table(("one", "/c/x.wav"), ("u2", "/c/one.wav"))
    source = SpanOptions(csv(tmp_path, "one,0,1,a")).read(manifest)
    assert (len(listed(source, manifest, "one")), listed(source, manifest, "u2")) == (1, [])


def test_entries_of_no_utterance_are_counted(tmp_path):
    source = SpanOptions(csv(tmp_path, "u1,0,1,a", "two,0,1,b", "u9,0,1,c", "u8,0,1,d")).read(TWO)
    assert unused_sentence(source) == (
        f"2 entries of {tmp_path / 'spans.csv'} are of no utterance of the manifest (first: u9)."
    )
    assert unused_sentence(SpanOptions(csv(tmp_path, "u1,0,1,a", "two,0,1,b")).read(TWO)) == ""
    assert unused_sentence(SpanOptions(every=1, window=1).read(TWO)) == ""


def test_spans_that_end_after_the_audio_are_cut_and_those_outside_are_errors(tmp_path):
    path = csv(tmp_path, "u1,0,0.5,a", "u1,0.4,9,b", "u2,2,2.5,late")
    source = SpanOptions(path).read(TWO)
    rows = TWO.to_dict("records")
    found = source.of(rows[0], 2.0)
    assert found.ends.tolist() == [0.5, 2.0]
    assert [span.end for span in found.given] == [0.5, 9.0]  # as in the file, so that no other duration changes it
    assert found.remarks == (Remark(CLIPPED_SPANS, 1),)
    assert source.of(rows[0], 9.0).remarks == ()
    assert with_nearest(found, 3).remarks == (Remark(CLIPPED_SPANS, 1), Remark(NEAREST_FRAMES, 3))
    assert with_nearest(found, 0) is found
    with pytest.raises(InvalidAudioError) as error:
        source.of(rows[1], 2.0)
    assert str(error.value) == (
        f"{path} has a span outside of the audio: u2#0000 ('late') from 2 to 2.5 s, and the audio has 2.000 s [LP262]"
    )
    assert source.of(rows[1], 2.1).ends.tolist() == [2.1]


def test_a_span_within_two_samples_of_the_end_is_kept_with_the_last_ones(tmp_path):
    """A table was written by the length of a file at 44.1 kHz, and audio at 16 kHz has a sample less."""
    source = SpanOptions(csv(tmp_path, "u1,1,2.00002,a", "u1,2,2.00002,b", "u2,2,2.02,late")).read(TWO)
    rows = TWO.to_dict("records")
    found = source.of(rows[0], 2.0)
    assert list(zip(found.starts, found.ends, strict=True)) == [(1.0, 2.0), (2.0 - 2 / 16_000, 2.0)]
    assert found.remarks == ()
    with pytest.raises(InvalidAudioError, match="outside of the audio"):
        source.of(rows[1], 2.0)  # 20 ms later are no rounding


@pytest.mark.parametrize("line", ["u1,-0.1,1,a", "u1,1,1,a", "u1,1,0.5,a", "u1,,1,a", "u1,x,1,a", "u1,0,inf,a"])
def test_a_row_that_is_no_span_is_named_with_its_file(tmp_path, line):
    path = csv(tmp_path, "u1,0,1,a", line)
    with pytest.raises(ManifestError, match=r"spans\.csv has 1 problem:\n  row 3: .* \[LP179\]"):
        SpanOptions(path).read(TWO)


def test_spans_of_other_utterances_are_refused_with_the_first_entry(tmp_path):
    path = csv(tmp_path, "u7,0,1,a", "u8,0,1,a")
    with pytest.raises(InputError, match=r"no span of any of the 2 utterances \(its first entry: 'u7'\)") as error:
        SpanOptions(path).read(TWO)
    assert code_of(error) == "LP261"


def test_one_entry_for_files_of_one_name_is_refused(tmp_path):
    manifest = table(("a1", "/c/anna/1.wav"), ("b1", "/c/ben/1.wav"))
    with pytest.raises(InputError, match=r"entry '1' .* /c/anna/1\.wav and /c/ben/1\.wav") as error:
        SpanOptions(textgrid(tmp_path / "1.TextGrid", {"words": [(0, 1, "a")]})).read(manifest)
    assert code_of(error) == "LP268"
    same = table(("a1", "/c/1.wav"), ("a2", "/c/1.wav"))  # two ratings of one recording
    source = SpanOptions(csv(tmp_path, "1,0,1,a")).read(same)
    assert [listed(source, same, name)[0][0] for name in ("a1", "a2")] == ["a1#0000", "a2#0000"]


def test_two_spans_with_one_id_are_refused(tmp_path):
    manifest = table(("a1", "/c/1.wav"), ("a2", "/c/1.wav"))
    path = csv(tmp_path, "w1,1,0,1,a", columns="span_id,utterance_id,start,end,label")
    with pytest.raises(InputError, match="two spans have the id 'w1', of the utterances a1 and a2") as error:
        SpanOptions(path).read(manifest)
    assert code_of(error) == "LP263"


def test_options_that_do_not_fit_together_are_refused(tmp_path):
    for choices in (
        {}, {"path": tmp_path, "every": 0.5, "window": 1.0}, {"every": 0.5}, {"window": 1.0},
        {"every": 0.0, "window": 1.0}, {"every": 0.5, "window": math.nan}, {"every": 0.5, "window": 1.0, "tier": "w"},
        {"tier": "w"}, {"path": tmp_path, "window": 1.0},
    ):  # fmt: skip
        with pytest.raises(InputError) as error:
            SpanOptions(**choices)
        assert code_of(error) == "LP260", choices
    with pytest.raises(InputError) as error:
        SpanOptions(csv(tmp_path, "u1,0,1,a"), tier="words").read(TWO)
    assert code_of(error) == "LP177"
    for path in (tmp_path / "missing.csv", tmp_path / "missing.TextGrid"):
        with pytest.raises(InputError, match="missing"):
            SpanOptions(path).read(TWO)


def test_a_plan_states_windows_but_not_the_file():
    chosen = SpanOptions(every=0.1, window=1)
    assert chosen.in_plan == f"windows of 1.0 s every 0.1 s; {FRAMES}"
    assert SpanOptions.from_plan(chosen.in_plan) == SpanOptions(every=0.1, window=1.0)
    assert SpanOptions(path=None, every=1, window=1).in_plan == SpanOptions(every=1.0, window=1.0).in_plan
    given = SpanOptions(path=csv, tier="phones").in_plan
    assert given == f"given intervals of tier phones; {FRAMES}"
    with pytest.raises(InputError) as error:
        SpanOptions.from_plan(given)
    assert code_of(error) == "LP267"


@pytest.mark.parametrize(
    ("duration", "every", "window", "expected"),
    [
        (3.0, 1.0, 1.0, [(0, 1), (1, 2), (2, 3)]),
        (2.2, 0.5, 1.0, [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.2)]),
        (0.7, 0.5, 1.0, [(0, 0.7)]),
        (1.0, 0.5, 1.0, [(0, 1)]),
        (2.4, 1.0, 0.5, [(0, 0.5), (1, 1.5), (2, 2.4)]),  # gaps between windows
        (1.8, 1.0, 0.5, [(0, 0.5), (1, 1.5)]),  # audio remains, but no window begins in it
        (0.3, 0.1, 0.1, [(0, 0.1), (0.1, 0.2), (0.2, 0.3)]),  # 0.3 / 0.1 is 2.9999999999999996
        (88_201 / 44_100, 1.0, 1.0, [(0, 1), (1, 88_201 / 44_100)]),  # one sample more is no window
        (2.024, 1.0, 1.0, [(0, 1), (1, 2.024)]),
        (2.026, 1.0, 1.0, [(0, 1), (1, 2), (2, 2.026)]),
        (2.01, 1.0, 0.5, [(0, 0.5), (1, 1.5)]),  # what remains is not next to a window
        (2.01, 0.5, 1.0, [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.01)]),  # the last one overlaps
        (0.034, 0.01, 0.01, [(0, 0.01), (0.01, 0.02), (0.02, 0.034)]),  # half of windows that are themselves short
        (0.036, 0.01, 0.01, [(0, 0.01), (0.01, 0.02), (0.02, 0.03), (0.03, 0.036)]),
        (0.01, 1.0, 1.0, [(0, 0.01)]),
    ],
)
def test_windows_are_those_of_hand_arithmetic(duration, every, window, expected):
    starts, ends = windows(duration, every, window)
    np.testing.assert_allclose(np.stack([starts, ends], axis=1), expected, atol=1e-12)


def test_windows_cover_every_moment_of_any_duration(rng):
    for duration in rng.uniform(0.05, 20, size=300):
        every = float(rng.uniform(0.05, 2))
        window = every * float(rng.uniform(1, 3))
        starts, ends = windows(float(duration), every, window)
        assert starts[0] == 0
        assert ends[-1] == duration
        assert (starts < ends).all()
        assert (starts[1:] <= ends[:-1] + 1e-9).all()
        np.testing.assert_allclose(np.diff(starts), every, atol=1e-8)
        assert (ends - starts <= window + SHORTEST).all()
        assert (ends[:-1] - starts[:-1] <= window + 1e-8).all()
        assert (ends - starts >= min(SHORTEST, duration)).all()


def test_windows_of_an_utterance_are_named_after_it():
    source = SpanOptions(every=0.5, window=1).read(TWO)
    row = TWO.to_dict("records")[1]
    assert source.given(row) is None
    found = source.of(row, 1.2)
    assert [tuple(span) for span in found.spans] == [("u2#0000", 0.0, 1.0, ""), ("u2#0001", 0.5, 1.2, "")]
    assert source.mean_count(TWO, [1.2, 1.0]) == 1.5
    assert source.mean_count(TWO, []) == 1.0
