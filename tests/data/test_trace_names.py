"""Which utterances traces are of: by id or audio file, in any case and form of accents, and never of two by chance."""

from __future__ import annotations

import unicodedata

import pandas as pd
import pytest
from helpers.corpus_trees import write

from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.data.traces.registry import read_trace_source
from layerprobe.probe.data.traces.span_ratings import rate_spans
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress


def utterances(*rows):
    return pd.DataFrame(rows, columns=["utterance_id", "path"])


def places(source, *rows):
    return source.places(utterances(*rows))


def test_traces_with_the_name_of_two_audio_files_are_refused(tmp_path):
    write(tmp_path / "t" / "001.csv", "time,arousal\n0,1\n")
    source = read_trace_source("table", tmp_path / "t")
    anna, ben = ("anna_001", "/c/anna/001.wav"), ("ben_001", "/c/ben/001.wav")
    with pytest.raises(InputError, match=r"'001' are named like two audio files, /c/anna/001\.wav and /c/ben/001\.wav"):
        places(source, anna, ben)
    both = utterances(anna, ben)
    spans = SpanOptions(every=1, window=1).read(both)
    with pytest.raises(InputError, match=r"by utterance_id\. \[LP183\]"):
        rate_spans(both, spans, source, lengths={}, progress=NullProgress())
    two_ratings = places(source, anna, ("again", anna[1]))  # of one recording
    assert two_ratings == [("001", 0.0), ("001", 0.0)]
    assert places(source, anna, ("001", "/c/ben/001.wav")) == [("001", 0.0), ("001", 0.0)]  # one by its id


def test_traces_whose_names_differ_in_case_are_of_the_file_that_is_named_so(tmp_path):
    rows = [f"{name},0,1" for name in ("A", "a", "b", "B", "c", "DE", "de")]
    path = write(tmp_path / "t.csv", "\n".join(["utterance_id,time,arousal", *rows]))
    source = read_trace_source("table", path)
    files = [("x", f"/c/{name}.wav") for name in ("A", "a", "B", "b", "C", "none")]
    assert [place and place[0] for place in places(source, *files)] == ["A", "a", "B", "b", "c", None]
    with pytest.raises(InputError, match=r"traces 'DE' and 'de' are both named like the audio file /c/De\.wav"):
        places(source, ("x", "/c/De.wav"))
    with pytest.raises(InputError, match=r"'c' are named like two audio files, /c/C\.wav and /d/c\.wav"):
        places(source, ("x", "/c/C.wav"), ("y", "/d/c.wav"))


@pytest.mark.parametrize("trace_format", ["table", "recola"])
def test_a_name_of_traces_is_the_same_in_both_forms_of_its_accents(tmp_path, trace_format):
    """Names of files on macOS are decomposed."""
    composed, decomposed = (unicodedata.normalize(form, "Jürgen") for form in ("NFC", "NFD"))
    for name in (composed, decomposed):
        folder = tmp_path / ("a" if name == composed else "b")
        write(folder / "arousal" / f"{name}.csv", "time;FM1;FM2\n0.00;0.1;0.2\n0.04;0.3;0.1\n")
        source = read_trace_source(trace_format, folder)
        for row in (("x", f"/c/{composed}.wav"), ("x", f"/c/{decomposed}.wav"), (composed, "/c/x.wav")):
            if trace_format == "table" or row[0] == "x":
                (place,) = places(source, row)
                assert len(source.load(place[0])["arousal"].raters) == 2
