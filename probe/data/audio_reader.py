"""Reading utterances one after another: ahead in threads, what fails in quarantine, progress reported."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import Row
from layerprobe.probe.data.inputs import ModelInput
from layerprobe.probe.progress import NullProgress

QUARANTINE_COLUMNS = ["utterance_id", "path", "reason"]
AHEAD = 2  # utterances per thread that wait in memory

Read = TypeVar("Read")


class Quarantine:
    """Utterances that can't be used, each with its path and the reason."""

    def __init__(self) -> None:
        """Nothing is refused yet."""
        self.refused: dict[str, tuple[str, str]] = {}  # path and reason by utterance

    def __len__(self) -> int:
        """Count the utterances that were refused."""
        return len(self.refused)

    def refuse(self, row: Row, reason: str) -> None:
        """Keep an utterance's reason; one that was refused before keeps its place."""
        self.refused[str(row["utterance_id"])] = (str(row["path"]), reason)

    def table(self) -> pd.DataFrame:
        """Return ``utterance_id, path, reason`` in the order in which they were refused."""
        return pd.DataFrame([(name, *rest) for name, rest in self.refused.items()], columns=QUARANTINE_COLUMNS)


def read_audio(
    rows: Sequence[Row],
    read: Callable[[Row], Read],
    *,
    quarantine: Quarantine,
    threads: int,
    task: str = "",
    unit: str = "utterances",
    progress: NullProgress | None = None,
) -> Iterator[tuple[int, Read]]:
    """Read utterances in order, a few ahead of the caller; those that can't be used go into quarantine.

    Args:
        rows: of a manifest
        read: gives what is wanted of a row, in a thread; raises InvalidAudioError where it can't be used
        quarantine: takes the utterances that are refused
        threads: that read
        task: under which progress is reported, an utterance when the caller asks for the next
        unit: of the task
        progress: receives the progress; None for a caller who reports by other means

    Yields:
        the place of each usable utterance in ``rows``, and what was read
    """
    progress = progress or NullProgress()
    progress.begin(task, len(rows), unit)
    try:
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Read]] = deque()
            for k, row in enumerate(rows):
                while len(waiting) < AHEAD * threads and k + len(waiting) < len(rows):
                    waiting.append(pool.submit(read, rows[k + len(waiting)]))
                try:
                    found = waiting.popleft().result()
                except InvalidAudioError as error:
                    quarantine.refuse(row, str(error))
                else:
                    yield k, found
                progress.advance(1, f"{len(quarantine)} quarantined")
    finally:
        progress.end()


def decode_waveform(material: ModelInput) -> np.ndarray:
    """Return the waveform of what a `AudioReader` read.

    Raises:
        InvalidAudioError: if it is refused
    """
    if material.reason:
        raise InvalidAudioError(material.reason)
    assert isinstance(material.what, np.ndarray)
    return material.what
