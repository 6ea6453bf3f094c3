"""Many softmax mixes at once: their squared error and its gradient, a pass over the layers for each.

A model is a training set, a target, a penalty and a start. It predicts with ``sum_l w_l z_l' v``, w a softmax, z a
layer standardised on the model's own training rows. Its head v is searched in the coordinates in which the uniform mix
of its training set has a round error surface, and starts at that mix's ridge solution, so that few steps are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.lbfgs import Minimum, minimise
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.weighted_sum.layers import LayerStack
from layerprobe.probe.weighted_sum.scaling import Scaling

LOGIT_UNIT = 10.0  # of the layer logits in the search, which is about what makes them as steep as the head


@dataclass(frozen=True)
class Models:
    """What is fitted side by side."""

    training_set: np.ndarray  # (n_models,)
    target: np.ndarray  # (n_models,)
    penalty: np.ndarray  # (n_models,) relative to the mean eigenvalue of the uniform mix
    logits: np.ndarray  # (n_models, n_layers) at the start
    learns: bool = True  # False keeps the weights where they start


class MixProblem:
    """The rows, the targets and the scaling that all models share."""

    def __init__(self, stack: LayerStack, y: np.ndarray, sets: TrainingSets, *, standardise: bool) -> None:
        """Learn the scaling.

        Args:
            stack: layers, with rows in the order of ``sets``
            y: ratings, ``(n_rows, n_targets)`` in that order
            sets: training sets
            standardise: each layer and feature, or the mix of layers as they are
        """
        self.stack, self.sets = stack, sets
        self.scaling = Scaling.learn(stack, sets, standardise=standardise)
        self.places = [sets.places(m) for m in sets.members]
        self.mean = np.stack([y[p].mean(axis=0) for p in self.places])  # (n_sets, n_targets)
        spread = np.stack([y[p].std(axis=0) for p in self.places])
        self.spread = np.where(spread > 0, spread, 1.0)
        self._y = torch.from_numpy(y).to(stack.device)

    def minimise(
        self, models: Models, start: Tensor, basis: Basis, *, max_iterations: int, tolerance: float
    ) -> Minimum:
        """Search from ``start``, ``(n_models, n_layers + n_features)`` in the coordinates of ``basis``."""
        penalty = basis.absolute(models)

        def evaluate(active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
            return self._evaluate(models, active, parameters, basis, penalty[active])

        return minimise(evaluate, start, max_iterations=max_iterations, tolerance=tolerance)

    def predict(self, models: Models, parameters: Tensor, basis: Basis) -> np.ndarray:
        """Predictions of every row in the ratings' unit, ``(n_rows, n_models)`` float64."""
        weights, head = self._unpack(models, torch.arange(len(parameters)), parameters, basis, basis.absolute(models))
        prediction = torch.zeros(len(self.stack.rows), len(parameters), device=self.stack.device)
        for k, layer in enumerate(self.stack):
            scaled, offset = self._scaled(models.training_set, k, head)
            prediction += (layer @ scaled - offset) * weights[:, k]
        which = models.training_set, models.target
        return np.asarray(prediction.double().cpu().numpy() * self.spread[which] + self.mean[which])

    def coefficients(self, models: Models, parameters: Tensor, basis: Basis) -> tuple[np.ndarray, np.ndarray]:
        """The mixes as linear models of all layers as they are: ``(n_models, n_layers, n_features)``, intercepts."""
        weights, head = self._unpack(models, torch.arange(len(parameters)), parameters, basis, basis.absolute(models))
        spread, intercept = (a[models.training_set, models.target] for a in (self.spread, self.mean))
        coefficients = np.empty((len(parameters), self.stack.n_layers, self.stack.n_features))
        for k in range(self.stack.n_layers):
            scaled, _ = self._scaled(models.training_set, k, head)
            coefficients[:, k] = (scaled * weights[:, k]).T.double().cpu().numpy() * spread[:, None]
            mean = self.scaling.mean[models.training_set, k].double().cpu().numpy() + self.stack.shift(k)
            intercept = intercept - (coefficients[:, k] * mean).sum(axis=1)
        return coefficients, intercept

    def _evaluate(
        self, models: Models, active: Tensor, parameters: Tensor, basis: Basis, penalty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean squared error of standardised ratings with the penalty, and its gradient."""
        sets = models.training_set[active.cpu().numpy()]
        weights, head = self._unpack(models, active, parameters, basis, penalty)
        n = torch.tensor([len(self.places[s]) for s in sets], device=self.stack.device)
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
        inward = weight_gradient - (weights * weight_gradient).sum(dim=1, keepdim=True)
        logit_gradient = LOGIT_UNIT * weights * inward if models.learns else torch.zeros_like(weights)
        return value, torch.cat([logit_gradient, basis.back(sets, penalty, head_gradient)], dim=1)

    def _unpack(
        self, models: Models, active: Tensor, parameters: Tensor, basis: Basis, penalty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Layer weights ``(n, n_layers)`` and heads ``(n_features, n)``."""
        n_layers = self.stack.n_layers
        head = basis.head(models.training_set[active.cpu().numpy()], penalty, parameters[:, n_layers:])
        return torch.softmax(LOGIT_UNIT * parameters[:, :n_layers], dim=1), head

    def _scaled(self, sets: np.ndarray, layer: int, head: Tensor) -> tuple[Tensor, Tensor]:
        """Heads for the layer as it is stored, ``(n_features, n)``, and what they make of its mean, ``(n,)``."""
        scaled = self.scaling.scale[sets, layer].T * head
        return scaled, (self.scaling.mean[sets, layer].T * scaled).sum(dim=0)

    def _truth(self, models: Models, active: Tensor, sets: np.ndarray, cell: int, chosen: Tensor) -> Tensor:
        target = models.target[active.cpu().numpy()]
        mean, spread = (torch.from_numpy(a[sets, target]).to(self.stack.device) for a in (self.mean, self.spread))
        y = self._y[self.sets.cells[cell]][:, target]
        return ((y - mean) / spread)[:, chosen].float()


class Basis:
    """For each training set the eigenvectors of its uniform mix: the start of the search, and its coordinates."""

    def __init__(self, problem: MixProblem) -> None:
        """Decompose; ``problem`` must hold its layers."""
        stack, scaling = problem.stack, problem.scaling
        vectors, values, right = [], [], []
        for s, places in enumerate(problem.places):
            rows = torch.from_numpy(places).to(stack.device)
            mix = torch.zeros(len(places), stack.n_features, device=stack.device)
            for k, layer in enumerate(stack):
                mix += (layer[rows] - scaling.mean[s, k]) * (scaling.scale[s, k] / stack.n_layers)
            t = (problem._y[rows] - torch.from_numpy(problem.mean[s]).to(stack.device)).float()
            t /= torch.from_numpy(problem.spread[s]).to(stack.device).float()
            eigenvalues, q = torch.linalg.eigh((mix.T @ mix).double() / len(places))
            values.append(eigenvalues.clamp_min(0).float())
            vectors.append(q.float())
            right.append(q.float().T @ (mix.T @ t / len(places)))
        self._vectors, self._values, self._right = vectors, torch.stack(values), right
        # relative to the mean eigenvalue that is not 0 of itself, as for one layer (`probe.solvers.ridge`)
        rank = torch.tensor([min(len(p), stack.n_features) for p in problem.places], device=stack.device)
        self._unit = (self._values.sum(dim=1) / rank).clamp_min(1e-12)

    def absolute(self, models: Models) -> Tensor:
        """Penalties on the head, ``(n_models,)``."""
        relative = torch.from_numpy(models.penalty).float().to(self._unit.device)
        return relative * self._unit[models.training_set]

    def start(self, models: Models) -> Tensor:
        """Each model's first logits, and the ridge solution of the uniform mix."""
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
        """Heads ``(n_features, n)`` of coordinates ``(n, n_features)``."""
        return self._turn(sets, (u / (self._values[sets] + penalty[:, None]).sqrt()).T, transposed=False)

    def back(self, sets: np.ndarray, penalty: Tensor, gradient: Tensor) -> Tensor:
        """The gradient by coordinates ``(n, n_features)`` of one by heads ``(n_features, n)``."""
        return self._turn(sets, gradient, transposed=True).T / (self._values[sets] + penalty[:, None]).sqrt()

    def _turn(self, sets: np.ndarray, columns: Tensor, *, transposed: bool) -> Tensor:
        turned = torch.empty_like(columns)
        for s in np.unique(sets):
            chosen = torch.from_numpy(np.flatnonzero(sets == s)).to(columns.device)
            q = self._vectors[s]
            turned[:, chosen] = (q.T if transposed else q) @ columns[:, chosen]
        return turned
