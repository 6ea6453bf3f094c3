"""Embedding of utterances in order by parallel threads: inputs are read ahead, then encoded and pooled.

Each utterance is encoded by one thread, without a batch, so the number of threads can't change a bit of it. Where
memory runs out the number is halved and the utterance is encoded again.
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
from layerprobe.probe.data.remarks import Remark
from layerprobe.probe.encoders.base import AnyEncoder, FrameChunk
from layerprobe.probe.encoders.pooling import pool_frame_chunks
from layerprobe.probe.system import cores

AHEAD = 8  # utterances decoded or embedded beyond those that are being encoded
ALLOCATION_FAILED = ("can't allocate memory", "could not allocate", "out of memory", "bad allocation")


@dataclass(frozen=True)
class EmbeddedUtterance:
    """The embeddings of one utterance, or the reason why there are none."""

    row: Row
    content: str  # hash of the audio or the transcript, see `probe.data.inputs`
    embeddings: np.ndarray | None  # (n_layers, n_poolings, dim)
    reason: str  # "" where there are embeddings
    audio_seconds: float  # 0 of text
    seconds_at_work: float  # of the thread that encoded it
    remarks: tuple[Remark, ...] = ()  # on its audio


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


def embed_in_order(
    table: pd.DataFrame,
    encoder: AnyEncoder,
    reader: InputReader,
    *,
    poolings: tuple[str, ...],
    jobs: int,
    loaders: int,
) -> Iterator[EmbeddedUtterance]:
    """Embed the rows of a manifest's table, in their order.

    Args:
        table: rows of a manifest, with the columns that ``reader`` needs
        encoder: of audio or text
        reader: returns the input of each row
        poolings: keys of `probe.encoders.pooling.POOLINGS`
        jobs: threads that encode, one per core on the CPU
        loaders: threads that decode audio

    Yields:
        one record per row, with a reason instead of embeddings where the input can't be used
    """
    limiter = ConcurrencyLimiter(jobs)
    threads_before = torch.get_num_threads()
    decoding = ThreadPoolExecutor(loaders)
    encoding = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[EmbeddedUtterance]] = deque()
    try:
        for row in records(table):
            model_input = decoding.submit(reader.read, row)
            waiting.append(encoding.submit(_encode, row, model_input, encoder, poolings, limiter))
            if len(waiting) >= jobs + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pool in (encoding, decoding):
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads_before)


def embed(encoder: AnyEncoder, data: np.ndarray | str, *, poolings: tuple[str, ...]) -> np.ndarray:
    """Encode one utterance and pool the frames of every layer.

    Args:
        encoder: of audio or text
        data: waveform ``(n_samples,)`` at the encoder's sampling rate, or a text
        poolings: keys of `probe.encoders.pooling.POOLINGS`

    Returns:
        embeddings ``(n_layers, n_poolings, dim)`` float32

    Raises:
        InvalidAudioError: if the waveform is too short, or an embedding is not finite
    """
    with torch.inference_mode():
        embeddings: np.ndarray = pool_frame_chunks(_frame_chunks(encoder, data), poolings=poolings).cpu().numpy()
    if not np.isfinite(embeddings).all():
        raise InvalidAudioError("the encoder returned values that are not finite")
    return embeddings


def _frame_chunks(encoder: AnyEncoder, data: np.ndarray | str) -> Iterator[FrameChunk]:
    if encoder.reads == "text":
        if not isinstance(data, str):
            raise TypeError("a text encoder was given a waveform")
        return encoder.frame_chunks(data)
    if not isinstance(data, np.ndarray):
        raise TypeError("a speech encoder was given text")
    n, needed = len(data), encoder.minimum_samples
    if n < needed:
        raise InvalidAudioError(f"too short: {n} samples at {encoder.sampling_rate} Hz, one frame needs {needed}")
    return encoder.frame_chunks(data)


def _encode(
    row: Row, read: Future[ModelInput], encoder: AnyEncoder, poolings: tuple[str, ...], limiter: ConcurrencyLimiter
) -> EmbeddedUtterance:
    model_input = read.result()
    began = time.perf_counter()
    embeddings, reason = None, model_input.reason
    if not reason:
        try:
            embeddings = _embed_limited(encoder, model_input, poolings, limiter)
        except InvalidAudioError as error:
            reason = str(error)
    seconds_at_work = time.perf_counter() - began
    return EmbeddedUtterance(
        row, model_input.content, embeddings, reason, model_input.seconds, seconds_at_work, model_input.remarks
    )


def _embed_limited(
    encoder: AnyEncoder, model_input: ModelInput, poolings: tuple[str, ...], limiter: ConcurrencyLimiter
) -> np.ndarray:
    while True:
        jobs = limiter.enter()
        try:
            return embed(encoder, model_input.data, poolings=poolings)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        finally:
            limiter.leave()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if jobs == 1:
            raise InvalidAudioError(
                f"{model_input.seconds:.0f} s need more memory than is free without other utterances, too; cut it "
                "into spans with start and end"
            )
        limiter.halve(jobs)


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(message in str(error) for message in ALLOCATION_FAILED)
