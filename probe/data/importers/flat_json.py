"""Records of JSON as rows of text: fields of objects as NAME.FIELD, numbers as they are written, lists left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from layerprobe.probe.data.importers.base import read_text
from layerprobe.probe.exceptions import InputError


def flat_texts(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the texts, numbers and truth values of a record by their names.

    >>> flat_texts({"text": "yes", "rating": {"arousal": 3.5}, "votes": [1, 2], "spk": None})
    {'text': 'yes', 'rating.arousal': '3.5', 'spk': ''}
    """
    found: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= flat_texts(value, f"{prefix}{name}.")
        elif value is None:
            found[f"{prefix}{name}"] = ""
        elif isinstance(value, bool):
            found[f"{prefix}{name}"] = str(value).lower()
        elif isinstance(value, (str, int, float)):
            found[f"{prefix}{name}"] = str(value)
    return found


def parse_record(text: str | bytes, where: str) -> dict[str, str]:
    """Return a JSON object as a row of text.

    Args:
        text: of the object
        where: it is, for the message

    Raises:
        InputError: if the text is no JSON object
    """
    try:
        record = json.loads(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError("LP198", f"{where} can't be read as JSON ({error}). Get it again.") from error
    if not isinstance(record, Mapping):
        raise InputError("LP198", f"{where} is no JSON object, but {type(record).__name__}. Get it again.")
    return flat_texts(record)


def json_lines(path: Path) -> Iterator[dict[str, str]]:
    """Yield each line of a file of JSON lines as a row of text.

    Raises:
        InputError: if a line is no JSON object
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield parse_record(line, f"{path}, line {number}")
