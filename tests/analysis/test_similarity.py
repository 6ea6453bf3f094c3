"""Similarity against textbook definitions, scikit-learn's CCA, exhaustive permutations, and planted layers."""

from __future__ import annotations

from functools import partial
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kstest, rankdata, spearmanr
from sklearn.cross_decomposition import CCA

from layerprobe.analysis.similarity import cka
from layerprobe.analysis.similarity.cca import ridge_cca
from layerprobe.analysis.similarity.cka import cka_square, debiased_cka
from layerprobe.analysis.similarity.rsa import Rsa, draw_blocks, rsa
from layerprobe.analysis.similarity.table import (
    COLUMNS,
    RATINGS,
    similarity_table,
    speaker_halves,
    spread_over_speakers,
    standardised,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def textbook_cka(x, y):
    """From whole Gram matrices, word for word: Song et al. (2012), equation 5."""

    def hsic(k, m):
        n, ones = len(k), np.ones(len(k))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        last = 2 / (n - 2) * (ones @ k @ m @ ones)
        return (np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)) - last) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


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
    with pytest.raises(ValueError, match="^x has 10 utterances and y 9; give both the same utterances, in the same"):
        debiased_cka(x, x[:9])
    with pytest.raises(ValueError, match="^x and y have 3 utterances, and similarity needs 4; add utterances$"):
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
    with pytest.raises(ValueError, match="^test has 3 utterances, and CCA needs 4; add utterances$"):
        ridge_cca(x, x, train=rows, test=rows[:3], penalty=0.1, n_components=2)


def textbook_rho(x, y, speakers):
    """Spearman's rho over the dissimilarities of utterances of different speakers."""
    apart = squareform(speakers[:, None] != speakers, checks=False)
    far = [pdist(side, "euclidean" if side.shape[1] < 3 else "correlation")[apart] for side in (x, y)]
    return spearmanr(*far).statistic


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
        assert rsa(x, y, speakers, n_permutations=20_000, rng=rng).p == pytest.approx(reached, abs=0.015)
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
    blocks = [rsa(x, y, speakers, n_permutations=99, rng=rng).p for x, y in unrelated]
    assert kstest(blocks, "uniform").pvalue > 0.01
    assert kstest([free_p(x, y) for x, y in unrelated], "uniform").pvalue < 1e-6


def test_equally_many_utterances_of_each_speaker_are_drawn():
    speakers = np.repeat(["a", "b", "c", "d", "e"], [1, 30, 30, 30, 30])
    blocks = draw_blocks(speakers, max_utterances=50, rng=np.random.default_rng(0))
    assert blocks.shape == (4, 10)  # "a" with its single utterance would leave five in all
    assert [set(speakers[row]) for row in blocks] == [{"b"}, {"c"}, {"d"}, {"e"}]
    assert len(np.unique(blocks)) == 40
    many = draw_blocks(np.repeat(np.arange(500), 3), max_utterances=400, rng=np.random.default_rng(0))
    assert many.shape == (400, 1)


def test_rsa_of_a_constant_is_nan_and_speakers_that_are_too_few_or_of_other_utterances_are_refused(rng):
    x = rng.normal(size=(20, 3))
    for dim in (1, 6):
        result = rsa(x, np.full((20, dim), 0.1), np.repeat(np.arange(5), 4), n_permutations=9, rng=rng)
        assert np.isnan([result.value, result.p]).all()
    with pytest.raises(ValueError, match="^RSA needs 3 speakers and there are 2; add utterances of others$"):
        rsa(x, x, np.repeat([0, 1], 10), n_permutations=9, rng=rng)
    with pytest.raises(ValueError, match="^x has 20 utterances and speakers 19; give one speaker an utterance$"):
        rsa(x, x, np.zeros(19), n_permutations=9, rng=rng)


