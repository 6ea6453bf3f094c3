"""The weighted sum of layers trained by gradient descent on 1 - CCC in mini-batches, with early stopping.

It reproduces the featurizer of a speech benchmark (Yang et al., 2021, SUPERB): logits that start at zero, their
softmax, the weighted sum of unstandardised layers, a linear head. There frames are summed over layers and then averaged
over time; both are linear, so on mean-pooled layers it is the same model. The deterministic `probe.weighted_sum.solver`
reaches the same scores faster; this one allows a comparison of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split
from layerprobe.probe.weighted_sum.layers import LayerStack, ReadLayer
from layerprobe.probe.weighted_sum.objective import MixProblem
from layerprobe.probe.weighted_sum.scaling import contributions

BATCH = 32  # utterances, as in the benchmark
LEARNING_RATE = 1e-3
MAX_EPOCHS, MAX_STEPS = 60, 4000  # whichever is more
PATIENCE, PATIENT_STEPS = 5, 400  # epochs or steps, whichever is more, without a better validation score


@dataclass(frozen=True)
class ReplayFit:
    """Predictions and layer weights of one split and one seed for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    development: np.ndarray  # (n_development,) row numbers of inner fold 0, used for early stopping
    development_prediction: np.ndarray  # (n_development, n_targets)
    layer_weights: np.ndarray  # (n_targets, n_layers), each row sums to 1
    contributions: np.ndarray  # (n_targets, n_layers), weight times norm of the scaled layer; each row sums to 1
    n_epochs: np.ndarray  # (n_targets,), the epoch with the best validation score


def replay(
    read: ReadLayer,
    n_layers: int,
    y: np.ndarray,
    *,
    splits: list[Split],
    seeds: tuple[int, ...],
    standardise: bool = False,
    memory: float = float("inf"),
    device: str = "cpu",
) -> list[list[ReplayFit]]:
    """Train the weighted sums of all seeds, splits and targets in parallel on the same mini-batches.

    Args:
        read: returns rows of a layer, ``(n_rows, n_features)``
        n_layers: number of layers of the encoder
        y: ratings, ``(n_utterances, n_targets)``, finite
        splits: rows of ``y``
        seeds: of the heads and the order of batches, one training per seed
        standardise: whether each layer and feature is standardised on the training rows; the benchmark does not
        memory: bytes that all layers may take; they are kept in memory
        device: the torch device

    Raises:
        InputError: if the layers are larger than ``memory``
    """
    fitted = []
    for split in splits:
        trained, stopping = split.inner_folds != 0, split.inner_folds == 0
        rows = np.concatenate([split.test, split.train[stopping]])
        inner_folds = split.inner_folds[trained]
        if len(np.unique(inner_folds)) < 2:  # nothing is chosen on them, but every set of rows must have some
            inner_folds = np.arange(len(inner_folds)) % 2
        fitted.append(Split(split.name, split.train[trained], rows, inner_folds))
    sets = TrainingSets.from_splits(fitted, len(y))
    stack = LayerStack(read, n_layers, sets.order, memory=int(min(memory, 2**62)), device=device)
    if not stack.in_memory:
        needed = n_layers * len(sets.order) * stack.n_features * 4
        raise InputError(
            f"Gradient descent keeps all layers in memory, {needed / 2**30:.1f} GiB, and "
            f"{memory / 2**30:.1f} GiB are available. Leave that weighted sum out."
        )
    problem = MixProblem(stack, y[sets.order], sets, standardise=standardise)
    return [_train(problem, y, splits, seed) for seed in seeds]


