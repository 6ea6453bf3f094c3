"""Tokens of Praat's text files: numbers, quoted texts and flags, whichever form they are written in.

Praat reads only what stands free: numbers, texts in double quotes (a quote within them is doubled) and flags in angle
brackets. All else, such as ``xmin =`` and ``intervals [1]:`` of the long form, is skipped, and ``!`` begins a comment
(manual of Praat, *TextGrid file formats*). The long and the short form are therefore the same sequence of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from layerprobe.probe.data.manifest.dialect import decode_text
from layerprobe.probe.data.manifest.file_kind import no_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.nearest_path import missing_file

_TOKEN = re.compile(r'"(?P<text>(?:[^"]|"")*)"|(?P<open>")|(?P<flag><[^>\s]*>)|![^\n]*|(?P<other>[^\s"][^\s]*)')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WINDOWS = re.compile(r"[\x80-\x9f]")  # control characters of Latin-1, which are letters and marks of Windows-1252
BINARY = b"ooBinaryFile"


def read_praat_text(path: Path) -> str:
    """Return the text of a file in one of the encodings that Praat writes: UTF-8, UTF-16 or Latin-1.

    Raises:
        InputError: if the file is missing, something else, binary, or in another encoding
    """
    if not path.is_file():
        raise InputError("LP180", f"{missing_file(path, endings=('.TextGrid',))}. Give the path of a file of spans.")
    if fault := no_table(path):
        raise InputError("LP180", f"{path} is no file of spans: {fault}.")
    raw = path.read_bytes()
    if raw.startswith(BINARY):
        raise InputError("LP176", f"{path} is a binary file of Praat. Open it in Praat, and choose Save as text file.")
    text, notes = decode_text(path, raw, latin_1=True)
    if notes == ["encoding Latin-1"] and _WINDOWS.search(text):
        decode_text(path, raw)  # raises, as for every other text
    if "\0" in text:
        raise InputError("LP176", f"{path} holds zero bytes, so it is damaged. Save it again.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


class PraatTokens:
    """The tokens of a file of Praat, taken one after the other."""

    def __init__(self, path: Path, text: str) -> None:
        """Set the file, for messages, and its text."""
        self.path = path
        self._text = text
        self._tokens = self._scan()
        self._position = 0  # of the token that was taken last

    def text(self, what: str) -> str:
        """Take the next token, which must be a text in quotation marks.

        Args:
            what: the text is, for the message

        Raises:
            InputError: if it is something else, or the file ends
        """
        kind, value = self._next(what)
        if kind != "text":
            raise self.error(f"{what} should be a text in quotation marks, and {value!r} is not")
        return value

    def number(self, what: str) -> float:
        """Take the next token, which must be a number; see `text`."""
        kind, value = self._next(what)
        number = float(value) if kind == "number" else float("inf")
        if abs(number) == float("inf"):
            raise self.error(f"{what} should be a number, and {value!r} is not")
        return number

    def count(self, what: str) -> int:
        """Take the next token, which must be a whole number of 0 or more; see `text`."""
        number = self.number(what)
        if number < 0 or number != int(number):
            raise self.error(f"{what} should be a whole number, and {number:g} is not")
        return int(number)

    def flag(self, what: str) -> str:
        """Take the next token, which must be a flag in angle brackets; see `text`."""
        kind, value = self._next(what)
        if kind != "flag":
            raise self.error(f"{what} should be a flag in angle brackets, and {value!r} is not")
        return value

    def error(self, fault: str) -> InputError:
        """Return the error for a fault at the token that was taken last."""
        line = self._text.count("\n", 0, self._position) + 1
        return InputError(
            "LP176",
            f"{self.path}, line {line}: {fault}. Open it in Praat, correct it, and choose Save as text file.",
        )

    def _next(self, what: str) -> tuple[str, str]:
        try:
            kind, value, self._position = next(self._tokens)
        except StopIteration:
            self._position = len(self._text.rstrip())
            raise self.error(f"the file ends before {what}, so it may be cut") from None
        return kind, value

    def _scan(self) -> Iterator[tuple[str, str, int]]:
        """Yield kind, value and position of each token that Praat reads."""
        for found in _TOKEN.finditer(self._text):
            if (text := found["text"]) is not None:
                yield "text", text.replace('""', '"'), found.start()
            elif found["open"]:
                self._position = found.start()
                raise self.error("a quotation mark is opened and never closed, so the file may be cut")
            elif found["flag"]:
                yield "flag", found["flag"], found.start()
            elif (other := found["other"]) and _NUMBER.fullmatch(other):
                yield "number", other, found.start()
