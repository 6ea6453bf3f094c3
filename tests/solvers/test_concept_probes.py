"""Tests of probes of concepts: the dual form equals erasing and fitting, and what is rounding counts as nothing."""

from __future__ import annotations

import numpy as np
import pytest

from layerprobe.probe.solvers.concept_probes import ConceptProbe, Decoded
from layerprobe.probe.solvers.erased_ridge import SplitRidge
from layerprobe.probe.splits import fold_splits

ALPHAS = (1e-2, 1.0, 100.0)


@pytest.fixture
def material(rng):
    """Embeddings with a concept of two columns, speakers, and the splits."""
    n, groups = 160, np.arange(160) // 8
    z = rng.normal(size=(n, 2))
    x = rng.normal(size=(n, 15)) @ rng.normal(size=(15, 15)) + 2 * z @ rng.normal(size=(2, 15))
    return x, z, groups, fold_splits(groups, n_folds=4, n_inner_folds=3, rng=rng)


def test_nothing_is_left_for_a_probe_of_the_training_speakers(material):
    x, z, _, splits = material
    for split in splits:
        ridge = SplitRidge(x, split, alphas=ALPHAS)
        probe = ConceptProbe.train(ridge, z)
        assert probe.unseen(None).r() > 0.5
        assert probe.unseen(ridge.leace(z)).r() == 0.0
        assert probe.unseen(ridge.random(2, np.random.default_rng(0))).r() > 0.3


def test_a_concept_that_some_rows_lack_is_scored_on_the_others(material):
    x, z, _, splits = material
    z[::3] = np.nan
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    probe = ConceptProbe.train(ridge, z)
    assert len(probe.unseen(None).truth) == np.isfinite(z[splits[0].test]).all(axis=1).sum()
    assert probe.unseen(ridge.leace(z)).r() == 0.0


@pytest.mark.parametrize("erases", [True, False])
def test_fresh_probes_equal_erasing_and_fitting(material, erases):
    x, z, groups, splits = material
    split = splits[0]
    ridge = SplitRidge(x, split, alphas=ALPHAS)
    directions, probe = ridge.leace(z) if erases else None, ConceptProbe.train(ridge, z)
    rows = ridge.standardiser(x[split.test])
    if directions is not None:
        rows = rows - rows @ ridge.basis @ directions.read @ directions.write.T @ ridge.basis.T
    fold = np.unique(groups[split.test], return_inverse=True)[1] % 5
    expected = np.empty((len(rows), 2))
    for k in range(5):
        train, out = rows[fold != k], rows[fold == k]
        centred, level = train - train.mean(axis=0), z[split.test][fold != k]
        gram = centred.T @ centred
        penalty = probe.alpha[0] * np.trace(gram) / min(gram.shape[0], len(train))
        w = np.linalg.solve(gram + penalty * np.eye(15), centred.T @ (level - level.mean(axis=0)))
        expected[fold == k] = (out - train.mean(axis=0)) @ w
    found = probe.refitted(x, groups, directions)
    np.testing.assert_allclose(found.prediction, expected, atol=1e-9)


def test_one_held_out_speaker_has_no_fresh_probe(material):
    x, z, groups, splits = material
    ridge = SplitRidge(x, splits[0], alphas=ALPHAS)
    assert ConceptProbe.train(ridge, z).refitted(x, np.zeros_like(groups), None) is None


def test_r_is_the_mean_over_columns_that_vary():
    truth = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 3.0], [2.0, 1.0, 3.0]])
    prediction = np.array([[0.0, 1e-12, 1.0], [1.0, 0.0, 2.0], [2.0, 0.0, 3.0]])
    assert Decoded(truth, prediction).r() == pytest.approx((1 + 0) / 2)
    assert np.isnan(Decoded(truth[:, 2:], prediction[:, 2:]).r())
