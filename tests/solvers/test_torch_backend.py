"""The algebra on a torch device against the one on the processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerprobe.probe.solvers.ridge import Bands, nested_ridge
from layerprobe.probe.solvers.torch_backend import DeviceAlgebra
from layerprobe.probe.splits import fold_splits

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("exact", [True, False])
def test_predictions_and_choices_are_those_of_the_host(rng, device, exact, monkeypatch):
    if not exact:
        monkeypatch.setattr("layerprobe.probe.solvers.gram.EXACT_FLOPS", 0)
    x = (rng.normal(size=(300, 20)) @ rng.normal(size=(20, 20)) + 5).astype(np.float32)
    x[:, 3] = 2.5
    x[:, 4] = 1000 * x[:, 4] + 1e4
    y = x[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(300, 3))
    splits = fold_splits(np.arange(300) // 10, n_folds=4, n_inner_folds=3, rng=rng)
    bands = Bands.side_by_side([12, 8], decades=(-1.0, 0.0, 1.0))
    choices = {"splits": splits, "alphas": (1e-3, 0.1, 1.0, 30.0), "bands": bands}
    for ours, theirs in zip(
        nested_ridge(x, y, algebra=DeviceAlgebra(device), **choices), nested_ridge(x, y, **choices), strict=True
    ):
        tolerance = 1e-8 if exact else 1e-4
        np.testing.assert_allclose(ours.prediction, theirs.prediction, atol=tolerance * y.std())
        np.testing.assert_allclose(ours.inner_std, theirs.inner_std, rtol=tolerance)
        np.testing.assert_array_equal([ours.alpha, ours.ratio], [theirs.alpha, theirs.ratio])
