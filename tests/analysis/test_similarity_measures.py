"""Similarity of two sides against textbook definitions, scikit-learn's CCA and exhaustive permutations."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from helpers.textbook_similarity import textbook_cka, textbook_rho
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kstest, rankdata
from sklearn.cross_decomposition import CCA

from layerprobe.analysis.similarity import cka
from layerprobe.analysis.similarity.cca import ridge_cca
from layerprobe.analysis.similarity.cka import cka_square, debiased_cka
from layerprobe.analysis.similarity.rsa import Rsa, sample_blocks, rsa
from layerprobe.analysis.similarity.table import standardised


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def biased_cka(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.sum((x.T @ y) ** 2) / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


@pytest.mark.parametrize(("n", "dims"), [(30, (5, 9)), (30, (60, 3)), (30, (90, 120)), (30, (1, 1)), (4, (6, 6))])
def test_cka_equals_the_textbooks_whole_gram_matrices(rng, n, dims):
    x = rng.normal(2, 1, size=(n, dims[0]))
    y = x @ rng.normal(size=dims) + 3 * rng.normal(size=(n, dims[1]))
    assert debiased_cka(x, y) == pytest.approx(textbook_cka(x, y), abs=1e-10)


def test_cka_is_near_0_for_independent_sides_that_are_wider_than_utterances_are_many(rng):
    x, y = rng.normal(size=(2, 50, 3000))
    assert biased_cka(x, y) > 0.95
    assert abs(debiased_cka(x, y)) < 0.1  # its standard deviation is about sqrt(2) / n
    values = [debiased_cka(*rng.normal(size=(2, 20, 40))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(400)


def test_cka_stays_under_rotation_scale_and_shift_and_not_under_scales_of_features(rng):
    x = rng.normal(size=(40, 6))
    y = x + rng.normal(size=(40, 6))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    value = debiased_cka(x, y)
    assert debiased_cka(-3 * x @ rotation + 50, y) == pytest.approx(value, abs=1e-10)
    assert abs(debiased_cka(x * np.array([9, 1, 1, 1, 1, 1]), y) - value) > 0.01


def test_cka_of_a_constant_is_nan(rng):
    for value in (0.0, 0.1, 1e6 / 3):  # the mean of 0.1 misses it by rounding
        constant = np.full((31, 3), value)
        assert np.isnan(debiased_cka(constant, rng.normal(size=(31, 4))))
        assert np.isnan(debiased_cka(rng.normal(size=(31, 4)), constant))


@pytest.mark.parametrize(("n", "dims"), [(40, (300, 200, 1)), (300, (5, 4, 1))])
@pytest.mark.parametrize(("dtype", "within"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_all_pairs_at_once_equal_each_pair_by_features_and_by_grams(rng, monkeypatch, n, dims, dtype, within):
    monkeypatch.setattr(cka, "BLOCK_BYTES", 3 * n * 8 * 7)  # several blocks, the last one short
    chosen = []
    for name in ("_cross_by_features", "_cross_by_grams"):
        form = getattr(cka, name)
        monkeypatch.setattr(cka, name, lambda layers, form=form, name=name: chosen.append(name) or form(layers))
    shared = rng.normal(size=(n, 3))
    layers = [standardised(shared @ rng.normal(size=(3, d)) + rng.normal(size=(n, d))) for d in dims]
    square = cka_square([layer.astype(dtype) for layer in layers])
    expected = [[textbook_cka(a, b) for b in layers] for a in layers]
    np.testing.assert_allclose(square, expected, atol=within)
    assert chosen == ["_cross_by_grams" if n < max(dims) else "_cross_by_features"]


def test_a_layer_with_a_single_utterance_that_differs_is_nan_in_float32_too(rng):
    """Only the diagonal of its Gram matrix holds anything, which is what debiasing takes out."""
    lone = np.zeros((500, 4))
    lone[17, 2] = 1.0
    layers = [standardised(lone).astype(np.float32), standardised(rng.normal(size=(500, 4))).astype(np.float32)]
    assert np.isnan(cka_square(layers)).tolist() == [[True, True], [True, False]]


def test_sides_that_cannot_be_compared_are_refused(rng):
    x = rng.normal(size=(10, 3))
    with pytest.raises(ValueError, match=r"^x has 10 utterances and y 9; give both the same utterances, in the same"):
        debiased_cka(x, x[:9])
    with pytest.raises(ValueError, match=r"^x and y have 3 utterances, and similarity needs 4; add utterances$"):
        debiased_cka(x[:3], x[:3])
    with pytest.raises(ValueError, match=r"^x has shape \(10, 3\) and y \(10,\); each must be \(n_utterances, dim\)$"):
        debiased_cka(x, x[:, 0])


def related(rng, *, n=200, dims=(6, 4)):
    shared = rng.normal(size=(n, 3)) * (4, 2, 1)
    return [shared @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)) + 5 for d in dims]


def test_cca_without_ridge_and_cap_equals_scikit_learn_and_the_closed_form(rng):
    x, y = related(rng)
    rows = np.arange(200)
    ours = ridge_cca(x, y, train=rows, test=rows, penalty=0.0, n_components=4)
    u, v = CCA(n_components=3, max_iter=10_000, tol=1e-10).fit(x, y).transform(x, y)
    theirs = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(ours.held_out[:3], theirs, atol=1e-6)
    bases = [np.linalg.qr(side - side.mean(axis=0))[0] for side in (x, y)]
    closed = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    np.testing.assert_allclose([ours.in_sample, ours.held_out], [closed, closed], atol=1e-10)
    assert ours.mean == pytest.approx(closed.mean())


@pytest.mark.parametrize("dims", [(6, 4), (150, 4), (150, 170)])
def test_cca_with_ridge_equals_the_eigenvectors_of_the_textbook_on_rows_never_fitted(rng, dims):
    """Vinod (1976): eigenvectors of (Sxx + k)^-1 Sxy (Syy + k)^-1 Syx, for sides narrower and wider than training."""
    x, y = related(rng, dims=dims)
    train, test = np.arange(100), np.arange(100, 200)
    sides = [(side - side[train].mean(axis=0)) for side in (x, y)]
    sxx, syy = (s[train].T @ s[train] / 100 for s in sides)
    sxy = sides[0][train].T @ sides[1][train] / 100
    inverse_x, inverse_y = (np.linalg.inv(s + 0.3 * np.trace(s) / len(s) * np.eye(len(s))) for s in (sxx, syy))
    values, vectors = np.linalg.eig(inverse_x @ sxy @ inverse_y @ sxy.T)
    a = vectors.real[:, np.argsort(-values.real)[:3]]
    b = inverse_y @ sxy.T @ a
    expected = [np.corrcoef(sides[0][test] @ a[:, k], sides[1][test] @ b[:, k])[0, 1] for k in range(3)]
    ours = ridge_cca(x, y, train=train, test=test, penalty=0.3, n_components=3)
    np.testing.assert_allclose(ours.held_out, expected, atol=1e-7)


def test_cca_with_a_cap_is_cca_of_so_many_principal_components(rng):
    x, y = related(rng, dims=(12, 9))
    train, test = np.arange(120), np.arange(120, 200)
    away = [side - side[train].mean(axis=0) for side in (x, y)]
    capped = [side @ np.linalg.svd(side[train])[2][:3].T for side in away]
    expected = ridge_cca(*capped, train=train, test=test, penalty=0.0, n_components=3)
    ours = ridge_cca(x, y, train=train, test=test, penalty=0.0, n_components=10, max_rank=3)
    np.testing.assert_allclose(ours.held_out, expected.held_out, atol=1e-8)
    assert len(ours.held_out) == 3


def test_held_out_cca_is_near_0_on_noise_where_in_sample_is_large_and_finds_what_is_shared(rng):
    x, y = rng.normal(size=(2, 400, 80))
    train, test = np.arange(200), np.arange(200, 400)
    noise = ridge_cca(x, y, train=train, test=test, penalty=0.0, n_components=5)
    assert noise.in_sample.mean() > 0.8
    assert abs(noise.mean) < 0.1  # five correlations, each with a standard deviation of 1 / sqrt(200)
    y[:, :5] = x[:, :5]
    assert ridge_cca(x, y, train=train, test=test, penalty=0.0, n_components=5).mean > 0.95


def test_cca_of_a_constant_is_nan_and_too_few_rows_are_refused(rng):
    x, y = rng.normal(size=(20, 3)), np.full((20, 2), 0.1)
    rows = np.arange(20)
    assert np.isnan(ridge_cca(x, y, train=rows, test=rows, penalty=0.1, n_components=2).mean)
    with pytest.raises(ValueError, match=r"^test has 3 utterances, and CCA needs 4; add utterances$"):
        ridge_cca(x, x, train=rows, test=rows[:3], penalty=0.1, n_components=2)


@pytest.mark.parametrize("dims", [(20, 30), (20, 1), (2, 5)])
def test_rsa_equals_scipy_on_the_textbooks_dissimilarities(rng, dims):
    speakers = rng.permutation(np.repeat(np.arange(8), 5))
    x = rng.normal(size=(40, dims[0]))
    y = 0.4 * x @ rng.normal(size=dims) + rng.normal(size=(40, dims[1]))
    ours = rsa(x, y, speakers, n_permutations=9, rng=rng).value
    assert ours == pytest.approx(textbook_rho(x, y, speakers), abs=1e-10)


def test_rsa_ranks_equal_steps_of_ratings_as_equal(rng):
    """Differences of tenths differ in their last bits, and would make ties into an order."""
    speakers = np.repeat(np.arange(10), 4)
    steps = rng.integers(1, 8, size=(40, 1))
    y = rng.normal(size=(40, 6))
    assert rsa(steps / 10, y, speakers, n_permutations=9, rng=rng).value == pytest.approx(
        textbook_rho(steps.astype(float), y, speakers), abs=1e-10
    )


def test_p_is_the_share_of_exchanges_of_speakers_and_within_speakers_that_reach_the_correlation():
    """Three speakers of two utterances: all 48 exchanges are gone through. The share of 20,000 draws has a
    standard deviation of 0.0035 at most. The order as it is counts as one that reaches it.
    """
    speakers = np.repeat(np.arange(3), 2)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 6, 5))
        observed = textbook_rho(x, y, speakers)
        exchanges = product(permutations(range(3)), product((0, 1), repeat=3))
        orders = [[2 * s + (u ^ flips[s]) for s in order for u in (0, 1)] for order, flips in exchanges]
        reached = np.mean([textbook_rho(x, y[order], speakers) >= observed - 1e-9 for order in orders])
        assert rsa(x, y, speakers, n_permutations=20_000, rng=rng).p_permutation == pytest.approx(reached, abs=0.015)
    x = rng.normal(size=(60, 10))
    assert rsa(x, x, np.repeat(np.arange(15), 4), n_permutations=99, rng=rng) == Rsa(pytest.approx(1.0), 1 / 100)


def test_p_is_uniform_where_both_sides_tell_speakers_apart_and_that_of_free_permutations_is_not():
    rng = np.random.default_rng(3)
    speakers = np.repeat(np.arange(10), 4)
    first, second = np.triu_indices(40, k=1)

    def free_p(x, y):
        a, b = (rankdata(pdist(side, "correlation")) for side in (x, y))
        square = squareform(b)
        orders = [rng.permutation(40) for _ in range(99)]
        return (1 + sum(a @ square[o[first], o[second]] >= a @ b for o in orders)) / 100

    unrelated = rng.normal(size=(200, 2, 10, 8))[:, :, speakers] + 0.5 * rng.normal(size=(200, 2, 40, 8))
    blocks = [rsa(x, y, speakers, n_permutations=99, rng=rng).p_permutation for x, y in unrelated]
    assert kstest(blocks, "uniform").pvalue > 0.01
    assert kstest([free_p(x, y) for x, y in unrelated], "uniform").pvalue < 1e-6


def test_equally_many_utterances_of_each_speaker_are_drawn():
    speakers = np.repeat(["a", "b", "c", "d", "e"], [1, 30, 30, 30, 30])
    blocks = sample_blocks(speakers, max_utterances=50, rng=np.random.default_rng(0))
    assert blocks.shape == (4, 10)  # "a" with its single utterance would leave five in all
    assert [set(speakers[row]) for row in blocks] == [{"b"}, {"c"}, {"d"}, {"e"}]
    assert len(np.unique(blocks)) == 40
    many = sample_blocks(np.repeat(np.arange(500), 3), max_utterances=400, rng=np.random.default_rng(0))
    assert many.shape == (400, 1)


def test_rsa_of_a_constant_is_nan_and_speakers_that_are_too_few_or_of_other_utterances_are_refused(rng):
    x = rng.normal(size=(20, 3))
    for dim in (1, 6):
        result = rsa(x, np.full((20, dim), 0.1), np.repeat(np.arange(5), 4), n_permutations=9, rng=rng)
        assert np.isnan([result.value, result.p_permutation]).all()
    with pytest.raises(ValueError, match=r"^RSA needs 3 speakers and there are 2; add utterances of others$"):
        rsa(x, x, np.repeat([0, 1], 10), n_permutations=9, rng=rng)
    with pytest.raises(ValueError, match=r"^x has 20 utterances and speakers 19; give one speaker an utterance$"):
        rsa(x, x, np.zeros(19), n_permutations=9, rng=rng)
