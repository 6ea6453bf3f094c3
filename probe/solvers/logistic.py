"""Multinomial logistic regression of one nominal target on one layer, penalty chosen inside the training speakers.

A model is a training set and a penalty. It minimises the mean over its classes of their mean ``-log p``, so that a rare
class counts as a common one does, plus ``penalty / 2 * |W|^2`` on features standardised on its own training rows.
Penalties are relative to the mean eigenvalue of those features, as in `probe.solvers.ridge`, so one grid suits every
width.

All models are searched side by side (`probe.solvers.lbfgs`), so a pass over the rows is paid once a step. Each is
searched in the coordinates in which its loss is about round where all classes are equally probable, and starts at the
Newton step from there, so that few steps are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.gram import Moments, moments_of, shift_of, total_of
from layerprobe.probe.solvers.lbfgs import minimise
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split

BLOCK = 4096  # rows whose logits under all models are held at once
TOLERANCE = 1e-7  # of the loss in a step; at 1e-6 a probability may still be off by 0.005, here by 0.0015


@dataclass(frozen=True)
class LogisticFit:
    """What one split gives."""

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
    """For each split choose the penalty by log loss on its inner folds, refit on all its training, predict the rest.

    A class that a model has never seen has probability 0. The inner losses leave out a class that is in one inner fold
    alone, as no penalty can help a model that hasn't seen it; with no class left they are NaN, and the first penalty is
    taken.

    Args:
        x: embeddings of one layer, ``(n_utterances, n_features)`` float32
        codes: the labelled class, ``(n_utterances,)`` integers 0 … n_classes - 1
        n_classes: columns of the probabilities
        splits: rows of ``x`` and ``codes``
        penalties: relative, positive
        max_iterations: steps after which a search ends wherever it is
    """
    problem = _Problem(x, codes, TrainingSets.of(splits, len(x)), n_classes=n_classes, penalties=penalties)
    heads = problem.minimise(max_iterations)
    fits = []
    for k, split in enumerate(splits):
        losses = problem.inner_losses(heads, k)
        chosen = int(losses.argmin())
        models = problem.models_of(problem.sets.outer[k])[[chosen]]
        log_p = problem.log_probabilities(heads, models, problem.place_of_row[split.test])
        fits.append(LogisticFit(np.exp(log_p[:, :, 0]), penalties[chosen], losses))
    return fits


@dataclass(frozen=True)
class _TrainingSet:
    """What one training set says of its features and classes, from its own rows alone."""

    mean: Tensor  # (n_features,), of the means of the classes
    scale: Tensor  # (n_features,), 0 for a constant feature
    weight: Tensor  # (n_classes,), of a row of each class; 0 for a class that is absent
    penalties: Tensor  # (n_penalties,) as they enter the loss
    vectors: Tensor  # (n_features, n_features), columns are eigenvectors of the correlations
    curvature: Tensor  # (n_features,), of the loss along them where all classes are equally probable
    slope: Tensor  # (n_classes, n_features), of the loss there, downhill

    @classmethod
    def learn(cls, moments: Moments, penalties: np.ndarray) -> _TrainingSet:
        """From sums over the rows; the ratings of ``moments`` are 1 for a row's class and else 0."""
        present = moments.y > 0
        n_present = present.sum()
        mean = moments.x / moments.n
        covariance = moments.xx / moments.n - np.outer(mean, mean)
        variance = np.diag(covariance)
        varies = (moments.high > moments.low) & (variance > 0)
        scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
        covariance *= scale
        covariance *= scale[:, None]
        values, vectors = np.linalg.eigh(covariance, UPLO="L")  # in float32 it fails where many features are constant
        mean_eigenvalue = varies.sum() / min(moments.n, len(varies)) or 1.0
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
    """Some models as they read the stored rows."""

    weights: Tensor  # (n_features, n_classes, n_models)
    intercepts: Tensor  # (n_classes, n_models), -inf for a class that is absent

    def logits(self, rows: Tensor, models: Tensor) -> Tensor:
        """Of rows ``(n_rows, n_features)`` under some of the models, ``(n_rows, n_classes, n_chosen)``."""
        weights = self.weights[:, :, models]
        return (rows @ weights.flatten(1)).view(len(rows), *weights.shape[1:]) + self.intercepts[:, models]


