"""Tables as programs write them: read like the plain table, with a word about it, or refused in one sentence."""

from __future__ import annotations

import gzip

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.command_line import refused, run as command

from layerprobe.probe.data.manifest.decimals import read_decimals
from layerprobe.probe.data.manifest.draft_header import draft_header
from layerprobe.probe.data.manifest.read import read_manifest, read_numbered_manifest
from layerprobe.probe.data.manifest.schema import ManifestError
from layerprobe.probe.data.transcripts import add_transcripts, read_transcripts
from layerprobe.probe.exceptions import InputError

HEADER = 'corpus = "c"\n[targets.arousal]\nminimum = 1\nmaximum = 7\n'
ROWS = [
    "utterance_id,path,speaker_id,start,arousal,transcript",
    "007,x.wav,Amélie,0.25,3.5,one",
    "008,x.wav,s2,1.5,4,two",
]
PLAIN = "\n".join(ROWS) + "\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with the audio file and the header."""
    (tmp_path / "x.wav").touch()
    (tmp_path / "my.toml").write_text(HEADER)
    return tmp_path


def written(folder, content, name="my.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def separated(separator):
    return PLAIN.replace(",", separator)


DECIMALS = separated(";").replace("0.25", "0,25").replace("1.5", "1,5").replace("3.5", "3,5")
DIALECTS = {
    "semicolons": (separated(";"), "utf-8", "cells separated by semicolons"),
    "tabs": (separated("\t"), "utf-8", "cells separated by tabs"),
    "bars": (separated("|"), "utf-8", "cells separated by vertical bars"),
    "sep": ("sep=;\r\n" + separated(";").replace("\n", "\r\n"), "utf-8", "cells separated by semicolons"),
    "quoted sep": ('"sep=\t"\n' + separated("\t"), "utf-8", "cells separated by tabs"),
    "sep in vain": ("sep=,\n" + PLAIN, "utf-8", ""),
    "mark": ("\ufeff" + PLAIN, "utf-8", ""),
    "old Mac": (PLAIN.replace("\n", "\r"), "utf-8", ""),
    "Excel": (separated("\t").replace("\n", "\r\n"), "utf-16", "encoding UTF-16; cells separated by tabs"),
    "UTF-16 without mark": (PLAIN, "utf-16-le", "encoding UTF-16"),
    "UTF-16 big": ("\ufeff" + PLAIN, "utf-16-be", "encoding UTF-16"),
    "decimal commas": (DECIMALS, "utf-8", "cells separated by semicolons; decimal commas in start, arousal"),
    "blanks in names": (PLAIN.replace(",path", ", path\u00a0"), "utf-8", ""),
    "commas at the ends": (PLAIN.replace("\n", ",,\n"), "utf-8", ""),
    "quoted": ("\n".join('"' + row.replace(",", '","') + '"' for row in ROWS), "utf-8", ""),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_gives_the_plain_table_and_is_reported_once(folder, dialect, caplog):
    expected = read_manifest(written(folder, PLAIN)).table
    assert caplog.messages == []
    content, encoding, note = DIALECTS[dialect]
    path = written(folder, content, encoding=encoding)
    found = read_numbered_manifest(path)
    pd.testing.assert_frame_equal(found.manifest.table, expected)
    assert found.row_numbers.tolist() == [2, 3]
    assert caplog.messages == ([f"{path}: {note}."] if note else [])


def test_the_command_line_reports_it_on_standard_error_and_not_if_it_is_to_be_quiet(folder):
    path = written(folder, separated(";"))
    result = command("manifest", "validate", path)
    assert result.stderr == f"{path}: cells separated by semicolons.\n"
    assert command("manifest", "validate", path, "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("first", "kind"), [("", "an index that was saved with the table"), ("Unnamed: 0", "an index that")]
)
def test_a_saved_index_is_left_out_and_reported(folder, first, kind, caplog):
    lines = [f"{first},{ROWS[0]}", *(f"{k},{row}" for k, row in enumerate(ROWS[1:]))]
    path = written(folder, "\n".join(lines))
    pd.testing.assert_frame_equal(read_manifest(path).table, read_manifest(written(folder, PLAIN, "my.csv")).table)
    assert "column 1 left out (an index that was saved with the table)" in caplog.text
    (folder / "my.toml").unlink()
    assert [t.name for t in draft_header(written(folder, "\n".join(lines))).targets] == ["arousal"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "it is a git-lfs pointer, not the file itself. Fetch the file: git lfs pull."),
        (
            b"/annex/objects/SHA256E-s5--00\n",
            "it is a git-annex pointer, not the file itself. Fetch the file: git annex",
        ),
        (
            b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>",
            "it is a web page, not the file itself. Fetch the file; its address may ask for a login",
        ),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "it is a web page"),
        (b"", r"it is empty (0 bytes). Save it again"),
        (b"\0" * 4096, "it holds zeros alone"),
        (b"PK\x03\x04rest", "it is a zip archive or an Excel workbook"),
        (gzip.compress(PLAIN.encode()), "it is compressed by gzip. Unpack it: gunzip"),
        (PLAIN.encode() + b'009,"x.wav,s2', "a quotation mark is opened and never closed, so it may be cut"),
        (PLAIN.encode() + b"\0\0\0\0", "it holds zero bytes, so it is damaged"),
    ],
    ids=[
        "git-lfs",
        "git-annex",
        "page",
        "answer of a store",
        "empty",
        "zeros",
        "zip",
        "gzip",
        "open quote",
        "zero bytes",
    ],
)
def test_what_is_no_table_is_one_sentence_with_what_to_do(folder, content, message):
    text = refused("manifest", "validate", written(folder, content))
    assert text.startswith(f"Error: {folder / 'my.csv'} can't be read as a table: {message}")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "a git-lfs pointer, not the file itself. Fetch the file: git lfs pull."),
        (b"<html>", "a web page, not the file itself."),
        (b"", "empty (0 bytes). "),
    ],
)
def test_the_same_of_a_header_and_of_parquet(folder, content, message):
    for name, kind in (("my.toml", "header"), ("my.parquet", "table")):
        written(folder, PLAIN)
        path = written(folder, content, name)
        text = refused("manifest", "validate", folder / ("my.csv" if kind == "header" else name))
        if kind == "header":
            (folder / "my.toml").write_text(HEADER)
        assert text.startswith(f"Error: {path} can't be read as a {kind}: it is {message}")
        assert len(text.splitlines()) == 1


