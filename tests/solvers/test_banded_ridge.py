"""Bands: sources side by side whose penalties differ, against scikit-learn on scaled columns."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from layerprobe.probe.metrics import r2
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, Bands, nested_ridge
from layerprobe.probe.splits import fold_splits

ALPHAS = (1e-2, 0.3, 10.0)


def by_scikit_learn(x, y, split, bands):
    """Every ratio and alpha one fit at a time; the best by the inner folds, and its predictions."""

    def scaled(train, other, ratio):
        scaler = StandardScaler().fit(x[train].astype(float))
        scale = bands.scales[ratio]
        return scaler.transform(x[train].astype(float)) * scale, scaler.transform(x[other].astype(float)) * scale

    def fitted(train, other, ratio, alpha):
        z, z_other = scaled(train, other, ratio)
        penalty = alpha * (z**2).sum() / min(z.shape)
        return Ridge(alpha=penalty).fit(z, y[train]).predict(z_other)

    errors = {}
    for ratio in range(len(bands.ratios)):
        for alpha in ALPHAS:
            squares = []
            for fold in np.unique(split.inner_folds):
                out = split.inner_folds == fold
                held_out = split.train[out]
                squares.extend((fitted(split.train[~out], held_out, ratio, alpha) - y[held_out]) ** 2)
            errors[ratio, alpha] = np.mean(squares)
    ratio, alpha = min(errors, key=errors.get)
    return ratio, alpha, fitted(split.train, split.test, ratio, alpha)


@pytest.mark.parametrize("widths", [[6, 4], [3, 3, 4], [60, 90]])
def test_choice_and_predictions_equal_one_fit_at_a_time(rng, widths):
    """Primal, three bands, and dual."""
    x = rng.normal(2, 3, size=(120, sum(widths))).astype(np.float32)
    y = x[:, 0] + 0.2 * x[:, widths[0] :].sum(axis=1) + rng.normal(size=120)
    splits = fold_splits(np.arange(120) // 5, n_folds=3, n_inner_folds=2, rng=rng)
    bands = Bands.side_by_side(widths, decades=(-1.0, 0.0, 1.5))
    assert len(bands.ratios) == 3 ** (len(widths) - 1)
    fits = nested_ridge(x, y[:, None], splits=splits, alphas=ALPHAS, bands=bands)
    for split, fit in zip(splits, fits, strict=True):
        ratio, alpha, prediction = by_scikit_learn(x, y, split, bands)
        assert (fit.ratio[0], fit.alpha[0]) == (ratio, alpha)
        np.testing.assert_allclose(fit.prediction[:, 0], prediction, atol=1e-6)


def test_a_band_of_noise_is_held_back(rng):
    """Ten informative features and a thousand of noise: one penalty for all loses by the noise, two do not."""
    n = 300
    x = rng.normal(size=(n, 1010)).astype(np.float32)
    y = (x[:, :10] @ rng.normal(size=10) + rng.normal(size=n))[:, None]
    splits = fold_splits(np.arange(n) // 5, n_folds=3, n_inner_folds=2, rng=rng)

    def connect(bands):
        prediction = np.empty(n)
        for split, fit in zip(
            splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS, bands=bands), strict=True
        ):
            prediction[split.test] = fit.prediction[:, 0]
        return r2(y[:, 0], prediction)

    assert connect(Bands.side_by_side([10, 1000])) > connect(None) + 0.3


def test_equal_ratios_of_equal_widths_are_plain_ridge(rng):
    x, y = rng.normal(size=(100, 8)), rng.normal(size=(100, 2))
    splits = fold_splits(np.arange(100) // 5, n_folds=3, n_inner_folds=2, rng=rng)
    plain = nested_ridge(x, y, splits=splits, alphas=ALPHAS)
    banded = nested_ridge(x, y, splits=splits, alphas=ALPHAS, bands=Bands.side_by_side([4, 4], decades=(0.0,)))
    for a, b in zip(plain, banded, strict=True):
        np.testing.assert_allclose(a.prediction, b.prediction, atol=1e-10)


def test_targets_with_one_penalty_take_the_one_with_the_smallest_summed_error(rng):
    x, y = rng.normal(size=(150, 6)), rng.normal(size=(150, 3))
    y[:, 0] += 3 * x[:, 0]
    splits = fold_splits(np.arange(150) // 5, n_folds=3, n_inner_folds=2, rng=rng)
    together = nested_ridge(x, y, splits=splits, alphas=ALPHAS, shared=np.array([7, 2, 7]))
    for fit, alone in zip(together, nested_ridge(x, y, splits=splits, alphas=ALPHAS), strict=True):
        summed = fit.inner_errors[:, [0, 2]].sum(axis=1)
        assert fit.alpha[0] == fit.alpha[2] == ALPHAS[int(summed.argmin())]
        assert fit.alpha[1] == alone.alpha[1]
        np.testing.assert_array_equal(fit.prediction[:, 1], alone.prediction[:, 1])
