"""Which utterances run together: packs under a frame budget, and reading ahead of them."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from helpers.pretended_gpu import FREE, pretended_gpu
from helpers.voices import voice

from layerprobe.probe.data.inputs import ModelInput
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.encoding.packs import (
    FEWEST_FRAMES,
    MOST_FRAMES_ON_CPU,
    frame_budget,
    frames_ahead,
    frames_in,
    packing,
    packs,
    windows,
)
from layerprobe.probe.extraction.encoding.read_ahead import MOST_LOADERS, ReadAhead, loaders_for
from layerprobe.probe.problem import Problem
from layerprobe.probe.system import cores


@dataclass(frozen=True)
class Sized:
    """An utterance of which only the lengths of its chunks are known."""

    lengths: tuple[int, ...]


class Forward:
    """What packs need of a forward pass."""

    def __init__(self, together):
        self.together = together


def utterances(*lengths):
    return [Sized((n,) if isinstance(n, int) else n) for n in lengths]


def sizes(divided):
    return [[sum(one.lengths) for one in pack] for pack in divided]


@pytest.fixture
def encoder(folders):
    return load_audio_encoder(str(folders["hubert"]), precision="float32", forward="packed")


def test_any_utterances_are_packed_in_their_order_up_to_the_budget():
    assert sizes(packs(utterances(60, 40, 30, 80, 200, 10), Forward("any"), 100)) == [[60, 40], [30], [80], [200], [10]]


def test_equal_lengths_come_together():
    lengths = [30, 50, 30, 50, 30, 50]
    assert sizes(packs(utterances(*lengths), Forward("equal"), 100)) == [[30, 30, 30], [50, 50], [50]]


def test_padding_counts_where_sequences_are_padded_to_the_longest():
    # by hand: 30 + 40 + 50 are 120 frames, and 150 with padding
    assert sizes(packs(utterances(40, 50, 30), Forward("similar"), 120)) == [[30, 40], [50]]
    assert sizes(packs(utterances(40, 50, 30), Forward("equal"), 120)) == [[30, 40, 50]]


def test_all_chunks_of_an_utterance_are_in_one_pack():
    assert sizes(packs(utterances((60, 60), 20, (10, 10)), Forward("any"), 100)) == [[120], [20, 20]]


def test_windows_hold_consecutive_utterances_and_lose_none():
    given = utterances(300, 60, 40, 30, 80, 200, 10, ())
    found = list(windows(given, 100))
    assert sizes(found) == [[300], [60, 40], [30], [80], [200], [10, 0]]
    assert [one for window in found for one in window] == given
    assert list(windows([], 100)) == []


def test_only_utterances_to_be_sorted_are_held_beyond_a_pack():
    assert [frames_ahead(Forward(kind), 100) for kind in ("any", "equal", "similar")] == [100, 800, 800]


def test_the_budget_follows_free_memory_within_its_limits(encoder):
    assert frames_in(0.0, dim=768, n_layers=13, most=2_048) == FEWEST_FRAMES
    assert frames_in(8e9, dim=1024, n_layers=25, most=16_896) < 16_896
    # a wider encoder takes more memory of each frame
    assert frames_in(4e9, dim=1280, n_layers=49, most=16_896) < frames_in(4e9, dim=768, n_layers=13, most=16_896)
    assert FEWEST_FRAMES <= frame_budget(encoder) <= MOST_FRAMES_ON_CPU


def test_the_budget_of_a_gpu_counts_what_torch_keeps_from_earlier_packs(encoder):
    """So the pack of an estimate takes nothing from those of the extraction."""
    on_gpu, kept = SimpleNamespace(device="cuda", dim=encoder.dim, layers=encoder.layers), [5 * 2**30, 2**30]
    with pretended_gpu():
        without = frame_budget(on_gpu)
        with mock.patch("torch.cuda.mem_get_info", return_value=(FREE - 4 * 2**30, FREE)):
            assert frame_budget(on_gpu) < without
            names = ("memory_reserved", "memory_allocated")
            patches = [mock.patch(f"torch.cuda.{n}", return_value=k) for n, k in zip(names, kept, strict=True)]
            with patches[0], patches[1]:
                assert frame_budget(on_gpu) == without


def test_an_encoder_of_single_utterances_has_no_packs(encoder, folders):
    assert packing(encoder) is encoder
    assert packing(load_audio_encoder(str(folders["hubert"]))) is None


def test_threads_that_read_leave_a_core_to_the_gpu_and_two_suffice_a_cpu():
    assert loaders_for("cpu") == 2
    assert loaders_for("cuda") == max(1, min(MOST_LOADERS, cores() - 1))
    assert loaders_for("cuda:1", n_processes=10_000) == 1


class Counted:
    """A reader of voices of given durations, which counts how many it has read."""

    def __init__(self, seconds):
        self._seconds, self._lock, self.n_read = seconds, threading.Lock(), 0

    def read(self, row):
        with self._lock:
            self.n_read += 1
        seconds = self._seconds[row["k"]]
        if seconds is None:
            return ModelInput("", np.empty(0, dtype=np.float32), problem=Problem("LP210", "broken"))
        return ModelInput(f"h{row['k']}", voice(seconds).astype(np.float32), seconds)


def read_ahead(encoder, seconds, *, at_most, loaders=2):
    reader = Counted(seconds)
    return reader, ReadAhead(
        iter([{"k": k} for k in range(len(seconds))]), encoder, reader, loaders=loaders, at_most=at_most
    )


def test_reading_ahead_keeps_the_order_and_states_why_an_utterance_has_no_input(encoder):
    _, ahead = read_ahead(encoder, [0.5, None, 0.01, 0.3], at_most=10_000)
    read = list(ahead)
    ahead.close()
    assert [one.position for one in read] == [0, 1, 2, 3]
    too_short = "too short: 160 samples at 16000 Hz, one frame needs 400 [LP461]"
    assert [one.reason for one in read] == ["", "broken [LP210]", too_short, ""]
    assert [one.n_frames for one in read] == [24, 0, 0, 14]


def test_reading_ahead_is_bounded_by_frames_and_not_by_utterances(encoder):
    """Of utterances of 1 s (49 frames) about ten fit into 500 frames; the guess before the first is 250."""
    held = {}
    for seconds in (1.0, 0.1):
        _, ahead = read_ahead(encoder, [seconds] * 60, at_most=500)
        held[seconds] = [len(ahead._waiting) for _ in itertools.islice(ahead, 20)]
        ahead.close()
    assert 8 <= max(held[1.0]) <= 12
    assert max(held[0.1]) > 30  # shorter ones, so more of them


def test_many_broken_files_do_not_let_reading_go_further_ahead(encoder):
    """They have no frames, and the others are no shorter for that: of 1 s, about ten fit into 500 frames."""
    _, ahead = read_ahead(encoder, [None] * 20 + [1.0] * 60, at_most=500)
    held = [len(ahead._waiting) for _ in itertools.islice(ahead, 40)]
    ahead.close()
    assert max(held) <= 20 + 12
    assert max(held[20:]) >= 8


def test_readers_all_work_however_long_the_utterances_are(encoder):
    """With no frame to spare, as many are read as there are threads."""
    reader, ahead = read_ahead(encoder, [1.0] * 6, at_most=0, loaders=3)
    assert len(list(ahead)) == 6
    ahead.close()
    assert reader.n_read == 6
