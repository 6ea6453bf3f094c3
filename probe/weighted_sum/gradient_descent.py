"""The weighted sum of layers trained by gradient descent on 1 - CCC in mini-batches, with early stopping.

It reproduces the featurizer of a speech benchmark (Yang et al., 2021, SUPERB): logits that start at zero, their
softmax, the weighted sum of unstandardised layers, a linear head. There frames are summed over layers and then averaged
over time; both are linear, so on mean-pooled layers it is the same model. The deterministic `probe.weighted_sum.solver`
reaches the same scores faster; this one allows a comparison of the two.

All models take each step together, with gradients that are written out. The layers are kept by rows, so that
a mini-batch is gathered at once, large ones in fewer bits (`probe.weighted_sum.row_store`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import Split
from layerprobe.probe.vectors import varies_by_rounding
from layerprobe.probe.weighted_sum.layers import ReadLayer
from layerprobe.probe.weighted_sum.row_store import RowStore
from layerprobe.probe.weighted_sum.scaling import contributions

BATCH = 32  # utterances, as in the benchmark
LEARNING_RATE = 1e-3
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam (Kingma and Ba, 2015)
MAX_EPOCHS, MAX_STEPS = 60, 4000  # whichever is more
PATIENCE, PATIENT_STEPS = 5, 400  # epochs or steps, whichever is more, without a better validation score
PREDICTED_ROWS = 64  # at a time, few enough for the processor's cache
WIDTH = 16  # columns that a product of matrices is widened to a multiple of
LEAST = 1e-12  # denominator of the CCC


@dataclass(frozen=True)
class ReplayFit:
    """Predictions and layer weights of one split and one seed for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    development: np.ndarray  # (n_development,) row numbers of inner fold 0, used for early stopping
    development_prediction: np.ndarray  # (n_development, n_targets)
    layer_weights: np.ndarray  # (n_targets, n_layers), each row sums to 1
    contributions: np.ndarray  # (n_targets, n_layers), weight times norm of the scaled layer; each row sums to 1
    n_epochs: np.ndarray  # (n_targets,), the epoch with the best validation score

    def targets(self, some: slice) -> ReplayFit:
        """Return the fit of some of the targets."""
        return ReplayFit(
            self.prediction[:, some],
            self.development,
            self.development_prediction[:, some],
            self.layer_weights[some],
            self.contributions[some],
            self.n_epochs[some],
        )


def replay(
    read: ReadLayer,
    n_layers: int,
    y: np.ndarray,
    *,
    splits: list[Split],
    seeds: tuple[int, ...],
    memory: float = float("inf"),
    device: str = "cpu",
) -> list[list[ReplayFit]]:
    """Train the weighted sums of all splits, targets and seeds in parallel on the same mini-batches.

    Args:
        read: returns rows of a layer, ``(n_rows, n_features)``
        n_layers: number of layers of the encoder
        y: ratings, ``(n_utterances, n_targets)``, finite
        splits: rows of ``y``
        seeds: of the heads; the first is also that of the order of batches, which all have in common
        memory: bytes that all layers may take; they are kept in memory
        device: the torch device

    Raises:
        InputError: if the layers are larger than ``memory``
    """
    fitted = []
    for split in splits:
        trained, stopping = split.inner_folds != 0, split.inner_folds == 0
        rows = np.concatenate([split.test, split.train[stopping]])
        inner_folds = split.inner_folds[trained]
        if len(np.unique(inner_folds)) < 2:  # nothing is chosen on them, but every set of rows must have some
            inner_folds = np.arange(len(inner_folds)) % 2
        fitted.append(Split(split.name, split.train[trained], rows, inner_folds))
    sets = TrainingSets.from_splits(fitted, len(y))
    store = RowStore(read, n_layers, sets, memory=memory, device=device)
    fits = _Training(store, np.tile(y, (1, len(seeds))), splits, seeds).run()
    n = y.shape[1]
    return [[fit.targets(slice(i * n, (i + 1) * n)) for fit in fits] for i in range(len(seeds))]


