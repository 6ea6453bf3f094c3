"""Sounds become embeddings in order, several at once: decoded ahead, heard and pooled by one thread for each core.

Each utterance is heard by one thread alone, so how many work at once, and beside what, can't change a bit of it. Where
memory runs out the number is halved and the utterance is heard again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from probe.audio import UnusableSound, read_sound
from probe.pooling import pool_stretches
from probe.sound_hashes import Row, SoundHashes, span_of
from probe.upstream import Upstream

AHEAD = 8  # utterances decoded or embedded beyond those that are being heard
# What is decoded ahead is held in memory; this much is 77 MB an utterance at 16 kHz.
LONGEST_SECONDS = 1200.0
ALLOCATION_FAILED = ("can't allocate memory", "could not allocate", "out of memory", "bad allocation")


@dataclass(frozen=True)
class Heard:
    """One utterance's embeddings, or why there are none."""

    row: Row
    content: str  # of the sound, see `SoundHashes.of_row`
    embeddings: np.ndarray | None  # (n_layers, n_poolings, dim)
    reason: str  # "" where there are embeddings
    seconds_of_sound: float
    seconds_at_work: float  # of the thread that heard it


@dataclass(frozen=True)
class _Sound:
    content: str
    waveform: np.ndarray  # empty where there is a reason
    reason: str = ""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Room:
    """How many may be heard at once; memory that runs out halves it."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._inside = 0
        self._changed = threading.Condition()

    def enter(self) -> int:
        """Wait for room; how many might be inside with this one, which is alone at 1."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self.jobs)
            self._inside += 1
            return self.jobs

    def leave(self) -> None:
        """Make room for another."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def halve(self, jobs: int) -> None:
        """Let in half of the ``jobs`` that were too many; of several that say so together, once."""
        with self._changed:
            self.jobs = min(self.jobs, max(1, jobs // 2))


def hear_in_order(
    table: pd.DataFrame,
    encoder: Upstream,
    hashes: SoundHashes,
    *,
    poolings: tuple[str, ...],
    jobs: int,
    loaders: int,
    longest_seconds: float = LONGEST_SECONDS,
) -> Iterator[Heard]:
    """Embed the rows of a manifest's table, in their order.

    Args:
        table: columns ``path`` and optionally ``start`` and ``end``
        encoder: what hears
        hashes: what the sounds hold
        poolings: keys of `probe.pooling.POOLINGS`
        jobs: threads that hear, one for each core on the CPU
        loaders: threads that decode
        longest_seconds: a longer sound is refused
    """
    room = Room(jobs)
    threads_before = torch.get_num_threads()
    decoding = ThreadPoolExecutor(loaders)
    hearing = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[Heard]] = deque()
    try:
        for row in table.to_dict("records"):
            sound = decoding.submit(_decode, row, hashes, encoder.sampling_rate, longest_seconds)
            waiting.append(hearing.submit(_hear, row, sound, encoder, poolings, room))
            if len(waiting) >= jobs + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pool in (hearing, decoding):
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads_before)


def embed(encoder: Upstream, waveform: np.ndarray, *, poolings: tuple[str, ...]) -> np.ndarray:
    """Embeddings ``(n_layers, n_poolings, dim)`` float32 of one sound ``(n_samples,)``.

    Raises:
        UnusableSound: if it is too short, or the encoder's answer is not finite
    """
    n, needed = len(waveform), encoder.minimum_samples
    if n < needed:
        raise UnusableSound(f"too short: {n} samples at {encoder.sampling_rate} Hz, one frame needs {needed}")
    with torch.inference_mode():
        embeddings: np.ndarray = pool_stretches(encoder.stretches(waveform), poolings=poolings).cpu().numpy()
    if not np.isfinite(embeddings).all():
        raise UnusableSound("the encoder's answer is not finite")
    return embeddings


def _hear(row: Row, decoded: Future[_Sound], encoder: Upstream, poolings: tuple[str, ...], room: Room) -> Heard:
    sound = decoded.result()
    began = time.perf_counter()
    embeddings, reason = None, sound.reason
    if not reason:
        try:
            embeddings = _embed_in_room(encoder, sound.waveform, poolings, room)
        except UnusableSound as error:
            reason = str(error)
    at_work = time.perf_counter() - began
    return Heard(row, sound.content, embeddings, reason, len(sound.waveform) / encoder.sampling_rate, at_work)


def _embed_in_room(encoder: Upstream, waveform: np.ndarray, poolings: tuple[str, ...], room: Room) -> np.ndarray:
    while True:
        jobs = room.enter()
        try:
            return embed(encoder, waveform, poolings=poolings)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        finally:
            room.leave()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if jobs == 1:
            seconds = len(waveform) / encoder.sampling_rate
            raise UnusableSound(
                f"{seconds:.0f} s need more memory than there is even alone; cut it into spans with start and end"
            )
        room.halve(jobs)


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in ALLOCATION_FAILED)


def _decode(row: Row, hashes: SoundHashes, sampling_rate: int, longest_seconds: float) -> _Sound:
    try:
        path, span = str(row["path"]), span_of(row)
        waveform = read_sound(path, sampling_rate=sampling_rate, longest_seconds=longest_seconds, **span)
        return _Sound(hashes.of_row(row), waveform)
    except UnusableSound as error:
        return _Sound("", np.empty(0, dtype=np.float32), str(error))