class _Problem:
    """Rows, codes and training sets; models are numbered by training set, then by penalty."""

    def __init__(
        self, x: np.ndarray, codes: np.ndarray, sets: TrainingSets, *, n_classes: int, penalties: tuple[float, ...]
    ) -> None:
        self.sets, self.n_classes, self.n_penalties = sets, n_classes, len(penalties)
        self.place_of_row = np.full(len(x), -1)
        self.place_of_row[sets.order] = np.arange(len(sets.order))
        rows, truth = x[sets.order].astype(np.float32, copy=False), codes[sets.order].astype(np.int64)
        assert ((truth >= 0) & (truth < n_classes)).all(), "a code is no class"
        rows -= shift_of(rows[sets.cells[-1].stop if -1 in sets.cells else 0 :])  # drops out of every result
        zero, one_hot = np.zeros(x.shape[1], dtype=np.float32), np.eye(n_classes)[truth]
        self._cells = {c: s for c, s in sets.cells.items() if c >= 0}
        sums = {c: moments_of(rows, one_hot, np.arange(s.start, s.stop), shift=zero) for c, s in self._cells.items()}
        self._trained = [_TrainingSet.learn(total_of(sums, m), np.array(penalties)) for m in sets.members]
        self._rows, self._truth = torch.from_numpy(rows), torch.from_numpy(truth)
        self._set = np.arange(len(sets.members)).repeat(len(penalties))  # (n_models,)
        self._penalty = torch.cat([t.penalties for t in self._trained])  # (n_models,)
        self._weight = torch.stack([t.weight for t in self._trained])  # (n_sets, n_classes)

    def minimise(self, max_iterations: int) -> _Heads:
        """All models at their minimum."""
        every = torch.arange(len(self._set))
        start = torch.zeros(len(self._set), self.n_classes, self._rows.shape[1] + 1)
        for trained, models in self._by_set(every):
            start[models, :, :-1] = (trained.slope @ trained.vectors) * self._unit(trained, models)
        found = minimise(self._evaluate, start.flatten(1), max_iterations=max_iterations, tolerance=TOLERANCE)
        return self._heads(every, found.parameters)

    def models_of(self, training_set: int) -> Tensor:
        """One for each penalty, ``(n_penalties,)``."""
        return torch.from_numpy(np.flatnonzero(self._set == training_set))

    def log_probabilities(self, heads: _Heads, models: Tensor, places: np.ndarray) -> np.ndarray:
        """Of rows by their places under some models, ``(n, n_classes, n_chosen)`` float64."""
        logits = heads.logits(self._rows[torch.from_numpy(places)], models)
        return np.asarray(torch.log_softmax(logits.double(), dim=1).numpy())

    def inner_losses(self, heads: _Heads, split: int) -> np.ndarray:
        """Mean over classes of the mean ``-log p`` of inner held-out rows, ``(n_penalties,)``."""
        folds, trained = self.sets.inner[split], self._weight[self.sets.outer[split]].numpy()
        known = np.all([self._weight[s].numpy() > 0 for s, _ in folds], axis=0)
        if not known.any():
            return np.full(self.n_penalties, np.nan)
        weight = np.where(known, trained, 0.0) * (trained > 0).sum() / known.sum()
        losses = np.zeros(self.n_penalties)
        for training_set, held_out in folds:
            places = self.sets.places(held_out)
            truth = self._truth.numpy()[places]
            places, truth = places[known[truth]], truth[known[truth]]
            log_p = self.log_probabilities(heads, self.models_of(training_set), places)
            losses -= weight[truth] @ log_p[np.arange(len(truth)), truth]
        return losses

    def _evaluate(self, active: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Losses in float64 and their gradients by the coordinates of the search."""
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
                own = torch.arange(len(rows)), truth
                of_row = weight[:, truth].T  # (n_rows, n_chosen)
                log_p = torch.log_softmax(heads.logits(rows, models), dim=1)
                loss[models] -= (log_p[own] * of_row).sum(dim=0, dtype=torch.float64)
                residual = log_p.exp_()
                residual[own] -= 1
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
        """Models of the search's coordinates ``(n_active, n_classes * (n_features + 1))``."""
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
        """Training sets with the places of their models in ``active``."""
        sets = self._set[active.numpy()]
        return [(self._trained[s], torch.from_numpy(np.flatnonzero(sets == s))) for s in np.unique(sets)]

    def _unit(self, trained: _TrainingSet, models: Tensor) -> Tensor:
        """What one step along each eigenvector is worth, ``(n_chosen, 1, n_features)``."""
        return (trained.curvature + self._penalty[models, None, None]).rsqrt()