def corpus(*, n=240, n_speakers=24):
    """Two encoders of which layer 2 of speech, and layer 0 of text, hold valence; arousal is in layer 0 of speech."""
    rng = np.random.default_rng(11)
    speakers = rng.permutation(np.repeat(np.arange(n_speakers), n // n_speakers))
    valence, arousal = rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    stores = {
        "speech": {"0": arousal @ rng.normal(size=(2, 20)), "1": np.zeros((n, 20)), "2": valence @ np.eye(2, 20)},
        "text": {"0": 5 * valence @ rng.normal(size=(2, 12))},
    }
    for layers in stores.values():
        for name in layers:
            layers[name] = (layers[name] + 0.3 * rng.normal(size=layers[name].shape)).astype(np.float32)
    ratings = pd.DataFrame({"arousal": arousal[:, 0], "valence": valence[:, 0]})
    return stores, ratings, speakers


def sources_of(stores, seen=None):
    def read(encoder, layer, rows):
        if seen is not None:
            seen.append((encoder, layer, rows))
        return stores[encoder][layer][rows]

    return {encoder: (list(layers), partial(read, encoder)) for encoder, layers in stores.items()}


def value(table, measure, a, b, column="value"):
    return table.set_index(COLUMNS[:5]).loc[(measure, *a, *b), column]


def test_the_table_has_every_pair_in_both_orders_with_the_same_numbers():
    stores, ratings, speakers = corpus()
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=99)
    assert list(table) == COLUMNS
    assert table["measure"].value_counts().to_dict() == {"cka": 36, "rsa": 36, "cca": 16}
    assert not table.duplicated(COLUMNS[:5]).any()
    assert RATINGS not in set(table.loc[table["measure"] == "cca", ["encoder_a", "encoder_b"]].to_numpy().ravel())
    swapped = table.rename(columns=dict(zip(COLUMNS[1:5], [*COLUMNS[3:5], *COLUMNS[1:3]], strict=True)))
    both = table.merge(swapped, on=COLUMNS[:5], suffixes=("", "_swapped"))
    assert len(both) == len(table)
    np.testing.assert_array_equal(both[["value", "p"]], both[["value_swapped", "p_swapped"]])
    assert table["p"].notna().equals(table["measure"] == "rsa")
    assert table["value"].between(-1, 1 + 1e-6).all()
    itself = table[(table["encoder_a"] == table["encoder_b"]) & (table["layer_a"] == table["layer_b"])]
    np.testing.assert_allclose(itself["value"], 1, atol=1e-6)


def test_the_table_says_what_the_pure_functions_say_of_standardised_layers():
    stores, ratings, speakers = corpus()
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=99)
    a, b, rating = (standardised(v) for v in (stores["speech"]["2"], stores["text"]["0"], ratings[["valence"]].values))
    pair = ("speech", "2"), ("text", "0")
    for other, name in ((b, pair[1]), (rating, (RATINGS, "valence"))):
        assert value(table, "cka", pair[0], name) == pytest.approx(textbook_cka(a, other), abs=1e-5)
        assert value(table, "rsa", pair[0], name) == pytest.approx(textbook_rho(a, other, speakers), abs=1e-10)
    halves = speaker_halves(speakers, rng=np.random.default_rng(0).spawn(3)[1])
    choices = {"penalty": 0.1, "n_components": 10, "max_rank": 100}
    fits = [ridge_cca(a, b, train=halves[k], test=halves[1 - k], **choices).mean for k in (0, 1)]
    assert value(table, "cca", *pair) == pytest.approx(np.mean(fits), abs=1e-10)


def test_the_table_finds_the_layers_where_ratings_and_text_were_planted():
    stores, ratings, speakers = corpus()
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=199)
    for measure in ("cka", "rsa"):
        for other, layer in (((RATINGS, "arousal"), "0"), ((RATINGS, "valence"), "2"), (("text", "0"), "2")):
            values = {name: value(table, measure, ("speech", name), other) for name in "012"}
            assert max(values, key=values.get) == layer
            assert abs(values["1"]) < 0.1
    assert value(table, "cca", ("speech", "2"), ("text", "0")) > 2 * value(table, "cca", ("speech", "1"), ("text", "0"))
    assert value(table, "rsa", ("speech", "2"), ("text", "0"), "p") == 1 / 200
    assert value(table, "rsa", ("speech", "1"), ("text", "0"), "p") > 0.01


def test_a_seed_repeats_the_table_bit_for_bit_and_another_draws_other_utterances():
    stores, ratings, speakers = corpus()

    def table(seed):
        return similarity_table(sources_of(stores), ratings, speakers, seed=seed, max_utterances=100, n_permutations=19)

    pd.testing.assert_frame_equal(table(0), table(0), check_exact=True)
    assert not table(0)["value"].equals(table(1)["value"])


