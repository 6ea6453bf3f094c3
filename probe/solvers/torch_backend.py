"""Ridge backend on a GPU through torch, which solves with eigenvectors, faster there than tridiagonal forms.

Products of rows are in float32 (never TensorFloat-32, whose error is that of 16 bits), all later steps in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.backends import HeldOut, Path
from layerprobe.probe.solvers.gram import BLOCK, Moments, precision_of_products


@dataclass(frozen=True)
class DeviceMoments(Moments):
    """`Moments` whose products of features stay on the device."""

    device_xx: Tensor  # (n_features, n_features) float64, both triangles

    def plus(self, other: Moments) -> DeviceMoments:
        """Return the sums over the rows of both; see `Moments.plus`."""
        if not isinstance(other, DeviceMoments):
            raise TypeError("moments of the host and of a device can't be added")
        total = super().plus(other)
        return DeviceMoments(**{**total.__dict__, "device_xx": self.device_xx + other.device_xx})


@dataclass(frozen=True)
class DeviceFactor:
    """Decomposition for each row of scales: the scale, eigenvalues, eigenvectors and the mean eigenvalue."""

    forms: list[tuple[Tensor, Tensor, Tensor, float]]

    def path(self, moments: Moments, alphas: tuple[float, ...]) -> Path:
        """Return the ridge solutions; see `probe.solvers.backends.Factor.path`."""
        mean, y_mean = moments.x / moments.n, moments.y / moments.n
        right = moments.xy - np.outer(moments.x, y_mean)
        solutions = []
        for scale, values, vectors, mean_eigenvalue in self.forms:
            penalties = _put(np.array(alphas), scale.device) * mean_eigenvalue
            turned = vectors.T @ (_put(right, scale.device) * scale[:, None])
            shrunk = turned[None] / (values[None, :, None] + penalties[:, None, None])
            solutions.append(((vectors @ shrunk) * scale[:, None]).cpu().numpy())
        w = np.concatenate(solutions)
        return Path(w, y_mean - mean @ w)


def _put(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


class DeviceAlgebra:
    """Implementation of `probe.solvers.backends.Algebra` on a torch device; ``cpu`` runs the same code in tests."""

    def __init__(self, device: str) -> None:
        """Take the device, such as ``cuda``."""
        self._device = torch.device(device)

    def sums(self, x: np.ndarray, y: np.ndarray, rows: np.ndarray, *, shift: np.ndarray) -> DeviceMoments:
        """Return the sums in one pass over the rows, block by block."""
        kind = torch.float64 if precision_of_products(x) == np.float64 else torch.float32
        n_features = x.shape[1]
        off = torch.from_numpy(shift).to(self._device)
        xx = torch.zeros(n_features, n_features, dtype=torch.float64, device=self._device)
        xy = torch.zeros(n_features, y.shape[1], dtype=torch.float64, device=self._device)
        total = torch.zeros(n_features, dtype=torch.float64, device=self._device)
        low, high = torch.full_like(total, torch.inf), torch.full_like(total, -torch.inf)
        for begin in range(0, len(rows), BLOCK):
            chosen = rows[begin : begin + BLOCK]
            block = (torch.from_numpy(x[chosen]).to(self._device).double() - off).to(kind)
            xx += block.T @ block
            xy += block.T @ torch.from_numpy(y[chosen]).to(self._device).to(kind)
            total += block.sum(dim=0, dtype=torch.float64)
            low, high = torch.minimum(low, block.amin(dim=0)), torch.maximum(high, block.amax(dim=0))
        small = (a.cpu().numpy() for a in (total, xy, low, high))
        x_sum, xy_sum, lowest, highest = small
        chosen_y = y[rows]
        return DeviceMoments(
            n=len(rows),
            x=x_sum,
            y=chosen_y.sum(axis=0),
            xx=np.empty((0, 0)),
            xy=xy_sum,
            yy=np.square(chosen_y).sum(axis=0),
            low=lowest,
            high=highest,
            shift=shift,
            dtype=x.dtype,
            device_xx=xx,
        )

    def factor(self, moments: Moments, scales: np.ndarray) -> DeviceFactor:
        """Return the eigenvectors for each row of ``scales``."""
        if not isinstance(moments, DeviceMoments):
            raise TypeError("the moments are not on the device")
        covariance, unit = self._centred(moments)
        forms = []
        for scale in map(self._put, unit * scales):
            values, vectors = torch.linalg.eigh(covariance * scale * scale[:, None])
            unit_penalty = float(values.sum()) / min(moments.n, len(scale))
            forms.append((scale, values.clamp_min(0), vectors, unit_penalty or 1.0))
        return DeviceFactor(forms)

    def solve(
        self, moments: Moments, scales: np.ndarray, alphas: tuple[float, ...], chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the solutions from a Cholesky decomposition for each of the candidates that are chosen.

        Penalties that are lost in the rounding of the data are solved with eigenvectors, as `factor` does.
        """
        if not isinstance(moments, DeviceMoments):
            raise TypeError("the moments are not on the device")
        covariance, unit = self._centred(moments)
        mean, y_mean = moments.x / moments.n, moments.y / moments.n
        right, w = moments.xy - np.outer(moments.x, y_mean), np.empty_like(moments.xy)
        for candidate in np.unique(chosen):
            scale, targets = self._put(unit * scales[candidate // len(alphas)]), chosen == candidate
            scaled = covariance * scale * scale[:, None]
            mean_eigenvalue = float(scaled.trace()) / min(moments.n, len(scale)) or 1.0
            scaled.diagonal().add_(alphas[candidate % len(alphas)] * mean_eigenvalue)
            triangle, info = torch.linalg.cholesky_ex(scaled)
            if int(info):
                return self.factor(moments, scales).path(moments, alphas).chosen(chosen)
            solved = torch.cholesky_solve(self._put(right[:, targets]) * scale[:, None], triangle)
            w[:, targets] = (solved * scale[:, None]).cpu().numpy()
        return w, y_mean - mean @ w

    def held_out(self, path: Path, moments: Moments) -> HeldOut:
        """Return the sums from a quadratic form for each candidate."""
        if not isinstance(moments, DeviceMoments):
            raise TypeError("the moments are not on the device")
        w, b = path.coefficients, path.intercepts
        n_candidates, n_features, n_targets = w.shape
        columns = self._put(w.transpose(1, 0, 2).reshape(n_features, -1))
        quadratic = (columns * (moments.device_xx @ columns)).sum(dim=0).cpu().numpy()
        sum_x = moments.x @ w
        product = np.einsum("ft,aft->at", moments.xy, w)
        prediction = sum_x + moments.n * b
        square = quadratic.reshape(n_candidates, n_targets) + 2 * b * sum_x + moments.n * b**2
        return HeldOut(moments.n, prediction, square, moments.yy - 2 * (product + b * moments.y) + square)

    @staticmethod
    def _centred(moments: DeviceMoments) -> tuple[Tensor, np.ndarray]:
        """Return the Gram matrix of centred features, and what standardises each of them, ``(n_features,)``."""
        covariance = moments.device_xx - _put(np.outer(moments.x, moments.x / moments.n), moments.device_xx.device)
        variance = np.maximum(covariance.diagonal().cpu().numpy() / moments.n, 0.0)
        return covariance, moments.scale(variance)

    def _put(self, values: np.ndarray) -> Tensor:
        return _put(values, self._device)
