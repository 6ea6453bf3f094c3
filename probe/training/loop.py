"""The training loop: evaluation and a checkpoint every few steps; an interrupted training resumes to the same bits.

On the CPU a training that was killed at any step ends with the weights it would have had without that: a checkpoint
holds parameters, the optimiser's moments and torch's random state, and what a step samples depends on its number alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.training.checkpoints import read_training, write_training

STEPS_PER_NOTE = 20  # steps between two displays of the loss, which synchronise with a GPU

Loss = float | Tensor  # loss of a step; a tensor stays on its device until it is averaged


class Trainable(Protocol):
    """Interface of a training that `run_loop` runs: it makes steps and evaluates itself."""

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained parameters by name."""

    def steps(self, begin: int) -> Iterator[Loss]:
        """Make the steps from ``begin`` one by one and yield the loss of each; the loop stops after the last."""

    def evaluate(self) -> dict[str, float]:
        """Return the log's columns that are measured on held-out speakers."""

    def note(self, row: dict[str, Any]) -> str:
        """Return a short text about the log's last row, shown with the progress."""

    def values(self) -> dict[str, Any]:
        """Return the plain values that a checkpoint holds in addition to tensors."""

    def resume(self, values: dict[str, Any]) -> None:
        """Restore what `values` returned; raises an InputError if the training can't be resumed with it."""


@dataclass(frozen=True)
class LoopPlan:
    """How long a loop runs and where it keeps its checkpoint."""

    task: str  # name of the progress bar
    n_steps: int
    eval_every: int  # steps between two evaluations, each with a row of the log and a checkpoint
    state: Path  # folder of the checkpoint
    device: str
    evaluate_first: bool = False  # whether to evaluate before the first step
    stop_after: int | None = None  # steps after which the loop stops as a kill would stop it, for tests


def run_loop(
    training: Trainable, optimiser: torch.optim.Optimizer, plan: LoopPlan, *, progress: NullProgress | None = None
) -> pd.DataFrame:
    """Train to the last step, resuming from a checkpoint, and return the log.

    Args:
        training: the training to run
        optimiser: a new optimiser of its parameters
        plan: number of steps, and where the checkpoint is kept
        progress: receives the progress

    Returns:
        one row per evaluation: ``step``, ``loss`` (mean since the row before) and the columns of `Trainable.evaluate`

    Raises:
        InputError: if the loss is NaN or infinite, or the checkpoint can't be read
    """
    progress = progress or NullProgress()
    begin, log = 0, list[dict[str, Any]]()

    def resume(values: dict[str, Any]) -> None:
        nonlocal begin, log
        begin, log = int(values["steps"]), list(values["log"])
        training.resume(values)

    read_training(plan.state, training.parameters(), optimiser, device=plan.device, check=resume)
    losses: list[Loss] = []
    if plan.evaluate_first and not log:
        log.append({"step": 0, "loss": float("nan"), **training.evaluate()})
    shown = ""
    progress.begin(plan.task, plan.n_steps, "steps")
    progress.advance(begin)
    try:
        for step, loss in enumerate(islice(training.steps(begin), plan.n_steps - begin), start=begin + 1):
            losses.append(loss)
            if step % STEPS_PER_NOTE == 0:
                shown = f"loss {mean_loss(losses[-STEPS_PER_NOTE:]):.3f}"
            progress.advance(1, ", ".join(filter(None, [shown, training.note(log[-1]) if log else ""])))
            if step == plan.stop_after:
                break
            if step % plan.eval_every == 0 or step == plan.n_steps:
                row = {"step": step, "loss": mean_loss(losses)}
                if not np.isfinite(row["loss"]):
                    raise InputError("LP708", f"The loss is not finite after {step} steps. Lower --learning-rate.")
                log.append({**row, **training.evaluate()})
                losses = []
                values = {"steps": step, "log": log, **training.values()}
                write_training(plan.state, training.parameters(), optimiser, values, device=plan.device)
    finally:
        progress.end()
    return pd.DataFrame(log)


def mean_loss(losses: list[Loss]) -> float:
    """Return the mean of the steps' losses; tensors are averaged on their device, with one synchronisation."""
    tensors = [loss for loss in losses if isinstance(loss, Tensor)]
    if tensors:
        return torch.stack(tensors).mean().item()
    return float(np.mean([float(loss) for loss in losses]))
