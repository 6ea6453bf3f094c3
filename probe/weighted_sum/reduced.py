"""Weights of many mixes of one training set, from the layers' moments alone.

For given weights the best head is the solution of a small ridge, so only the weights are searched (variable projection;
Golub and Pereyra, 1973). A step costs the same for any number of utterances.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.lbfgs import minimise
from layerprobe.probe.weighted_sum.moments import SetMoments, layer_pairs

LOGIT_UNIT = 5.0  # of the layer logits in the solver
SEARCHED = 64  # leading directions in which a search starts


@dataclass(frozen=True)
class Mixes:
    """Mixes of one training set, to be fitted in parallel."""

    target: np.ndarray  # (n_mixes,)
    penalty: Tensor  # (n_mixes,) of the head, absolute
    logits: np.ndarray  # (n_mixes, n_layers), initial
    learns: bool = True  # False keeps the initial weights
    square: np.ndarray | float = 0.0  # (n_mixes,), penalty on |w - 1 / n_layers|^2, which moves them towards equality


@dataclass(frozen=True)
class ReducedFit:
    """Weights of mixes, and the approximate Hessians of their heads, in the basis of the moments."""

    weights: Tensor  # (n_mixes, n_layers)
    factors: Tensor  # (n_mixes, k, k) lower Cholesky factors in the leading directions, the penalty included
    tails: Tensor  # (n_mixes, n_features - k) diagonals in the other directions, the penalty included
    cross: Tensor  # (n_mixes, n_features) moments of mixes and ratings

    @classmethod
    def joined(cls, fits: list[ReducedFit]) -> ReducedFit:
        """Return the mixes of several training sets as one."""
        return cls(*(torch.cat([getattr(fit, field.name) for fit in fits]) for field in fields(cls)))

    def solve(self, right: Tensor) -> Tensor:
        """Return the solution ``(n_mixes, n_features)`` for right-hand sides ``(n_mixes, n_features)``."""
        k = self.factors.shape[1]
        leading = torch.cholesky_solve(right[:, :k, None], self.factors)[:, :, 0]
        return torch.cat([leading, right[:, k:] / self.tails], dim=1)


def fit_weights(moments: SetMoments, mixes: Mixes, *, max_iterations: int, tolerance: float) -> Tensor:
    """Return the weights ``(n_mixes, n_layers)`` of the least mean squared error with the penalties.

    The search starts from the initial weights in few directions, where a step costs a ninth, and ends in all of them.
    """
    start = torch.from_numpy(mixes.logits).float() / LOGIT_UNIT
    if mixes.learns and start.shape[1] > 1:
        levels = [moments.leading(SEARCHED), moments] if moments.blocks.shape[1] > SEARCHED else [moments]
        for level in levels:
            found = minimise(_Objective(level, mixes), start, max_iterations=max_iterations, tolerance=tolerance)
            start = found.parameters
    return torch.softmax(LOGIT_UNIT * start, dim=1)


def reduce(moments: SetMoments, weights: Tensor, target: np.ndarray, penalty: Tensor) -> ReducedFit:
    """Return what solves for the heads of mixes with given weights, ``(n_mixes, n_layers)``."""
    n_layers, k = weights.shape[1], moments.blocks.shape[1]
    first, second = layer_pairs(n_layers)
    half = torch.from_numpy(np.where(first == second, 0.5, 1.0)).float()
    products = weights[:, first] * weights[:, second] * half
    hessian = (products @ moments.blocks.reshape(len(first), -1)).reshape(-1, k, k)
    hessian = hessian + hessian.transpose(1, 2)
    hessian.diagonal(dim1=1, dim2=2).add_(penalty[:, None])
    tails = 2 * products @ moments.tails + penalty[:, None]
    cross = torch.einsum("ml,lfm->mf", weights, moments.cross[:, :, target])
    return ReducedFit(weights, torch.linalg.cholesky(hessian), tails, cross)


class _Objective:
    """The least error for given weights, and its gradient by the logits."""

    def __init__(self, moments: SetMoments, mixes: Mixes) -> None:
        self._moments, self._mixes = moments, mixes
        self._first, self._second = layer_pairs(mixes.logits.shape[1])

    def __call__(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        moments, mixes = self._moments, self._mixes
        weights = torch.softmax(LOGIT_UNIT * parameters, dim=1)
        target = mixes.target[active.numpy()]
        reduced = reduce(moments, weights, target, mixes.penalty[active])
        head = reduced.solve(reduced.cross)  # (n, n_features)
        value = 1 - (reduced.cross * head).sum(dim=1)
        gradient = 2 * (torch.einsum("mij,mj->mi", self._quadratic(head), weights) - self._linear(target, head))
        even = weights - 1 / weights.shape[1]
        every = np.broadcast_to(np.asarray(mixes.square, dtype=np.float32), len(mixes.target))
        square = torch.from_numpy(every[active.numpy()])
        value = value + square * (even**2).sum(dim=1)
        gradient = gradient + 2 * square[:, None] * even
        inward = gradient - (weights * gradient).sum(dim=1, keepdim=True)
        return value, LOGIT_UNIT * weights * inward

    def _linear(self, target: np.ndarray, head: Tensor) -> Tensor:
        """Return each layer's product with the ratings, ``(n, n_layers)``."""
        return torch.einsum("lfm,mf->ml", self._moments.cross[:, :, target], head)

    def _quadratic(self, head: Tensor) -> Tensor:
        """Return each pair of layers' products ``(n, n_layers, n_layers)``, given heads ``(n, n_features)``."""
        blocks, k = self._moments.blocks, self._moments.blocks.shape[1]
        leading, n = head[:, :k], len(head)
        turned = (blocks.reshape(-1, k) @ leading.T).reshape(len(self._first), k, n)
        pairs = torch.einsum("pkm,mk->mp", turned, leading) + (head[:, k:] ** 2) @ self._moments.tails.T
        n_layers = self._mixes.logits.shape[1]
        square = torch.zeros(n, n_layers, n_layers)
        square[:, self._first, self._second] = pairs
        square[:, self._second, self._first] = pairs
        return square