def test_a_header_in_utf_16_is_read_and_a_cut_one_is_named(folder):
    path = written(folder, PLAIN)
    written(folder, HEADER, "my.toml", "utf-16")
    assert read_manifest(path).targets == ("arousal",)
    written(folder, HEADER[:38], "my.toml")
    with pytest.raises(InputError, match=r"my\.toml is not valid TOML: .* Correct it\. \[LP\d{3}\]$"):
        read_manifest(path)


def test_a_parquet_table_that_is_cut_anywhere_is_named(folder):
    path = folder / "my.parquet"
    pd.DataFrame({"utterance_id": ["a"] * 50}).to_parquet(path)
    whole = path.read_bytes()
    for n in (5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(InputError, match=rf"it is cut, for the end of a Parquet file is missing after {n:,} bytes"):
            read_manifest(path)
    path.write_bytes(PLAIN.encode())
    with pytest.raises(InputError, match="it does not begin as a Parquet file"):
        read_manifest(path)
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"my\.csv can't be read as a table: it is a Parquet file\. Name it \.parquet"):
        read_manifest(path.rename(folder / "my.csv"))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman"])
def test_an_encoding_that_is_not_unicode_is_named_with_the_line_and_how_to_convert_it(folder, encoding):
    with pytest.raises(
        InputError, match=r"my\.csv is not UTF-8 \(line 2 has the byte 0x.*iconv -f WINDOWS-1252 -t UTF-8"
    ):
        read_manifest(written(folder, PLAIN, encoding=encoding))


def test_repeated_names_and_rows_of_another_length_are_named(folder):
    for row, message in (
        ("utterance_id,path,speaker_id,start,arousal, path ", r"has 2 columns of the name path \(columns 2, 6\)"),
        (
            "utterance_id,path,speaker_id,start,arousal,Speaker_ID",
            r"columns Speaker_ID and speaker_id, which differ only",
        ),
        ("utterance_id,path,speaker_id,start,arousal,transcript,more", r"row 2 has 6 cells, and the header 7 names"),
    ):
        with pytest.raises(InputError, match=message):
            read_manifest(written(folder, PLAIN.replace(ROWS[0], row)))
    with pytest.raises(
        InputError, match=r"row 3 has 7 cells, and the header 6 names; a text that holds a separator needs"
    ):
        read_manifest(written(folder, PLAIN.replace("two", "one, two")))
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["speaker_id", "speaker_id"])
    pq.write_table(twice, folder / "my.parquet")
    with pytest.raises(InputError, match="has 2 columns of the name speaker_id"):
        read_manifest(folder / "my.parquet")


def decimals(**columns):
    """The columns that had decimal commas, and the rows that are not clear."""
    n = max(map(len, columns.values()))
    cells = pd.DataFrame({name: [*values, *[""] * (n - len(values))] for name, values in columns.items()}, dtype=str)
    found = read_decimals(cells, list(columns))
    read = {name: [cell for cell in column if cell] for name, column in found.cells.items()}
    return read, {name: rows.tolist() for name, rows in found.unclear.items()}


