"""Trackers of experiments that a training logs to on request: Weights & Biases and MLflow.

They take their address and rights from their own settings (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, …). The id of the
run is kept in the training's folder, so that a training that resumes logs to the same run.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.foreign_files import first_line

PROJECT = "layerprobe"  # name of the project or experiment where the tracker's settings name none
FORMAT_VERSION = 1

Key = tuple[str, int]  # of an event: its kind, and the step


class Tracker(Protocol):
    """Interface of a tracker."""

    def send(self, key: Key, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Send the numbers of an event, unless the tracker has them."""

    def close(self, *, failed: bool) -> None:
        """End the run."""


class _WandB:
    """A run of Weights & Biases; of the process nothing but its numbers and settings is sent."""

    def __init__(self, folder: Path, run: str | None, name: str, settings: Mapping[str, Any], sent: Set[Key]) -> None:
        import wandb

        self.run, self._sent = run or secrets.token_hex(4), sent if run else frozenset()
        options = wandb.Settings(
            console="off", disable_git=True, save_code=False, x_disable_meta=True, silent=True, x_disable_stats=True
        )
        self._run: Any = wandb.init(
            project=None if _setting("WANDB_PROJECT") else PROJECT, name=name, id=self.run, dir=str(folder),
            config=dict(settings), resume="allow", settings=options,
        )  # fmt: skip

    def send(self, key: Key, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Send the numbers of an event; see `Tracker.send`."""
        if key not in self._sent:
            self._run.log({**values, "time": time}, step=step)

    def close(self, *, failed: bool) -> None:
        """End the run."""
        self._run.finish(exit_code=int(failed))


class _MLflow:
    """A run of MLflow; what it has is read from it."""

    def __init__(self, folder: Path, run: str | None, name: str, settings: Mapping[str, Any], sent: Set[Key]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        del folder, sent
        self._client, self._metric = MlflowClient(), Metric
        self._steps: dict[str, set[int]] = {}
        if run is not None:
            with suppress(Exception):  # the run was deleted, or is of another address
                self._client.update_run(run, status="RUNNING")
                self.run = run
                return
        experiment = _setting("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(experiment)
        identity = found.experiment_id if found else self._client.create_experiment(experiment)
        self.run = self._client.create_run(identity, run_name=name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self.run, key, str(value)[:500])

    def send(self, key: Key, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Send the numbers of an event; see `Tracker.send`."""
        del key
        for name in values:
            if name not in self._steps:
                self._steps[name] = {metric.step for metric in self._client.get_metric_history(self.run, name)}
        new = {name: value for name, value in values.items() if step not in self._steps[name]}
        if new:
            self._client.log_batch(self.run, [self._metric(k, v, int(time * 1000), step) for k, v in new.items()])
        for name in new:
            self._steps[name].add(step)

    def close(self, *, failed: bool) -> None:
        """End the run."""
        self._client.set_terminated(self.run, status="FAILED" if failed else "FINISHED")


TRACKERS: dict[str, tuple[Callable[..., Any], str]] = {  # each with the package that it needs
    "wandb": (_WandB, "wandb"),
    "mlflow": (_MLflow, "mlflow-skinny"),
}


def check_tracker(log_to: str | None) -> None:
    """Check that a tracker is known and installed, before a training that would log to it.

    Raises:
        InputError: if it is not
    """
    if log_to is None:
        return
    if log_to not in TRACKERS:
        raise InputError("LP889", f"--log-to {log_to} is unknown; choose one of: {', '.join(TRACKERS)}.")
    try:
        __import__(log_to)
    except ImportError as error:
        if error.name != log_to:  # it is there, and what it imports is missing or of another version
            raise InputError(
                "LP889",
                f"--log-to {log_to} can't import its package ({first_line(error)}). Update it: pip install --upgrade "
                f"'layerprobe[{log_to}]', or omit --log-to: log.jsonl has the same numbers.",
            ) from error
        raise InputError(
            "LP889", f"--log-to {log_to} needs a package that is not installed: pip install 'layerprobe[{log_to}]'."
        ) from error


def open_tracker(
    log_to: str, folder: Path, *, name: str, settings: Mapping[str, Any], sent: Set[Key]
) -> Tracker:  # fmt: skip
    """Start a run at a tracker, or resume the one that a training's folder names.

    Args:
        log_to: a key of `TRACKERS`
        folder: of the training
        name: of a new run
        settings: of the training, for a new run
        sent: events that the resumed run has received

    Raises:
        InputError: if the tracker is unknown or not installed, or refuses the run
    """
    check_tracker(log_to)
    file = folder / f"tracker-{log_to}.json"
    run = None
    with suppress(OSError, ValueError, KeyError, TypeError):
        run = str(json.loads(file.read_bytes())["run"])
    try:
        tracker = TRACKERS[log_to][0](folder, run, name, settings, sent)
    except Exception as error:  # each tracker has errors of its own
        raise InputError(
            "LP889",
            f"--log-to {log_to} can't start a run ({first_line(error)}). Correct the tracker's settings, or omit "
            "--log-to: log.jsonl has the same numbers.",
        ) from error
    replace_file(file, json.dumps({"format_version": FORMAT_VERSION, "run": tracker.run}) + "\n")
    opened: Tracker = tracker
    return opened


def _setting(name: str) -> str:
    return os.environ.get(name, "")
