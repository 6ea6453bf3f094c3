"""Training of one seed: batches, exact CCC gradients, early stopping on development speakers, resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.precision import multiplying_in
from layerprobe.probe.metrics import ccc
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.dataset import UtteranceDataset, batches, split_by_budget
from layerprobe.probe.regressor.freezing import parameter_groups, set_training
from layerprobe.probe.regressor.loss import backward_in_parts
from layerprobe.probe.regressor.model import AudioTextRegressor, Utterance
from layerprobe.probe.regressor.plan import TrainPlan, autocast
from layerprobe.probe.training.checkpoints import (
    MODEL_PREFIX,
    fill_parameters,
    read_state,
    read_training,
    write_state,
    write_table,
    write_training,
)
from layerprobe.probe.training.schedules import schedule

LAST, BEST, LOG = "last", "best", "log.csv"  # checkpoints and the log of a seed
STEPS_BETWEEN_CHECKPOINTS = 200


@dataclass(frozen=True)
class Fit:
    """Result of a seed's training."""

    best_epoch: int  # from 1
    best_score: float  # the development speakers' mean CCC
    log: pd.DataFrame  # epoch, loss, development CCC of each target, their mean, seconds


class Training:
    """One seed of a plan, in a folder of its own."""

    def __init__(
        self, regressor: AudioTextRegressor, dataset: UtteranceDataset, plan: TrainPlan, *, folder: Path
    ) -> None:
        """Create a training; nothing is written before `run`."""
        self.regressor, self.dataset, self.plan, self.folder = regressor, dataset, plan, folder
        self.device = next(regressor.parameters()).device
        self._weights = torch.tensor(plan.target_weights, device=self.device)

    def run(
        self, ratings: np.ndarray, *, train: np.ndarray, development: np.ndarray, seed: int, progress: NullProgress,
        stop_after: int | None = None,
    ) -> Fit:  # fmt: skip
        """Train or resume a training; afterwards the regressor has the weights of the best epoch.

        Args:
            ratings: ``(n_utterances, n_targets)``, of the whole dataset
            train: row indices to train on
            development: row indices of other speakers, whose mean CCC decides on early stopping
            seed: random seed of batches and dropout
            progress: receives the progress
            stop_after: steps after which training stops as a kill would stop it, for tests
        """
        plan, regressor = self.plan, self.regressor
        torch.manual_seed(seed)
        optimiser = torch.optim.AdamW(parameter_groups(regressor, plan))
        n_batches = len(batches(len(train), size=plan.batch_size, rng=np.random.default_rng(0)))
        n_steps, done = n_batches * plan.epochs, 0
        log: list[dict[str, Any]] = []
        losses: list[float] = []

        def resume(values: dict[str, Any]) -> None:
            nonlocal done, log, losses
            done, log, losses = int(values["steps"]), list(values["log"]), list(values["losses"])

        read_training(self.folder / LAST, self._trainable_parameters(), optimiser, device=self.device, check=resume)
        truth = torch.tensor(ratings, dtype=torch.float32).to(self.device)
        standardised = (truth - regressor.get_buffer("mean")) / regressor.get_buffer("std")
        progress.begin(f"train, seed {seed}", n_steps, "steps")
        progress.advance(done)
        began = time.monotonic()
        try:
            for epoch in range(done // n_batches, plan.epochs):
                if self._out_of_patience(log):
                    break
                order = batches(len(train), size=plan.batch_size, rng=np.random.default_rng([seed, epoch]))
                rest = [train[batch] for batch in order[done - epoch * n_batches :]]
                for rows, utterances in zip(rest, self.dataset.load_ahead(rest), strict=True):
                    losses.append(self._step(optimiser, utterances, standardised[rows], done, n_steps))
                    done += 1
                    progress.advance(1, f"loss {np.mean(losses[-20:]):.3f}" + _score_note(log))
                    if done == stop_after:
                        return Fit(0, math.nan, pd.DataFrame(log))
                    if done % STEPS_BETWEEN_CHECKPOINTS == 0 and done % n_batches:
                        self._save(optimiser, done, log, losses)
                log.append(self._evaluate(ratings, development, losses, epoch, time.monotonic() - began))
                losses, began = [], time.monotonic()
                if _best_epoch(log) == len(log):
                    best = {f"{MODEL_PREFIX}{name}": tensor for name, tensor in self._trainable_parameters().items()}
                    write_state(self.folder / BEST, best, {"epoch": len(log)})
                self._save(optimiser, done, log, losses)
        finally:
            progress.end()
        state = read_state(self.folder / BEST)
        if state is None:
            raise InputError(
                "LP703", f"{self.folder / BEST} is missing. Delete {self.folder} to train this seed again."
            )
        fill_parameters(self._trainable_parameters(), state[0])
        table = pd.DataFrame(log)
        write_table(table, self.folder / LOG)
        return Fit(_best_epoch(log), max(row["mean"] for row in log), table)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return predictions of these row indices in the ratings' unit, ``(n_rows, n_targets)`` float64."""
        set_training(self.regressor, False)
        chunks = np.array_split(rows, max(1, math.ceil(len(rows) / max(64, self.plan.batch_size))))
        found = []
        with torch.no_grad():
            for utterances in self.dataset.load_ahead(chunks):
                found.append(predict_batch(self.regressor, utterances, self.plan))
        return np.concatenate(found)

    def _step(
        self, optimiser: torch.optim.Optimizer, utterances: list[Utterance], truth: Tensor, step: int, n_steps: int
    ) -> float:
        scale = schedule(step, n_steps=n_steps, warmup=self.plan.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * scale
        set_training(self.regressor, True)
        optimiser.zero_grad(set_to_none=True)
        parts = split_by_budget([u.n_frames for u in utterances], budget=self.plan.max_batch_frames)
        order = np.concatenate(parts)

        def predict(part: np.ndarray) -> Tensor:
            with autocast(self.plan, self.device):
                return self.regressor([utterances[k] for k in part])  # type: ignore[no-any-return]

        with multiplying_in(self.plan.precision):
            loss = backward_in_parts(predict, parts, truth[torch.from_numpy(order).to(self.device)], self._weights)
        trained = [p for group in optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, self.plan.max_grad_norm, error_if_nonfinite=True)
        optimiser.step()
        return loss

    def _evaluate(
        self, ratings: np.ndarray, rows: np.ndarray, losses: list[float], epoch: int, seconds: float
    ) -> dict[str, Any]:
        predicted = self.predict(rows)
        scores = {t: ccc(ratings[rows, k], predicted[:, k]) for k, t in enumerate(self.plan.targets)}
        mean = float(np.mean(list(scores.values())))
        return {"epoch": epoch + 1, "loss": float(np.mean(losses)), **scores, "mean": mean, "seconds": seconds}

    def _out_of_patience(self, log: Sequence[dict[str, Any]]) -> bool:
        return len(log) - _best_epoch(log) >= self.plan.patience

    def _trainable_parameters(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.regressor.named_parameters() if p.requires_grad}

    def _save(
        self, optimiser: torch.optim.Optimizer, done: int, log: list[dict[str, Any]], losses: list[float]
    ) -> None:
        values = {"steps": done, "log": log, "losses": losses}
        write_training(self.folder / LAST, self._trainable_parameters(), optimiser, values, device=self.device)


def predict_batch(regressor: AudioTextRegressor, utterances: list[Utterance], plan: TrainPlan) -> np.ndarray:
    """Return predictions of utterances in the ratings' unit, ``(n, n_targets)`` float64, whatever their lengths."""
    device = next(regressor.parameters()).device
    parts = split_by_budget([u.n_frames for u in utterances], budget=plan.max_batch_frames)
    found = np.empty((len(utterances), len(plan.targets)))
    for part in parts:
        with multiplying_in(plan.precision), autocast(plan, device):
            predicted = regressor([utterances[k] for k in part])
        found[part] = regressor.scale(predicted).double().cpu().numpy()
    return found


def _best_epoch(log: Sequence[dict[str, Any]]) -> int:
    """Return the number of the best epoch, counted from 1; 0 before the first has ended."""
    return 1 + int(np.argmax([row["mean"] for row in log])) if log else 0


def _score_note(log: Sequence[dict[str, Any]]) -> str:
    return f", development CCC {log[-1]['mean']:.3f} (best {max(r['mean'] for r in log):.3f})" if log else ""
