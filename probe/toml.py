"""Values, keys and documents as TOML text; the standard library reads TOML and writes none."""

from __future__ import annotations

import re
from typing import Any

CONTROL = r"[\x00-\x08\x0b-\x1f\x7f]"  # characters that TOML takes as escapes only


def toml_document(content: dict[str, Any]) -> str:
    """Return a document: plain values, then tables and arrays of tables of plain values; None in a table is left out.

    >>> print(toml_document({"n": 2, "corpus": {"name": "a"}, "encoders": [{"layers": ["0", "1"]}]}), end="")
    n = 2
    <BLANKLINE>
    [corpus]
    name = "a"
    <BLANKLINE>
    [[encoders]]
    layers = ["0", "1"]
    """
    lines = [f"{k} = {toml_value(v)}" for k, v in content.items() if not _is_table(v)]
    for key, value in content.items():
        for table in (value if isinstance(value, list) else [value]) if _is_table(value) else ():
            lines += ["", f"[[{key}]]" if isinstance(value, list) else f"[{key}]"]
            lines += [f"{k} = {toml_value(v)}" for k, v in table.items() if v is not None]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    r"""Return a number, a truth value, a text, or a list of these as TOML; anything else as its text.

    >>> toml_value(True), toml_value(0.1), toml_value([1, "a"])
    ('true', '0.1', '[1, "a"]')
    >>> print(toml_value('C:\\new "x"'))
    "C:\\new \"x\""
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    escaped = re.sub(CONTROL, lambda found: f"\\u{ord(found[0]):04x}", text)
    return f'"{escaped}"'


def toml_key(name: str) -> str:
    """Return a name as a key, in quotes where it is not bare.

    >>> toml_key("arousal"), toml_key("how loud")
    ('arousal', '"how loud"')
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
