"""Values, keys and documents as TOML text, written by tomli-w; the standard library reads TOML and writes none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from layerprobe.probe.exceptions import InputError


def toml_document(content: Mapping[str, Any]) -> str:
    """Return a document of plain values and tables; None in a table is left out, and an empty list stays.

    Raises:
        InputError: naming the first text that can't be written as UTF-8, such as a path with bytes of another encoding

    >>> print(toml_document({"n": 2, "corpus": {"name": "a", "version": None}, "layers": ("0",)}), end="")
    n = 2
    layers = [
        "0",
    ]
    <BLANKLINE>
    [corpus]
    name = "a"
    """
    check_encodable(content)
    return tomli_w.dumps(_plain(content))


def toml_value(value: Any) -> str:
    r"""Return a number, a truth value, a text, or a list of these as TOML on one line; anything else as its text.

    >>> toml_value(True), toml_value(0.1), toml_value([1, "a"])
    ('true', '0.1', '[1, "a"]')
    >>> print(toml_value('C:\\new "x"'))
    "C:\\new \"x\""
    """
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return toml_document({"v": value}).removeprefix("v = ").removesuffix("\n")


def toml_key(name: str) -> str:
    """Return a name as a key, in quotes where it is not bare.

    >>> toml_key("arousal"), toml_key("how loud")
    ('arousal', '"how loud"')
    """
    return toml_document({name: 0}).removesuffix(" = 0\n")


def check_encodable(content: Any) -> None:
    """Check that every text in nested tables and lists can be written as UTF-8, before work whose plan has them.

    Python reads a file name whose bytes are no UTF-8 as text with lone surrogates, which no UTF-8 file can hold.

    Raises:
        InputError: naming the first text that can't
    """
    for text in _texts(content):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            shown = text.encode("utf-8", "backslashreplace").decode()
            raise InputError(
                "LP830",
                f"'{shown}' has bytes that are not UTF-8 and could not be recorded. Rename the file or folder, or name "
                "a link to it.",
            ) from error


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)
    elif content is not None:
        yield str(content)


def _plain(value: Any) -> Any:
    """Return a value with what TOML has no type for turned into what it has: tuples to lists, None left out."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, bool | int | float | str) else str(value)
