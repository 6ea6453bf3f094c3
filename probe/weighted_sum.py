"""The weighted sum: a softmax mix of standardised layers with a linear head, per target.

As speech benchmarks mix layers (Yang et al., 2021, SUPERB), but on pooled layers that are standardised first, so a
layer's weight does not measure its scale. Squared error with a penalty on the head takes the place of 1 - CCC: once
mean and spread are matched, as for every probe here, the two ask for the same direction. The weights are a model,
not a measurement: seeds end in different ones, so read them beside the layers' own scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.ridge import Standardiser
from probe.splits import Split

DEFAULT_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
LOGIT_SPREAD = 0.1  # of the first layer logits over seeds: near the uniform mix, from different sides


@dataclass(frozen=True)
class WeightedSumFit:
    """What one split and one seed give for every target."""

    prediction: np.ndarray  # (n_test, n_targets), of the held-out speakers
    inner_prediction: np.ndarray  # (n_train, n_targets), of training speakers held out by the inner folds
    layer_weights: np.ndarray  # (n_targets, n_layers), each row sums to 1
    penalty: np.ndarray  # (n_targets,), relative as in the grid


@dataclass(frozen=True)
class _Mix:
    """The parameters of ``n_models`` mixes that are fitted side by side."""

    layer_logits: Tensor  # (n_models, n_layers)
    head: Tensor  # (n_features, n_models)
    intercept: Tensor  # (n_models,)

    def predict(self, z: Tensor) -> Tensor:
        """Predictions ``(n, n_models)``: the head on every layer first, then the mix, which is the same and cheaper."""
        return torch.einsum("nlm,ml->nm", z @ self.head, self.layer_weights) + self.intercept

    @property
    def layer_weights(self) -> Tensor:
        """``(n_models, n_layers)``, each row sums to 1."""
        return torch.softmax(self.layer_logits, dim=1)


def fit_weighted_sum(
    x: np.ndarray, y: np.ndarray, *, split: Split, penalties: tuple[float, ...], max_iterations: int, seed: int
) -> WeightedSumFit:
    """Choose the head's penalty per target on the inner folds, refit on all training speakers, predict the others.

    Args:
        x: embeddings, ``(n_utterances, n_layers, n_features)``
        y: ratings, ``(n_utterances, n_targets)``
        split: rows of ``x`` and ``y``
        penalties: relative to the mean eigenvalue of a standardised layer, rising
        max_iterations: of L-BFGS (Liu and Nocedal, 1989) on all targets together
        seed: of the first layer logits and head
    """
    n_targets = y.shape[1]
    y_train = y[split.train]
    inner = np.empty((len(penalties), *y_train.shape))
    every = np.repeat(np.array(penalties), n_targets)
    for fold in np.unique(split.inner_folds):
        fit_rows, held_out = split.inner_folds != fold, split.inner_folds == fold
        z_fit, z_held_out = _standardised(x, split.train[fit_rows], split.train[held_out])
        _, predicted = _fit(z_fit, z_held_out, np.tile(y_train[fit_rows], len(penalties)), every, max_iterations, seed)
        inner[:, held_out] = predicted.reshape(-1, len(penalties), n_targets).transpose(1, 0, 2)
    chosen = np.mean((inner - y_train) ** 2, axis=1).argmin(axis=0)
    penalty = np.array(penalties)[chosen]
    z_train, z_test = _standardised(x, split.train, split.test)
    mix, prediction = _fit(z_train, z_test, y_train, penalty, max_iterations, seed)
    return WeightedSumFit(
        prediction=prediction,
        inner_prediction=inner[chosen, :, np.arange(n_targets)].T,
        layer_weights=mix.layer_weights.double().numpy(),
        penalty=penalty,
    )


def _fit(
    z: Tensor, z_test: Tensor, y: np.ndarray, penalties: np.ndarray, max_iterations: int, seed: int
) -> tuple[_Mix, np.ndarray]:
    """Fit a mix per column of ``y`` (n, n_models) with its own penalty; predict ``z_test``, ``(n_test, n_models)``."""
    n, n_layers, n_features = z.shape
    n_models = y.shape[1]
    mean, spread = y.mean(axis=0), np.where(np.ptp(y, axis=0) == 0, 1.0, y.std(axis=0))
    t = torch.from_numpy((y - mean) / spread).float()
    penalty = torch.from_numpy(penalties).float() * max(1.0, n_features / n)  # the mean eigenvalue of z'z/n, or zz'/n
    generator = torch.Generator().manual_seed(seed)
    logits = LOGIT_SPREAD * torch.randn(1, n_layers, generator=generator).repeat(n_models, 1)
    head = torch.randn(n_features, 1, generator=generator).repeat(1, n_models) / n_features
    mix = _Mix(logits.requires_grad_(), head.requires_grad_(), torch.zeros(n_models, requires_grad=True))
    parameters = [mix.layer_logits, mix.head, mix.intercept]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=max_iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = ((t - mix.predict(z)) ** 2).mean(dim=0) + penalty * (mix.head**2).sum(dim=0)
        total = error.sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    fitted = _Mix(*(p.detach() for p in parameters))
    return fitted, fitted.predict(z_test).double().numpy() * spread + mean


def _standardised(x: np.ndarray, fit_rows: np.ndarray, *others: np.ndarray) -> list[Tensor]:
    """Rows of ``x`` as float32 tensors, each layer and feature standardised on ``fit_rows``."""
    parts = [np.empty((len(rows), *x.shape[1:]), dtype=np.float32) for rows in (fit_rows, *others)]
    for layer in range(x.shape[1]):  # one at a time: the work in float64 never holds more than a layer
        standardiser = Standardiser.learn(x[fit_rows, layer])
        for part, rows in zip(parts, (fit_rows, *others), strict=True):
            part[:, layer] = standardiser(x[rows, layer])
    return [torch.from_numpy(part) for part in parts]
