"""Any legal text is written as TOML and read back; what UTF-8 can't hold is refused in one sentence."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.toml import check_encodable, toml_document, toml_key, toml_value

TEXTS = (
    'C:\\new "x"\r\n\x00\x1f\x7f\tß',
    "".join(map(chr, range(0x100))),
    "\x85\u2028\u2029\ufeff\U0001f600\uffff'''\"\"\"\\u0041\\",
    "",
    " ",
    "\n",
    "# no comment",
)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_read_back_as_value_and_as_key(text):
    assert tomllib.loads(f"key = {toml_value(text)}") == {"key": text}
    assert tomllib.loads(f"{toml_key(text)} = [{toml_value(text)}]") == {text: [text]}
    nested = {text: text, "list": [text, [text]], "table": {text: {text: [{text: 1}]}}}
    assert tomllib.loads(toml_document(nested)) == nested


def test_a_document_has_lists_for_tuples_texts_for_paths_and_nothing_for_none():
    content = {"a": (1, 2.5, True), "b": None, "c": {"d": None, "e": Path("x")}, "f": [], "g": float("inf")}
    expected = {"a": [1, 2.5, True], "c": {"e": "x"}, "f": [], "g": float("inf")}
    assert tomllib.loads(toml_document(content)) == expected


def test_a_name_with_bytes_of_another_encoding_is_refused_in_one_sentence():
    name = os.fsdecode(b"caf\xe9.zarr")
    for content in ({"encoders": [{"path": name}]}, {name: 1}, [name], {"path": Path(name)}):
        with pytest.raises(InputError, match=r"^'caf\\udce9\.zarr' has bytes that are not UTF-8 .*Rename the file"):
            check_encodable(content)
    with pytest.raises(InputError, match="not UTF-8"):
        toml_document({"path": name})
