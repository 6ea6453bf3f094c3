"""The partition of variance by hand, and on two sources whose shares are planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.partition import variance_partition
from probe.metrics import r2
from probe.ridge import DEFAULT_ALPHAS, Bands, nested_ridge
from probe.splits import fold_splits


def row(probe, layer, value, *, control="none", encoder="e"):
    label = {"encoder": encoder, "probe": probe, "layer": layer, "target": "valence", "control": control, "seed": 0}
    return {**label, "fold": "pooled", "metric": "r2", "value": value}


def test_the_shares_are_those_by_hand():
    scores = pd.DataFrame(
        [
            row("ridge", "3", 0.30), row("banded_ridge", "3", 0.55),
            row("ridge", "all", 0.40, control="beside_alone", encoder="beside"),
        ]
    )  # fmt: skip
    (shares,) = variance_partition(scores).to_dict("records")
    assert shares["unique_layer"] == pytest.approx(0.15)
    assert shares["unique_beside"] == pytest.approx(0.25)
    assert shares["shared"] == pytest.approx(0.15)
    assert variance_partition(scores[scores["probe"] == "ridge"]).empty


def test_planted_shares_are_found(rng):
    """Ratings of three equal parts: what the voice alone says, what the words alone say, what both say."""
    n = 3000
    parts = rng.normal(size=(3, n))
    y = parts.sum(axis=0)[:, None]
    voice = np.column_stack([parts[0], parts[2], rng.normal(size=(n, 20))])
    words = np.column_stack([parts[1], parts[2], rng.normal(size=(n, 30))])
    splits = fold_splits(np.arange(n) // 10, n_folds=5, n_inner_folds=4, rng=rng)

    def score(x, bands=None):
        prediction = np.empty(n)
        for split, fit in zip(
            splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS, bands=bands), strict=True
        ):
            prediction[split.test] = fit.prediction[:, 0]
        return r2(y[:, 0], prediction)

    joint = score(np.concatenate([voice, words], axis=1), Bands.side_by_side([22, 32]))
    scores = [row("ridge", "3", score(voice)), row("banded_ridge", "3", joint)]
    beside = row("ridge", "all", score(words), control="beside_alone", encoder="beside")
    (shares,) = variance_partition(pd.DataFrame([*scores, beside])).to_dict("records")
    for name in ("unique_layer", "unique_beside", "shared"):
        assert shares[name] == pytest.approx(1 / 3, abs=0.04)
