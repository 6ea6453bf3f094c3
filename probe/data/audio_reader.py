"""Utterances read in order, ahead of their use and in threads; those that can't be used are quarantined."""

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
from layerprobe.probe.filesystem import QUARANTINE_COLUMNS
from layerprobe.probe.progress import NullProgress

AHEAD = 2  # utterances per thread that wait in memory

Read = TypeVar("Read")


class Quarantine:
    """Utterances that can't be used, with their paths and reasons."""

    def __init__(self) -> None:
        """Start without any."""
        self.refused: dict[str, tuple[str, str]] = {}  # path and reason by utterance

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.refused)

    def refuse(self, row: Row, reason: str) -> None:
        """Add an utterance with the reason; one that is there already keeps its position."""
        self.refused[str(row["utterance_id"])] = (str(row["path"]), reason)

    def table(self) -> pd.DataFrame:
        """Return a table ``utterance_id, path, reason`` in the order in which utterances were added."""
        return pd.DataFrame([(name, *rest) for name, rest in self.refused.items()], columns=list(QUARANTINE_COLUMNS))


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
    """Read utterances in order, a few ahead of the caller; those that can't be used are quarantined.

    Args:
        rows: of a manifest
        read: called with each row, in a thread; raises InvalidAudioError where the utterance can't be used
        quarantine: receives the utterances that can't be used
        threads: number of threads that read
        task: name under which progress is reported
        unit: what the task counts
        progress: receives the progress, an utterance when the caller requests the next; None to report none

    Yields:
        the index of each usable utterance in ``rows``, and the result of ``read``
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
                    result = waiting.popleft().result()
                except InvalidAudioError as error:
                    quarantine.refuse(row, str(error))
                else:
                    yield k, result
                progress.advance(1, f"{len(quarantine)} quarantined")
    finally:
        progress.end()


def decode_waveform(model_input: ModelInput) -> np.ndarray:
    """Return the waveform ``(n_samples,)`` that an `AudioReader` read.

    Raises:
        InvalidAudioError: if the audio can't be used
    """
    if problem := model_input.problem:
        raise InvalidAudioError(problem.code, problem.text)
    if not isinstance(model_input.data, np.ndarray):
        raise TypeError(f"the input is {type(model_input.data).__name__}, not a waveform")
    return model_input.data
