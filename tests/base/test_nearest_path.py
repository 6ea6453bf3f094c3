"""Missing files: the file that was meant is named, with what differs."""

from __future__ import annotations

import unicodedata

import pytest

from layerprobe.probe.nearest_path import NearestPaths, missing_file

AUDIO = (".wav", ".flac")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one file below ``wav``, and another home folder with one file."""
    for name in ("wav/Anna 01.wav", "wav/notes.txt", unicodedata.normalize("NFD", "wav/Amélie.wav"), "home/x.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(
    ("written", "found", "difference"),
    [
        ("wav/anna 01.wav", "wav/Anna 01.wav", "case"),
        ("WAV/Anna 01.WAV", "wav/Anna 01.wav", "case"),
        (
            unicodedata.normalize("NFC", "wav/Amélie.wav"),
            unicodedata.normalize("NFD", "wav/Amélie.wav"),
            "Unicode form",
        ),
        (" wav/Anna 01.wav", "wav/Anna 01.wav", "a blank"),
        ("wav/Anna01.wav", "wav/Anna 01.wav", "blanks"),
        ("wav/Anna 1.wav", "wav/Anna 01.wav", "leading zeros"),
        ("wav\\Anna 01.wav", "wav/Anna 01.wav", "a backslash"),
        ("wav\\anna 01.wav", "wav/Anna 01.wav", "a backslash and case"),
        ("~/x.wav", "home/x.wav", "~, which only a shell expands"),
        ("wav/Anna 01.flac", "wav/Anna 01.wav", "the ending"),
        ("wav/Anna 01", "wav/Anna 01.wav", "the ending"),
        ("/mnt/corpus/wav/Anna 01.wav", "wav/Anna 01.wav", "the folders before it"),
        ("C:\\corpus\\wav\\Anna 01.wav", "wav/Anna 01.wav", "the folders before it"),
        ("corpus/wav/Anna 01.wav", "wav/Anna 01.wav", "the folders before it"),
    ],
)
def test_the_nearest_file_is_found_with_what_differs(folder, written, found, difference):
    nearest = NearestPaths(AUDIO).find(written, folder)
    assert (nearest.path, nearest.difference) == (folder / found, difference)


@pytest.mark.parametrize(
    "written", ["wav/Bert.wav", "wav/notes.wav", "mp3/Anna.wav", "wav", " wav", "corpus/wav", "x" * 5000, "a\0b", ""]
)
def test_a_file_that_nothing_resembles_has_none(folder, written):
    assert NearestPaths(AUDIO).find(written, folder) is None


def test_a_path_of_the_command_line_is_named_with_the_table_that_is_there(folder, monkeypatch):
    (folder / "My.parquet").touch()
    monkeypatch.chdir(folder)
    text = missing_file(folder / "my.csv", endings=(".csv", ".parquet"))
    assert text == f"{folder / 'my.csv'} does not exist, but {folder / 'My.parquet'} does (it differs in the ending)"
    assert missing_file(folder / "other.csv") == f"{folder / 'other.csv'} does not exist"