def test_decimal_commas_are_read_only_where_they_can_be_nothing_else():
    assert decimals(a=["3,5", "1,234", ""]) == ({"a": ["3.5", "1.234"]}, {})
    assert decimals(a=["0,500", "2"]) == ({"a": ["0.500", "2"]}, {})
    assert decimals(a=["1,234"]) == ({}, {"a": [0]})  # 1.234 or 1234
    assert decimals(a=["1,234"], b=["3,5"]) == ({"a": ["1.234"], "b": ["3.5"]}, {})
    assert decimals(a=["1,234"], b=["3.5"]) == ({}, {"a": [0]})
    assert decimals(a=["1,234"], b=["3,5"], c=["2.5"]) == ({"b": ["3.5"]}, {"a": [0]})
    assert decimals(a=["3,5", "3.5"]) == ({}, {"a": [0]})
    assert decimals(a=["1.234", "5"], b=["3,5"]) == ({"b": ["3.5"]}, {"a": [0]})  # 1.234 or 1234
    assert decimals(a=["1.234", "3.5"]) == ({}, {})


def test_a_number_that_can_be_read_in_two_ways_is_refused_with_its_row(folder):
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(folder, separated(";").replace("3.5", "1,234")))
    assert [problem.text for problem in caught.value.problems] == [
        "row 2: arousal is '1,234', which can have decimals or thousands; write decimal points and no thousands"
    ]


def test_a_column_with_commas_and_points_is_refused_by_that_reason(folder):
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(folder, separated(";").replace("3.5", "3,5").replace(";4", ";4.5")))
    assert [problem.text for problem in caught.value.problems] == [
        "row 2: arousal is '3,5', with a comma where other rows have points; write decimal points and no thousands"
    ]


def test_rows_above_the_names_are_left_out_if_they_are_empty_and_named_if_not(folder):
    plain = read_manifest(written(folder, PLAIN)).table
    pd.testing.assert_frame_equal(read_manifest(written(folder, ",,,\n;;\n" + PLAIN)).table, plain)
    with pytest.raises(ManifestError, match="row 3: arousal is 'high'"):
        read_manifest(written(folder, ",,,\n" + PLAIN.replace("3.5", "high")))
    for title in ("# my corpus\n", "My corpus, version 1\n"):
        with pytest.raises(InputError, match=r"has the names of its columns in row 2, not in its first one\. Remove"):
            read_manifest(written(folder, title + PLAIN))


def test_a_folder_in_place_of_an_audio_file_is_named(folder):
    (folder / "clips").mkdir()
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(folder, PLAIN.replace(ROWS[1].split(",")[1], "clips", 1)))
    assert [problem.text for problem in caught.value.problems] == [f"row 2: {folder / 'clips'} is a folder, not a file"]


def test_a_draft_of_a_table_with_decimal_commas_has_its_scales(folder):
    (folder / "my.toml").unlink()
    target = draft_header(written(folder, DECIMALS)).targets[0]
    assert (target.name, target.low, target.high, target.scale) == ("arousal", 3.5, 4, (1, 5))


@pytest.mark.parametrize(
    ("rating", "read"), [(7 + 5e-10, 7), (1 - 5e-10, 1), (7.000000000000001, 7), (6.9999999999, 6.9999999999)]
)
def test_a_rating_that_rounding_put_outside_the_scale_is_at_its_end(folder, rating, read):
    ratings = read_manifest(written(folder, PLAIN.replace("3.5", repr(rating)))).table["arousal"]
    assert ratings.tolist() == [read, 4]


def test_a_rating_further_outside_is_named_in_full(folder):
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(folder, PLAIN.replace("3.5", "7.00000001")))
    assert [problem.text for problem in caught.value.problems] == [
        "row 2: arousal is 7.00000001, outside the scale 1..7 of my.toml"
    ]


def test_many_missing_files_are_counted_by_what_differs(folder):
    rows = [f"u{k},{name},s,0,3,t" for k, name in enumerate(["X.WAV", "x.flac", "a/x.wav", "b/x.wav", "gone.wav"])]
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(folder, "\n".join([ROWS[0], *rows])))
    assert caught.value.problems[0].text == (
        f"row 2: no file at {folder / 'X.WAV'}, but at {folder / 'x.wav'} (it differs in case)"
    )
    assert caught.value.problems[4].text == f"row 6: no file at {folder / 'gone.wav'}"
    counts = "of these 4 resemble one that exists (they differ in: the folders before it 2, case 1, the ending 1)"
    assert f"5 audio files are missing; {counts}." in str(caught.value)


def test_a_manifest_that_is_not_there_is_named_with_the_nearest_one(folder):
    written(folder, PLAIN, "My Corpus.csv")
    assert refused("manifest", "describe", folder / "my corpus.csv") == (
        f"Error: {folder / 'my corpus.csv'} does not exist, but {folder / 'My Corpus.csv'} does (it differs in case). "
        "Give the path of a manifest, .csv or .parquet. [LP101]"
    )


def test_transcripts_join_names_that_are_normalised_and_a_pointer_is_no_transcript(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "Ame\u0301lie.txt").write_text("bonjour", encoding="utf-16")
    table = pd.DataFrame({"utterance_id": ["Amélie"], "path": ["x.wav"]})
    assert add_transcripts(table, read_transcripts(texts))["transcript"].tolist() == ["bonjour"]
    (texts / "b.txt").write_bytes(POINTER)
    with pytest.raises(InputError, match=r"b\.txt is no transcript: it is a git-lfs pointer"):
        read_transcripts(texts)