class _Training:
    """The models of all seeds, split by split with the targets in order; each seed has its own columns of ``y``."""

    def __init__(self, store: RowStore, y: np.ndarray, splits: list[Split], seeds: tuple[int, ...]) -> None:
        sets, device = store.sets, store.device
        self._store, self._splits, self._n_targets = store, splits, y.shape[1]
        self._n_rows, n_layers = len(sets.order), store.n_layers
        position = np.full(len(y), -1)
        position[sets.order] = np.arange(self._n_rows)
        self._development = [split.train[split.inner_folds == 0] for split in splits]
        self._dev_rows = [torch.from_numpy(position[rows]) for rows in self._development]
        self._test_rows = [torch.from_numpy(position[split.test]) for split in splits]
        self._means = store.means[sets.outer].to(device)  # (n_splits, n_layers, n_features)
        self._scale = store.scales[sets.outer].repeat_interleave(self._n_targets).to(device)
        counted, truth = torch.zeros(self._n_rows, len(splits)), []
        self._rated = []
        for s, outer in enumerate(sets.outer):
            rows = sets.positions(sets.members[outer])
            counted[torch.from_numpy(rows), s] = 1.0
            known = y[sets.order[rows]]
            mean, std = known.mean(axis=0), np.where(varies_by_rounding(known), 1.0, known.std(axis=0))
            self._rated.append((mean, std))
            truth.append((y[sets.order] - mean) / std)
        self._truth = torch.from_numpy(np.concatenate(truth, axis=1)).float().to(device)
        self._counted = counted.repeat_interleave(self._n_targets, dim=1).to(device)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._generator = generators[0]
        n_models, shape = self._truth.shape[1], (store.n_features, len(splits), y.shape[1] // len(seeds))
        head = torch.cat([torch.randn(shape, generator=g) for g in generators], dim=2).flatten(1) / store.n_features
        # logits, head and offset of every model
        self._parameters = torch.cat([torch.zeros(n_layers, n_models), head, torch.zeros(1, n_models)]).to(device)
        self._moments = torch.zeros(2, *self._parameters.shape, device=device)  # of Adam
        self._n_steps = 0

    def run(self) -> list[ReplayFit]:
        """Train until no model improves, and return each at its best epoch."""
        n_models, n_batches = self._truth.shape[1], -(-self._n_rows // BATCH)
        best, epochs = torch.full((n_models,), -2.0, dtype=torch.float64), np.zeros(n_models, dtype=int)
        kept = self._parameters.clone()
        patience = max(PATIENCE, -(-PATIENT_STEPS // n_batches))
        for epoch in range(1, max(MAX_EPOCHS, MAX_STEPS // n_batches) + 1):
            order = torch.randperm(self._n_rows, generator=self._generator)
            for begin in range(0, self._n_rows, BATCH):
                self._step(order[begin : begin + BATCH])
            for s, columns in enumerate(self._columns()):
                predicted, truth = self._predict(s, self._dev_rows[s], self._parameters), self._truth[self._dev_rows[s]]
                scores = concordance(truth[:, columns].cpu(), predicted.cpu(), torch.ones(predicted.shape)).double()
                better = torch.arange(columns.start, columns.stop)[scores > best[columns]]
                best[better], epochs[better.numpy()] = scores[better - columns.start], epoch
                kept[:, better] = self._parameters[:, better]
            if (epoch - epochs >= patience).all():
                break
        return self._fits(kept, epochs)

    def _step(self, rows: Tensor) -> None:
        """Take one step of Adam on the sum of 1 - CCC of all models over a mini-batch."""
        n_layers, parameters = self._store.n_layers, self._parameters
        weights, head = torch.softmax(parameters[:n_layers], dim=0), parameters[n_layers:-1]
        batch = self._store.rows(rows)  # (n_rows, n_layers, n_features)
        layers = self._centred(batch, head)  # (n_rows, n_layers, n_models)
        predicted = (layers * weights).sum(dim=1) + parameters[-1]
        slope = -concordance_gradient(self._truth[rows], predicted, self._counted[rows])
        of_weights = (layers * slope[:, None]).sum(dim=0)
        of_logits = weights * (of_weights - (weights * of_weights).sum(dim=0))
        of_layers = slope[:, None] * (weights * self._scale)  # (n_rows, n_layers, n_models)
        of_head = (of_layers.flatten(0, 1).T @ batch.flatten(0, 1)).T
        sums = of_layers.sum(dim=0).reshape(n_layers, len(self._splits), -1).permute(1, 2, 0)
        of_head -= (sums @ self._means).flatten(0, 1).T
        gradient = torch.cat([of_logits, of_head, slope.sum(dim=0, keepdim=True)])
        self._n_steps += 1
        mean, square = self._moments
        mean.mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        bias, square_bias = (1 - beta**self._n_steps for beta in BETAS)
        denominator = (square.sqrt() / square_bias**0.5).add_(EPSILON)
        parameters.addcdiv_(mean, denominator, value=-LEARNING_RATE / bias)

    def _centred(self, batch: Tensor, head: Tensor) -> Tensor:
        """Return each layer's product with each head, less its mean in training, scaled."""
        product = _times(batch, head)
        by_split = head.reshape(len(head), len(self._splits), -1).transpose(0, 1)  # (n_splits, n_features, n_targets)
        offset = (self._means @ by_split).transpose(0, 1).flatten(1)  # (n_layers, n_models)
        centred: Tensor = (product - offset) * self._scale
        return centred

    def _predict(self, split: int, rows: Tensor, parameters: Tensor) -> Tensor:
        """Return predictions of some rows by the models of one split, ``(n_rows, n_targets)``."""
        n_layers, columns = self._store.n_layers, self._columns()[split]
        weights = torch.softmax(parameters[:n_layers, columns], dim=0)
        head = parameters[n_layers:-1, columns]
        offset, parts = self._means[split] @ head, []
        for begin in range(0, len(rows), PREDICTED_ROWS):
            batch = self._store.rows(rows[begin : begin + PREDICTED_ROWS])
            product = _times(batch, head)
            parts.append(((product - offset) * (weights * self._scale[columns])).sum(dim=1) + parameters[-1, columns])
        return torch.cat(parts)

    def _columns(self) -> list[slice]:
        n = self._n_targets
        return [slice(s * n, (s + 1) * n) for s in range(len(self._splits))]

    def _fits(self, kept: Tensor, epochs: np.ndarray) -> list[ReplayFit]:
        fits, norms = [], self._store.norms[self._store.sets.outer].double().numpy()
        for s, (columns, (mean, std)) in enumerate(zip(self._columns(), self._rated, strict=True)):
            weights = torch.softmax(kept[: self._store.n_layers, columns], dim=0).T.cpu().double().numpy()
            test, development = (
                self._predict(s, rows[s], kept).cpu().double().numpy() * std + mean
                for rows in (self._test_rows, self._dev_rows)
            )
            fits.append(
                ReplayFit(
                    prediction=test,
                    development=self._development[s],
                    development_prediction=development,
                    layer_weights=weights,
                    contributions=contributions(weights, norms[s]),
                    n_epochs=epochs[columns],
                )
            )
        return fits


def _times(batch: Tensor, head: Tensor) -> Tensor:
    """Return rows of layers ``(n_rows, n_layers, n_features)`` times heads ``(n_features, n)``."""
    n = head.shape[1]
    padded = torch.nn.functional.pad(head, (0, -n % WIDTH))  # a full vector of columns takes less than half the time
    return (batch.flatten(0, 1) @ padded)[:, :n].reshape(*batch.shape[:2], n)


def concordance(truth: Tensor, prediction: Tensor, counted: Tensor) -> Tensor:
    """Return the CCC of each column over its counted rows (Lin, 1989), ``(n_columns,)``; 0 if all values are equal.

    Args:
        truth: ``(n_rows, n_columns)``
        prediction: ``(n_rows, n_columns)``
        counted: ``(n_rows, n_columns)``, 1 for rows that are counted and 0 for others
    """
    _, _, product, denominator = _moments(truth, prediction, counted)
    return 2 * product / denominator.clamp_min(LEAST)


def concordance_gradient(truth: Tensor, prediction: Tensor, counted: Tensor) -> Tensor:
    """Return the gradient ``(n_rows, n_columns)`` of `concordance` by the predictions."""
    n = counted.sum(dim=0).clamp_min(1)
    off, truth_off, product, denominator = _moments(truth, prediction, counted)
    safe = denominator.clamp_min(LEAST)
    bias = ((prediction - truth) * counted).sum(dim=0) / n  # difference of the means
    of_denominator = torch.where(denominator > LEAST, 2 * product / safe**2, 0.0)
    return 2 * (truth_off / safe - of_denominator * (off + counted * bias)) / n


def _moments(truth: Tensor, prediction: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return both columns' counted deviations from their means, their covariance, and the CCC's denominator."""
    n = counted.sum(dim=0).clamp_min(1)
    mean, truth_mean = (counted * prediction).sum(dim=0) / n, (counted * truth).sum(dim=0) / n
    off, truth_off = counted * (prediction - mean), counted * (truth - truth_mean)
    denominator = ((off**2).sum(dim=0) + (truth_off**2).sum(dim=0)) / n + (mean - truth_mean) ** 2
    return off, truth_off, (off * truth_off).sum(dim=0) / n, denominator
