"""Multi-layer perceptron probe with one hidden layer, per target, for all splits in parallel.

It tests whether a finding holds for linear probes only, and is compared with ridge, never reported alone: a perceptron
learns more that the layer does not encode (Hewitt and Liang, 2019, arXiv:1909.03368). Inner fold 0 is the validation
set of early stopping, so it trains on fewer speakers than ridge, which is refitted on all of them.
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

from layerprobe.probe.solvers.standardiser import Standardiser
from layerprobe.probe.splits import Split
from layerprobe.probe.vectors import varies_by_rounding

BATCH_ROWS = 128  # approximate number of utterances in a step
BLOCK_ROWS = 2048  # utterances predicted at once
# Weights are in units of 1 / sqrt(inputs), so that one learning rate and one decay suit a layer of 8 features and one
# of 1024. A linear signal in 1024 features was predicted with r 0.61 where ridge on the same rows reached 0.63; a tenth
# of this decay gave 0.56, and 1.5 times as much reduced r from 0.91 to 0.52 for the product of 2 features among 8.
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1.0  # a step subtracts LEARNING_RATE times this fraction of a weight


@dataclass(frozen=True)
class MlpFit:
    """Predictions of one split for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers, in the ratings' unit
    inner_prediction: np.ndarray  # (n_dev, n_targets), of inner fold 0, whose error stops the training
    inner_truth: np.ndarray  # (n_dev, n_targets)
    n_epochs: np.ndarray  # (n_targets,), the epoch with the smallest error on them


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
    """Train one network for each split and target, with early stopping on inner fold 0, and predict the test rows.

    All networks are trained in parallel on one ``x``. Each standardises the rows of a batch when it needs them, so that
    memory holds ``x``, the weights of every network and one batch for each.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)``
        y: ratings, ``(n_utterances, n_targets)``, finite
        splits: rows of ``x`` and ``y``
        seed: of the initial weights and of the order of rows, the same for every split and target
        hidden: units of the one hidden layer
        max_epochs: at least 1
        patience: epochs without a smaller error after which a network stops
        device: where torch multiplies
    """
    y = y.astype(np.float64)
    problem = _Problem(x, y, splits, device)
    start = _start(problem, hidden, seed)
    networks, n_epochs = _train(problem, start, seed=seed, max_epochs=max_epochs, patience=patience)
    fits = []
    for k, split in enumerate(splits):
        of_split = [p[problem.split_of == k] for p in networks]
        test, dev = (
            problem.predict(of_split, k, rows).T.double().cpu().numpy() * problem.std_of_ratings[k] + problem.mean[k]
            for rows in (torch.from_numpy(split.test).to(device), problem.dev[k])
        )
        truth = y[split.train[split.inner_folds == 0]]
        fits.append(MlpFit(test, dev, truth, n_epochs[k * y.shape[1] : (k + 1) * y.shape[1]]))
    return fits


class _Problem:
    """Embeddings and ratings of all models, with the standardisation of each split.

    There is a model for each split and target, numbered by split and then by target.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, splits: list[Split], device: str) -> None:
        """Learn each split's standardisation from its training speakers without inner fold 0."""
        trained = [split.train[split.inner_folds != 0] for split in splits]
        self.mean = np.stack([y[rows].mean(axis=0) for rows in trained])  # (n_splits, n_targets)
        varies = np.stack([~varies_by_rounding(y[rows]) for rows in trained])
        # 0 for constant ratings, for which the mean is predicted
        self.std_of_ratings = varies * np.stack([y[rows].std(axis=0) for rows in trained])
        truth = (y - self.mean[:, None]) / np.where(varies, self.std_of_ratings, 1.0)[:, None]
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
        """Return rows ``(n, n_rows)`` standardised as their splits ``(n,)`` do, ``(n, n_rows, n_features)``."""
        return self.x[rows].sub_(self._centre[splits]).mul_(self._scale[splits])

    @torch.no_grad()
    def predict(self, networks: list[Tensor], split: int, rows: Tensor) -> Tensor:
        """Return standardised predictions ``(n_models, n_rows)`` of rows by the networks of one split."""
        here = torch.tensor([split], device=rows.device)
        blocks = rows.tensor_split(-(-len(rows) // BLOCK_ROWS))
        return torch.cat([_forward(networks, self.standardised(here, block[None])) for block in blocks], dim=1)

    def batches(self, orders: list[torch.Generator]) -> Sequence[Tensor]:
        """Return the rows of one epoch, ``(n_splits, n_rows)`` per step; a split with fewer rows repeats them."""
        longest = max(len(rows) for rows in self.train)
        order = []
        for rows, rng in zip(self.train, orders, strict=True):
            shuffled = torch.randperm(len(rows), generator=rng)
            order.append(rows[shuffled[torch.arange(longest) % len(rows)].to(rows.device)])
        return torch.stack(order).tensor_split(max(1, round(longest / BATCH_ROWS)), dim=1)


def _start(problem: _Problem, hidden: int, seed: int) -> list[Tensor]:
    """Return initial weights and biases, each ``(n_models, n_inputs or 1, n_outputs)``, equal for every model."""
    rng = torch.Generator().manual_seed(seed)
    into, out = torch.randn(problem.x.shape[1], hidden, generator=rng), torch.randn(hidden, 1, generator=rng)
    first = (into, torch.zeros(1, hidden), out, torch.zeros(1, 1))
    return [p.to(problem.x.device).repeat(len(problem.split_of), 1, 1) for p in first]


def _forward(networks: list[Tensor], z: Tensor) -> Tensor:
    """Return predictions ``(n_models, n_rows)`` of standardised rows ``(n_models or 1, n_rows, n_features)``."""
    into, into_bias, out, out_bias = networks
    units = gelu(z @ into / math.sqrt(into.shape[1]) + into_bias)
    return (units @ out / math.sqrt(out.shape[1]) + out_bias).squeeze(2)


def _train(
    problem: _Problem, networks: list[Tensor], *, seed: int, max_epochs: int, patience: int
) -> tuple[list[Tensor], np.ndarray]:
    """Return the weights of every model after its best epoch, and the number of that epoch, ``(n_models,)``."""
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
            error.sum().backward()  # type: ignore[no-untyped-call]  # each model has one term
            optimiser.step()
        error = torch.empty(len(active), device=active.device)
        for k in set(split_of.tolist()):
            chosen = split_of == k
            prediction = problem.predict([p[chosen] for p in networks], k, problem.dev[k])
            error[chosen] = (prediction - truth[chosen][:, problem.dev[k]]).square().mean(dim=1)
        better = error < best_error[active]
        best_error[active[better]], best_epoch[active[better]] = error[better], epoch
        for kept, p in zip(best, networks, strict=True):
            kept[active[better]] = p.detach()[better]
        improving = epoch - best_epoch[active] < patience
        if not improving.any():
            break
        active = active[improving]
        for p in networks:  # remove the models that stopped, and their state of the optimiser
            p.data, p.grad, memory = p.data[improving], None, optimiser.state[p]
            memory["exp_avg"], memory["exp_avg_sq"] = memory["exp_avg"][improving], memory["exp_avg_sq"][improving]
    return best, best_epoch.cpu().numpy()
