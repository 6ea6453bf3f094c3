"""Writing of rows into a cache by a thread of its own, so that encoding does not wait for the disk."""

from __future__ import annotations

import threading
import time
from queue import Queue
from types import TracebackType

import numpy as np

from layerprobe.probe.cache.spans import Span, Spans, spans_content
from layerprobe.probe.cache.storage import StorageOverflowError
from layerprobe.probe.cache.store import BLOCK
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.spans import UtteranceSpans
from layerprobe.probe.extraction.encoding.embedding import EmbeddedUtterance
from layerprobe.probe.extraction.remarks import AudioRemarks

WAITING_ROWS = BLOCK  # at most: a block is encoded while the one before it is written
# A signal that arrives as a thread is about to wait does not end the wait; CPython heeds it after that.
WAKE_SECONDS = 1.0


class RowWriter:
    """Writes utterances in the order in which they are put; a context manager within that of the cache's writer.

    At its end, also after an error or Ctrl-C, the rows that wait have been written and the thread has ended, so that
    the cache's writer has one user at a time. A second Ctrl-C leaves out the rows that wait.
    """

    def __init__(self, writer: CacheWriter, remarks: AudioRemarks) -> None:
        """Take the cache's writer, and the remarks on audio, which are saved before a block's rows are durable."""
        self._writer, self._remarks = writer, remarks
        self._waiting: Queue[EmbeddedUtterance | None] = Queue(WAITING_ROWS)
        self._rows = RowCount(WAITING_ROWS)
        self._thread = threading.Thread(target=self._run, name="layerprobe-writer", daemon=True)
        self._error: BaseException | None = None
        self._abandoned = False
        # instead of Thread.join, after whose interruption CPython 3.11 takes a running thread for one that has ended
        self._ended = threading.Event()
        self.refused: list[tuple[str, str, str]] = []  # utterance_id, path, reason
        self.audio_seconds = 0.0  # of rows
        self.n_spans = 0  # rows of spans
        self.seconds = 0.0  # in which the thread wrote

    def __enter__(self) -> RowWriter:
        """Start the thread, unless this is entered again to make sure of its end."""
        if self._thread.ident is None:
            self._thread.start()
        return self

    def put(self, embedded: EmbeddedUtterance) -> None:
        """Have an utterance written, or quarantined if it has no embeddings; waits where the disk is behind.

        Raises:
            BaseException: what an utterance before it failed with, such as OSError of a full disk
        """
        if self._error is not None:
            raise self._error
        self._rows.add(_n_rows(embedded))
        self._waiting.put(embedded)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Wait until all rows are written.

        Raises:
            BaseException: what writing failed with, unless another error led here
        """
        interrupt = error if isinstance(error, KeyboardInterrupt) else None
        is_last = False
        while not self._ended.is_set():
            try:
                if not is_last:
                    self._waiting.put(None)
                    is_last = True
                self._ended.wait(WAKE_SECONDS)
            except KeyboardInterrupt as again:
                self._abandoned, interrupt = interrupt is not None, again
        if error is None and interrupt is not None:
            raise interrupt
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (embedded := self._waiting.get()) is not None:
            self._rows.remove(_n_rows(embedded))
            if self._error is not None or self._abandoned:
                continue  # so that putting another never blocks
            began = time.perf_counter()
            try:
                self._write(embedded)
            except BaseException as error:
                self._error = error
            self.seconds += time.perf_counter() - began
        self._ended.set()

    def _write(self, embedded: EmbeddedUtterance) -> None:
        name, reason = embedded.row["utterance_id"], embedded.reason
        if embedded.embeddings is not None:
            try:
                self._remarks.put(name, embedded.remarks)
                if self._writer.n_rows % BLOCK + _n_rows(embedded) >= BLOCK:
                    self._remarks.save()  # before the block's rows are durable, so that a kill loses none of them
                if embedded.spans is None:
                    self._writer.append(name, embedded.content, embedded.embeddings)
                else:
                    self._append_spans(str(name), embedded.content, embedded.embeddings, embedded.spans)
                self.audio_seconds += embedded.audio_seconds
            except StorageOverflowError as error:
                reason = str(error)
        if reason:
            self.refused.append((name, embedded.row["path"], reason))
            self._writer.refuse(*self.refused[-1])

    def _append_spans(self, parent: str, content: str, embeddings: np.ndarray, found: UtteranceSpans) -> None:
        spans = Spans.of([Span(parent, s.start, s.end, s.label, found.duration) for s in found.spans])
        ids = [span.span_id for span in found.spans]
        self._writer.append_spans(spans_content(content, found.given), ids, embeddings, spans)
        self.n_spans += len(ids)


class RowCount:
    """The number of rows that wait, which a thread that adds more keeps below a limit."""

    def __init__(self, limit: int) -> None:
        """Set the limit; more rows at once may wait alone."""
        self._limit, self._n = limit, 0
        self._changed = threading.Condition()

    def add(self, n: int) -> None:
        """Wait until no more rows than the limit wait together with these, and count them."""
        with self._changed:
            while not self._changed.wait_for(lambda: not self._n or self._n + n <= self._limit, WAKE_SECONDS):
                pass
            self._n += n

    def remove(self, n: int) -> None:
        """Count rows off."""
        with self._changed:
            self._n -= n
            self._changed.notify_all()


def _n_rows(embedded: EmbeddedUtterance) -> int:
    return 1 if embedded.spans is None else len(embedded.spans.spans)
