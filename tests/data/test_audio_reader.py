"""Reading utterances ahead: order, quarantine, progress, and no more in memory than a few."""

from __future__ import annotations

import threading

import pytest

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_reader import Quarantine, read_audio
from layerprobe.probe.progress import NullProgress

ROWS = [{"utterance_id": f"u{k}", "path": f"{k}.wav"} for k in range(20)]


def even(row):
    """The number in an utterance's name, if it is even."""
    k = int(row["utterance_id"][1:])
    if k % 2:
        raise InvalidAudioError("LP200", f"{k} is odd")
    return k


class Progress(NullProgress):
    def __init__(self):
        self.seen = []

    def begin(self, task, total, unit):
        self.seen.append((task, total, unit))

    def advance(self, amount=1.0, note=""):
        self.seen.append((amount, note))

    def end(self):
        self.seen.append("end")


@pytest.mark.parametrize("threads", [1, 3])
def test_usable_utterances_come_in_order_and_the_others_are_quarantined(threads):
    quarantine, progress = Quarantine(), Progress()
    found = list(
        read_audio(ROWS, even, quarantine=quarantine, threads=threads, task="look", unit="files", progress=progress)
    )
    assert found == [(k, k) for k in range(0, 20, 2)]
    table = quarantine.table()
    assert table.to_numpy().tolist() == [[f"u{k}", f"{k}.wav", f"{k} is odd [LP200]"] for k in range(1, 20, 2)]
    assert progress.seen[0] == ("look", 20, "files")
    assert progress.seen[1:4] == [(1, "0 quarantined"), (1, "1 quarantined"), (1, "1 quarantined")]
    assert (len(progress.seen), progress.seen[-1]) == (22, "end")


def test_nothing_is_refused_and_the_table_has_its_columns():
    quarantine = Quarantine()
    assert list(read_audio([], even, quarantine=quarantine, threads=2)) == []
    assert (list(quarantine.table()), len(quarantine)) == (["utterance_id", "path", "reason"], 0)


def test_an_utterance_counts_once_its_caller_is_done_with_it():
    progress = Progress()
    reader = read_audio(ROWS[::2], even, quarantine=Quarantine(), threads=1, progress=progress)
    next(reader)
    assert progress.seen == [("", 10, "utterances")]
    next(reader)
    assert progress.seen[1:] == [(1, "0 quarantined")]
    reader.close()
    assert progress.seen[-1] == "end"


def test_no_more_than_a_few_are_read_ahead():
    started, lock = [], threading.Lock()

    def read(row):
        with lock:
            started.append(row)
        return row

    reader = read_audio(ROWS, read, quarantine=Quarantine(), threads=2)
    next(reader)
    reader.close()
    assert len(started) <= 4


def test_another_error_is_no_quarantine():
    def broken(row):
        raise OSError("the disk is gone")

    quarantine, progress = Quarantine(), Progress()
    with pytest.raises(OSError, match="the disk is gone"):
        list(read_audio(ROWS, broken, quarantine=quarantine, threads=2, progress=progress))
    assert (len(quarantine), progress.seen[-1]) == (0, "end")
