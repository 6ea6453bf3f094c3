"""Logistic regression against scikit-learn, one fit at a time."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from layerprobe.probe.metrics import uar
from layerprobe.probe.solvers.logistic import nested_logistic
from layerprobe.probe.splits import Split, fold_splits

PENALTIES = (1e-2, 0.1, 1.0, 10.0)
SPEAKERS = np.repeat(np.arange(30), 5)


def problem(n, p, rng, *, priors=(0.6, 0.3, 0.1)):
    """Overlapping classes of unequal size; features a thousand times larger, constant, collinear, and far from 0."""
    codes = rng.choice(len(priors), size=n, p=priors)
    x = (rng.normal(size=(n, p)) + 0.7 * rng.normal(size=(len(priors), p))[codes]) @ rng.normal(size=(p, p))
    x = x / np.sqrt(p) + rng.normal(size=p)
    x[:, 0] = 1000 * x[:, 0] + 5e4
    x[:, 1] = 3.25
    x[:, 2] = x[:, 3] * 2 - 1
    x[:, 4] = x[:, 4] / 1000 + 100
    return x.astype(np.float32), codes


def by_scikit_learn(x, codes, train, penalty):
    """Probabilities of all rows, ``(n_utterances, n_classes)``, from the training rows alone."""
    x = x.astype(float)
    scaler = StandardScaler().fit(x[train])
    z, present = scaler.transform(x), np.unique(codes[train])
    absolute = penalty * (z[train] ** 2).sum() / min(z[train].shape)  # the sum of eigenvalues, as in test_ridge
    # of two classes scikit-learn fits the difference of the weights, of which |W|^2 is half the square
    c = (2 if len(present) == 2 else 1) / absolute
    model = LogisticRegression(C=c, class_weight="balanced", solver="newton-cholesky", tol=1e-9, max_iter=1000)
    probability = np.zeros((len(x), codes.max() + 1))
    probability[:, present] = model.fit(z[train], codes[train]).predict_proba(z)
    return probability


def balanced_log_loss(codes, probability):
    """Mean over classes of the mean ``-log p``."""
    own = -np.log(probability[np.arange(len(codes)), codes])
    return np.mean([own[codes == c].mean() for c in np.unique(codes)])


def nested_by_scikit_learn(x, codes, split):
    """Chosen penalty, probabilities of the test rows, inner losses: a loop over penalties and inner folds."""
    losses = []
    for penalty in PENALTIES:
        held_out = np.empty((len(split.train), codes.max() + 1))
        for fold in np.unique(split.inner_folds):
            fit, inner = split.train[split.inner_folds != fold], split.inner_folds == fold
            held_out[inner] = by_scikit_learn(x, codes, fit, penalty)[split.train[inner]]
        losses.append(balanced_log_loss(codes[split.train], held_out))
    best = PENALTIES[int(np.argmin(losses))]
    return best, by_scikit_learn(x, codes, split.train, best)[split.test], losses


@pytest.mark.parametrize(
    ("n_folds", "p", "priors"),
    [
        (5, 12, (0.6, 0.3, 0.1)),
        (3, 12, (0.5, 0.2, 0.2, 0.1)),
        (3, 12, (0.8, 0.2)),
        (2, 12, (0.6, 0.3, 0.1)),
        (3, 80, (0.6, 0.3, 0.1)),  # fewer utterances than features inside, more outside
        (3, 140, (0.6, 0.3, 0.1)),
    ],
)
def test_choice_and_probabilities_equal_those_of_one_fit_at_a_time(rng, n_folds, p, priors):
    x, codes = problem(150, p, rng, priors=priors)
    splits = fold_splits(SPEAKERS, n_folds=n_folds, n_inner_folds=3, rng=rng)
    fits = nested_logistic(x, codes, n_classes=len(priors), splits=splits, penalties=PENALTIES)
    for split, ours in zip(splits, fits, strict=True):
        penalty, probability, losses = nested_by_scikit_learn(x, codes, split)
        assert ours.penalty == penalty
        assert ours.probability.dtype == np.float64
        np.testing.assert_allclose(ours.probability, probability, atol=2e-3)
        np.testing.assert_allclose(ours.inner_losses, losses, rtol=2e-3)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("p", [20, 300])
def test_probabilities_equal_those_of_scikit_learn_at_every_penalty(rng, p, penalty):
    x, codes = problem(250, p, rng)
    split = Split("0", np.arange(200), np.arange(200, 250), np.arange(200) % 2)
    (ours,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=(penalty,))
    np.testing.assert_allclose(ours.probability, by_scikit_learn(x, codes, split.train, penalty)[200:], atol=2e-3)


def test_sums_of_float32_products_serve_as_well(rng, monkeypatch):
    """As they are taken of large layers."""
    x, codes = problem(250, 20, rng)
    split = Split("0", np.arange(200), np.arange(200, 250), np.arange(200) % 2)
    monkeypatch.setattr("layerprobe.probe.solvers.gram.EXACT_FLOPS", 0)
    (ours,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=(1e-2,))
    np.testing.assert_allclose(ours.probability, by_scikit_learn(x, codes, split.train, 1e-2)[200:], atol=2e-3)


def test_nothing_fitted_sees_a_held_out_class_or_embedding(rng):
    x, codes = problem(150, 12, rng)
    split = fold_splits(SPEAKERS, n_folds=4, n_inner_folds=3, rng=rng)[1]
    (before,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=PENALTIES)
    x_changed, codes_changed = x.copy(), codes.copy()
    x_changed[split.test[1:]] = 1e6
    codes_changed[split.test] = (codes[split.test] + 1) % 3
    (after,) = nested_logistic(x_changed, codes_changed, n_classes=3, splits=[split], penalties=PENALTIES)
    assert after.penalty == before.penalty
    np.testing.assert_array_equal(after.inner_losses, before.inner_losses)
    np.testing.assert_array_equal(after.probability[0], before.probability[0])


def test_an_inner_model_sees_nothing_of_the_fold_it_is_judged_on(rng):
    """Where the speakers of inner folds differ much, scaling on all of them would change every loss."""
    x, codes = problem(150, 12, rng)
    split = fold_splits(SPEAKERS, n_folds=3, n_inner_folds=2, rng=rng)[0]
    x[split.train[split.inner_folds == 0]] += 3 * x.std(axis=0)
    (ours,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=PENALTIES)
    np.testing.assert_allclose(ours.inner_losses, nested_by_scikit_learn(x, codes, split)[2], rtol=2e-3)


def test_fits_side_by_side_equal_those_made_alone_and_repeat_to_the_bit(rng):
    x, codes = problem(150, 12, rng)
    splits = fold_splits(SPEAKERS, n_folds=5, n_inner_folds=4, rng=rng)
    fits, again = (nested_logistic(x, codes, n_classes=3, splits=splits, penalties=PENALTIES) for _ in range(2))
    for split, together, repeated in zip(splits, fits, again, strict=True):
        (alone,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=PENALTIES)
        assert together.penalty == alone.penalty
        np.testing.assert_allclose(together.probability, alone.probability, atol=1e-3)
        np.testing.assert_array_equal(together.probability, repeated.probability)
        np.testing.assert_array_equal(together.inner_losses, repeated.inner_losses)


def test_planted_classes_are_found_and_noise_gives_chance(rng):
    codes = rng.permutation(np.repeat(np.arange(4), 100))
    noise = rng.normal(size=(400, 20)).astype(np.float32)
    planted = noise + 2 * np.eye(4, 20, dtype=np.float32)[codes]
    splits = fold_splits(np.repeat(np.arange(40), 10), n_folds=5, n_inner_folds=4, rng=rng)
    for x, low, high in ((planted, 0.75, 1.0), (noise, 0.25 - 0.07, 0.25 + 0.07)):  # 0.07: three standard errors
        predicted = np.empty(400, dtype=int)
        for split, fit in zip(
            splits, nested_logistic(x, codes, n_classes=4, splits=splits, penalties=PENALTIES), strict=True
        ):
            predicted[split.test] = fit.probability.argmax(axis=1)
        assert low < uar(codes, predicted) < high


def test_a_rare_class_is_recalled_as_often_as_a_common_one(rng):
    """Means differ by two standard deviations: recall is 0.84 for both, and 0.32 if a class counts by its size."""
    codes = (np.arange(1500) % 20 == 0).astype(int)
    x = rng.normal(size=(1500, 3)).astype(np.float32)
    x[:, 0] += 2 * codes
    split = fold_splits(np.arange(1500), n_folds=2, n_inner_folds=3, rng=rng)[0]
    (fit,) = nested_logistic(x, codes, n_classes=2, splits=[split], penalties=(1e-3, 0.1))
    truth, predicted = codes[split.test], fit.probability.argmax(axis=1)
    for c in range(2):
        assert np.mean(predicted[truth == c] == c) > 0.7


def test_a_class_of_one_inner_fold_is_fitted_outside_and_left_out_of_the_inner_loss(rng):
    x, codes = problem(150, 12, rng)
    split = fold_splits(SPEAKERS, n_folds=3, n_inner_folds=3, rng=rng)[0]
    codes[codes == 2] = 0
    codes[split.train[split.inner_folds == 0][::3]] = 2
    (ours,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=PENALTIES)
    for k, penalty in enumerate(PENALTIES):
        own = np.empty(len(split.train))
        for fold in range(3):
            fit, inner = split.train[split.inner_folds != fold], split.train[split.inner_folds == fold]
            probability = by_scikit_learn(x, codes, fit, penalty)
            own[split.inner_folds == fold] = probability[inner, codes[inner]]
        truth = codes[split.train]
        loss = np.mean([-np.log(own[truth == c]).mean() for c in (0, 1)])
        assert ours.inner_losses[k] == pytest.approx(loss, rel=2e-3)
    outer = by_scikit_learn(x, codes, split.train, ours.penalty)[split.test]
    np.testing.assert_allclose(ours.probability, outer, atol=2e-3)


def test_a_class_that_no_training_row_has_gets_no_probability(rng):
    x, codes = problem(150, 12, rng)
    split = fold_splits(SPEAKERS, n_folds=3, n_inner_folds=3, rng=rng)[0]
    codes[split.train] = np.where(codes[split.train] == 1, 0, codes[split.train])
    codes[split.test] = 1
    (ours,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=PENALTIES)
    assert ours.probability[:, 1].tolist() == [0] * len(split.test)
    expected = by_scikit_learn(x, codes, split.train, ours.penalty)[split.test]
    np.testing.assert_allclose(ours.probability, expected, atol=2e-3)


def test_where_no_class_is_in_two_inner_folds_there_is_no_inner_loss(rng):
    x, _ = problem(60, 12, rng)
    split = Split("0", np.arange(40), np.arange(40, 60), np.arange(40) % 2)
    (fit,) = nested_logistic(x, np.arange(60) % 2, n_classes=2, splits=[split], penalties=PENALTIES)
    assert np.isnan(fit.inner_losses).all()
    assert fit.penalty == PENALTIES[0]
    np.testing.assert_allclose(fit.probability.sum(axis=1), 1)


@pytest.mark.parametrize("n_features", [3, 300])
def test_constant_embeddings_give_every_class_the_same_probability(n_features):
    x, codes = np.full((40, n_features), 0.1, dtype=np.float32), np.arange(40) % 5 // 2
    split = Split("0", np.arange(30), np.arange(30, 40), np.arange(30) % 3)
    (fit,) = nested_logistic(x, codes, n_classes=3, splits=[split], penalties=PENALTIES)
    np.testing.assert_allclose(fit.probability, 1 / 3, atol=1e-6)
    np.testing.assert_allclose(fit.inner_losses, np.log(3), atol=1e-6)


def test_a_penalty_means_the_same_for_an_embedding_whose_features_are_all_duplicated(rng):
    """Where features outnumber utterances; a penalty that isn't relative would count for half as much."""
    x, codes = problem(60, 80, rng)
    split = Split("0", np.arange(40), np.arange(40, 60), np.arange(40) % 2)
    (once,), (twice,) = (
        nested_logistic(wide, codes, n_classes=3, splits=[split], penalties=(0.1,))
        for wide in (x, np.concatenate([x, x], axis=1))
    )
    np.testing.assert_allclose(twice.probability, once.probability, atol=2e-3)


def test_many_constant_and_repeated_features_are_harmless(rng):
    """Features that were filled up to a common width: most are constant, some are copies."""
    x = np.zeros((120, 400), dtype=np.float32)
    x[:, :5] = rng.normal(size=(120, 5))
    x[:, 5:10] = x[:, :5]
    codes = (x[:, 0] > 0).astype(int)
    splits = fold_splits(np.arange(120) // 4, n_folds=3, n_inner_folds=2, rng=rng)
    for split, fit in zip(
        splits, nested_logistic(x, codes, n_classes=2, splits=splits, penalties=(0.01, 0.1)), strict=True
    ):
        assert np.mean(fit.probability.argmax(axis=1) == codes[split.test]) > 0.9
