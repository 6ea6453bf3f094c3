"""Poolings against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probe.errors import InputError
from probe.pooling import POOLINGS, pool_layers, pooling_named


def test_poolings_equal_numpy(rng):
    layers = [rng.normal(3, 2, size=(50, 8)) for _ in range(3)]
    pooled = pool_layers([torch.from_numpy(x).float() for x in layers], poolings=("std", "mean")).numpy()
    expected = np.stack([np.stack([x.std(axis=0), x.mean(axis=0)]) for x in layers])
    assert pooled.shape == (3, 2, 8)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_one_frame_has_no_spread():
    assert POOLINGS["std"](torch.tensor([[1.0, 2.0]])).tolist() == [0.0, 0.0]


def test_std_divides_by_the_number_of_frames():
    assert POOLINGS["std"](torch.tensor([[0.0], [2.0]])).tolist() == [1.0]  # by n - 1 it would be sqrt(2)


def test_an_unknown_pooling_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"^pooling 'meen' is unknown; choose one of mean, std\.$"):
        pooling_named("meen")
