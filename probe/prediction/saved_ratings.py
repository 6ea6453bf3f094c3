"""Ratings that are saved while a prediction runs, so that one that was interrupted resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.predictors.heads import Rating

FORMAT_VERSION = 1


@dataclass(frozen=True)
class RatedSegment:
    """The ratings of a recording or a window."""

    seconds: float  # of its audio; NaN where none is read
    ratings: tuple[Rating, ...]  # by target


class SavedRatings:
    """Ratings by what they are of, in a file of JSON lines; without a file nothing is saved.

    The first line holds what ratings depend on besides the recording. Where another file holds something else, its
    ratings are not read, and it is replaced. A line that was torn by a kill is left out.
    """

    def __init__(self, path: Path | None, header: Mapping[str, Any]) -> None:
        """Read the ratings of an interrupted prediction."""
        self._header = {"format_version": FORMAT_VERSION, **header}
        self._path, self._file = path, None
        self.discarded = False  # whether there was a file of another model or other options
        self._known: dict[str, RatedSegment] = {}
        if path is None:
            return
        if path.is_file():
            self._read(path.read_text(encoding="utf-8", errors="replace").split("\n"))
        lines = [json.dumps(self._header), *(_line(key, rated) for key, rated in self._known.items())]
        replace_file(path, "\n".join(lines) + "\n")  # without a torn line
        self._file = path.open("a", encoding="utf-8")

    def __len__(self) -> int:
        """Return the number of ratings that are there."""
        return len(self._known)

    def __enter__(self) -> SavedRatings:
        """Return itself; the file is closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def get(self, key: str) -> RatedSegment | None:
        """Return the ratings of a recording or a window; None where there are none."""
        return self._known.get(key)

    def add(self, key: str, rated: RatedSegment) -> None:
        """Save ratings; they outlast a kill of the process when this returns."""
        if key in self._known:
            return
        self._known[key] = rated
        if self._file is not None:
            self._file.write(_line(key, rated) + "\n")
            self._file.flush()

    def _read(self, lines: list[str]) -> None:
        entries = [entry for line in lines if isinstance(entry := _entry(line), dict)]
        if not entries or entries[0] != self._header:
            self.discarded = bool(entries)
            return
        for entry in entries[1:]:
            try:
                ratings = tuple(Rating(*map(float, values)) for values in entry["ratings"])
                self._known[str(entry["key"])] = RatedSegment(float(entry["seconds"]), ratings)
            except (KeyError, TypeError, ValueError):
                continue


def _line(key: str, rated: RatedSegment) -> str:
    return json.dumps({"key": key, "seconds": rated.seconds, "ratings": rated.ratings})


def _entry(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
