"""Writing of rows by a thread: in order, also after an interrupt, and never by two threads at once."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.embedding import EmbeddedUtterance
from layerprobe.probe.extraction.remarks import AudioRemarks
from layerprobe.probe.extraction.row_writer import RowWriter


class SlowCache:
    """A cache's writer that is interrupted by a user who presses Ctrl-C."""

    def __init__(self, before_append):
        self.n_rows, self.names, self._before = 0, [], before_append

    def append(self, name, digest, embeddings):
        self._before()
        self.names.append(name)

    def refuse(self, *row):
        self.names.append(row[0])


def row(name):
    return EmbeddedUtterance({"utterance_id": name, "path": name}, "", np.zeros((1, 1, 1)), "", 1.0, 0.0, 0.0)


def write_and_press(cache, folder):
    with RowWriter(cache, AudioRemarks(folder)) as rows:
        for name in "abc":
            rows.put(row(name))
        raise KeyboardInterrupt


def test_rows_that_wait_are_written_after_an_interrupt_and_not_after_a_second(tmp_path):
    interrupted = threading.Event()
    cache = SlowCache(lambda: interrupted.wait(10))
    threading.Timer(0.05, interrupted.set).start()
    with pytest.raises(KeyboardInterrupt):
        write_and_press(cache, tmp_path)
    assert cache.names == ["a", "b", "c"]

    def press():
        time.sleep(0.05)  # until the first is heeded
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    cache = SlowCache(press)
    with pytest.raises(KeyboardInterrupt):
        write_and_press(cache, tmp_path)
    assert cache.names == ["a"]
    assert not [thread for thread in threading.enumerate() if thread.name == "layerprobe-writer"]


@pytest.mark.parametrize("n_rows", [1, 10_000])
def test_what_writing_fails_with_is_raised_at_a_later_row_or_at_the_end(tmp_path, n_rows):
    def fail():
        raise InputError("another process has taken the store over")

    def write():
        with RowWriter(SlowCache(fail), AudioRemarks(tmp_path)) as rows:
            for k in range(n_rows):
                rows.put(row(str(k)))

    with pytest.raises(InputError, match="taken the store over"):
        write()
