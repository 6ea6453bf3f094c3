"""A small multi-layer perceptron on one layer, per target, for all splits together.

It asks whether a finding holds for linear readers only, and is read beside ridge, never alone: a perceptron learns
more of what the layer does not say (Hewitt and Liang, 2019, 1909.03368). One inner fold settles when to stop, so it
trains on fewer speakers than ridge, which is fitted again on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu

from layerprobe.probe.solvers.ridge import Standardiser
from layerprobe.probe.splits import Split

BATCH_ROWS = 128  # about as many train in a step
BLOCK_ROWS = 2048  # predicted at once
# Weights are counted in units of 1 / sqrt(inputs), so that one rate and one decay suit a layer of 8 features and one of
# 1024. A linear signal in 1024 features was read with r 0.61 where ridge on the same rows reached 0.63; a tenth of this
# decay gave 0.56, and with half as much again r fell from 0.91 to 0.52 for the product of 2 features among 8.
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1.0  # a step takes off LEARNING_RATE times as much


@dataclass(frozen=True)
class MlpFit:
    """What one split gives for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers, in the ratings' unit
    inner_prediction: np.ndarray  # (n_dev, n_targets), of the training speakers on whom it was settled when to stop
    inner_truth: np.ndarray  # (n_dev, n_targets)
    n_epochs: np.ndarray  # (n_targets,), after which these were predicted best


def fit_mlp(
    x: np.ndarray,
    y: np.ndarray,
    *,
    splits: list[Split],
    seed: int,
    hidden: int = 64,
    max_epochs: int = 200,
    patience: int = 15,
    device: str = "cpu",
) -> list[MlpFit]:
    """For each split and target train one network, stop by the squared error on inner fold 0, predict the held-out.

    All are trained side by side on one ``x``. Each standardises the rows of a batch as it takes them, so that beside
    ``x`` memory holds the weights of every model and a batch for it.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)``
        y: ratings, ``(n_utterances, n_targets)``, finite
        splits: rows of ``x`` and ``y``
        seed: of the first weights and of the order of rows, the same for every split and target
        hidden: units of the one hidden layer
        max_epochs: at least 1
        patience: epochs without a new least error, after which a network stops
        device: where torch multiplies
    """
    y = y.astype(np.float64)
    problem = _Problem(x, y, splits, device)
    start = _start(problem, hidden, seed)
    networks, n_epochs = _train(problem, start, seed=seed, max_epochs=max_epochs, patience=patience)
    fits = []
    for k, split in enumerate(splits):
        own = [p[problem.split_of == k] for p in networks]
        test, dev = (
            problem.predict(own, k, rows).T.double().cpu().numpy() * problem.spread[k] + problem.mean[k]
            for rows in (torch.from_numpy(split.test).to(device), problem.dev[k])
        )
        truth = y[split.train[split.inner_folds == 0]]
        fits.append(MlpFit(test, dev, truth, n_epochs[k * y.shape[1] : (k + 1) * y.shape[1]]))
    return fits