def test_each_layer_is_read_once_for_the_same_rated_utterances_spread_over_speakers():
    stores, ratings, speakers = corpus()
    ratings.loc[::3, "valence"] = np.nan
    seen = []
    similarity_table(sources_of(stores, seen), ratings, speakers, seed=0, max_utterances=72, n_permutations=9)
    assert [encoder + layer for encoder, layer, _ in seen] == ["speech0", "speech1", "speech2", "text0"]
    rows = seen[0][2]
    assert all(np.array_equal(rows, other) for _, _, other in seen)
    assert (np.diff(rows) > 0).all() and (rows % 3 != 0).all()
    assert np.unique(speakers[rows], return_counts=True)[1].tolist() == [3] * 24
    assert spread_over_speakers(speakers, max_utterances=240, rng=np.random.default_rng(0)).tolist() == [*range(240)]


def test_cca_sees_no_likeness_in_sides_that_only_know_their_speakers():
    """Each side has a code of its own for each speaker: utterances split at random would correlate perfectly."""
    rng = np.random.default_rng(5)
    speakers = np.repeat(np.arange(40), 10)
    x, y = rng.normal(size=(2, 40, 10))[:, speakers] + 0.01 * rng.normal(size=(2, 400, 10))
    sources, unrated = sources_of({"a": {"0": x}, "b": {"0": y}}), pd.DataFrame(index=range(400))
    table = similarity_table(sources, unrated, speakers, seed=0, n_permutations=9, n_components=1)
    mixed = np.split(rng.permutation(400), 2)
    assert ridge_cca(x, y, train=mixed[0], test=mixed[1], penalty=0.1, n_components=1).mean > 0.7
    assert abs(value(table, "cca", ("a", "0"), ("b", "0"))) < 0.45  # two correlations over 20 speakers each


def test_halves_share_no_speaker_and_are_about_equal(rng):
    speakers = rng.choice(np.arange(30), p=np.arange(1, 31) / 465, size=600)
    first, second = speaker_halves(speakers, rng=rng)
    assert not set(speakers[first]) & set(speakers[second])
    np.testing.assert_array_equal(np.sort(np.r_[first, second]), np.arange(600))
    assert abs(len(first) - len(second)) <= 60  # no more than one speaker says


def test_a_constant_layer_is_nan_and_leaves_the_others_alone():
    stores, ratings, speakers = corpus()
    without = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=19)
    rounding = np.float32(1e-8) * (np.arange(240)[:, None] % 2)  # the last bit of 0.1
    stores["text"]["dead"] = np.full((240, 12), 0.1, dtype=np.float32) + rounding
    table = similarity_table(sources_of(stores), ratings, speakers, seed=0, n_permutations=19)
    dead = (table["layer_a"] == "dead") | (table["layer_b"] == "dead")
    assert table.loc[dead, ["value", "p"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(table[~dead].reset_index(drop=True), without, rtol=0, atol=1e-6)


def test_tables_that_cannot_be_made_are_refused():
    stores, ratings, speakers = corpus()
    sources = sources_of(stores)
    with pytest.raises(ValueError, match="^a source is called 'ratings', as the rated targets are; give it another na"):
        similarity_table({"ratings": sources["text"]}, ratings, speakers, seed=0)
    with pytest.raises(ValueError, match="^ratings have 239 utterances and speakers 240; give both the same$"):
        similarity_table(sources, ratings[1:], speakers, seed=0)
    with pytest.raises(ValueError, match=r"^text, layer 0: \(239, 2\) was read, not \(240, dim\); mend its read$"):
        similarity_table({"text": (["0"], lambda layer, rows: np.zeros((239, 2)))}, ratings, speakers, seed=0)
    with pytest.raises(ValueError, match="^RSA needs 3 speakers and there are 2; add utterances of others$"):
        similarity_table(sources, ratings, speakers % 2, seed=0)
    with pytest.raises(ValueError, match="^halves of the speakers hold 237 and 3 utterances, and CCA needs 4 in each"):
        similarity_table(sources, ratings, np.clip(np.arange(240), 0, 3), seed=0)
    stores["text"]["0"][7, 3] = np.nan
    with pytest.raises(ValueError, match="^text, layer 0: 1 utterances are not finite; extract them again$"):
        similarity_table(sources, ratings, speakers, seed=0)
    ratings.loc[7:, "valence"] = np.nan
    with pytest.raises(ValueError, match="^7 of 240 utterances have all ratings, and similarity needs 8; add utteranc"):
        similarity_table(sources, ratings, speakers, seed=0)
