"""Remarks on the audio of a cache's utterances, kept in the cache: `probe.data.remarks`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from layerprobe.probe.cache.journal import FILES, check_format_version
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.remarks import Remark, remark_sentences
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import read_table, replace_file
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.version import CACHE_FORMAT_VERSION

AUDIO_REMARKS = f"{FILES}/audio_remarks.csv"
COLUMNS = ("utterance_id", "remark", "value")


class AudioRemarks:
    """Remarks by utterance, in the order in which they were made."""

    def __init__(self, cache: Path) -> None:
        """Load what a cache has of them.

        Raises:
            InputError: if their file can't be read, or has another format version
        """
        self._file = cache / AUDIO_REMARKS
        self._remarks: dict[str, tuple[Remark, ...]] = {}
        self._changed = False
        if not self._file.exists():
            return
        try:
            table = read_table(self._file, dtype=str)
            for version in table["format_version"].unique():
                check_format_version(self._file, version)
            for name, remark, value in zip(*(table[column] for column in COLUMNS), strict=True):
                self._remarks[name] = (*self._remarks.get(name, ()), Remark(remark, float(value)))
        except InputError:
            raise
        except (ValueError, KeyError) as error:
            raise InputError(
                "LP417", f"{self._file} can't be read ({first_line(error)}). Delete it; no embedding depends on it."
            ) from error

    def put(self, utterance_id: str, remarks: tuple[Remark, ...]) -> None:
        """Replace the remarks on an utterance whose audio was read."""
        before = self._remarks.pop(utterance_id, ())
        self._changed |= before != remarks
        if remarks:
            self._remarks[utterance_id] = remarks

    def take_over(self, cache: Cache) -> None:
        """Replace the remarks on the utterances of another cache by those that it has."""
        theirs = AudioRemarks(cache.path)._remarks
        for name in cache.contents:
            self.put(name, theirs.get(name, ()))

    def keep(self, cached: Collection[str]) -> None:
        """Remove the remarks on utterances that are not cached."""
        for name in [name for name in self._remarks if name not in cached]:
            self.put(name, ())

    def save(self) -> None:
        """Write the remarks if they have changed."""
        if self._changed:
            self._changed = False
            rows = [(name, remark.name, remark.value) for name, remark in self._pairs()]
            table = pd.DataFrame(rows, columns=list(COLUMNS)).assign(format_version=CACHE_FORMAT_VERSION)
            replace_file(self._file, table.to_csv(index=False, lineterminator="\n"))

    def sentences(self) -> list[str]:
        """Return one sentence for each kind of remark, with the number of utterances."""
        return remark_sentences(self._pairs())

    def _pairs(self) -> Iterable[tuple[str, Remark]]:
        return ((name, remark) for name, remarks in self._remarks.items() for remark in remarks)
