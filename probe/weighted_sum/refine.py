"""Heads of many mixes with given weights, by preconditioned conjugate gradients on all features and utterances.

The moments of `probe.weighted_sum.moments` are approximate in the directions of small variance; their solution is the
first step here, and each step reads the layers once for all mixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.weighted_sum.moments import LayerMoments
from layerprobe.probe.weighted_sum.reduced import ReducedFit


@dataclass(frozen=True)
class Columns:
    """Mixes whose heads are refined in parallel."""

    training_set: np.ndarray  # (n_mixes,)
    target: np.ndarray  # (n_mixes,)
    penalty: Tensor  # (n_mixes,), absolute
    held_out: list[frozenset[int]]  # cells that each mix predicts


def predict_held_out(moments: LayerMoments, columns: Columns, reduced: ReducedFit, *, n_steps: int) -> np.ndarray:
    """Return predictions ``(n_rows, n_mixes)`` in the ratings' unit; NaN on rows that a mix does not hold out.

    Args:
        moments: of all layers, whose stack is read
        columns: the mixes
        reduced: their weights, and the preconditioners
        n_steps: 0 takes the moments' solution as it is
    """
    passes, penalty = _Passes(moments, columns, reduced.weights), columns.penalty[:, None]
    residual = reduced.cross
    step = reduced.solve(residual)
    if n_steps == 0:
        return passes.in_ratings(passes.predict(step))
    product = (residual * step).sum(dim=1)
    predicted = torch.zeros(len(moments.sets.order), len(step))
    for number in range(n_steps):
        last = number + 1 == n_steps
        moved, back = passes.there_and_back(step, back=not last)
        curvature = passes.mean_square(moved) + (penalty * step**2).sum(dim=1)
        length = product / curvature.clamp_min(1e-30)
        predicted += moved * length
        if not last:
            residual = residual - length[:, None] * (back + penalty * step)
            preconditioned = reduced.solve(residual)
            before, product = product, (residual * preconditioned).sum(dim=1)
            step = preconditioned + (product / before.clamp_min(1e-30))[:, None] * step
    return passes.in_ratings(predicted)


class _Passes:
    """Products of the layers with heads of all mixes, and back."""

    def __init__(self, moments: LayerMoments, columns: Columns, weights: Tensor) -> None:
        self._moments, self._columns, self._n_layers = moments, columns, weights.shape[1]
        members = [moments.sets.members[s] for s in columns.training_set]
        cells = moments.sets.cells
        self._train = {c: _indices([c in m for m in members]) for c in cells}
        self._held = {c: _indices([c in h for h in columns.held_out]) for c in cells}
        self._n = torch.from_numpy(moments.n_rows[columns.training_set]).float()
        sets = columns.training_set
        self._scales = [moments.scaling.scale[sets, k].T * weights[:, k] for k in range(self._n_layers)]
        self._means = [moments.scaling.mean[sets, k].T for k in range(self._n_layers)]

    def predict(self, heads: Tensor) -> Tensor:
        """Return predictions ``(n_rows, n_mixes)`` of heads ``(n_mixes, n_features)``, on held-out rows only."""
        return self._multiply(heads, self._held, back=False)[0]

    def there_and_back(self, heads: Tensor, *, back: bool) -> tuple[Tensor, Tensor]:
        """Return predictions, and the layers times those of the training rows, per row, ``(n_mixes, n_features)``."""
        both = {c: _union(self._train[c], self._held[c]) for c in self._train}
        return self._multiply(heads, both, back=back)

    def mean_square(self, predicted: Tensor) -> Tensor:
        """Return each mix's mean square over its training rows, ``(n_mixes,)``."""
        total = torch.zeros(predicted.shape[1])
        for c, chosen in self._train.items():
            total[chosen] += (predicted[self._moments.sets.cells[c]][:, chosen] ** 2).sum(dim=0)
        return total / self._n

    def in_ratings(self, predicted: Tensor) -> np.ndarray:
        """Return predictions in the ratings' unit, NaN on rows that a mix does not hold out."""
        found, columns = np.full(predicted.shape, np.nan), self._columns
        std, mean = (a[columns.training_set, columns.target] for a in (self._moments.std, self._moments.mean))
        for c, chosen in self._held.items():
            rows, held = self._moments.sets.cells[c], chosen.numpy()
            found[rows, held] = predicted[rows].numpy()[:, held] * std[held] + mean[held]
        return found

    def _multiply(self, heads: Tensor, users: dict[int, Tensor], *, back: bool) -> tuple[Tensor, Tensor]:
        """Read the layers once; predictions are 0 on rows of cells that a mix does not use."""
        moments = self._moments
        turned = moments.basis @ heads.T
        scaled = [scale * turned for scale in self._scales]
        offset = torch.stack([(m * s).sum(dim=0) for m, s in zip(self._means, scaled, strict=True)]).sum(dim=0)
        predicted = torch.zeros(len(moments.sets.order), len(heads))
        totals, sums = [torch.zeros_like(turned) for _ in scaled if back], torch.zeros(len(heads))
        for positions, stack in moments.stack.blocks():
            used = islice(stack, self._n_layers)
            layers = list(used) if back else used  # all are needed twice
            local, parts = torch.zeros(len(positions), len(heads)), _cell_parts(moments.sets, positions)
            of_cell = {c: -offset[users[c]].expand(rows.stop - rows.start, -1) for c, rows in parts.items()}
            for layer, s in zip(layers, scaled, strict=True):
                for c, rows in parts.items():
                    of_cell[c] = torch.addmm(of_cell[c], layer[rows], s[:, users[c]])
            for c, rows in parts.items():
                local[rows, users[c]] = of_cell[c]
            predicted[torch.from_numpy(positions)] = local
            if back:
                trained = {c: local[rows][:, self._train[c]] for c, rows in parts.items()}
                for c, part in trained.items():
                    sums[self._train[c]] += part.sum(dim=0)
                for layer, total in zip(layers, totals, strict=True):
                    for c, rows in parts.items():
                        total.index_add_(1, self._train[c], layer[rows].T @ trained[c])
        product = torch.zeros_like(turned)
        for total, mean, scale in zip(totals, self._means, self._scales, strict=False):
            product += (total - mean * sums) * scale
        return predicted, (moments.basis.T @ (product / self._n)).T


def _indices(flags: list[bool]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(flags))


def _union(first: Tensor, second: Tensor) -> Tensor:
    return torch.from_numpy(np.union1d(first.numpy(), second.numpy()))


def _cell_parts(sets: TrainingSets, positions: np.ndarray) -> dict[int, slice]:
    """Return each cell's rows within a block of rising positions."""
    parts = {}
    for c, rows in sets.cells.items():
        begin, end = np.searchsorted(positions, [rows.start, rows.stop]).tolist()
        if end > begin:
            parts[c] = slice(begin, end)
    return parts
