"""The time that a sweep will still take, from what its tasks were expected to take and what they took."""

from __future__ import annotations

import time
from collections.abc import Callable

from layerprobe.probe.sweep.fits.workers import Task

TRUSTED_TASKS = 2  # measured tasks, and
TRUSTED_FRACTION = 0.03  # fraction of the expected work in them, before an estimate is shown


class TimeLeft:
    """Estimator of the seconds left: a kind of task that was measured counts by its own rate, others by that of all."""

    def __init__(self, tasks: list[Task], *, jobs: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take all tasks that are still to be done, and how many of them run at a time."""
        self._left = {task.name: task for task in tasks}
        self._jobs, self._clock = jobs, clock
        self._began: dict[str, float] = {}
        self._expected: dict[str, float] = {}  # of the finished tasks of a kind
        self._measured: dict[str, float] = {}
        self._n_measured = 0
        self._total = sum(task.seconds for task in tasks)

    def started(self, task: Task) -> None:
        """Note that a task runs."""
        self._began[task.name] = self._clock()

    def finished(self, task: Task, seconds: float) -> None:
        """Note that a task is done, and the seconds that it took by itself; 0 if its results were saved before."""
        self._left.pop(task.name, None)
        self._began.pop(task.name, None)
        if seconds > 0:
            self._n_measured += 1
            self._expected[task.kind] = self._expected.get(task.kind, 0.0) + task.seconds
            self._measured[task.kind] = self._measured.get(task.kind, 0.0) + seconds
        else:
            self._total -= task.seconds

    def seconds(self) -> float | None:
        """Return the seconds left; None if too little was measured, or all that is left has overrun its time."""
        expected, measured = sum(self._expected.values()), sum(self._measured.values())
        enough = self._n_measured >= max(TRUSTED_TASKS, self._jobs) and expected >= TRUSTED_FRACTION * self._total
        if not enough or not expected:
            return None
        now, overall = self._clock(), measured / expected
        rates = {kind: self._measured[kind] / self._expected[kind] for kind in self._expected if self._expected[kind]}
        left = [
            max(0.0, task.seconds * rates.get(task.kind, overall) - (now - self._began.get(task.name, now)))
            for task in self._left.values()
        ]
        seconds = max(sum(left) / self._jobs, max(left, default=0.0))
        return seconds if seconds > 0 or not left else None
