"""Second moments of all layers in one common basis: what fits mixes in steps independent of the utterances.

A basis of the features is learnt once: the eigenvectors of the sum of all layers' covariances. In its leading
directions every pair of layers has its block of second moments in each cell of rows; in the others, whose variance is
small, only the diagonals of these blocks are kept, from some of the rows. A training set's moments are the sum of its
cells'.

What is seen of held-out rows: the basis and the features' units are learnt from embeddings of some of all rows, and
from no rating. Both only choose coordinates; means and scales of a mix are those of its training rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.vectors import varies_by_rounding
from layerprobe.probe.weighted_sum.layers import CompactStack, LayerStack, Observed
from layerprobe.probe.weighted_sum.scaling import Scaling

LEADING = 192  # directions whose moments are kept in full, at most
MOMENT_BYTES = 450 * 2**20  # of the blocks of all cells, which lowers the number of directions where it is exceeded
BASIS_ROWS = 2048  # from which the basis is learnt
BLOCK_ROWS = 4096  # that are multiplied at a time


def layer_pairs(n_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and second layers of all pairs, ``first <= second``; pairs of layers 0 to l come first."""
    second, first = np.tril_indices(n_layers)
    return first, second


@dataclass(frozen=True)
class SetMoments:
    """Moments of one training set's centred, scaled layers and standardised ratings, per row."""

    blocks: Tensor  # (n_pairs, k, k) in the leading directions
    tails: Tensor  # (n_pairs, n_features - k), diagonals in the other directions
    cross: Tensor  # (n_layers, n_features, n_targets) with the ratings, in all directions
    rank: int  # of a layer, at most

    @property
    def unit(self) -> float:
        """Return the mean eigenvalue of the uniform weighted sum, which relative penalties are multiplied by."""
        n_layers = len(self.cross)
        first, second = layer_pairs(n_layers)
        traces = torch.diagonal(self.blocks, dim1=1, dim2=2).sum(dim=1) + self.tails.sum(dim=1)
        counts = torch.from_numpy(np.where(first == second, 1.0, 2.0)).float()
        return max(float((traces * counts).sum()) / n_layers**2 / self.rank, 1e-12)

    def first(self, n_layers: int) -> SetMoments:
        """Return the moments of the lowest ``n_layers`` layers, which are views of these."""
        n_pairs = n_layers * (n_layers + 1) // 2
        return SetMoments(self.blocks[:n_pairs], self.tails[:n_pairs], self.cross[:n_layers], self.rank)

    def leading(self, k: int) -> SetMoments:
        """Return the moments with ``k`` leading directions, and diagonals only in all others."""
        diagonals = torch.diagonal(self.blocks, dim1=1, dim2=2)[:, k:]
        tails = torch.cat([diagonals, self.tails], dim=1)
        return SetMoments(self.blocks[:, :k, :k].contiguous(), tails, self.cross, self.rank)