def _train(problem: MixProblem, y: np.ndarray, splits: list[Split], seed: int) -> list[ReplayFit]:
    stack, sets, device = problem.stack, problem.sets, problem.stack.device
    n_splits, n_targets, n_rows = len(splits), y.shape[1], len(sets.order)
    set_of_model = np.repeat(sets.outer, n_targets)  # split by split, with the targets in order
    target = np.tile(np.arange(n_targets), n_splits)
    position = np.full(len(y), -1)
    position[sets.order] = np.arange(n_rows)
    trains = torch.zeros(n_rows, len(set_of_model), device=device)
    for k, s in enumerate(set_of_model):
        trains[torch.from_numpy(problem.positions[s]).to(device), k] = 1.0
    truth = (y[sets.order][:, target] - problem.mean[set_of_model, target]) / problem.std[set_of_model, target]
    t = torch.from_numpy(truth).float().to(device)
    scale, mean = (a[set_of_model].to(device) for a in (problem.scaling.scale, problem.scaling.mean))
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(len(set_of_model), stack.n_layers, device=device, requires_grad=True)
    initial_head = torch.randn(stack.n_features, len(set_of_model), generator=generator) / stack.n_features
    head = initial_head.to(device).requires_grad_()
    offset = torch.zeros(len(set_of_model), device=device, requires_grad=True)
    optimiser = torch.optim.Adam([logits, head, offset], lr=LEARNING_RATE)

    def predict(layers: list[Tensor]) -> Tensor:
        weights, total = torch.softmax(logits, dim=1), offset
        for k, layer in enumerate(layers):
            scaled = scale[:, k].T * head
            total = total + (layer @ scaled - (mean[:, k].T * scaled).sum(dim=0)) * weights[:, k]
        return total

    development = [split.train[split.inner_folds == 0] for split in splits]
    best = torch.full((len(set_of_model),), -2.0, dtype=torch.float64)
    kept, epochs = torch.zeros(n_rows, len(set_of_model)), np.zeros(len(set_of_model), dtype=int)
    kept_weights = torch.zeros(len(set_of_model), stack.n_layers)
    n_steps = -(-n_rows // BATCH)  # in an epoch
    patience = max(PATIENCE, -(-PATIENT_STEPS // n_steps))
    for epoch in range(1, max(MAX_EPOCHS, MAX_STEPS // n_steps) + 1):
        order = torch.randperm(n_rows, generator=generator).to(device)
        for begin in range(0, n_rows, BATCH):
            rows = order[begin : begin + BATCH]
            optimiser.zero_grad()
            predicted = predict([layer[rows] for layer in stack])
            loss = (1 - concordance(t[rows], predicted, trains[rows])).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            predicted = predict(list(stack)).cpu()
        for k in range(len(set_of_model)):
            rows = torch.from_numpy(position[development[k // n_targets]])
            score = float(concordance(t.cpu()[rows, k : k + 1], predicted[rows, k : k + 1], torch.ones(len(rows), 1)))
            if score > best[k]:
                best[k], kept[:, k], epochs[k] = score, predicted[:, k], epoch
                kept_weights[k] = torch.softmax(logits.detach()[k], dim=0).cpu()
        if (epoch - epochs >= patience).all():
            break
    prediction = kept.double().numpy() * problem.std[set_of_model, target] + problem.mean[set_of_model, target]
    contribution = contributions(kept_weights.double().numpy(), problem.scaling.norm[set_of_model].cpu().numpy())
    fits = []
    for k, split in enumerate(splits):
        columns = slice(k * n_targets, (k + 1) * n_targets)
        fits.append(
            ReplayFit(
                prediction=prediction[position[split.test], columns],
                development=development[k],
                development_prediction=prediction[position[development[k]], columns],
                layer_weights=kept_weights[columns].double().numpy(),
                contributions=contribution[columns],
                n_epochs=epochs[columns],
            )
        )
    return fits


def concordance(truth: Tensor, prediction: Tensor, counted: Tensor) -> Tensor:
    """Return the CCC of each column over its counted rows (Lin, 1989), ``(n_columns,)``; 0 if all values are equal.

    Args:
        truth: ``(n_rows, n_columns)``
        prediction: ``(n_rows, n_columns)``
        counted: ``(n_rows, n_columns)``, 1 for rows that are counted and 0 for others
    """
    n = counted.sum(dim=0).clamp_min(1)
    mean, truth_mean = (counted * prediction).sum(dim=0) / n, (counted * truth).sum(dim=0) / n
    off, truth_off = counted * (prediction - mean), counted * (truth - truth_mean)
    denominator = ((off**2).sum(dim=0) + (truth_off**2).sum(dim=0)) / n + (mean - truth_mean) ** 2
    return 2 * (off * truth_off).sum(dim=0) / n / denominator.clamp_min(1e-12)
