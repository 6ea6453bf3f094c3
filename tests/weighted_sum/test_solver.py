"""The weighted sum: finds the planted layer, is as good as a slow search, and sees no held-out speaker."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from layerprobe.probe.metrics import pearson
from layerprobe.probe.splits import fold_splits
from layerprobe.probe.weighted_sum.gradient_descent import replay
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, TOLERANCE, Mixer

SCALES = np.array([1000, 1, 30, 0.1, 5])


def reader(x):
    return lambda layer, rows: x[rows, layer]


def standardised_reader(x, split):
    return reader(
        StandardScaler()
        .fit(x[split.train].reshape(len(split.train), -1))
        .transform(x.reshape(len(x), -1))
        .reshape(x.shape)
    )


def fitted(x, y, splits, *, seeds=(0,), penalties=DEFAULT_PENALTIES, learns=True, **choices):
    mixer = Mixer(reader(x), x.shape[1], y, splits=splits, **choices)
    chosen = mixer.choose(penalties, max_iterations=100, seed=seeds[0], learns=learns)
    return chosen, mixer.fit(chosen.penalty, max_iterations=100, seeds=seeds, learns=learns)


@pytest.fixture
def planted(rng):
    """Target 0 in layer 3, target 1 in layer 1, of five layers whose scales differ ten-thousandfold."""
    x = rng.normal(size=(300, 5, 8))
    y = np.stack([x[:, 3, :2].sum(axis=1), x[:, 1, 2:4].sum(axis=1)], axis=1) + 0.3 * rng.normal(size=(300, 2))
    splits = fold_splits(np.repeat(np.arange(60), 5), n_folds=4, n_inner_folds=3, rng=rng)
    return (x * SCALES[:, None] + 7).astype(np.float32), y + 4, splits


def test_weights_lie_on_the_planted_layer_whatever_its_scale(planted):
    x, y, splits = planted
    chosen, (fits,) = fitted(x, y, splits)
    for split, fit, inner in zip(splits, fits, chosen.inner_prediction, strict=True):
        assert fit.layer_weights.argmax(axis=1).tolist() == [3, 1]
        assert fit.layer_weights.max(axis=1).min() > 0.9
        np.testing.assert_allclose(fit.layer_weights.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(fit.contributions.sum(axis=1), 1, rtol=1e-5)
        for target in range(2):
            assert pearson(y[split.test, target], fit.prediction[:, target]) > 0.95
            assert pearson(y[split.train, target], inner[:, target]) > 0.95


def test_without_standardising_the_largest_layer_drowns_the_others(planted):
    x, y, splits = planted
    _, (fits,) = fitted(x, y, splits, standardise=False)
    for split, fit in zip(splits, fits, strict=True):
        assert fit.contributions[:, 0].min() > 0.9  # also where all weights are about a fifth
        assert pearson(y[split.test, 0], fit.prediction[:, 0]) < 0.5


def test_the_uniform_mix_is_ridge_on_the_mean_of_standardised_layers(planted):
    x, y, splits = planted
    _, (fits,) = fitted(x, y, splits, penalties=(0.1,), learns=False)
    for split, fit in zip(splits, fits, strict=True):
        np.testing.assert_allclose(fit.layer_weights, 0.2)
        scaled = [StandardScaler().fit(x[split.train, k].astype(float)) for k in range(5)]
        mean = np.mean([s.transform(x[:, k].astype(float)) for k, s in enumerate(scaled)], axis=0)
        penalty = 0.1 * (mean[split.train] ** 2).sum() / 8
        for target in range(2):
            model = Ridge(alpha=penalty).fit(mean[split.train], y[split.train, target])
            np.testing.assert_allclose(fit.prediction[:, target], model.predict(mean[split.test]), atol=1e-3)


def test_the_error_is_as_low_as_a_slow_search_finds_it(rng):
    """scipy's L-BFGS over logits and head of one model in float64, from the same uniform start and from ten others."""
    x = rng.normal(size=(120, 4, 5)).cumsum(axis=1)
    y = (x[:, 2] @ rng.normal(size=5) + 3 * rng.normal(size=120))[:, None]
    splits = fold_splits(np.repeat(np.arange(24), 5), n_folds=3, n_inner_folds=2, rng=rng)
    _, (fits,) = fitted(x.astype(np.float32), y, splits, penalties=(0.3,))
    for split, fit in zip(splits, fits, strict=True):
        rows = split.train
        z = (x[rows] - x[rows].mean(axis=0)) / x[rows].std(axis=0)
        t = (y[rows, 0] - y[rows, 0].mean()) / y[rows, 0].std()
        mean = z.mean(axis=1)
        penalty = 0.3 * (mean**2).sum() / len(rows) / 5

        def error(parameters, z=z, t=t, penalty=penalty):
            weights = softmax(parameters[:4])
            return np.mean((np.einsum("l,nld,d->n", weights, z, parameters[4:]) - t) ** 2) + penalty * np.sum(
                parameters[4:] ** 2
            )

        head = np.linalg.solve(mean.T @ mean / len(rows) + penalty * np.eye(5), mean.T @ t / len(rows))
        starts = [np.r_[np.zeros(4), head], *rng.normal(size=(10, 9))]
        least = min(minimize(error, s, method="L-BFGS-B", options={"maxiter": 2000}).fun for s in starts)
        mixed = np.einsum("l,nlf->nf", fit.layer_weights[0], z)
        ours = np.linalg.solve(mixed.T @ mixed / len(rows) + penalty * np.eye(5), mixed.T @ t / len(rows))
        with np.errstate(divide="ignore"):
            logits = np.log(fit.layer_weights[0] + 1e-12)
        assert error(np.r_[logits, ours]) <= least * (
            1 + 5 * TOLERANCE
        )  # a step that falls by less is the last but one