class _Problem:
    """The embeddings and ratings that all models share, and the scales in which each split reads them.

    A model is a split and a target, counted by split and then by target.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, splits: list[Split], device: str) -> None:
        """Learn each split's scales from the rows it trains on, which are the training speakers but inner fold 0."""
        trained = [split.train[split.inner_folds != 0] for split in splits]
        self.mean = np.stack([y[rows].mean(axis=0) for rows in trained])  # (n_splits, n_targets)
        varies = np.stack([np.ptp(y[rows], axis=0) > 0 for rows in trained])
        self.spread = varies * np.stack([y[rows].std(axis=0) for rows in trained])  # 0: the mean is predicted
        truth = (y - self.mean[:, None]) / np.where(varies, self.spread, 1.0)[:, None]
        scales = [Standardiser.learn(x[rows]) for rows in trained]
        tensor = partial(torch.tensor, dtype=torch.float32, device=device)
        self.x = tensor(x)
        self.truth = tensor(truth).transpose(1, 2).flatten(0, 1)  # (n_models, n_utterances)
        self._centre = tensor(np.stack([s.mean for s in scales]))[:, None]  # (n_splits, 1, n_features)
        self._scale = tensor(np.stack([s.scale for s in scales]))[:, None]
        self.train = [torch.from_numpy(rows).to(device) for rows in trained]
        self.dev = [torch.from_numpy(split.train[split.inner_folds == 0]).to(device) for split in splits]
        self.split_of = torch.arange(len(splits), device=device).repeat_interleave(y.shape[1])  # (n_models,)

    def standardised(self, splits: Tensor, rows: Tensor) -> Tensor:
        """``(n, n_rows, n_features)``, of ``rows``, ``(n, n_rows)``, each in the scale of its split, ``(n,)``."""
        return self.x[rows].sub_(self._centre[splits]).mul_(self._scale[splits])

    @torch.no_grad()
    def predict(self, networks: list[Tensor], split: int, rows: Tensor) -> Tensor:
        """Standardised predictions of rows ``(n_rows,)``, ``(n_models, n_rows)``, by networks of one split."""
        here = torch.tensor([split], device=rows.device)
        blocks = rows.tensor_split(-(-len(rows) // BLOCK_ROWS))
        return torch.cat([_forward(networks, self.standardised(here, block[None])) for block in blocks], dim=1)

    def batches(self, orders: list[torch.Generator]) -> Sequence[Tensor]:
        """Rows of one epoch, ``(n_splits, n_rows)`` a step; a split with fewer rows than others begins again."""
        most = max(len(rows) for rows in self.train)
        order = []
        for rows, rng in zip(self.train, orders, strict=True):
            drawn = torch.randperm(len(rows), generator=rng)
            order.append(rows[drawn[torch.arange(most) % len(rows)].to(rows.device)])
        return torch.stack(order).tensor_split(max(1, round(most / BATCH_ROWS)), dim=1)


def _start(problem: _Problem, hidden: int, seed: int) -> list[Tensor]:
    """Weights and offsets, each ``(n_models, n_inputs or 1, n_outputs)``; every model starts from the same draw."""
    rng = torch.Generator().manual_seed(seed)
    into, out = torch.randn(problem.x.shape[1], hidden, generator=rng), torch.randn(hidden, 1, generator=rng)
    first = (into, torch.zeros(1, hidden), out, torch.zeros(1, 1))
    return [p.to(problem.x.device).repeat(len(problem.split_of), 1, 1) for p in first]


def _forward(networks: list[Tensor], z: Tensor) -> Tensor:
    """``(n_models, n_rows)`` from standardised rows, ``(n_models, n_rows, n_features)`` or one for all models."""
    into, into_offset, out, out_offset = networks
    units = gelu(z @ into / math.sqrt(into.shape[1]) + into_offset)
    return (units @ out / math.sqrt(out.shape[1]) + out_offset).squeeze(2)


def _train(
    problem: _Problem, networks: list[Tensor], *, seed: int, max_epochs: int, patience: int
) -> tuple[list[Tensor], np.ndarray]:
    """Every model as it was after its best epoch, and that epoch's number, ``(n_models,)``."""
    best = [p.clone() for p in networks]
    active = torch.arange(len(problem.split_of), device=problem.x.device)  # the models that have not stopped
    best_error, best_epoch = torch.full_like(active, torch.inf, dtype=torch.float32), torch.zeros_like(active)
    networks = [p.requires_grad_() for p in networks]
    optimiser = torch.optim.AdamW(networks, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    orders = [torch.Generator().manual_seed(seed) for _ in problem.train]
    for epoch in range(1, max_epochs + 1):
        split_of, truth = problem.split_of[active], problem.truth[active]
        for batch in problem.batches(orders):
            rows = batch[split_of]
            prediction = _forward(networks, problem.standardised(split_of, rows))
            error = (prediction - truth.gather(1, rows)).square().mean(dim=1)
            optimiser.zero_grad()
            error.sum().backward()  # type: ignore[no-untyped-call]  # each model is in one term
            optimiser.step()
        error = torch.empty(len(active), device=active.device)
        for k in set(split_of.tolist()):
            own = split_of == k
            prediction = problem.predict([p[own] for p in networks], k, problem.dev[k])
            error[own] = (prediction - truth[own][:, problem.dev[k]]).square().mean(dim=1)
        better = error < best_error[active]
        best_error[active[better]], best_epoch[active[better]] = error[better], epoch
        for kept, p in zip(best, networks, strict=True):
            kept[active[better]] = p.detach()[better]
        going = epoch - best_epoch[active] < patience
        if not going.any():
            break
        active = active[going]
        for p in networks:  # what has stopped drops out, with what the optimiser remembers of it
            p.data, p.grad, memory = p.data[going], None, optimiser.state[p]
            memory["exp_avg"], memory["exp_avg_sq"] = memory["exp_avg"][going], memory["exp_avg_sq"][going]
    return best, best_epoch.cpu().numpy()
