"""A recording in which buffers were dropped and repeated is found in its original by segments, and another is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers.segments import find_segments
from helpers.voices import voice

RATE, BUFFER = 16_000, 160
ORIGINAL = voice(5.0, seed=3).astype(float) * np.linspace(0.2, 1.0, 5 * RATE)


def test_a_place_and_its_correlation_are_those_of_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    original, noise = rng.normal(size=400), rng.normal(size=60)
    recording = original[130:190] + 0.1 * noise
    (found,) = find_segments(recording, original, length=60)
    slow = [np.corrcoef(recording, original[k : k + 60])[0, 1] for k in range(341)]
    assert found.place == int(np.argmax(slow)) == 130
    assert found.correlation == pytest.approx(max(slow), abs=1e-9)
    assert found.lag == -130


def test_dropped_and_repeated_buffers_leave_most_segments_in_order() -> None:
    parts = [
        ORIGINAL[5 * BUFFER : 110 * BUFFER],
        ORIGINAL[112 * BUFFER : 190 * BUFFER],
        ORIGINAL[188 * BUFFER : 250 * BUFFER],
    ]
    found = find_segments(np.concatenate(parts), ORIGINAL, length=RATE // 5)
    same = [segment for segment in found if segment.correlation > 0.99]
    assert len(same) >= 0.75 * len(found) >= 8
    assert all(a.place < b.place for a, b in itertools.pairwise(same))
    assert same[0].lag == -5 * BUFFER
    assert same[-1].lag == -5 * BUFFER  # two dropped and two repeated


def test_segments_of_noise_are_found_nowhere() -> None:
    noise = np.random.default_rng(1).normal(size=2 * RATE)
    assert max(segment.correlation for segment in find_segments(noise, ORIGINAL, length=RATE // 5)) < 0.5


def test_pauses_are_left_out() -> None:
    recording = np.concatenate([ORIGINAL[RATE : 2 * RATE], np.zeros(RATE)])
    assert [segment.place for segment in find_segments(recording, ORIGINAL, length=RATE // 5)] == [
        RATE + k * RATE // 5 for k in range(5)
    ]
