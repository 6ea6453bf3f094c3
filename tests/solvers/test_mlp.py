"""The perceptron against ridge, against itself alone, and against what it must not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import gelu

from layerprobe.probe.metrics import pearson
from layerprobe.probe.solvers.mlp import BATCH_ROWS, LEARNING_RATE, WEIGHT_DECAY, MlpFit, fit_mlp
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS, nested_ridge
from layerprobe.probe.splits import Split, fold_splits
from layerprobe.probe.system import torch_threads


@pytest.fixture(autouse=True)
def one_thread():
    """On a machine that others use, threads of such small products wait for each other a hundred times as long."""
    with torch_threads(1):
        yield


def splits_of(n: int, rng: np.random.Generator, *, n_folds: int = 5) -> list[Split]:
    """Speakers of ten utterances each."""
    return fold_splits(np.arange(n) // 10, n_folds=n_folds, n_inner_folds=4, rng=rng)


def everyone(y: np.ndarray, splits: list[Split], fits: list) -> np.ndarray:
    """What each speaker is predicted while held out, ``(n_utterances, n_targets)``."""
    prediction = np.empty_like(y)
    for split, fit in zip(splits, fits, strict=True):
        prediction[split.test] = fit.prediction
    return prediction


def small(rng: np.random.Generator, *, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and two targets that take a different number of epochs: a linear one and a bent one."""
    x = rng.normal(size=(n, 6))
    y = np.stack([x[:, 0], np.abs(x[:, 1])], axis=1) + 0.3 * rng.normal(size=(n, 2)) + 4
    return x.astype(np.float32), y


def assert_same(a: MlpFit, b: MlpFit) -> None:
    for name in vars(a):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_product_of_two_features_is_found_that_ridge_misses(rng):
    x = rng.normal(size=(1000, 8))
    y = 3 + (x[:, :1] * x[:, 1:2]) + 0.3 * rng.normal(size=(1000, 1))
    splits = splits_of(1000, rng)
    by_ridge = everyone(y, splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS))
    by_mlp = everyone(y, splits, fit_mlp(x, y, splits=splits, seed=0))
    assert abs(pearson(y[:, 0], by_ridge[:, 0])) < 0.2
    assert pearson(y[:, 0], by_mlp[:, 0]) > 0.8  # the noise leaves 1 / sqrt(1.09) = 0.96


def test_a_linear_signal_is_read_about_as_well_as_by_ridge(rng):
    x = rng.normal(size=(1000, 40))
    y = x @ rng.normal(size=(40, 2)) / np.sqrt(40) + rng.normal(size=(1000, 2))
    splits = splits_of(1000, rng)
    by_ridge = everyone(y, splits, nested_ridge(x, y, splits=splits, alphas=DEFAULT_ALPHAS))
    by_mlp = everyone(y, splits, fit_mlp(x, y, splits=splits, seed=0))
    for target in range(2):
        assert pearson(y[:, target], by_mlp[:, target]) > pearson(y[:, target], by_ridge[:, target]) - 0.05


def test_predictions_are_in_the_unit_of_the_ratings(rng):
    x, y = small(rng)
    split = splits_of(200, rng)[0]
    (plain,), (scaled,) = (fit_mlp(x, part, splits=[split], seed=0) for part in (y, 256 * y))
    np.testing.assert_allclose(scaled.prediction, 256 * plain.prediction, rtol=1e-12)
    # at 0.3 of noise a fit that is off by the mean, 4, or not scaled back would miss by more than the ratings vary
    assert np.mean((plain.prediction - y[split.test]) ** 2) < 0.5 * y.var(axis=0).min()


def test_nothing_fitted_sees_a_held_out_rating_or_embedding(rng):
    x, y = small(rng)
    split = splits_of(200, rng)[1]
    (before,) = fit_mlp(x, y, splits=[split], seed=0)
    y[split.test] = rng.normal(50, 20, size=y[split.test].shape)
    x[split.test[1:]] = rng.normal(-3, 9, size=x[split.test[1:]].shape)
    (after,) = fit_mlp(x, y, splits=[split], seed=0)
    np.testing.assert_array_equal(after.n_epochs, before.n_epochs)
    np.testing.assert_array_equal(after.inner_prediction, before.inner_prediction)
    np.testing.assert_array_equal(after.prediction[0], before.prediction[0])


def test_speakers_of_early_stopping_are_not_trained_on(rng):
    x, y = small(rng)
    split = splits_of(200, rng)[0]
    (before,) = fit_mlp(x, y, splits=[split], seed=0, max_epochs=1)
    dev = split.train[split.inner_folds == 0]
    np.testing.assert_array_equal(before.inner_truth, y[dev])
    y[dev] += 1
    x[dev[1:]] *= 2
    (after,) = fit_mlp(x, y, splits=[split], seed=0, max_epochs=1)
    np.testing.assert_array_equal(after.prediction, before.prediction)
    np.testing.assert_array_equal(after.inner_prediction[0], before.inner_prediction[0])
    np.testing.assert_array_equal(after.inner_truth, y[dev])


