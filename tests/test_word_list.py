"""The list of terms: what it finds, what it lets pass, and that no entry of its allow-list is idle."""

from __future__ import annotations

import importlib.util
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("word_list", ROOT / "tests" / "word_list.py")
assert _SPEC is not None
assert _SPEC.loader is not None
word_list = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(word_list)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("the layers are " + "heard again", ["heard"]),
        ("n_" + "heard = 3", ["heard"]),
        ("class " + "HeardUtterance:", ["Heard"]),
        ("the command " + "goes on", ["goes on"]),
        ("import soundfile  # reads audio", []),
        ("a bag of words", []),
        ("the shared folder, spreadsheets and a telling apartment", []),
    ],
)
def test_idiom_is_found_in_text_and_identifiers(line, found):
    lines = [re.fullmatch(r"a\.py:1: (.*) -> .*", text) for text in word_list.findings("a.py", line)]
    assert [match and match.group(1) for match in lines] == found


def test_all_files_use_the_terms_of_the_field():
    found = [
        line
        for name in word_list.tracked_files()
        for line in word_list.findings(name, (ROOT / name).read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_exception_is_needed():
    _, allowed = word_list.load_list()
    names = word_list.tracked_files()
    for entry in allowed:
        paths = [n for n in names if fnmatch(n, entry.get("path", "*"))]
        texts = [(ROOT / n).read_text(encoding="utf-8") for n in paths]
        assert any(re.search(entry.get("text", "."), text) for text in texts), entry
