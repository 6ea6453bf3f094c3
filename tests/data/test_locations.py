"""Addresses of audio in a manifest: what is written is read again, and relative ones start in its folder."""

from __future__ import annotations

import doctest
from urllib.parse import unquote

import pytest

from layerprobe.probe.data.stored import locations
from layerprobe.probe.data.stored.locations import (
    Address,
    absolute,
    file_of,
    name_of,
    normal,
    parse_address,
    relative,
    relative_paths,
    row_address,
    scheme_of,
    tar_address,
)

NAMES = ("a.wav", "50%.wav", "a#1?.wav", "%23.wav", "x/y z.wav", "ü/音.wav", "a&b=c+d.wav", "line\nend.wav", "s3://b/a")


def test_the_examples_of_the_module_hold():
    assert doctest.testmod(locations).failed == 0


@pytest.mark.parametrize("file", NAMES)
@pytest.mark.parametrize("member", NAMES)
def test_a_written_address_is_read_again(file, member):
    assert parse_address(tar_address(file, member)) == Address("tar", file, member)
    assert parse_address(row_address(file, 17, column=member)) == Address("parquet", file, "17", member)


def test_names_are_escaped_as_in_urls():
    written = tar_address("a#1.tar", "50%/?.wav")
    assert written == "tar://a%231.tar#50%25/?.wav"
    assert unquote(written) == "tar://a#1.tar#50%/?.wav"  # of the standard library
    assert parse_address("tar://a%20b.tar#%C3%BC.wav") == Address("tar", "a b.tar", "ü.wav")


def test_the_ending_of_a_table_decides_how_it_is_read():
    assert row_address("d/data-00000-of-00001.arrow", 0) == "arrow://d/data-00000-of-00001.arrow#0"
    assert row_address("d/t.parquet", 5, column="speech") == "parquet://d/t.parquet?column=speech#5"


@pytest.mark.parametrize(
    "path", ["wav/a.wav", "/wav/a#1.wav", "s3://b/a#1.wav", "https://h/a.wav?k=1", "C://a.wav", ""]
)
def test_paths_and_urls_of_whole_files_are_no_addresses(path):
    assert parse_address(path) is None
    assert file_of(path) == path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("tar://a.tar", "names no member of a file; write tar://FOLDER/FILE.tar#NAME"),
        ("tar://a.tar#", "names no member of a file; write tar://FOLDER/FILE.tar#NAME"),
        ("tar://#a.wav", "names no member"),
        ("parquet://t.parquet", "names no row of a file; write parquet://FOLDER/FILE.parquet#17"),
        ("parquet://t.parquet#-1", "has the row '-1', which is no number from 0 on"),
        ("parquet://t.parquet#seven", "has the row 'seven'"),
        ("arrow://t.arrow?split=a#1", "has ?split=a, which is unknown there"),
        ("tar://a.tar?column=a#1", "has ?column=a, which is unknown there"),
    ],
)
def test_an_incomplete_address_is_refused_with_an_example(path, reason):
    with pytest.raises(ValueError, match="write ") as error:
        parse_address(path)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize("folder", ["/corpus", "s3://bucket/corpus"])
@pytest.mark.parametrize("written", ["wav/a.wav", "tar://s/a%23.tar#x", "parquet://t.parquet?column=c#3"])
def test_relative_ones_start_in_the_folder_of_the_manifest(folder, written):
    there = absolute(written, folder)
    assert folder in there
    assert absolute(there, "/elsewhere") == there  # it no longer depends on a folder
    assert relative(there, folder) == written
    assert relative(there, "/elsewhere") == there


@pytest.mark.parametrize("path", ["/a.wav", "s3://b/a.wav", "tar:///s/a.tar#x", "tar://s3://b/a.tar#x"])
def test_absolute_ones_stay_as_they_are(path):
    assert absolute(path, "/corpus") == absolute(path, "s3://bucket/corpus") == path
    assert relative_paths([path], "/corpus") == [path]


def test_names_for_messages_and_spellings_of_one_place():
    assert name_of("s3://bucket/a/b.wav") == "b.wav"
    assert name_of("parquet://s3://bucket/t.parquet#7") == "t.parquet#7"
    assert scheme_of("tar://a.tar#x") == "tar"
    assert normal("/a/../b//c.wav") == "/b/c.wav"
    assert normal("tar:///a/../b.tar#x") == normal("tar:///b.tar#x")
    assert normal("https://host//a") == "https://host//a"
