"""Poolings against numpy in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.chunks import FrameChunk
from layerprobe.probe.forward.pooling import POOLINGS, pool_frame_chunks, pool_layers, pooling_named


def test_poolings_equal_numpy(rng):
    layers = [rng.normal(3, 2, size=(50, 8)) for _ in range(3)]
    pooled = pool_layers([torch.from_numpy(x).float() for x in layers], poolings=("std", "mean")).numpy()
    expected = np.stack([np.stack([x.std(axis=0), x.mean(axis=0)]) for x in layers])
    assert pooled.shape == (3, 2, 8)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_every_pooling_by_hand():
    states = torch.tensor([[1.0, 8.0], [2.0, 0.0], [3.0, 4.0], [6.0, 4.0]])  # four frames: a third is two of them
    by_hand = {
        "mean": [3.0, 4.0],
        "std": [3.5**0.5, 8**0.5],  # divided by n; by n - 1 it would be more
        "max": [6.0, 8.0],
        "min": [1.0, 0.0],
        "first_token": [1.0, 8.0],
        "first_third": [1.5, 4.0],
        "last_third": [4.5, 4.0],
        "normed_mean": [0.0, 0.0],  # two features: each frame becomes -1, 1 or 1, -1, and two of each cancel
    }
    assert set(by_hand) == set(POOLINGS)
    for name, expected in by_hand.items():
        np.testing.assert_allclose(POOLINGS[name](states), expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("cuts", [(7,), (1, 2), (16, 17, 33), tuple(range(1, 50))])
def test_pooling_by_chunks_equals_pooling_at_once(rng, cuts):
    """Frames far from zero, where a sum of squares would lose the variance."""
    layers = [torch.from_numpy(rng.normal(1000, 2, size=(50, 8))) for _ in range(2)]
    bounds = [0, *cuts, 50]
    frame_chunks = [FrameChunk([x[a:b] for x in layers], first=a, total=50) for a, b in itertools.pairwise(bounds)]
    input_chunks = pool_frame_chunks(frame_chunks, poolings=tuple(POOLINGS))
    torch.testing.assert_close(input_chunks, pool_layers(layers, poolings=tuple(POOLINGS)), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", POOLINGS)
def test_one_frame_is_enough(name):
    pooled = POOLINGS[name](torch.tensor([[1.0, 2.0, 6.0]]))
    assert pooled.shape == (3,)
    assert torch.isfinite(pooled).all()


def test_a_mix_of_normed_means_is_the_mean_of_the_mixed_frames(rng):
    """What s3prl's featurizer with normalize=True computes on frames and then averages."""
    layers = [torch.from_numpy(rng.normal(size=(40, 6)) * 10**k) for k in range(3)]
    weights = torch.softmax(torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64), dim=0)
    normed = [torch.nn.functional.layer_norm(x, (6,)) for x in layers]
    on_frames = sum(w * x for w, x in zip(weights, normed, strict=True)).mean(dim=0)
    from_cache = weights @ pool_layers(layers, poolings=("normed_mean",))[:, 0]
    torch.testing.assert_close(from_cache, on_frames)


def test_an_unknown_pooling_is_refused_with_the_choices():
    with pytest.raises(
        InputError,
        match=r"^pooling 'meen' is unknown; choose one of first_third, first_token, last_third, max, mean, min, "
        r"normed_mean, std\. \[LP\d{3}\]$",
    ):
        pooling_named("meen")
