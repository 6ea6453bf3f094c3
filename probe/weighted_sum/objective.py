"""Squared error and gradient of many softmax-weighted sums of layers, with one pass over the layers for all.

A model has a training set, a target, a penalty and initial weights. It predicts with ``sum_l w_l z_l' v``, w a softmax,
z a layer standardised on the model's training rows. Its head v is optimised in coordinates in which the uniform sum of
its training set has a Hessian near the identity, and starts at the ridge solution of that sum, so that few steps are
needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.lbfgs import Minimum, minimise
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.vectors import varies_by_rounding
from layerprobe.probe.weighted_sum.layers import LayerStack
from layerprobe.probe.weighted_sum.scaling import Scaling

LOGIT_UNIT = 10.0  # of the layer logits in the solver, which gives them about the slope of the head


@dataclass(frozen=True)
class Models:
    """Models that are fitted in parallel."""

    training_set: np.ndarray  # (n_models,)
    target: np.ndarray  # (n_models,)
    penalty: np.ndarray  # (n_models,) relative to the mean eigenvalue of the uniform weighted sum
    logits: np.ndarray  # (n_models, n_layers), initial
    learns: bool = True  # False keeps the initial weights
    weight_penalty: np.ndarray | float = 0.0  # (n_models,), on the squared distance of the weights from equal ones

    def some(self, part: slice) -> Models:
        """Return some of the models."""
        arrays = (self.training_set[part], self.target[part], self.penalty[part], self.logits[part])
        every = np.broadcast_to(np.asarray(self.weight_penalty), len(self.target))
        return Models(*arrays, self.learns, every[part])

    def strengths(self, active: Tensor) -> Tensor:
        """Return the penalties on the weights of some models, ``(n_active,)``."""
        every = np.broadcast_to(np.asarray(self.weight_penalty, dtype=np.float32), len(self.target))
        return torch.from_numpy(every[active.cpu().numpy()]).to(active.device)


class MixProblem:
    """Rows, targets and scaling of all models."""

    def __init__(self, stack: LayerStack, y: np.ndarray, sets: TrainingSets, *, standardise: bool) -> None:
        """Learn the scaling of the layers.

        Args:
            stack: layers, with rows in the order of ``sets``
            y: ratings, ``(n_rows, n_targets)`` in that order
            sets: training sets
            standardise: whether each layer and feature is standardised; otherwise layers keep their scales
        """
        self.stack, self.sets = stack, sets
        self.scaling = Scaling.learn(stack, sets, standardise=standardise)
        self.positions = [sets.positions(m) for m in sets.members]
        self.mean = np.stack([y[p].mean(axis=0) for p in self.positions])  # (n_sets, n_targets)
        constant = np.stack([varies_by_rounding(y[p]) for p in self.positions])
        self.std = np.where(constant, 1.0, np.stack([y[p].std(axis=0) for p in self.positions]))
        self._y = torch.from_numpy(y).to(stack.device)

    def minimise(
        self, models: Models, start: Tensor, basis: Basis, *, max_iterations: int, tolerance: float
    ) -> Minimum:
        """Minimise the error from ``start``, ``(n_models, n_layers + n_features)`` in the coordinates of ``basis``."""
        penalty = basis.absolute(models)

        def evaluate(active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
            return self._evaluate(models, active, parameters, basis, penalty[active])

        return minimise(evaluate, start, max_iterations=max_iterations, tolerance=tolerance)

    def predict(self, models: Models, parameters: Tensor, basis: Basis) -> np.ndarray:
        """Return predictions of every row in the ratings' unit, ``(n_rows, n_models)`` float64."""
        weights, head = self._unpack(models, torch.arange(len(parameters)), parameters, basis, basis.absolute(models))
        prediction = torch.zeros(len(self.stack.rows), len(parameters), device=self.stack.device)
        for k, layer in enumerate(self.stack):
            scaled, offset = self._scaled(models.training_set, k, head)
            prediction += (layer @ scaled - offset) * weights[:, k]
        columns = models.training_set, models.target
        return np.asarray(prediction.double().cpu().numpy() * self.std[columns] + self.mean[columns])

    def coefficients(self, models: Models, parameters: Tensor, basis: Basis) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients ``(n_models, n_layers, n_features)`` of unstandardised layers, and intercepts."""
        weights, head = self._unpack(models, torch.arange(len(parameters)), parameters, basis, basis.absolute(models))
        std, intercept = (a[models.training_set, models.target] for a in (self.std, self.mean))
        coefficients = np.empty((len(parameters), self.stack.n_layers, self.stack.n_features))
        for k in range(self.stack.n_layers):
            scaled, _ = self._scaled(models.training_set, k, head)
            coefficients[:, k] = (scaled * weights[:, k]).T.double().cpu().numpy() * std[:, None]
            mean = self.scaling.mean[models.training_set, k].double().cpu().numpy() + self.stack.shift(k)
            intercept = intercept - (coefficients[:, k] * mean).sum(axis=1)
        return coefficients, intercept

    def _evaluate(
        self, models: Models, active: Tensor, parameters: Tensor, basis: Basis, penalty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mean squared error of standardised ratings plus the penalty, and its gradient."""
        sets = models.training_set[active.cpu().numpy()]
        weights, head = self._unpack(models, active, parameters, basis, penalty)
        n = torch.tensor([len(self.positions[s]) for s in sets], device=self.stack.device)
        users = {
            c: torch.from_numpy(np.flatnonzero([c in self.sets.members[s] for s in sets])) for c in self.sets.cells
        }
        users = {c: chosen.to(self.stack.device) for c, chosen in users.items() if len(chosen)}
        rest = {c: -self._truth(models, active, sets, c, chosen) for c, chosen in users.items()}
        for k, layer in enumerate(self.stack):
            scaled, offset = self._scaled(sets, k, head)
            for c, chosen in users.items():
                predicted = layer[self.sets.cells[c]] @ scaled[:, chosen]
                rest[c] += (predicted - offset[chosen]) * weights[chosen, k]
        value = penalty * (head**2).sum(dim=0)
        total = torch.zeros_like(value)
        for c, chosen in users.items():
            value[chosen] += (rest[c] ** 2).sum(dim=0) / n[chosen]
            rest[c] *= 2 / n[chosen]
            total[chosen] += rest[c].sum(dim=0)
        head_gradient, weight_gradient = 2 * penalty * head, torch.empty_like(weights)
        for k, layer in enumerate(self.stack):
            scaled, offset = self._scaled(sets, k, head)
            back = torch.zeros_like(head)
            for c, chosen in users.items():
                back[:, chosen] += layer[self.sets.cells[c]].T @ rest[c]
            weight_gradient[:, k] = (scaled * back).sum(dim=0) - offset * total
            of_layer = (back - self.scaling.mean[sets, k].T * total) * self.scaling.scale[sets, k].T
            head_gradient += of_layer * weights[:, k]
        uneven = weights - 1 / self.stack.n_layers
        strength = models.strengths(active)
        value += strength * (uneven**2).sum(dim=1)
        weight_gradient += 2 * strength[:, None] * uneven
        inward = weight_gradient - (weights * weight_gradient).sum(dim=1, keepdim=True)
        logit_gradient = LOGIT_UNIT * weights * inward if models.learns else torch.zeros_like(weights)
        return value, torch.cat([logit_gradient, basis.back(sets, penalty, head_gradient)], dim=1)

    def _unpack(
        self, models: Models, active: Tensor, parameters: Tensor, basis: Basis, penalty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return layer weights ``(n, n_layers)`` and heads ``(n_features, n)``."""
        n_layers = self.stack.n_layers
        head = basis.head(models.training_set[active.cpu().numpy()], penalty, parameters[:, n_layers:])
        return torch.softmax(LOGIT_UNIT * parameters[:, :n_layers], dim=1), head

    def _scaled(self, sets: np.ndarray, layer: int, head: Tensor) -> tuple[Tensor, Tensor]:
        """Return heads for the stored layer, ``(n_features, n)``, and their products with its mean, ``(n,)``."""
        scaled = self.scaling.scale[sets, layer].T * head
        return scaled, (self.scaling.mean[sets, layer].T * scaled).sum(dim=0)

    def _truth(self, models: Models, active: Tensor, sets: np.ndarray, cell: int, chosen: Tensor) -> Tensor:
        target = models.target[active.cpu().numpy()]
        mean, std = (torch.from_numpy(a[sets, target]).to(self.stack.device) for a in (self.mean, self.std))
        y = self._y[self.sets.cells[cell]][:, target]
        return ((y - mean) / std)[:, chosen].float()


class Basis:
    """Eigenvectors of each training set's uniform weighted sum: initial values and coordinates of the solver."""

    def __init__(self, problem: MixProblem) -> None:
        """Decompose the uniform sums of a problem whose layers are in memory."""
        stack, scaling = problem.stack, problem.scaling
        vectors, values, right = [], [], []
        for s, positions in enumerate(problem.positions):
            rows = torch.from_numpy(positions).to(stack.device)
            mix = torch.zeros(len(positions), stack.n_features, device=stack.device)
            for k, layer in enumerate(stack):
                mix += (layer[rows] - scaling.mean[s, k]) * (scaling.scale[s, k] / stack.n_layers)
            t = (problem._y[rows] - torch.from_numpy(problem.mean[s]).to(stack.device)).float()
            t /= torch.from_numpy(problem.std[s]).to(stack.device).float()
            eigenvalues, q = torch.linalg.eigh((mix.T @ mix).double() / len(positions))
            values.append(eigenvalues.clamp_min(0).float())
            vectors.append(q.float())
            right.append(q.float().T @ (mix.T @ t / len(positions)))
        self._vectors, self._values, self._right = vectors, torch.stack(values), right
        # relative to the mean of the eigenvalues within the rank, as for one layer (`probe.solvers.ridge`)
        rank = torch.tensor([min(len(p), stack.n_features) for p in problem.positions], device=stack.device)
        self._unit = (self._values.sum(dim=1) / rank).clamp_min(1e-12)

    def absolute(self, models: Models) -> Tensor:
        """Return absolute penalties on the head, ``(n_models,)``."""
        relative = torch.from_numpy(models.penalty).float().to(self._unit.device)
        return relative * self._unit[models.training_set]

    def start(self, models: Models) -> Tensor:
        """Return each model's initial logits, and the ridge solution of the uniform weighted sum."""
        penalty = self.absolute(models)
        u = torch.stack(
            [
                self._right[s][:, t] / (self._values[s] + p).sqrt()
                for s, t, p in zip(models.training_set, models.target, penalty, strict=True)
            ]
        )
        logits = torch.from_numpy(models.logits).float().to(u.device)
        return torch.cat([logits / LOGIT_UNIT, u], dim=1)

    def head(self, sets: np.ndarray, penalty: Tensor, u: Tensor) -> Tensor:
        """Return the heads ``(n_features, n)`` for coordinates ``(n, n_features)``."""
        return self._turn(sets, (u / (self._values[sets] + penalty[:, None]).sqrt()).T, transposed=False)

    def back(self, sets: np.ndarray, penalty: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient in coordinates ``(n, n_features)`` of a gradient by heads ``(n_features, n)``."""
        return self._turn(sets, gradient, transposed=True).T / (self._values[sets] + penalty[:, None]).sqrt()

    def _turn(self, sets: np.ndarray, columns: Tensor, *, transposed: bool) -> Tensor:
        turned = torch.empty_like(columns)
        for s in np.unique(sets):
            chosen = torch.from_numpy(np.flatnonzero(sets == s)).to(columns.device)
            q = self._vectors[s]
            turned[:, chosen] = (q.T if transposed else q) @ columns[:, chosen]
        return turned