def test_one_layer_is_the_ridge_of_scikit_learn(rng):
    x = rng.normal(size=(200, 1, 6)).astype(np.float32)
    y = x[:, 0, :1] + rng.normal(size=(200, 1))
    splits = fold_splits(np.repeat(np.arange(40), 5), n_folds=4, n_inner_folds=3, rng=rng)
    _, (fits,) = fitted(x, y, splits, penalties=(0.1,))
    for split, fit in zip(splits, fits, strict=True):
        scaler = StandardScaler().fit(x[split.train, 0])
        model = Ridge(alpha=0.1 * len(split.train)).fit(scaler.transform(x[split.train, 0]), y[split.train])
        expected = model.predict(scaler.transform(x[split.test, 0])).reshape(-1, 1)
        np.testing.assert_allclose(fit.prediction, expected, atol=1e-4)
        assert fit.layer_weights.tolist() == [[1.0]]


def test_layers_that_are_read_again_give_the_same_scores_as_those_in_memory(planted, monkeypatch):
    x, y, splits = planted
    _, (held,) = fitted(x, y, splits)
    monkeypatch.setattr("layerprobe.probe.weighted_sum.solver.SUBSET_ROWS", 100)
    _, (streamed,) = fitted(x, y, splits, memory=0)
    for split, a, b in zip(splits, held, streamed, strict=True):
        assert b.layer_weights.argmax(axis=1).tolist() == [3, 1]
        for target in range(2):
            one, other = (pearson(y[split.test, target], f.prediction[:, target]) for f in (a, b))
            assert one == pytest.approx(other, abs=0.01)


def test_gradient_descent_on_the_ccc_reaches_the_same_scores(planted):
    """The field's way, on standardised layers so that only the search differs: same layers, same held-out scores."""
    x, y, splits = planted
    _, (ours,) = fitted(x, y, splits)
    (theirs,) = replay(standardised_reader(x, splits[0]), 5, y, splits=splits[:2], seeds=(0,))
    for split, a, b in zip(splits[:2], ours, theirs, strict=False):
        assert b.layer_weights.argmax(axis=1).tolist() == [3, 1]
        for target in range(2):
            one, other = (pearson(y[split.test, target], f.prediction[:, target]) for f in (a, b))
            assert one == pytest.approx(other, abs=0.02)
        np.testing.assert_array_equal(b.development, split.train[split.inner_folds == 0])
        known = y[b.development, 0]
        assert pearson(known, b.development_prediction[:, 0]) > 0.95


def test_nothing_fitted_sees_a_held_out_rating_or_embedding(planted):
    x, y, splits = planted
    (_, (before,)), split = fitted(x, y, splits[:1]), splits[0]
    x, y = x.copy(), y.copy()
    y[split.test] = -100
    x[split.test[1:]] *= 1.5
    _, (after,) = fitted(x, y, splits[:1])
    np.testing.assert_allclose(after[0].layer_weights, before[0].layer_weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after[0].prediction[0], before[0].prediction[0], rtol=1e-4)


def test_descent_sees_no_held_out_rating_or_embedding(planted):
    x, y, splits = planted
    x, y, split = x[:, :2], y[:, :1], splits[0]
    ((before,),) = replay(standardised_reader(x, split), 2, y, splits=[split], seeds=(0,))
    x, y = x.copy(), y.copy()
    y[split.test] = -100
    x[split.test[1:]] *= 1.5
    ((after,),) = replay(standardised_reader(x, split), 2, y, splits=[split], seeds=(0,))
    np.testing.assert_allclose(after.layer_weights, before.layer_weights, atol=1e-4)
    np.testing.assert_allclose(after.prediction[0], before.prediction[0], atol=1e-3)


def test_seeds_repeat_and_differ(planted):
    x, y, splits = planted
    _, (first, other) = fitted(x, y, splits, seeds=(0, 1))
    _, (again, _) = fitted(x, y, splits, seeds=(0, 1))
    np.testing.assert_array_equal(first[0].prediction, again[0].prediction)
    _, (alone,) = fitted(x, y, splits)
    np.testing.assert_allclose(first[0].prediction, alone[0].prediction, atol=1e-4)
    assert (first[0].layer_weights != other[0].layer_weights).any()


def test_the_lowest_layers_alone_do_not_depend_on_those_above(planted):
    x, y, splits = planted
    mixer = Mixer(reader(x), 5, y, splits=splits)
    chosen = mixer.choose(DEFAULT_PENALTIES, max_iterations=60, seed=0)
    reached = {}
    for n in (1, 2, 4):
        part = mixer.first(n)
        (fits,) = part.fit(chosen.penalty, max_iterations=60, seeds=(0,))
        assert fits[0].layer_weights.shape == (2, n)
        held_out = part.choose(chosen.penalty[:, :, None], max_iterations=60, seed=0).inner_prediction[0]
        reached[n] = [pearson(y[splits[0].test, t], fits[0].prediction[:, t]) for t in range(2)]
        assert held_out.shape == (len(splits[0].train), 2)
    assert abs(reached[1][1]) < 0.3
    assert reached[2][1] > 0.9
    assert abs(reached[2][0]) < 0.3
    assert reached[4][0] > 0.9


def test_targets_that_are_not_there_get_strong_penalties(planted, rng):
    x, _, splits = planted
    noise = rng.normal(size=(300, 24))
    chosen, (fits,) = fitted(x, noise, splits[:1])
    assert np.mean(chosen.penalty >= 10) > 0.5
    found = [pearson(noise[splits[0].test, t], fits[0].prediction[:, t]) for t in range(24)]
    assert abs(np.mean(found)) < 0.15
