"""The log of a training while it runs: JSON lines, TensorBoard events where it is installed, and a tracker on request.

An interrupted training makes the steps after its checkpoint again. Their events are removed from the JSON lines when it
resumes, and TensorBoard's files are written anew from those, so that no step is lost or there twice; to a tracker, what
it has received is not sent again (`probe.training.trackers`). One that fails on the way is left out with a warning.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.training.trackers import Tracker, open_tracker

LOG_LINES, TENSORBOARD = "log.jsonl", "tensorboard"
FORMAT_VERSION = 1
STEPS_PER_EVENT = 20  # steps between two events of the training loss
TRAIN, EVALUATION = "train", "evaluation"
_log = logging.getLogger("layerprobe.training")  # written to standard error, unless a program decides otherwise


@dataclass(frozen=True)
class Event:
    """Numbers at one step of a training."""

    event: str  # `TRAIN` or `EVALUATION`
    step: int  # steps made
    time: float  # seconds since 1970
    values: dict[str, float]  # by name, finite

    @property
    def key(self) -> tuple[str, int]:
        """What no two events of a training have in common."""
        return self.event, self.step

    def tagged(self) -> dict[str, float]:
        """Return the values by names such as ``train/loss``."""
        return {f"{self.event}/{name}": value for name, value in self.values.items()}


class NullLog:
    """A log that writes nothing; the base class of the one that does."""

    def resume(self, step: int | None) -> None:
        """Begin after a checkpoint of this many steps; None without a checkpoint."""

    def after_step(self, step: int, losses: Sequence[float], rates: Sequence[float]) -> None:
        """Log the mean of the last losses, and the highest learning rate, every `STEPS_PER_EVENT` steps."""

    def evaluation(self, step: int, values: Mapping[str, Any]) -> None:
        """Log what was measured on held-out speakers."""

    def flush(self) -> None:
        """Make what was logged durable, before the checkpoint that resumes after it."""


class TrainingLog(NullLog):
    """The log of one training in its folder; made by `training_log`."""

    def __init__(self, folder: Path, events: Path, log_to: str | None, name: str, settings: Mapping[str, Any]) -> None:
        self._path, self._events_folder, self._tracker_folder = folder / LOG_LINES, events, folder
        self._log_to, self._name, self._settings = log_to, name, settings
        self._board: Any = None
        self._tracker: Tracker | None = None

    def resume(self, step: int | None) -> None:
        """Remove the events of steps that will be made again, and open TensorBoard's files and the tracker."""
        written = read_events(self._path)
        kept = [event for event in written if step is not None and event.step <= step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, "".join(map(_line, kept)), durable=True)
        self._board = _open_board(self._events_folder)
        if self._log_to is not None:
            self._tracker = open_tracker(
                self._log_to, self._tracker_folder, name=self._name, settings=self._settings,
                sent={event.key for event in written},
            )  # fmt: skip
        for event in kept:
            self._show(event)
            self._send(event)

    def after_step(self, step: int, losses: Sequence[float], rates: Sequence[float]) -> None:
        """Log the loss; see `NullLog.after_step`."""
        if step % STEPS_PER_EVENT == 0:
            recent = losses[-STEPS_PER_EVENT:]
            self._add(TRAIN, step, {"loss": math.fsum(recent) / len(recent), "learning_rate": max(rates)})

    def evaluation(self, step: int, values: Mapping[str, Any]) -> None:
        """Log an evaluation; see `NullLog.evaluation`."""
        self._add(EVALUATION, step, values)

    def flush(self) -> None:
        """Make what was logged durable."""
        with self._path.open("a") as file:
            os.fsync(file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self, *, failed: bool) -> None:
        """Close TensorBoard's files and the tracker; what is in them stays, also of a training that failed."""
        if self._board is not None:
            self._board.close()
        if self._tracker is not None:
            try:
                self._tracker.close(failed=failed)
            except Exception as error:
                self._warn(error)

    def _add(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        numbers = {name: float(value) for name, value in values.items() if name != "step"}
        event = Event(kind, step, time.time(), {name: v for name, v in numbers.items() if math.isfinite(v)})
        self._send(event)  # first, for the line states that it was
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(event))
        self._show(event)

    def _send(self, event: Event) -> None:
        if self._tracker is None:
            return
        try:
            self._tracker.send(event.key, event.tagged(), step=event.step, time=event.time)
        except Exception as error:  # each tracker has errors of its own, and none is worth a training
            self._tracker = None
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        _log.warning(
            "--log-to %s failed (%s). The training does not depend on it: %s has the same numbers.",
            self._log_to, first_line(error), self._path,
        )  # fmt: skip

    def _show(self, event: Event) -> None:
        if self._board is not None:
            for tag, value in event.tagged().items():
                self._board.add_scalar(tag, value, event.step, walltime=event.time)


@contextmanager
def training_log(
    folder: Path, *, log_to: str | None, name: str, settings: Mapping[str, Any], events: Path | None = None
) -> Iterator[TrainingLog]:
    """Log a training into its folder, and to a tracker.

    Args:
        folder: of the training
        log_to: a key of `probe.training.trackers.TRACKERS`, or None
        name: of the run at the tracker
        settings: of the training, for the tracker
        events: folder of TensorBoard's files; ``tensorboard`` in ``folder`` if None

    Raises:
        InputError: if the tracker is unknown, its package is not installed, or it can't be reached
    """
    log = TrainingLog(folder, events or folder / TENSORBOARD, log_to, name, settings)
    failed = True
    try:
        yield log
        failed = False
    finally:
        log.close(failed=failed)


def read_events(path: Path) -> list[Event]:
    """Return the events of a log.jsonl in order, up to the first line that is cut or damaged; none if there is none."""
    events: list[Event] = []
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            content = json.loads(line)
            if not line.endswith("\n") or content.pop("format_version") != FORMAT_VERSION:
                break
            events.append(Event(**content))
    return events


def _line(event: Event) -> str:
    return json.dumps({"format_version": FORMAT_VERSION, **asdict(event)}, allow_nan=False) + "\n"


def _open_board(folder: Path) -> Any:
    """Return a writer of TensorBoard's files in a folder that has none of an earlier time; None if not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(str(folder), flush_secs=30)
