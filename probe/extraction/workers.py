"""Sounds or words become embeddings in order, several at once: read ahead, heard and pooled by a thread for each core.

Each utterance is heard by one thread alone, so how many work at once, and beside what, can't change a bit of it. Where
memory runs out the number is halved and the utterance is heard again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import Row, records
from layerprobe.probe.data.inputs import InputReader, ModelInput
from layerprobe.probe.encoders.base import FrameChunk, Upstream
from layerprobe.probe.encoders.pooling import pool_frame_chunks
from layerprobe.probe.system import cores

AHEAD = 8  # utterances decoded or embedded beyond those that are being heard
ALLOCATION_FAILED = ("can't allocate memory", "could not allocate", "out of memory", "bad allocation")


@dataclass(frozen=True)
class EmbeddedUtterance:
    """One utterance's embeddings, or why there are none."""

    row: Row
    content: str  # of the sound or the words, see `probe.data.inputs`
    embeddings: np.ndarray | None  # (n_layers, n_poolings, dim)
    reason: str  # "" where there are embeddings
    audio_seconds: float  # 0 of words
    seconds_at_work: float  # of the thread that heard it


def utterances_at_once(encoder: Upstream) -> int:
    """Utterances that are heard at once: one for each core, or one on a GPU."""
    return cores() if encoder.device == "cpu" else 1


class ConcurrencyLimiter:
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


def embed_in_order(
    table: pd.DataFrame,
    encoder: Upstream,
    source: InputReader,
    *,
    poolings: tuple[str, ...],
    jobs: int,
    loaders: int,
) -> Iterator[EmbeddedUtterance]:
    """Embed the rows of a manifest's table, in their order.

    Args:
        table: the columns that ``source`` asks for
        encoder: what hears, or reads
        source: gives each row's material
        poolings: keys of `probe.encoders.pooling.POOLINGS`
        jobs: threads that hear, one for each core on the CPU
        loaders: threads that decode
    """
    room = ConcurrencyLimiter(jobs)
    threads_before = torch.get_num_threads()
    decoding = ThreadPoolExecutor(loaders)
    hearing = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[EmbeddedUtterance]] = deque()
    try:
        for row in records(table):
            material = decoding.submit(source.read, row)
            waiting.append(hearing.submit(_hear, row, material, encoder, poolings, room))
            if len(waiting) >= jobs + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pool in (hearing, decoding):
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads_before)


def embed(encoder: Upstream, material: np.ndarray | str, *, poolings: tuple[str, ...]) -> np.ndarray:
    """Embeddings ``(n_layers, n_poolings, dim)`` float32 of one sound ``(n_samples,)``, or of words.

    Raises:
        InvalidAudioError: if it is too short, or the encoder's answer is not finite
    """
    with torch.inference_mode():
        embeddings: np.ndarray = pool_frame_chunks(_frame_chunks(encoder, material), poolings=poolings).cpu().numpy()
    if not np.isfinite(embeddings).all():
        raise InvalidAudioError("the encoder's answer is not finite")
    return embeddings


def _frame_chunks(encoder: Upstream, material: np.ndarray | str) -> Iterator[FrameChunk]:
    if encoder.reads == "text":
        assert isinstance(material, str)
        return encoder.frame_chunks(material)
    assert isinstance(material, np.ndarray)
    n, needed = len(material), encoder.minimum_samples
    if n < needed:
        raise InvalidAudioError(f"too short: {n} samples at {encoder.sampling_rate} Hz, one frame needs {needed}")
    return encoder.frame_chunks(material)


def _hear(
    row: Row, read: Future[ModelInput], encoder: Upstream, poolings: tuple[str, ...], room: ConcurrencyLimiter
) -> EmbeddedUtterance:
    material = read.result()
    began = time.perf_counter()
    embeddings, reason = None, material.reason
    if not reason:
        try:
            embeddings = _embed_limited(encoder, material, poolings, room)
        except InvalidAudioError as error:
            reason = str(error)
    return EmbeddedUtterance(row, material.content, embeddings, reason, material.seconds, time.perf_counter() - began)


def _embed_limited(
    encoder: Upstream, material: ModelInput, poolings: tuple[str, ...], room: ConcurrencyLimiter
) -> np.ndarray:
    while True:
        jobs = room.enter()
        try:
            return embed(encoder, material.data, poolings=poolings)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        finally:
            room.leave()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if jobs == 1:
            raise InvalidAudioError(
                f"{material.seconds:.0f} s need more memory than there is even alone; cut it into spans with start "
                "and end"
            )
        room.halve(jobs)


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in ALLOCATION_FAILED)
