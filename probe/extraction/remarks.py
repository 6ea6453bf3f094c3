"""Remarks on the audio of a cache's utterances, kept in the cache: `probe.data.remarks`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from layerprobe.probe.cache.journal import FILES, check_format_version
from layerprobe.probe.data.remarks import Remark, remark_sentences
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import read_table, replace_file
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
            raise InputError(f"{self._file} can't be read ({error}). Delete it; no embedding depends on it.") from error

    def put(self, utterance_id: str, remarks: tuple[Remark, ...]) -> None:
        """Replace the remarks on an utterance whose audio was read."""
        self._remarks.pop(utterance_id, None)
        if remarks:
            self._remarks[utterance_id] = remarks

    def add(self, other: AudioRemarks) -> None:
        """Take over the remarks of another cache."""
        self._remarks |= other._remarks

    def save(self, cached: Collection[str]) -> None:
        """Write the remarks on utterances that are cached, if there were some or are some."""
        self._remarks = {name: remarks for name, remarks in self._remarks.items() if name in cached}
        if self._remarks or self._file.exists():
            rows = [(name, remark.name, remark.value) for name, remark in self._pairs()]
            table = pd.DataFrame(rows, columns=list(COLUMNS)).assign(format_version=CACHE_FORMAT_VERSION)
            replace_file(self._file, table.to_csv(index=False, lineterminator="\n"))

    def sentences(self) -> list[str]:
        """Return one sentence for each kind of remark, with the number of utterances."""
        return remark_sentences(self._pairs())

    def _pairs(self) -> Iterable[tuple[str, Remark]]:
        return ((name, remark) for name, remarks in self._remarks.items() for remark in remarks)
