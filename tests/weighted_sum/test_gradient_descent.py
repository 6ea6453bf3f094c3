"""Descent with written-out gradients takes the steps of automatic differentiation and torch's Adam."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.training_sets import TrainingSets
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.weighted_sum import gradient_descent
from layerprobe.probe.weighted_sum.gradient_descent import (
    BATCH,
    LEARNING_RATE,
    concordance,
    concordance_gradient,
    replay,
)
from layerprobe.probe.weighted_sum.row_store import RowStore

N, LAYERS, DIM = 150, 3, 5


@pytest.fixture
def layers(rng):
    x = (rng.normal(size=(LAYERS, N, DIM)) * np.array([1, 3, 0.5])[:, None, None] + 7).astype(np.float32)
    y = x[1, :, :2].sum(axis=1, keepdims=True) + rng.normal(size=(N, 2)) + 4
    return x, y, fold_splits(np.arange(N) // 5, n_folds=3, n_inner_folds=2, rng=rng)


def reader(x):
    return lambda layer, rows: x[layer, rows]


def test_the_gradient_of_the_ccc_is_that_of_automatic_differentiation():
    generator = torch.Generator().manual_seed(0)
    truth, prediction = torch.randn(2, 12, 3, generator=generator)
    counted = (torch.rand(12, 3, generator=generator) > 0.3).float()
    prediction[:, 2] = 0.5  # all equal
    prediction.requires_grad_()
    concordance(truth, prediction, counted).sum().backward()
    found = concordance_gradient(truth, prediction.detach(), counted)
    torch.testing.assert_close(found, prediction.grad, rtol=1e-4, atol=1e-6)


def descend(x, y, split, target, order, initial, epochs):
    """One model of one split by torch's own Adam, ``n_epochs`` over rows in their order; its held-out predictions."""
    trained = split.train[split.inner_folds != 0]
    z = torch.from_numpy(x - x[:, trained].mean(axis=1, keepdims=True))
    z = z / z[:, trained].pow(2).mean().sqrt()
    mean, std = y[trained, target].mean(), y[trained, target].std()
    t = torch.from_numpy((y[:, target] - mean) / std).float()
    logits, head, offset = torch.zeros(LAYERS), initial.clone(), torch.zeros(1)
    optimiser = torch.optim.Adam([p.requires_grad_() for p in (logits, head, offset)], lr=LEARNING_RATE)

    def predict(rows):
        return torch.einsum("l,lnd,d->n", torch.softmax(logits, dim=0), z[:, rows], head) + offset

    for rows in order(epochs):
        optimiser.zero_grad()
        counted = torch.from_numpy(np.isin(rows, trained)).float()[:, None]
        (1 - concordance(t[rows][:, None], predict(rows)[:, None], counted)).sum().backward()
        optimiser.step()
    with torch.no_grad():
        return predict(split.test).numpy() * std + mean


def test_descent_takes_the_steps_of_torch(layers, monkeypatch):
    monkeypatch.setattr(gradient_descent, "MAX_EPOCHS", 20)
    monkeypatch.setattr(gradient_descent, "MAX_STEPS", 0)
    x, y, splits = layers
    rows_of, seeds, fitted = rows_in_order(splits), (3, 7), {}
    for seed, fits in zip(seeds, replay(reader(x), LAYERS, y, splits=splits, seeds=seeds), strict=True):
        initial = torch.randn(DIM, 2 * len(splits), generator=torch.Generator().manual_seed(seed)) / DIM
        for k, (split, fit) in enumerate(zip(splits, fits, strict=True)):
            for t in range(2):
                generator = torch.Generator().manual_seed(3)
                torch.randn(initial.shape, generator=generator)  # of the first seed, before its batches

                def order(epochs, generator=generator):
                    for _ in range(epochs):
                        shuffled = rows_of[torch.randperm(N, generator=generator).numpy()]
                        yield from (shuffled[begin : begin + BATCH] for begin in range(0, N, BATCH))

                expected = descend(x, y, split, t, order, initial[:, 2 * k + t], int(fit.n_epochs[t]))
                np.testing.assert_allclose(fit.prediction[:, t], expected, atol=1e-3)
                fitted[seed, k, t] = fit.prediction[:, t]
    assert np.abs(fitted[3, 0, 0] - fitted[7, 0, 0]).max() > 1e-3


def rows_in_order(splits):
    """The order in which batches number the rows."""
    inner = [
        type(s)(s.name, s.train[s.inner_folds != 0], s.test, np.arange((s.inner_folds != 0).sum()) % 2) for s in splits
    ]
    rest = [np.concatenate([s.test, s.train[s.inner_folds == 0]]) for s in splits]
    inner = [type(s)(s.name, s.train, r, s.inner_folds) for s, r in zip(inner, rest, strict=True)]
    return TrainingSets.from_splits(inner, N).order


@pytest.mark.parametrize(("compact", "rounding"), [(2**30, 5e-4), (0, 0.5 / 127)])
def test_large_rows_are_kept_in_fewer_bits(layers, monkeypatch, compact, rounding):
    x, _, splits = layers
    sets = TrainingSets.from_splits(splits, N)
    whole = RowStore(reader(x), LAYERS, sets, memory=2**30)
    monkeypatch.setattr("layerprobe.probe.weighted_sum.row_store.MEMORY", 0)
    monkeypatch.setattr("layerprobe.probe.weighted_sum.row_store.COMPACT_MEMORY", compact)
    short = RowStore(reader(x), LAYERS, sets, memory=2**30)
    rows = torch.arange(0, N, 7)
    largest = whole.rows(torch.arange(N)).abs().amax(dim=0)
    assert ((short.rows(rows) - whole.rows(rows)).abs() <= rounding * largest + 1e-6).all()
    torch.testing.assert_close(short.means, whole.means)
    torch.testing.assert_close(short.scales, whole.scales)
    size = (2 if compact else 1) * x.size
    RowStore(reader(x), LAYERS, sets, memory=size)
    with pytest.raises(InputError, match="Leave that weighted sum out"):
        RowStore(reader(x), LAYERS, sets, memory=size - 1)


def test_a_smaller_memory_gives_no_other_numbers(layers):
    x, _, splits = layers
    sets = TrainingSets.from_splits(splits, N)
    with pytest.raises(InputError, match="Leave that weighted sum out"):
        RowStore(reader(x), LAYERS, sets, memory=4 * x.size - 1)  # in 32 bits, as in any larger memory