def by_a_plain_loop(
    x: np.ndarray, y: np.ndarray, split: Split, *, seed: int, patience: int, n_epochs: int
) -> tuple[int, np.ndarray, np.ndarray]:
    """Best epoch and what is then predicted of test and inner rows, one network at a time; ``y`` is ``(n,)``."""
    train, dev = split.train[split.inner_folds != 0], split.train[split.inner_folds == 0]
    scaler = StandardScaler().fit(x[train].astype(float))
    z = torch.from_numpy(scaler.transform(x.astype(float)))
    wanted = torch.from_numpy((y - y[train].mean()) / y[train].std())
    rng, order = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    w, v = torch.randn(x.shape[1], 64, generator=rng).double(), torch.randn(64, 1, generator=rng).double()
    b, c = torch.zeros(64).double(), torch.zeros(1).double()
    parameters = [p.requires_grad_() for p in (w, b, v, c)]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    errors, predictions = [], []
    for _ in range(n_epochs):
        shuffled = torch.from_numpy(train)[torch.randperm(len(train), generator=order)]
        for rows in shuffled.tensor_split(round(len(train) / BATCH_ROWS)):
            optimiser.zero_grad()
            prediction = gelu(z[rows] @ w / x.shape[1] ** 0.5 + b) @ v / 8 + c
            torch.mean((prediction[:, 0] - wanted[rows]) ** 2).backward()
            optimiser.step()
        everything = (gelu(z @ w / x.shape[1] ** 0.5 + b) @ v / 8 + c)[:, 0].detach()
        predictions.append(everything.numpy() * y[train].std() + y[train].mean())
        errors.append(np.mean((predictions[-1] - y)[dev] ** 2))
        if len(errors) - np.argmin(errors) > patience:
            break
    best = int(np.argmin(errors))
    return best + 1, predictions[best][split.test], predictions[best][dev]


@pytest.mark.parametrize("n_epochs", [4, 200])
def test_each_model_equals_a_plain_loop_in_float64_that_keeps_its_best_epoch(rng, n_epochs):
    x, y = small(rng, n=700)
    y += rng.normal(size=y.shape)  # so that it soon overfits
    splits = splits_of(700, rng)
    together = fit_mlp(x, y, splits=splits, seed=3, patience=6, max_epochs=n_epochs)
    for split, fit in zip(splits, together, strict=True):
        for target in range(2):
            best, test, dev = by_a_plain_loop(x, y[:, target], split, seed=3, patience=6, n_epochs=n_epochs)
            assert fit.n_epochs[target] == best
            np.testing.assert_allclose(fit.prediction[:, target], test, atol=1e-4)
            np.testing.assert_allclose(fit.inner_prediction[:, target], dev, atol=1e-4)
    if n_epochs == 200:
        assert len({int(n) for fit in together for n in fit.n_epochs}) > 3  # some stop before others


def test_a_seed_repeats_every_bit_and_leaves_the_process_alone_and_another_seed_differs(rng):
    x, y = small(rng)
    splits = splits_of(200, rng)
    state = torch.random.get_rng_state()
    first, again, other = (fit_mlp(x, y, splits=splits, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(first, again, strict=True):
        assert_same(a, b)
    for a, b in zip(first, other, strict=True):
        assert np.all(a.prediction != b.prediction)


def test_splits_of_unequal_size_are_all_learnt(rng):
    x, y = small(rng, n=600)
    halves = splits_of(300, rng)[:1] + [
        Split(s.name, s.train + 300, s.test + 300, s.inner_folds) for s in splits_of(100, rng)[:1]
    ]
    for split, fit in zip(halves, fit_mlp(x, y, splits=halves, seed=0), strict=True):
        assert fit.prediction.shape == (len(split.test), 2)
        assert pearson(y[split.test, 0], fit.prediction[:, 0]) > 0.7


def test_a_constant_feature_is_as_if_absent_in_the_held_out_too(rng):
    x, y = small(rng)
    x[:, 3] = 3.25
    split = splits_of(200, rng)[0]
    (before,) = fit_mlp(x, y, splits=[split], seed=0)
    x[split.test, 3] = 1e6
    (after,) = fit_mlp(x, y, splits=[split], seed=0)
    assert np.isfinite(before.prediction).all()
    np.testing.assert_array_equal(after.prediction, before.prediction)


def test_the_scale_and_offset_of_a_feature_do_not_matter(rng):
    x, y = small(rng)
    splits = splits_of(200, rng)
    plain = everyone(y, splits, fit_mlp(x, y, splits=splits, seed=0, max_epochs=5))
    x[:, 0] = 1000 * x[:, 0] + 5e4
    scaled = everyone(y, splits, fit_mlp(x, y, splits=splits, seed=0, max_epochs=5))
    # float32 holds 5e4 to 0.002, which is 2e-6 of the feature's standard deviation, and training adds to that
    np.testing.assert_allclose(scaled, plain, atol=0.01 * y.std())


@pytest.mark.parametrize("constant", ["embeddings", "ratings"])
def test_where_either_is_constant_the_mean_of_the_ratings_trained_on_is_predicted(rng, constant):
    x, y = small(rng)
    if constant == "embeddings":
        x[:] = 7
    else:
        y[:] = 2.5
    split = splits_of(200, rng)[0]
    (fit,) = fit_mlp(x, y, splits=[split], seed=0, max_epochs=3)
    mean = y[split.train[split.inner_folds != 0]].mean(axis=0)
    np.testing.assert_allclose(fit.prediction, np.broadcast_to(mean, (40, 2)), atol=0.1)


def test_ratings_of_noise_are_not_predicted(rng):
    n = 1000
    x, y = rng.normal(size=(n, 20)), rng.normal(size=(n, 4))
    splits = splits_of(n, rng)
    prediction = everyone(y, splits, fit_mlp(x, y, splits=splits, seed=0))
    for split in splits:
        for target in range(4):  # within a split, for held-out means lie opposite to those of the rest
            assert abs(pearson(y[split.test, target], prediction[split.test, target])) < 4 / np.sqrt(len(split.test))
    within = [pearson(y[s.test, t], prediction[s.test, t]) for s in splits for t in range(4)]
    assert abs(np.mean(within)) < 4 / np.sqrt(n * 4)
