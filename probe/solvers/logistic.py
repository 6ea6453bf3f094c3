"""Multinomial logistic regression of one nominal target on one layer, with a penalty chosen on training speakers.

A model is a training set and a penalty. It minimises the mean over its classes of their mean ``-log p``, so that rare
and common classes count equally, plus ``penalty / 2 * |W|^2`` on features standardised on its training rows.
Penalties are relative to the mean eigenvalue of those features, as in `probe.solvers.ridge`, so one grid suits every
width.

All models are optimised in parallel (`probe.solvers.lbfgs`), so each step passes over the rows once. Each is optimised
in coordinates in which its Hessian is close to the identity where all classes are equally probable, and starts at the
Newton step from there, so that few steps are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.gram import Moments, feature_shift, sum_cells, sum_moments
from layerprobe.probe.solvers.lbfgs import minimise
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split

BLOCK = 4096  # rows whose logits under all models are in memory at once
TOLERANCE = 1e-7  # of the loss in a step; at 1e-6 a probability may still be off by 0.005, here by 0.0015


@dataclass(frozen=True)
class LogisticFit:
    """Held-out probabilities of one split, with the penalty that its inner folds chose."""

    probability: np.ndarray  # (n_test, n_classes), of the held-out speakers
    penalty: float  # relative as in the grid
    inner_losses: np.ndarray  # (n_penalties,), class-balanced, of training speakers held out by the inner folds


def nested_logistic(
    x: np.ndarray,
    codes: np.ndarray,
    *,
    n_classes: int,
    splits: list[Split],
    penalties: tuple[float, ...],
    max_iterations: int = 100,
) -> list[LogisticFit]:
    """For each split choose the penalty by log loss on inner folds, refit on all training rows, predict the test rows.

    A class that is absent from a training set has probability 0. The inner losses leave out a class that occurs in one
    inner fold only, because no penalty can help a model without examples of it; if no class remains they are NaN, and
    the first penalty is chosen.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)`` float32
        codes: the labelled class, ``(n_utterances,)`` integers 0 … n_classes - 1
        n_classes: columns of the probabilities
        splits: rows of ``x`` and ``codes``
        penalties: relative, positive
        max_iterations: steps after which the solver stops without convergence
    """
    problem = _Problem(x, codes, TrainingSets.from_splits(splits, len(x)), n_classes=n_classes, penalties=penalties)
    heads = problem.minimise(max_iterations)
    fits = []
    for k, split in enumerate(splits):
        losses = problem.inner_losses(heads, k)
        chosen = int(losses.argmin())
        models = problem.models_on(problem.sets.outer[k])[[chosen]]
        log_p = problem.log_probabilities(heads, models, problem.position_of_row[split.test])
        fits.append(LogisticFit(np.exp(log_p[:, :, 0]), penalties[chosen], losses))
    return fits


@dataclass(frozen=True)
class _TrainingSet:
    """Scaling, class weights and curvature of one training set, computed from its rows only."""

    mean: Tensor  # (n_features,), the mean of the class means
    scale: Tensor  # (n_features,), 0 for a constant feature
    weight: Tensor  # (n_classes,), weight of a row of each class; 0 for a class that is absent
    penalties: Tensor  # (n_penalties,), absolute, as in the loss
    vectors: Tensor  # (n_features, n_features), columns are eigenvectors of the correlations
    curvature: Tensor  # (n_features,), of the loss along them where all classes are equally probable
    slope: Tensor  # (n_classes, n_features), of the loss there, downhill

    @classmethod
    def learn(cls, moments: Moments, penalties: np.ndarray) -> _TrainingSet:
        """Learn from sums over the rows; the ratings of ``moments`` are 1 for a row's class and 0 otherwise."""
        present = moments.y > 0
        n_present = present.sum()
        mean = moments.x / moments.n
        covariance = moments.xx / moments.n - np.outer(mean, mean)
        variance = np.diag(covariance)
        scale = moments.scale(variance)
        covariance *= scale
        covariance *= scale[:, None]
        values, vectors = np.linalg.eigh(covariance, UPLO="L")  # in float32 it fails where many features are constant
        mean_eigenvalue = (scale > 0).sum() / min(moments.n, len(scale)) or 1.0
        # With classes balanced, zero weights about the mean of class means leave no slope along the intercepts
        class_means = np.where(present, moments.xy / np.where(present, moments.y, 1.0), np.nan)
        center = np.nanmean(class_means, axis=1)
        slope = np.where(present, (class_means - center[:, None]) * scale[:, None], 0.0).T / n_present
        return cls(
            mean=torch.from_numpy(center).float(),
            scale=torch.from_numpy(scale).float(),
            weight=torch.from_numpy(np.where(present, 1 / (n_present * np.where(present, moments.y, 1.0)), 0.0)),
            penalties=torch.from_numpy(penalties * mean_eigenvalue).float(),
            vectors=torch.from_numpy(vectors).float(),
            curvature=torch.from_numpy(np.maximum(values, 0) / n_present).float(),
            slope=torch.from_numpy(slope).float(),
        )


