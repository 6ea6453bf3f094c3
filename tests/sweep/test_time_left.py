"""What the tasks of a sweep are expected to take, and the time left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layerprobe.probe.sweep.fits.expected_work import PartSize, mix_seconds, permutations_seconds, ratings_seconds
from layerprobe.probe.sweep.fits.time_left import TimeLeft
from layerprobe.probe.sweep.fits.workers import Task


def task(name, kind, seconds):
    return Task(name, name, kind, seconds, lambda inputs: None)


LAYERS = [task(f"layer {k}", "ratings", 2.0) for k in range(10)]
MIXES = [task(f"mix {k}", "mixes", 5.0) for k in range(2)]


def test_no_estimate_is_given_before_two_tasks_and_a_fraction_of_the_work_were_measured():
    left = TimeLeft([*LAYERS, *MIXES], jobs=1, clock=lambda: 0.0)
    assert left.seconds() is None
    left.finished(LAYERS[0], 1.0)
    assert left.seconds() is None
    left.finished(LAYERS[1], 1.0)
    assert left.seconds() == pytest.approx(8 * 1.0 + 2 * 2.5)  # half of what was expected, of every kind
    many = [task(f"tiny {k}", "ratings", 0.1) for k in range(5)]
    left = TimeLeft([*many, task("huge", "mixes", 1_000.0)], jobs=1, clock=lambda: 0.0)
    for one in many:
        left.finished(one, 0.1)
    assert left.seconds() is None


def test_a_kind_that_was_measured_counts_by_its_own_rate():
    left = TimeLeft([*LAYERS, *MIXES], jobs=1, clock=lambda: 0.0)
    for one in LAYERS:
        left.finished(one, 2.0)
    assert left.seconds() == pytest.approx(10.0)
    left.finished(MIXES[0], 20.0)
    assert left.seconds() == pytest.approx(20.0)


def test_running_tasks_count_for_what_they_have_left_and_the_longest_bounds_the_end():
    now = [0.0]
    left = TimeLeft([*LAYERS, *MIXES], jobs=2, clock=lambda: now[0])
    for one in LAYERS:
        left.finished(one, 2.0)
    assert left.seconds() == pytest.approx(5.0)
    left.started(MIXES[0])
    now[0] = 4.0
    assert left.seconds() == pytest.approx(5.0)  # the other mix, which one process does
    left.started(MIXES[1])
    now[0] = 20.0
    assert left.seconds() is None  # both have overrun their time
    for one in MIXES:
        left.finished(one, 18.0)
    assert left.seconds() == 0.0


def test_saved_results_are_neither_measured_nor_left():
    left = TimeLeft(LAYERS, jobs=1, clock=lambda: 0.0)
    for one in LAYERS[:6]:
        left.finished(one, 0.0)
    assert left.seconds() is None
    for one in LAYERS[6:8]:
        left.finished(one, 3.0)
    assert left.seconds() == pytest.approx(6.0)


SIZE = PartSize(
    n_utterances=20_000, n_train=16_000, n_splits=5, n_sets=15, n_dual=15, n_targets=3, n_permuted=294, n_alphas=17
)  # fmt: skip


def test_expected_seconds_rise_with_each_size():
    few = PartSize(
        n_utterances=700, n_train=560, n_splits=5, n_sets=15, n_dual=15, n_targets=3, n_permuted=294, n_alphas=17
    )
    for size in (SIZE, few):
        once = ratings_seconds(size, 1_024)
        assert ratings_seconds(replace(size, n_splits=10, n_sets=55, n_dual=55), 1_024) > once
        assert ratings_seconds(replace(size, n_utterances=40_000, n_train=32_000), 1_024) > once
        permuted = permutations_seconds(size, 1_024, separate=False)
        assert permutations_seconds(replace(size, n_permuted=588), 1_024, separate=False) > 1.3 * permuted
        assert permutations_seconds(size, 1_024, separate=True) == pytest.approx(permuted + once)
    one_seed = mix_seconds(SIZE, 1_024, 25, n_mixes=1, n_seeds=1)
    assert mix_seconds(SIZE, 1_024, 25, n_mixes=1, n_seeds=3) > one_seed
    assert mix_seconds(SIZE, 1_024, 13, n_mixes=1, n_seeds=1) < one_seed
