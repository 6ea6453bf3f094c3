"""One seed's training: batches, exact CCC gradients, early stopping by development speakers, resumable at any step."""

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

from layerprobe.probe.metrics import ccc
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.regressor.dataset import UtteranceDataset, batches, parts
from layerprobe.probe.regressor.freezing import parameter_groups, set_training
from layerprobe.probe.regressor.loss import backward_in_parts
from layerprobe.probe.regressor.model import AudioTextRegressor, Utterance
from layerprobe.probe.regressor.plan import TrainPlan, autocast
from layerprobe.probe.training.checkpoints import (
    LEARNT,
    fill_parameters,
    read_state,
    read_training,
    write_state,
    write_training,
)
from layerprobe.probe.training.schedules import schedule

LAST, BEST, LOG = "last", "best", "log.csv"
STEPS_BETWEEN_STATES = 200


@dataclass(frozen=True)
class Fit:
    """What a training came to."""

    best_epoch: int  # from 1
    best_score: float  # the development speakers' mean CCC
    log: pd.DataFrame  # epoch, loss, development CCC of each target, their mean, seconds


class Training:
    """One seed of a plan, in a folder of its own."""

    def __init__(
        self, regressor: AudioTextRegressor, sounds: UtteranceDataset, plan: TrainPlan, *, folder: Path
    ) -> None:
        """Nothing is written before `run`."""
        self.regressor, self.sounds, self.plan, self.folder = regressor, sounds, plan, folder
        self.device = next(regressor.parameters()).device
        self._weights = torch.tensor(plan.target_weights, device=self.device)

    def run(
        self, ratings: np.ndarray, *, train: np.ndarray, development: np.ndarray, seed: int, progress: NullProgress,
        stop_after: int | None = None,
    ) -> Fit:  # fmt: skip
        """Train, or go on with it; afterwards the regressor has the weights of the best epoch.

        Args:
            ratings: ``(n_utterances, n_targets)``, of all sounds
            train: rows to learn from
            development: rows of other speakers, by whose mean CCC it ends
            seed: of batches and dropout
            progress: receives the progress
            stop_after: steps after which it is left as a kill would leave it, for tests of that
        """
        plan, regressor = self.plan, self.regressor
        torch.manual_seed(seed)
        optimiser = torch.optim.AdamW(parameter_groups(regressor, plan))
        n_batches = len(batches(len(train), size=plan.batch_size, rng=np.random.default_rng(0)))
        n_steps, done = n_batches * plan.epochs, 0
        log: list[dict[str, Any]] = []
        losses: list[float] = []
        values = read_training(self.folder / LAST, self._learnt(), optimiser, device=self.device)
        if values is not None:
            done, log, losses = values["steps"], values["log"], values["losses"]
        truth = torch.tensor(ratings, dtype=torch.float32).to(self.device)
        standardised = (truth - regressor.get_buffer("mean")) / regressor.get_buffer("spread")
        progress.begin(f"train, seed {seed}", n_steps, "steps")
        progress.advance(done)
        began = time.monotonic()
        try:
            for epoch in range(done // n_batches, plan.epochs):
                if self._is_over(log):
                    break
                order = batches(len(train), size=plan.batch_size, rng=np.random.default_rng([seed, epoch]))
                rest = [train[batch] for batch in order[done - epoch * n_batches :]]
                for rows, utterances in zip(rest, self.sounds.load_ahead(rest), strict=True):
                    losses.append(self._step(optimiser, utterances, standardised[rows], done, n_steps))
                    done += 1
                    progress.advance(1, f"loss {np.mean(losses[-20:]):.3f}" + _said(log))
                    if done == stop_after:
                        return Fit(0, math.nan, pd.DataFrame(log))
                    if done % STEPS_BETWEEN_STATES == 0 and done % n_batches:
                        self._save(optimiser, done, log, losses)
                log.append(self._judged(ratings, development, losses, epoch, time.monotonic() - began))
                losses, began = [], time.monotonic()
                if _best_epoch(log) == len(log):
                    best = {f"{LEARNT}{name}": tensor for name, tensor in self._learnt().items()}
                    write_state(self.folder / BEST, best, {"epoch": len(log)})
                self._save(optimiser, done, log, losses)
        finally:
            progress.end()
        state = read_state(self.folder / BEST)
        assert state is not None
        fill_parameters(self._learnt(), state[0])
        table = pd.DataFrame(log)
        table.to_csv(self.folder / LOG, index=False, lineterminator="\n")
        return Fit(_best_epoch(log), max(row["mean"] for row in log), table)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predictions in the ratings' unit, ``(n_rows, n_targets)`` float64."""
        set_training(self.regressor, False)
        chunks = np.array_split(rows, max(1, math.ceil(len(rows) / max(64, self.plan.batch_size))))
        found = []
        with torch.no_grad():
            for utterances in self.sounds.load_ahead(chunks):
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
        cut = parts([u.n_frames for u in utterances], budget=self.plan.max_batch_frames)
        order = np.concatenate(cut)

        def predict(part: np.ndarray) -> Tensor:
            with autocast(self.plan, self.device):
                return self.regressor([utterances[k] for k in part])  # type: ignore[no-any-return]

        loss = backward_in_parts(predict, cut, truth[torch.from_numpy(order).to(self.device)], self._weights)
        learnt = [p for group in optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(learnt, self.plan.max_grad_norm, error_if_nonfinite=True)
        optimiser.step()
        return loss

    def _judged(
        self, ratings: np.ndarray, rows: np.ndarray, losses: list[float], epoch: int, seconds: float
    ) -> dict[str, Any]:
        predicted = self.predict(rows)
        scores = {t: ccc(ratings[rows, k], predicted[:, k]) for k, t in enumerate(self.plan.targets)}
        mean = float(np.mean(list(scores.values())))
        return {"epoch": epoch + 1, "loss": float(np.mean(losses)), **scores, "mean": mean, "seconds": seconds}

    def _is_over(self, log: Sequence[dict[str, Any]]) -> bool:
        return len(log) - _best_epoch(log) >= self.plan.patience

    def _learnt(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.regressor.named_parameters() if p.requires_grad}

    def _save(
        self, optimiser: torch.optim.Optimizer, done: int, log: list[dict[str, Any]], losses: list[float]
    ) -> None:
        values = {"steps": done, "log": log, "losses": losses}
        write_training(self.folder / LAST, self._learnt(), optimiser, values, device=self.device)


def predict_batch(regressor: AudioTextRegressor, utterances: list[Utterance], plan: TrainPlan) -> np.ndarray:
    """Predictions of some utterances in the ratings' unit, ``(n, n_targets)`` float64, whatever their lengths."""
    device = next(regressor.parameters()).device
    cut = parts([u.n_frames for u in utterances], budget=plan.max_batch_frames)
    found = np.empty((len(utterances), len(plan.targets)))
    for part in cut:
        with autocast(plan, device):
            predicted = regressor([utterances[k] for k in part])
        found[part] = regressor.scale(predicted).double().cpu().numpy()
    return found


def _best_epoch(log: Sequence[dict[str, Any]]) -> int:
    """From 1; 0 before the first."""
    return 1 + int(np.argmax([row["mean"] for row in log])) if log else 0


def _said(log: Sequence[dict[str, Any]]) -> str:
    return f", development CCC {log[-1]['mean']:.3f} (best {max(r['mean'] for r in log):.3f})" if log else ""
