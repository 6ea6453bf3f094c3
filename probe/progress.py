"""Progress of long tasks: a bar in a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

SECONDS_BEFORE_SHOWING = 2.0
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class _Left:
    """The seconds that a task will still take; None while they can't be known."""

    seconds: float | None


_MEAN_RATE = _Left(None)  # stands for those by the mean rate, where a task has no better estimate


class NullProgress:
    """Progress that prints nothing; the base class of those that print."""

    def begin(self, task: str, total: float, unit: str) -> None:
        """Start a task of ``total`` units, such as ``("extract", 300, "utterances")``."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Count ``amount`` more units; ``note`` is shown next to them, such as the number of quarantined utterances."""

    def set_time_left(self, seconds: float | None) -> None:
        """Take an estimate of the seconds left in place of that by the mean rate; None while there is none to trust."""

    def end(self) -> None:
        """End the task; to be called after an error, too."""

    def log(self, line: str) -> None:
        """Print a line that stays visible after the task has ended."""


class LogProgress(NullProgress):
    """Progress as one plain line every ten seconds, for logs; none for tasks under two seconds."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._task, self._total, self._unit, self._done = "", 0.0, "", 0.0
        self._began = self._next_line = 0.0
        self._left = _MEAN_RATE

    def begin(self, task: str, total: float, unit: str) -> None:
        """Start a task; see `NullProgress.begin`."""
        self._task, self._total, self._unit, self._done = task, total, unit, 0.0
        self._left = _MEAN_RATE
        self._began = self._clock()
        self._next_line = self._began + SECONDS_BEFORE_SHOWING

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Count units; see `NullProgress.advance`."""
        self._done += amount
        now = self._clock()
        if now < self._next_line:
            return
        self._next_line = now + SECONDS_BETWEEN_LINES
        text = f"{self._task}: {self._done:.0f}/{self._total:.0f} {self._unit}, "
        if self._left is _MEAN_RATE:
            rate = self._done / (now - self._began)
            text += f"{rate:.1f}/s, {left_text((self._total - self._done) / rate if rate else float('inf'))}"
        else:
            text += left_text(self._left.seconds)
        self.log(text + (f", {note}" if note else ""))

    def set_time_left(self, seconds: float | None) -> None:
        """Take an estimate; see `NullProgress.set_time_left`."""
        self._left = _Left(seconds)

    def log(self, line: str) -> None:
        """Print a line; see `NullProgress.log`."""
        print(line, file=self._stream, flush=True)


class BarProgress(NullProgress):
    """Progress as a bar with rate and remaining time, shown once a task has taken two seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._began = self._done = 0.0

    def begin(self, task: str, total: float, unit: str) -> None:
        """Start a task; see `NullProgress.begin`."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]} {task.fields[rate]}"),
            _LeftColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.add_task(task, total=total, unit=unit, rate="", note="", left=_MEAN_RATE, at=0.0)
        self._began, self._done = time.monotonic(), 0.0

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Count units; see `NullProgress.advance`."""
        if self._bar is None:
            return
        self._done += amount
        elapsed = time.monotonic() - self._began
        if elapsed > SECONDS_BEFORE_SHOWING and not self._bar.live.is_started:
            self._bar.start()
        by_rate = self._bar.tasks[0].fields["left"] is _MEAN_RATE
        rate = f"{self._done / elapsed:.1f}/s" if elapsed > 0 and by_rate else ""
        self._bar.update(self._bar.task_ids[0], advance=amount, rate=rate, note=note)

    def set_time_left(self, seconds: float | None) -> None:
        """Take an estimate; see `NullProgress.set_time_left`."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], left=_Left(seconds), at=time.monotonic())

    def end(self) -> None:
        """End the task; see `NullProgress.end`."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def log(self, line: str) -> None:
        """Print a line; see `NullProgress.log`."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _LeftColumn(ProgressColumn):
    """The time left: as it was estimated, less the time since, or by the mean rate; not known once that has run out."""

    def __init__(self) -> None:
        super().__init__()
        self._by_rate = TimeRemainingColumn()

    def render(self, task: Task) -> Text:
        left, at = task.fields["left"], task.fields["at"]
        if left is _MEAN_RATE:
            return self._by_rate.render(task)
        remaining = None if left.seconds is None else left.seconds - (time.monotonic() - at)
        overrun = remaining is None or (remaining < 0 and not task.finished)
        return Text(left_text(None if overrun else remaining))


def left_text(seconds: float | None) -> str:
    """Return the time left as text; None is not known yet.

    >>> left_text(754), left_text(None)
    ('12 min 34 s left', 'estimating the time left')
    """
    return "estimating the time left" if seconds is None else f"{clock_text(seconds)} left"


def clock_text(seconds: float) -> str:
    """Return a duration as text.

    >>> clock_text(7.2), clock_text(754), clock_text(7540), clock_text(float("inf"))
    ('7 s', '12 min 34 s', '2 h 05 min', 'unknown time')
    """
    if seconds == float("inf"):
        return "unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def make_progress(*, quiet: bool) -> NullProgress:
    """Return the progress for standard error: a bar in a terminal, plain lines elsewhere, nothing if quiet."""
    if quiet:
        return NullProgress()
    return BarProgress() if sys.stderr.isatty() else LogProgress()
