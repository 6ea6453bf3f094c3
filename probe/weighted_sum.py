"""The weighted sum: a softmax mix of standardised layers with a linear head, per target.

As speech benchmarks mix layers (Yang et al., 2021, SUPERB), but on pooled layers that are standardised first, so a
layer's weight does not measure its scale. The weights are a model, not a measurement: read them beside the layers'
own scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.splits import Split


@dataclass(frozen=True)
class WeightedSumFit:
    """What one split and one seed give for every target."""

    prediction: np.ndarray  # (n_test, n_targets)
    inner_prediction: np.ndarray  # (n_inner, n_targets), of the inner held-out speakers that stopped the training
    inner_rows: np.ndarray  # (n_inner,) row numbers of those
    layer_weights: np.ndarray  # (n_targets, n_layers), each row sums to 1


def fit_weighted_sum(
    x: np.ndarray,
    y: np.ndarray,
    *,
    split: Split,
    learning_rate: float,
    batch_size: int,
    max_epochs: int,
    patience: int,
    seed: int,
) -> WeightedSumFit:
    """Minimise 1 - CCC by Adam on all inner folds but the first, whose speakers say when to stop.

    Targets are fitted side by side and share nothing but the order of utterances; each keeps the epoch that was
    best for it on the inner held-out speakers.

    Args:
        x: embeddings, ``(n_utterances, n_layers, n_features)``
        y: ratings, ``(n_utterances, n_targets)``
        split: rows of ``x`` and ``y``
        learning_rate: of Adam
        batch_size: utterances a step, at least 2
        max_epochs: passes over the training utterances at most
        patience: epochs that no target's CCC improves before the training stops
        seed: of the head's first weights and of the utterances' order
    """
    generator = torch.Generator().manual_seed(seed)
    inner_rows = split.train[split.inner_folds == 0]
    fit_rows = split.train[split.inner_folds != 0]
    z_fit, z_inner, z_test = _standardised(x, fit_rows, inner_rows, split.test)
    mean, spread = y[fit_rows].mean(axis=0), np.maximum(y[fit_rows].std(axis=0), np.finfo(float).tiny)
    t_fit, t_inner = (torch.from_numpy((y[rows] - mean) / spread).float() for rows in (fit_rows, inner_rows))

    n_layers, n_features = z_fit.shape[1:]
    n_targets = y.shape[1]
    layer_logits = torch.zeros(n_targets, n_layers, requires_grad=True)
    head = torch.randn(n_features, n_targets, generator=generator) / n_features
    head.requires_grad_()
    intercept = torch.zeros(n_targets, requires_grad=True)
    optimiser = torch.optim.Adam([layer_logits, head, intercept], lr=learning_rate)

    best = torch.full((n_targets,), -torch.inf)
    kept = [p.detach().clone() for p in (layer_logits, head, intercept)]
    epochs_since_best = 0
    for _ in range(max_epochs):
        order = torch.randperm(len(z_fit), generator=generator)
        for rows in torch.split(order, batch_size):
            if len(rows) < 2:
                continue  # one utterance has no concordance
            optimiser.zero_grad()
            predicted = _mix(z_fit[rows], layer_logits, head, intercept)
            (1 - _ccc(t_fit[rows], predicted)).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            score = _ccc(t_inner, _mix(z_inner, layer_logits, head, intercept))
        better = score > best
        best = torch.where(better, score, best)
        for old, new, axis in zip(kept, (layer_logits, head, intercept), (0, 1, 0), strict=True):
            old.copy_(torch.where(better[:, None] if axis == 0 and old.ndim == 2 else better, new.detach(), old))
        epochs_since_best = 0 if better.any() else epochs_since_best + 1
        if epochs_since_best > patience:
            break
    with torch.no_grad():
        predictions = [(_mix(z, *kept).double().numpy() * spread + mean) for z in (z_test, z_inner)]
    weights = torch.softmax(kept[0], dim=1).double().numpy()
    return WeightedSumFit(predictions[0], predictions[1], inner_rows, weights)


def _mix(z: Tensor, layer_logits: Tensor, head: Tensor, intercept: Tensor) -> Tensor:
    """Predictions ``(n, n_targets)``: the head on every layer first, then the mix, which is the same and cheaper."""
    per_layer = z @ head  # (n, n_layers, n_targets)
    return torch.einsum("nlt,tl->nt", per_layer, torch.softmax(layer_logits, dim=1)) + intercept


def _ccc(truth: Tensor, prediction: Tensor) -> Tensor:
    """CCC per column, ``(n_targets,)``; see `probe.metrics.ccc`."""
    a, b = truth - truth.mean(0), prediction - prediction.mean(0)
    gap = (truth.mean(0) - prediction.mean(0)) ** 2
    return 2 * (a * b).mean(0) / ((a * a).mean(0) + (b * b).mean(0) + gap).clamp_min(1e-12)


def _standardised(x: np.ndarray, fit_rows: np.ndarray, *others: np.ndarray) -> list[Tensor]:
    """Rows of ``x`` as float32 tensors, each layer and feature standardised on ``fit_rows``."""
    fit = x[fit_rows].astype(np.float32)
    mean, spread = fit.mean(axis=0, dtype=np.float64), fit.std(axis=0, dtype=np.float64)
    scale = np.where(np.ptp(fit, axis=0) == 0, 0.0, 1 / np.where(spread == 0, 1.0, spread))
    return [torch.from_numpy(((x[rows] - mean) * scale).astype(np.float32)) for rows in (fit_rows, *others)]
