"""Writing of rows by a thread: in order, also after an interrupt, and never by two threads at once."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
from helpers.speech_models import load_exact

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction import encode_rows
from layerprobe.probe.extraction.encoding.embedding import EmbeddedUtterance
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.extraction.remarks import AudioRemarks
from layerprobe.probe.extraction.row_writer import RowWriter


class SlowCache:
    """A cache's writer that does something before its first row, such as to wait."""

    def __init__(self, before_first):
        self.n_rows, self.names, self._before_first = 0, [], before_first

    def append(self, name, digest, embeddings):
        if not self.names:
            self._before_first()
        self.names.append(name)

    def refuse(self, *row):
        self.names.append(row[0])


def row(name):
    return EmbeddedUtterance({"utterance_id": name, "path": name}, "", np.zeros((1, 1, 1)), "", 1.0, 0.0, 0.0)


def wait_until(holds):
    """Wait for another thread, at most ten seconds, after which the assertions of the test fail."""
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.001)


def write_and_press(cache, folder, written):
    """Put three rows and press Ctrl-C; the writer is shown to the cache by ``written``."""
    with RowWriter(cache, AudioRemarks(folder)) as rows:
        written.append(rows)
        for name in "abc":
            rows.put(row(name))
        raise KeyboardInterrupt


def test_rows_that_wait_are_written_after_an_interrupt_and_not_after_a_second(tmp_path, heeds_interrupts):
    written = []

    def heeded():  # two rows wait, and the mark of their end
        wait_until(lambda: written[0]._waiting.qsize() == 3)

    cache = SlowCache(heeded)
    with pytest.raises(KeyboardInterrupt):
        write_and_press(cache, tmp_path, written)
    assert cache.names == ["a", "b", "c"]
    written.clear()

    def press_again():
        heeded()
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: written[0]._abandoned)

    cache = SlowCache(press_again)
    with pytest.raises(KeyboardInterrupt):
        write_and_press(cache, tmp_path, written)
    assert cache.names == ["a"]
    for thread in [one for one in threading.enumerate() if one.name == "layerprobe-writer"]:
        thread.join(5)  # its last step may follow what the exit waited for
        assert not thread.is_alive()


def test_an_interrupt_on_entry_to_the_exit_lets_one_thread_write_a_cache(folders, ten_voices, tmp_path, monkeypatch):
    class Pressed(RowWriter):
        """Interrupted before the first line of its first exit, as Python may."""

        n_exits = 0

        def __exit__(self, *error):
            self.n_exits += 1
            if self.n_exits == 1:
                raise KeyboardInterrupt
            super().__exit__(*error)

    n_rows, append, flush = [], CacheWriter.append, CacheWriter.flush

    def slow(self, *row):
        time.sleep(0.02)
        append(self, *row)

    def noted(self):
        n_rows.append(self.n_rows)
        flush(self)

    monkeypatch.setattr(encode_rows, "RowWriter", Pressed)
    monkeypatch.setattr(CacheWriter, "append", slow)
    monkeypatch.setattr(CacheWriter, "flush", noted)
    with pytest.raises(KeyboardInterrupt):
        extract(ten_voices, load_exact(folders["hubert"]), tmp_path / "a.zarr")
    assert n_rows == [10]  # when the cache is closed, none waits any more
    assert open_cache(tmp_path / "a.zarr").n_utterances == 10


@pytest.mark.parametrize("n_rows", [1, 10_000])
def test_what_writing_fails_with_is_raised_at_a_later_row_or_at_the_end(tmp_path, n_rows):
    def fail():
        raise InputError("LP000", "another process has taken the store over")

    def write():
        with RowWriter(SlowCache(fail), AudioRemarks(tmp_path)) as rows:
            for k in range(n_rows):
                rows.put(row(str(k)))

    with pytest.raises(InputError, match="taken the store over"):
        write()
