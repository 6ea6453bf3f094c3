"""Embedding of utterances in order: inputs are read ahead by threads, then encoded and pooled.

An encoder that encodes utterances together is given packs of them: `probe.extraction.encoding.packed_workers`.
Otherwise each utterance is encoded by one thread, without a batch, so the number of threads can't change a bit of it.
Where memory runs out the number is halved and the utterance is encoded again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import Row, records
from layerprobe.probe.data.inputs import InputReader, ModelInput
from layerprobe.probe.data.spans import SpanSource, UtteranceSpans, with_nearest
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.extraction.encoding.embedding import (
    EmbeddedUtterance,
    embed,
    embed_spans,
    is_out_of_memory,
    too_large,
)
from layerprobe.probe.extraction.encoding.packed_workers import PackOptions, embed_packed
from layerprobe.probe.extraction.encoding.packs import packing
from layerprobe.probe.extraction.encoding.read_ahead import loaders_for
from layerprobe.probe.system import cores

AHEAD = 8  # utterances decoded or embedded beyond those that are being encoded


def _not_logged(_line: str) -> None:
    """Take a sentence and drop it."""


def utterances_at_once(encoder: AnyEncoder) -> int:
    """Return the default number of utterances encoded in parallel: one per core, or one on a GPU."""
    return cores() if encoder.device == "cpu" else 1


class ConcurrencyLimiter:
    """A limit on utterances encoded in parallel, which is halved when memory runs out."""

    def __init__(self, jobs: int) -> None:
        """Allow ``jobs`` utterances at first."""
        self.jobs = jobs
        self._inside = 0
        self._changed = threading.Condition()

    def enter(self) -> int:
        """Wait until another may start, and return the limit at that moment; at 1 it is the only one."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self.jobs)
            self._inside += 1
            return self.jobs

    def leave(self) -> None:
        """Let another start."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def halve(self, jobs: int) -> None:
        """Halve a limit of ``jobs`` that was too high; several threads that report the same limit halve it once."""
        with self._changed:
            self.jobs = min(self.jobs, max(1, jobs // 2))


def embed_in_order(  # noqa: PLR0913 - what, by what, and how many at once
    table: pd.DataFrame,
    encoder: AnyEncoder,
    reader: InputReader,
    *,
    poolings: tuple[str, ...],
    jobs: int | None = None,
    loaders: int | None = None,
    batch_frames: int | None = None,
    spans: SpanSource | None = None,
    log: Callable[[str], None] = _not_logged,
) -> Generator[EmbeddedUtterance, None, None]:
    """Embed the rows of a manifest's table, in their order.

    Args:
        table: rows of a manifest, with the columns that ``reader`` needs
        encoder: of audio or text
        reader: returns the input of each row
        poolings: keys of `probe.forward.pooling.POOLINGS`
        jobs: threads that encode; None for one per core, or one on a GPU
        loaders: threads that decode audio; None for `loaders_for` the device
        batch_frames: frames that a packed pass takes together; None chooses by the free memory
        spans: of the utterances, which are pooled in their place; None pools whole utterances
        log: receives a sentence where memory runs out in a packed pass

    Yields:
        one record per row, with a reason instead of embeddings where the input can't be used
    """
    jobs, loaders = jobs or utterances_at_once(encoder), loaders or loaders_for(encoder.device)
    packs = packing(encoder)
    if packs is None:
        work = _Work(encoder, poolings, spans)
        return _embed_singly(table, work, reader, jobs=jobs, loaders=loaders)
    options = PackOptions(poolings, jobs, loaders, batch_frames, log, spans)
    return embed_packed(table, encoder, packs, reader, options)


@dataclass(frozen=True)
class _Work:
    """What is done with the input of each utterance."""

    encoder: AnyEncoder
    poolings: tuple[str, ...]
    spans: SpanSource | None

    def embed(self, row: Row, model_input: ModelInput) -> tuple[np.ndarray, UtteranceSpans | None]:
        """Return the embeddings of an utterance, or of its spans, and these."""
        if self.spans is None:
            return embed(self.encoder, model_input.data, poolings=self.poolings), None
        spans = self.spans.of(row, model_input.seconds)
        found = embed_spans(self.encoder, model_input.data, spans, poolings=self.poolings)
        return found.embeddings, with_nearest(spans, found.n_nearest)


def _embed_singly(
    table: pd.DataFrame, work: _Work, reader: InputReader, *, jobs: int, loaders: int
) -> Generator[EmbeddedUtterance, None, None]:
    limiter = ConcurrencyLimiter(jobs)
    threads_before = torch.get_num_threads()
    decoding = ThreadPoolExecutor(loaders)
    encoding = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[EmbeddedUtterance]] = deque()
    try:
        for row in records(table):
            read = decoding.submit(_read, row, reader)
            waiting.append(encoding.submit(_encode, row, read, work, limiter))
            if len(waiting) >= jobs + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pool in (encoding, decoding):
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads_before)


@dataclass(frozen=True)
class _Read:
    """The input of one utterance, and the seconds that reading it took."""

    model_input: ModelInput
    seconds: float


def _read(row: Row, reader: InputReader) -> _Read:
    began = time.perf_counter()
    return _Read(reader.read(row), time.perf_counter() - began)


def _encode(row: Row, reading: Future[_Read], work: _Work, limiter: ConcurrencyLimiter) -> EmbeddedUtterance:
    read = reading.result()
    model_input = read.model_input
    began = time.perf_counter()
    embeddings, spans, reason = None, None, model_input.reason
    if not reason:
        try:
            embeddings, spans = _embed_limited(row, work, model_input, limiter)
        except InvalidAudioError as error:
            reason = str(error)
    seconds = time.perf_counter() - began
    return EmbeddedUtterance(
        row,
        model_input.content,
        embeddings,
        reason,
        model_input.seconds,
        seconds,
        read.seconds,
        model_input.remarks + (() if spans is None else spans.remarks),
        spans,
    )


def _embed_limited(
    row: Row, work: _Work, model_input: ModelInput, limiter: ConcurrencyLimiter
) -> tuple[np.ndarray, UtteranceSpans | None]:
    while True:
        jobs = limiter.enter()
        try:
            return work.embed(row, model_input)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        finally:
            limiter.leave()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if jobs == 1:
            raise too_large(model_input.seconds)
        limiter.halve(jobs)
