"""The CCC loss, and its exact gradient over a batch in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerprobe.probe.metrics import ccc
from layerprobe.probe.regressor.dataset import batches, split_by_budget
from layerprobe.probe.regressor.loss import backward_in_parts, ccc_loss

WEIGHTS = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


def test_the_loss_is_the_weighted_sum_of_1_minus_ccc(rng):
    truth, prediction = rng.normal(size=(40, 3)), rng.normal(1.0, 2.0, size=(40, 3))
    expected = sum(w * (1 - ccc(truth[:, k], prediction[:, k])) for k, w in enumerate(WEIGHTS.numpy()))
    found = ccc_loss(torch.from_numpy(prediction), torch.from_numpy(truth), WEIGHTS)
    assert float(found) == pytest.approx(expected, rel=1e-7)


def test_a_constant_prediction_costs_1_and_has_a_slope(rng):
    prediction = torch.zeros(10, 1, dtype=torch.float64, requires_grad=True)
    loss = ccc_loss(prediction, torch.from_numpy(rng.normal(size=(10, 1))), torch.ones(1, dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(1.0)
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.abs().max() > 0


def network(dropout):
    torch.manual_seed(1)
    hidden = torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Dropout(dropout), torch.nn.Linear(8, 3)
    return torch.nn.Sequential(*hidden).double()


@pytest.mark.parametrize("cut", [[30], [10, 10, 10], [1, 28, 1], [1] * 30])
def test_the_gradient_in_parts_is_that_of_the_whole_batch(rng, cut):
    x, y = torch.from_numpy(rng.normal(size=(30, 5))), torch.from_numpy(rng.normal(size=(30, 3)))
    whole, split = network(0.0), network(0.0)
    ccc_loss(whole(x), y, WEIGHTS).backward()
    loss = backward_in_parts(split, list(x.split(cut)), y, WEIGHTS)
    assert loss == pytest.approx(ccc_loss(whole(x), y, WEIGHTS).item())
    for a, b in zip(whole.parameters(), split.parameters(), strict=True):
        np.testing.assert_allclose(b.grad, a.grad, rtol=1e-10, atol=1e-14)


def test_the_mean_of_the_parts_own_losses_would_have_another_gradient(rng):
    """The reason for two rounds."""
    x, y = torch.from_numpy(rng.normal(size=(30, 5))), torch.from_numpy(rng.normal(size=(30, 3)))
    exact, naive = network(0.0), network(0.0)
    backward_in_parts(exact, list(x.split(10)), y, WEIGHTS)
    for k in range(3):
        part = slice(10 * k, 10 * k + 10)
        (ccc_loss(naive(x[part]), y[part], WEIGHTS) / 3).backward()
    pairs = list(zip(exact.parameters(), naive.parameters(), strict=True))
    differences = [(a.grad - b.grad).norm() / a.grad.norm() for a, b in pairs]
    assert max(differences) > 0.1


def test_both_rounds_drop_the_same_units(rng):
    """With dropout the gradient is that of one draw: the draw of the first round, in the order of the parts."""
    x, y = torch.from_numpy(rng.normal(size=(30, 5))), torch.from_numpy(rng.normal(size=(30, 3)))
    split, by_hand = network(0.5), network(0.5)
    torch.manual_seed(9)
    backward_in_parts(split, list(x.split(10)), y, WEIGHTS)
    after = torch.rand(1)
    torch.manual_seed(9)
    predictions = torch.cat([by_hand(part) for part in x.split(10)])
    ccc_loss(predictions, y, WEIGHTS).backward()
    assert torch.equal(torch.rand(1), after)  # and the random state is that after one pass
    for a, b in zip(by_hand.parameters(), split.parameters(), strict=True):
        np.testing.assert_allclose(b.grad, a.grad, rtol=1e-10, atol=1e-14)


def test_gradients_add_up_to_those_that_are_there(rng):
    x, y = torch.from_numpy(rng.normal(size=(30, 5))), torch.from_numpy(rng.normal(size=(30, 3)))
    once, twice = network(0.0), network(0.0)
    backward_in_parts(once, list(x.split(15)), y, WEIGHTS)
    for _ in range(2):
        backward_in_parts(twice, list(x.split(15)), y, WEIGHTS)
    assert all(torch.allclose(b.grad, 2 * a.grad) for a, b in zip(once.parameters(), twice.parameters(), strict=True))


def test_batches_hold_every_utterance_once_and_are_another_order_each_epoch():
    first, second = (batches(103, size=16, rng=np.random.default_rng([0, epoch])) for epoch in (0, 1))
    for cut in (first, second):
        assert sorted(np.concatenate(cut).tolist()) == list(range(103))
        assert min(map(len, cut)) >= 8
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_parts_pad_to_no_more_than_the_budget_and_a_long_one_goes_alone(rng):
    n_frames = [*rng.integers(1, 500, size=64).tolist(), 5000]
    cut = split_by_budget(n_frames, budget=1000)
    assert sorted(np.concatenate(cut).tolist()) == list(range(65))
    for part in cut:
        longest = max(n_frames[k] for k in part)
        assert longest * len(part) <= 1000 or len(part) == 1
    assert [64] in [part.tolist() for part in cut]
    padded = sum(max(n_frames[k] for k in part) * len(part) for part in cut)
    assert padded < 1.35 * sum(n_frames)  # of batches of four by chance it is about 1.6 times
