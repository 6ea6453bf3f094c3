"""Reading of utterances ahead of a packed pass: threads decode, resample and prepare the inputs, in order.

Threads suffice: decoding, resampling, hashing and normalising release the interpreter, which an utterance of 5 s needs
for 0.3 ms of 1.4 ms. One core of 2.9 GHz reads 3,400 to 3,900 s of FLAC at 16 kHz a second, 1,280 s of 44.1 kHz.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import Row
from layerprobe.probe.data.inputs import InputReader, ModelInput
from layerprobe.probe.data.spans import SpanSource, UtteranceSpans, with_nearest
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.extraction.encoding.embedding import check_data, frame_times, span_times
from layerprobe.probe.extraction.encoding.packs import packing
from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.frame_times import FrameRanges, frame_ranges
from layerprobe.probe.system import cores

MOST_LOADERS = 8  # beyond, threads wait for the interpreter
LOADERS_ON_CPU = 2
FIRST_GUESS = 250  # frames of an utterance, before a usable one was read


def loaders_for(device: str, *, n_processes: int = 1) -> int:
    """Return the default number of threads that read, of each of some processes on this machine.

    On a GPU it is one per core but one, at most `MOST_LOADERS`; on the CPU, whose cores encode, two.
    """
    if device == "cpu":
        return LOADERS_ON_CPU
    return max(1, min(MOST_LOADERS, cores() // n_processes - 1))


@dataclass(frozen=True)
class PreparedUtterance:
    """The inputs of the forward passes of one utterance, or the reason why there are none."""

    position: int  # in the order of reading, from 0
    row: Row
    model_input: ModelInput
    chunks: tuple[InputChunk, ...]
    lengths: tuple[int, ...]  # frames of each chunk
    reason: str  # "" where there are chunks
    seconds: float  # of the thread that read it
    spans: UtteranceSpans | None = None  # that are pooled; None where the utterance is
    ranges: FrameRanges | None = None  # frames of each span

    @property
    def n_frames(self) -> int:
        """Frames of all chunks."""
        return sum(self.lengths)


class ReadAhead:
    """An iterator over utterances that threads have read: in order, and at most so many frames ahead."""

    def __init__(
        self,
        rows: Iterator[Row],
        encoder: AnyEncoder,
        reader: InputReader,
        *,
        loaders: int,
        at_most: int,
        spans: SpanSource | None = None,
    ) -> None:
        """Take the rows to read.

        Args:
            rows: of a manifest
            encoder: one of packs
            reader: returns the input of each row
            loaders: threads that read; as many utterances are read whatever their length
            at_most: frames that are held, those being read counted at the mean of the usable ones before
            spans: of the utterances, which are pooled in their place
        """
        self._spans = spans
        self._rows, self._encoder, self._reader = rows, encoder, reader
        self._loaders, self._at_most = loaders, at_most
        self._pool = ThreadPoolExecutor(loaders, initializer=torch.set_num_threads, initargs=(1,))
        self._waiting: deque[Future[PreparedUtterance]] = deque()
        self._lock = threading.Lock()
        self._n_read = self._n_usable = self._frames_read = 0  # of all that were read
        self._n_taken = self._frames_taken = 0  # of those, what was yielded
        self._exhausted = False

    def __iter__(self) -> Iterator[PreparedUtterance]:
        """Yield the utterances in their order."""
        while True:
            self._fill()
            if not self._waiting:
                return
            utterance = self._waiting.popleft().result()
            self._n_taken += 1
            self._frames_taken += utterance.n_frames
            yield utterance

    def close(self) -> None:
        """End the threads; what is being read is finished first."""
        self._pool.shutdown(cancel_futures=True)

    def _fill(self) -> None:
        while not self._exhausted and (len(self._waiting) < self._loaders or self._frames_held() < self._at_most):
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                return
            self._waiting.append(self._pool.submit(self._prepare, self._n_taken + len(self._waiting), row))

    def _frames_held(self) -> float:
        with self._lock:
            n_read, n_usable, frames_read = self._n_read, self._n_usable, self._frames_read
        mean = frames_read / n_usable if n_usable else FIRST_GUESS
        n_unread = self._n_taken + len(self._waiting) - n_read
        return frames_read - self._frames_taken + n_unread * mean

    def _prepare(self, position: int, row: Row) -> PreparedUtterance:
        began = time.perf_counter()
        model_input = self._reader.read(row)
        reason = model_input.reason
        chunks: tuple[InputChunk, ...] = ()
        lengths: tuple[int, ...] = ()
        spans, ranges = None, None
        packs = packing(self._encoder)
        if not reason and packs is not None:
            try:
                check_data(self._encoder, model_input.data)
                chunks = tuple(packs.input_chunks(model_input.data))
                lengths = tuple(packs.packed.n_frames(chunk) for chunk in chunks)
                if self._spans is not None:
                    spans = self._spans.of(row, model_input.seconds)
                    n_frames = sum(
                        len(range(*chunk.counted.indices(n))) for chunk, n in zip(chunks, lengths, strict=True)
                    )
                    times = span_times(self._encoder, spans, len(model_input.data))
                    ranges = frame_ranges(times, frame_times(self._encoder), n_frames)
                    spans = with_nearest(spans, int(ranges.nearest.sum()))
            except InvalidAudioError as error:
                reason, chunks, lengths = str(error), (), ()
        seconds = time.perf_counter() - began
        with self._lock:
            self._n_read += 1
            self._n_usable += bool(lengths)
            self._frames_read += sum(lengths)
        return PreparedUtterance(position, row, model_input, chunks, lengths, reason, seconds, spans, ranges)
