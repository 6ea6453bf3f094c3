"""Heads of many mixes with given weights, by preconditioned conjugate gradients on all features and utterances.

The moments of `probe.weighted_sum.moments` are approximate in the directions of small variance; their solution is the
first step here, and each step reads the layers once for all mixes.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Products of the layers with heads of all mixes, and back.

    The mixes that use a cell's rows are sorted by their highest layer, so that those of layer k are the first ones.
    """

    def __init__(self, moments: LayerMoments, columns: Columns, weights: Tensor) -> None:
        self._moments, self._columns, self._n_layers = moments, columns, weights.shape[1]
        members = [moments.sets.members[s] for s in columns.training_set]
        cells, sets = moments.sets.cells, columns.training_set
        self._depth = ((weights > 0) * torch.arange(1, self._n_layers + 1)).amax(dim=1).numpy()
        self._train = {c: self._users([c in m for m in members]) for c in cells}
        self._held = {c: self._users([c in h for h in columns.held_out]) for c in cells}
        self._both = {
            c: self._users([c in m or c in h for m, h in zip(members, columns.held_out, strict=True)]) for c in cells
        }
        self._n = torch.from_numpy(moments.n_rows[columns.training_set]).float()
        self._scales = [moments.scaling.scale[sets, k].T * weights[:, k] for k in range(self._n_layers)]
        self._means = [moments.scaling.mean[sets, k].T for k in range(self._n_layers)]

    def predict(self, heads: Tensor) -> Tensor:
        """Return predictions ``(n_rows, n_mixes)`` of heads ``(n_mixes, n_features)``, on held-out rows only."""
        return self._multiply(heads, self._held, back=False)[0]

    def there_and_back(self, heads: Tensor, *, back: bool) -> tuple[Tensor, Tensor]:
        """Return predictions, and the layers times those of the training rows, per row, ``(n_mixes, n_features)``."""
        return self._multiply(heads, self._both, back=back)

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

    def _users(self, flags: list[bool]) -> Tensor:
        """Return the mixes that are flagged, those of most layers first."""
        found = np.flatnonzero(flags)
        return torch.from_numpy(found[np.argsort(-self._depth[found], kind="stable")])

    def _counts(self, users: Tensor) -> list[int]:
        """Return how many of some mixes use each layer."""
        depth = self._depth[users.numpy()]
        return [int((depth > k).sum()) for k in range(self._n_layers)]

    def _multiply(self, heads: Tensor, users: dict[int, Tensor], *, back: bool) -> tuple[Tensor, Tensor]:
        """Read the layers once; predictions are 0 on rows of cells that a mix does not use."""
        moments, n_layers = self._moments, self._n_layers
        turned = moments.basis @ heads.T
        offset = torch.zeros(len(heads))
        right: dict[int, list[Tensor]] = {c: [] for c in users}
        counts = {c: self._counts(u) for c, u in users.items()}
        for k in range(n_layers):
            scaled = self._scales[k] * turned
            offset += (self._means[k] * scaled).sum(dim=0)
            for c, u in users.items():
                right[c].append(scaled[:, u[: counts[c][k]]])
        predicted = torch.zeros(len(moments.sets.order), len(heads))
        products = _Products(self._train, users, self._counts, turned) if back else None
        for positions, stack in moments.stack.blocks():
            used = islice(stack, n_layers)
            layers = list(used) if back else used  # all are needed twice
            parts = _cell_parts(moments.sets, positions)
            of_cell = {c: (-offset[users[c]]).repeat(rows.stop - rows.start, 1) for c, rows in parts.items()}
            for k, layer in enumerate(layers):
                for c, rows in parts.items():
                    of_cell[c][:, : counts[c][k]].addmm_(layer[rows], right[c][k])
            for c, rows in parts.items():
                predicted[torch.from_numpy(positions[rows])[:, None], users[c]] = of_cell[c]
                if products is not None:
                    products.add(c, [layer[rows] for layer in layers], of_cell[c])
        if products is None:
            return predicted, turned
        product = torch.zeros_like(turned)
        for k in range(n_layers):
            product += (products.total(k) - self._means[k] * products.sums) * self._scales[k]
        return predicted, (moments.basis.T @ (product / self._n)).T


class _Products:
    """Sums of products of the layers with predictions of each mix's training rows."""

    def __init__(
        self, train: dict[int, Tensor], users: dict[int, Tensor], counts: Callable[[Tensor], list[int]], like: Tensor
    ) -> None:
        self._train, self._like, self.sums = train, like, torch.zeros(like.shape[1])
        self._counts = {c: counts(t) for c, t in train.items()}
        self._inside = {c: torch.from_numpy(np.flatnonzero(np.isin(users[c], t))) for c, t in train.items()}
        self._totals = {c: [torch.zeros(len(like), n) for n in numbers] for c, numbers in self._counts.items()}

    def add(self, c: int, layers: list[Tensor], predicted: Tensor) -> None:
        """Add some rows of a cell, with the predictions of the mixes that use it."""
        trained = predicted[:, self._inside[c]]
        self.sums[self._train[c]] += trained.sum(dim=0)
        for layer, total, n in zip(layers, self._totals[c], self._counts[c], strict=True):
            total.addmm_(layer.T, trained[:, :n])

    def total(self, k: int) -> Tensor:
        """Return the sums of one layer, ``(n_features, n_mixes)``."""
        found = torch.zeros_like(self._like)
        for c, totals in self._totals.items():
            found.index_add_(1, self._train[c][: totals[k].shape[1]], totals[k])
        return found


def _cell_parts(sets: TrainingSets, positions: np.ndarray) -> dict[int, slice]:
    """Return each cell's rows within a block of rising positions."""
    parts = {}
    for c, rows in sets.cells.items():
        begin, end = np.searchsorted(positions, [rows.start, rows.stop]).tolist()
        if end > begin:
            parts[c] = slice(begin, end)
    return parts