@dataclass(frozen=True)
class _Heads:
    """Weights and intercepts of some models, for the rows as they are stored."""

    weights: Tensor  # (n_features, n_classes, n_models)
    intercepts: Tensor  # (n_classes, n_models), -inf for a class that is absent

    def logits(self, rows: Tensor, models: Tensor) -> Tensor:
        """Return the logits of rows ``(n_rows, n_features)`` under some models, ``(n_rows, n_classes, n_chosen)``."""
        weights = self.weights[:, :, models]
        return (rows @ weights.flatten(1)).view(len(rows), *weights.shape[1:]) + self.intercepts[:, models]


class _Problem:
    """Rows, codes and training sets of one layer; models are numbered by training set, then by penalty."""

    def __init__(
        self, x: np.ndarray, codes: np.ndarray, sets: TrainingSets, *, n_classes: int, penalties: tuple[float, ...]
    ) -> None:
        self.sets, self.n_classes, self.n_penalties = sets, n_classes, len(penalties)
        self.position_of_row = np.full(len(x), -1)
        self.position_of_row[sets.order] = np.arange(len(sets.order))
        rows, truth = x[sets.order].astype(np.float32, copy=False), codes[sets.order].astype(np.int64)
        if ((truth < 0) | (truth >= n_classes)).any():
            raise AssertionError("a code is no class")
        shift = feature_shift(rows[sets.cells[-1].stop if -1 in sets.cells else 0 :])
        rows -= shift  # cancels in every result
        zero, one_hot = np.zeros(x.shape[1], dtype=np.float32), np.eye(n_classes)[truth]
        self._cells = {c: s for c, s in sets.cells.items() if c >= 0}
        sums = {c: sum_moments(rows, one_hot, np.arange(s.start, s.stop), shift=zero) for c, s in self._cells.items()}
        sums = {c: replace(cell, shift=shift) for c, cell in sums.items()}
        self._trained = [_TrainingSet.learn(sum_cells(sums, m), np.array(penalties)) for m in sets.members]
        self._rows, self._truth = torch.from_numpy(rows), torch.from_numpy(truth)
        self._set = np.arange(len(sets.members)).repeat(len(penalties))  # (n_models,)
        self._penalty = torch.cat([t.penalties for t in self._trained])  # (n_models,)
        self._weight = torch.stack([t.weight for t in self._trained])  # (n_sets, n_classes)

    def minimise(self, max_iterations: int) -> _Heads:
        """Return all models after optimisation."""
        every = torch.arange(len(self._set))
        start = torch.zeros(len(self._set), self.n_classes, self._rows.shape[1] + 1)
        for trained, models in self._by_set(every):
            start[models, :, :-1] = (trained.slope @ trained.vectors) * self._unit(trained, models)
        found = minimise(self._evaluate, start.flatten(1), max_iterations=max_iterations, tolerance=TOLERANCE)
        return self._heads(every, found.parameters)

    def models_on(self, training_set: int) -> Tensor:
        """Return the numbers of a training set's models, one for each penalty, ``(n_penalties,)``."""
        return torch.from_numpy(np.flatnonzero(self._set == training_set))

    def log_probabilities(self, heads: _Heads, models: Tensor, positions: np.ndarray) -> np.ndarray:
        """Return log probabilities of rows under some models, ``(n, n_classes, n_chosen)`` float64."""
        logits = heads.logits(self._rows[torch.from_numpy(positions)], models)
        return np.asarray(torch.log_softmax(logits.double(), dim=1).numpy())

    def inner_losses(self, heads: _Heads, split: int) -> np.ndarray:
        """Return the mean over classes of the mean ``-log p`` of inner held-out rows, ``(n_penalties,)``."""
        folds, trained = self.sets.inner[split], self._weight[self.sets.outer[split]].numpy()
        known = np.all([self._weight[s].numpy() > 0 for s, _ in folds], axis=0)
        if not known.any():
            return np.full(self.n_penalties, np.nan)
        weight = np.where(known, trained, 0.0) * (trained > 0).sum() / known.sum()
        losses = np.zeros(self.n_penalties)
        for training_set, held_out in folds:
            positions = self.sets.positions(held_out)
            truth = self._truth.numpy()[positions]
            positions, truth = positions[known[truth]], truth[known[truth]]
            log_p = self.log_probabilities(heads, self.models_on(training_set), positions)
            losses -= weight[truth] @ log_p[np.arange(len(truth)), truth]
        return losses

    def _evaluate(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses in float64 and their gradients in the coordinates of the solver."""
        heads = self._heads(active, parameters)
        loss = torch.zeros(len(active), dtype=torch.float64)
        weight_slope, intercept_slope = torch.zeros_like(heads.weights), torch.zeros_like(heads.intercepts)
        sets = self._set[active.numpy()]
        for cell, s in self._cells.items():
            models = torch.from_numpy(np.flatnonzero([cell in self.sets.members[t] for t in sets]))
            if not len(models):
                continue
            weight = self._weight[sets[models.numpy()]].float()
            for begin in range(s.start, s.stop, BLOCK):
                block = slice(begin, min(begin + BLOCK, s.stop))
                rows, truth = self._rows[block], self._truth[block]
                labelled = torch.arange(len(rows)), truth
                of_row = weight[:, truth].T  # (n_rows, n_chosen)
                log_p = torch.log_softmax(heads.logits(rows, models), dim=1)
                loss[models] -= (log_p[labelled] * of_row).sum(dim=0, dtype=torch.float64)
                residual = log_p.exp_()
                residual[labelled] -= 1
                residual *= of_row[:, None]
                weight_slope[:, :, models] += (rows.T @ residual.flatten(1)).view(-1, *residual.shape[1:])
                intercept_slope[:, models] += residual.sum(dim=0)
        u = parameters.view(len(active), self.n_classes, -1)
        gradient = torch.empty_like(u)
        for trained, models in self._by_set(active):
            unit, penalty = self._unit(trained, active[models]), self._penalty[active[models], None, None]
            shrunk = u[models, :, :-1] * unit
            loss[models] += (penalty / 2 * shrunk**2).sum(dim=(1, 2), dtype=torch.float64)
            centred = weight_slope[:, :, models] - trained.mean[:, None, None] * intercept_slope[:, models]
            columns = (centred * trained.scale[:, None, None]).flatten(1)
            turned = (trained.vectors.T @ columns).view(centred.shape).permute(2, 1, 0)
            gradient[models, :, :-1] = (turned + penalty * shrunk) * unit
            gradient[models, :, -1] = intercept_slope[:, models].T * self.n_classes**0.5
        return loss, gradient.flatten(1)

    def _heads(self, active: Tensor, parameters: Tensor) -> _Heads:
        """Return the models with coordinates ``(n_active, n_classes * (n_features + 1))`` of the solver."""
        u = parameters.view(len(active), self.n_classes, -1)
        weights = torch.empty(u.shape[2] - 1, self.n_classes, len(u))
        intercepts = u[:, :, -1].T * self.n_classes**0.5
        for trained, models in self._by_set(active):
            columns = (u[models, :, :-1] * self._unit(trained, active[models])).permute(2, 1, 0)
            turned = (trained.vectors @ columns.flatten(1)) * trained.scale[:, None]
            weights[:, :, models] = turned.view(columns.shape)
            intercepts[:, models] -= (trained.mean @ turned).view(columns.shape[1:])
            intercepts[:, models] += torch.where(trained.weight > 0, 0.0, -torch.inf)[:, None]
        return _Heads(weights, intercepts)

    def _by_set(self, active: Tensor) -> list[tuple[_TrainingSet, Tensor]]:
        """Return the training sets, each with the positions of its models in ``active``."""
        sets = self._set[active.numpy()]
        return [(self._trained[s], torch.from_numpy(np.flatnonzero(sets == s))) for s in np.unique(sets)]

    def _unit(self, trained: _TrainingSet, models: Tensor) -> Tensor:
        """Return the scale of a unit step along each eigenvector, ``(n_chosen, 1, n_features)``."""
        return (trained.curvature + self._penalty[models, None, None]).rsqrt()
