"""The repair of a span cache until it is finished: what it removes is named on the disk before it is removed.

A repair empties damaged blocks and then encodes their utterances again. After an error or a kill between the two, this
file lets `verify` report the utterances, and the next repair bring them back.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from layerprobe.probe.cache.journal import FILES, check_format_version
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.version import CACHE_FORMAT_VERSION

REPAIR = f"{FILES}/repair.json"


@dataclass(frozen=True)
class UnfinishedRepair:
    """What a repair has to bring back."""

    utterances: frozenset[str] = frozenset()  # whose spans were in damaged blocks
    spans: frozenset[str] = frozenset()  # numbers and hashes of their spans, as `probe.cache.spans.spans_part` has them
    quarantine: tuple[tuple[str, str, str], ...] = ()  # utterance_id, path, reason: as it was before

    @classmethod
    def read(cls, path: Path) -> UnfinishedRepair | None:
        """Return the repair of a cache that was not finished; None where there is none.

        Raises:
            InputError: if its file can't be read, or has another format version
        """
        file = path / REPAIR
        if not file.exists():
            return None
        try:
            entry = json.loads(file.read_bytes())
            check_format_version(file, entry["format_version"])
            rows = tuple((str(name), str(where), str(reason)) for name, where, reason in entry["quarantine"])
            return cls(frozenset(map(str, entry["utterances"])), frozenset(map(str, entry["spans"])), rows)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "LP464",
                f"{file} can't be read ({first_line(error)}). Delete it, and run layerprobe extract as the cache was "
                "made: it brings back what a repair had removed.",
            ) from error

    def write(self, path: Path) -> None:
        """Write it into a cache; it is on disk when this returns."""
        entry = {
            "format_version": CACHE_FORMAT_VERSION,
            "utterances": sorted(self.utterances),
            "spans": sorted(self.spans),
            "quarantine": self.quarantine,
        }
        replace_file(path / REPAIR, json.dumps(entry, indent=1), durable=True)


def finish_repair(path: Path, done: Collection[str] | None = None) -> None:
    """Take utterances off the list of a repair that was not finished, and delete the list with the last one.

    Args:
        path: of the cache
        done: utterances that have rows again, or were quarantined; None for all
    """
    if done is None:
        (path / REPAIR).unlink(missing_ok=True)
    elif (found := UnfinishedRepair.read(path)) is not None:
        left = found.utterances - set(done)
        if left:
            UnfinishedRepair(left, quarantine=found.quarantine).write(path)
        else:
            (path / REPAIR).unlink(missing_ok=True)