class LayerMoments:
    """Moments of all layers in each cell of rows."""

    def __init__(self, stack: CompactStack, y: np.ndarray, sets: TrainingSets, *, standardise: bool) -> None:
        """Learn the basis from some rows, then read every layer once.

        Args:
            stack: layers, with rows in the order of ``sets``
            y: ratings, ``(n_rows, n_targets)`` in that order
            sets: training sets
            standardise: whether each layer and feature is standardised; otherwise layers keep their scales
        """
        self.stack, self.sets = stack, sets
        self.n_layers, n_features = stack.n_layers, stack.n_features
        cells = {c: rows for c, rows in sets.cells.items() if c >= 0}  # that some set trains on
        trained = sets.positions(frozenset(cells))
        some = stack.some(trained[:: max(1, len(trained) // BASIS_ROWS)])
        units = torch.from_numpy(np.stack([stack.unit(k) for k in range(stack.n_layers)]))
        self._scale = _common_scale(some, units, standardise=standardise)
        self.basis = _shared_basis(some, self._scale)
        self._first, self._second = layer_pairs(self.n_layers)
        affordable = int(np.sqrt(MOMENT_BYTES / (4 * len(cells) * len(self._first))))
        self.n_leading = min(LEADING, n_features, max(1, affordable))
        self._tails = self._tail_moments(some)
        del some
        projected = torch.empty(len(sets.order), self.n_layers, self.n_leading, dtype=torch.float16)
        cross = {c: np.empty((self.n_layers, n_features, y.shape[1])) for c in cells}
        self._level = np.mean([y[rows].mean(axis=0) for rows in cells.values()], axis=0)
        ratings = torch.from_numpy(y - self._level).float()
        turned = self.basis[:, : self.n_leading]

        def observe(k: int, layer: Tensor) -> None:
            projected[:, k] = (layer @ (self._scale[k][:, None] * turned)).half()
            for c, rows in cells.items():
                cross[c][k] = (layer[rows].T @ ratings[rows]).double().numpy()

        self.scaling = Scaling.learn(Observed(stack, observe), sets, standardise=standardise, units=units)
        self._cross = cross
        self._blocks = {c: self._cell_blocks(projected[rows]) for c, rows in cells.items()}
        positions = [sets.positions(m) for m in sets.members]
        self.mean = np.stack([y[p].mean(axis=0) for p in positions])  # (n_sets, n_targets)
        constant = np.stack([varies_by_rounding(y[p]) for p in positions])
        self.std = np.where(constant, 1.0, np.stack([y[p].std(axis=0) for p in positions]))
        self.n_rows = np.array([len(p) for p in positions])

    def of_set(self, s: int, n_layers: int) -> SetMoments:
        """Return the moments of the lowest ``n_layers`` layers in a training set, by its number."""
        n, cells, n_pairs = int(self.n_rows[s]), sorted(self.sets.members[s]), n_layers * (n_layers + 1) // 2
        mean, scale = self.scaling.mean[s, :n_layers], self.scaling.scale[s, :n_layers]  # (n_layers, n_features)
        common = self._scale[:n_layers]
        centre = (mean * common) @ self.basis[:, : self.n_leading]
        # a layer's own scales relative to those of all sets
        relative = torch.where(common > 0, scale / common.clamp_min(1e-30), 0.0).sum(dim=1)
        ratio = (relative / (common > 0).sum(dim=1).clamp_min(1)).tolist()
        blocks = self._blocks[cells[0]][:n_pairs].clone()
        for c in cells[1:]:
            blocks += self._blocks[c][:n_pairs]
        blocks /= n
        for pair, (i, j) in enumerate(zip(self._first[:n_pairs], self._second[:n_pairs], strict=True)):
            blocks[pair].addr_(centre[i], centre[j], alpha=-1).mul_(ratio[i] * ratio[j])
        xy = np.sum([self._cross[c][:n_layers] for c in cells], axis=0)
        offset = self.mean[s] - self._level
        centred = (xy / n - mean.double().numpy()[:, :, None] * offset) / self.std[s]
        scaled = torch.from_numpy(centred).float() * scale[:, :, None]
        cross = torch.einsum("lft,fk->lkt", scaled, self.basis)
        return SetMoments(blocks, self._tails[:n_pairs], cross, min(n, self.stack.n_features))

    def _cell_blocks(self, rows: Tensor) -> Tensor:
        """Return the blocks ``(n_pairs, k, k)`` of projected rows ``(n, n_layers, k)``, summed over them."""
        blocks = torch.zeros(len(self._first), rows.shape[2], rows.shape[2])
        for begin in range(0, len(rows), BLOCK_ROWS):
            layers = [layer.float().contiguous() for layer in rows[begin : begin + BLOCK_ROWS].unbind(dim=1)]
            for block, i, j in zip(blocks, self._first, self._second, strict=True):
                block.addmm_(layers[i].T, layers[j])
        return blocks

    def _tail_moments(self, some: LayerStack) -> Tensor:
        """Return the diagonals ``(n_pairs, n_features - k)`` in the other directions, of some rows."""
        rest = self.basis[:, self.n_leading :]
        tails = []
        for layer, scale in zip(some, self._scale, strict=True):
            tail = layer @ (scale[:, None] * rest)
            tails.append((tail - tail.mean(dim=0)).half())
        return torch.stack(
            [(tails[i].float() * tails[j].float()).mean(dim=0) for i, j in zip(self._first, self._second, strict=True)]
        )


def _common_scale(some: CompactStack, units: Tensor, *, standardise: bool) -> Tensor:
    """Return one scale ``(n_layers, n_features)`` for all training sets, of features in their units."""
    variance = torch.stack([layer.var(dim=0, correction=0) for layer in some])
    varies = (units > 0) & (variance > 0)
    if standardise:
        return torch.where(varies, 1 / variance.clamp_min(1e-30).sqrt(), 0.0)
    raw = torch.where(varies, 1 / units.clamp_min(1e-30), 0.0)
    return raw / (raw**2 * variance).mean().clamp_min(1e-30).sqrt()


def _shared_basis(some: LayerStack, scale: Tensor) -> Tensor:
    """Return the eigenvectors ``(n_features, n_features)`` of the sum of covariances, the largest eigenvalue first."""
    total = torch.zeros(some.n_features, some.n_features)
    for layer, s in zip(some, scale, strict=True):
        centred = (layer - layer.mean(dim=0)) * s
        total += centred.T @ centred
    vectors: Tensor = torch.linalg.eigh(total.double())[1]
    return vectors.flip(1).float().contiguous()
