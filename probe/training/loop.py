"""The loop of a training by steps: evaluation and a saved state every few steps, resumed to the same bits after a kill.

On the CPU a training that was killed at any step ends with the weights that it would have had without that: a state
holds parameters, the optimiser's moments and torch's random numbers, and what a step draws depends on its number alone.
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

STEPS_A_NOTE = 20  # between two looks at the loss, for which a GPU is waited for

Loss = float | Tensor  # of a step; a tensor stays on its device until it is averaged


class Trainable(Protocol):
    """What is trained: it makes steps and evaluates itself; the loop does the rest."""

    def parameters(self) -> dict[str, Tensor]:
        """Return what is learnt, by name."""

    def steps(self, begin: int) -> Iterator[Loss]:
        """Make the steps from ``begin`` one by one and yield the loss of each; the loop stops after the last."""

    def evaluate(self) -> dict[str, float]:
        """Return the columns of the log that speakers who are held out give."""

    def note(self, row: dict[str, Any]) -> str:
        """Return what the progress says of the log's last row."""

    def values(self) -> dict[str, Any]:
        """Return what a state holds beside tensors, as plain values."""

    def resume(self, values: dict[str, Any]) -> None:
        """Take back what `values` gave; an InputError if the training can't be resumed with it."""


@dataclass(frozen=True)
class LoopPlan:
    """How long a loop runs and where it keeps its state."""

    task: str  # under which progress is reported
    n_steps: int
    eval_every: int  # steps between two evaluations, each with a row of the log and a state
    state: Path  # a folder
    device: str
    evaluate_first: bool = False  # whether the log begins with step 0
    stop_after: int | None = None  # steps after which it is left as a kill would leave it, for tests of that


def run_loop(
    training: Trainable, optimiser: torch.optim.Optimizer, plan: LoopPlan, *, progress: NullProgress | None = None
) -> pd.DataFrame:
    """Train to the last step, resuming from a saved state, and return the log.

    Args:
        training: what is trained
        optimiser: of its parameters, new
        plan: how long, and where the state is kept
        progress: receives the progress

    Returns:
        ``step, loss`` (mean since the last row) and what `Trainable.evaluate` gives, a row for each evaluation

    Raises:
        InputError: if the loss is no number
    """
    progress = progress or NullProgress()
    values = read_training(plan.state, training.parameters(), optimiser, device=plan.device, check=training.resume)
    begin: int = 0 if values is None else values["steps"]
    log: list[dict[str, Any]] = [] if values is None else values["log"]
    losses: list[Loss] = []
    if plan.evaluate_first and not log:
        log.append({"step": 0, "loss": float("nan"), **training.evaluate()})
    shown = ""
    progress.begin(plan.task, plan.n_steps, "steps")
    progress.advance(begin)
    try:
        for step, loss in enumerate(islice(training.steps(begin), plan.n_steps - begin), start=begin + 1):
            losses.append(loss)
            if step % STEPS_A_NOTE == 0:
                shown = f"loss {mean_loss(losses[-STEPS_A_NOTE:]):.3f}"
            progress.advance(1, ", ".join(filter(None, [shown, training.note(log[-1]) if log else ""])))
            if step == plan.stop_after:
                break
            if step % plan.eval_every == 0 or step == plan.n_steps:
                row = {"step": step, "loss": mean_loss(losses)}
                if not np.isfinite(row["loss"]):
                    raise InputError(f"The loss is no number after {step} steps. Lower --learning-rate.")
                log.append({**row, **training.evaluate()})
                losses = []
                values = {"steps": step, "log": log, **training.values()}
                write_training(plan.state, training.parameters(), optimiser, values, device=plan.device)
    finally:
        progress.end()
    return pd.DataFrame(log)


def mean_loss(losses: list[Loss]) -> float:
    """Average losses of steps; tensors where they lie, so that a GPU is waited for once."""
    tensors = [loss for loss in losses if isinstance(loss, Tensor)]
    if tensors:
        return torch.stack(tensors).mean().item()
    return float(np.mean([float(loss) for loss in losses]))
