"""Mean and scale of each layer in each training set, for the weighted sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.vectors import FLOAT32_ROUNDING
from layerprobe.probe.weighted_sum.layers import LayerStack, Observed


@dataclass(frozen=True)
class Scaling:
    """Mean, scale and norm of each layer in each training set."""

    mean: Tensor  # (n_sets, n_layers, n_features)
    scale: Tensor  # (n_sets, n_layers, n_features)
    norm: Tensor  # (n_sets, n_layers), root mean square norm of a scaled row

    @classmethod
    def learn(
        cls, stack: LayerStack | Observed, sets: TrainingSets, *, standardise: bool, units: Tensor | None = None
    ) -> Scaling:
        """Learn from each set's rows only; without ``standardise`` all layers and features have one scale.

        A feature that is constant, or varies by rounding alone (`probe.vectors.is_rounding`), has scale 0.

        Args:
            stack: layers, with rows in the order of ``sets``
            sets: training sets
            standardise: whether each layer and feature is standardised
            units: ``(n_layers, n_features)`` that layers were multiplied by, which one scale for all must undo
        """
        means, variances, vary = [], [], []
        for k, layer in enumerate(stack):
            sums = {c: _sums(layer[s]) for c, s in sets.cells.items() if c >= 0}
            n = torch.tensor([sum(sums[c].n for c in m) for m in sets.members], device=layer.device)[:, None]
            mean = torch.stack([torch.stack([sums[c].x for c in m]).sum(dim=0) for m in sets.members]) / n
            square = torch.stack([torch.stack([sums[c].xx for c in m]).sum(dim=0) for m in sets.members]) / n
            low = torch.stack([torch.stack([sums[c].low for c in m]).amin(dim=0) for m in sets.members])
            high = torch.stack([torch.stack([sums[c].high for c in m]).amax(dim=0) for m in sets.members])
            means.append(mean)
            variances.append((square - mean**2).clamp_min(0))
            level = mean + torch.from_numpy(stack.shift(k)).to(mean.device)
            vary.append((high > low) & (variances[-1].sqrt() > FLOAT32_ROUNDING * level.abs()))
        mean, variance, varies = (torch.stack(parts, dim=1) for parts in (means, variances, vary))
        if not standardise:
            square = torch.ones_like(variance) if units is None else units.double() ** 2
            known = (square > 0).expand_as(variance)
            raw = torch.where(known, variance / square.clamp_min(1e-300), 0.0)
            variance = raw.mean(dim=(1, 2), keepdim=True) * square
            varies = varies.any(dim=2, keepdim=True).any(dim=1, keepdim=True).expand_as(varies) & known
        scale = torch.where(varies, 1 / variance.clamp_min(1e-300).sqrt(), 0.0)
        # of centred rows: benchmarks do not centre unstandardised layers, but the intercept absorbs the constant
        norm = (torch.stack(variances, dim=1) * scale**2).sum(dim=2).sqrt()
        return cls(mean.float(), scale.float(), norm.float())


def contributions(weights: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return what each layer adds to a mix, as fractions that sum to 1; 0 for all where all layers are constant.

    Args:
        weights: ``(n_models, n_layers)``
        norms: of the scaled layers, ``(n_layers,)`` or ``(n_models, n_layers)``
    """
    sizes = weights * norms
    total = sizes.sum(axis=1, keepdims=True)
    return np.asarray(sizes / np.where(total > 0, total, 1.0))


@dataclass(frozen=True)
class _Sums:
    """Sums over some rows, each ``(n_features,)`` float64 except the count."""

    n: int
    x: Tensor
    xx: Tensor  # of squares
    low: Tensor
    high: Tensor


def _sums(rows: Tensor) -> _Sums:
    total, square = torch.zeros(2, rows.shape[1], dtype=torch.float64, device=rows.device)
    for begin in range(0, len(rows), 4096):
        exact = rows[begin : begin + 4096].double()
        total, square = total + exact.sum(dim=0), square + (exact**2).sum(dim=0)
    return _Sums(len(rows), total, square, rows.amin(dim=0), rows.amax(dim=0))
