"""Description length against bits by hand, against scikit-learn, and on layers of which the gain is known."""

from __future__ import annotations

import functools
import operator
import re

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.solvers.mdl import gaussian_bits, online_code, speaker_portions
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS
from layerprobe.probe.splits import speaker_folds

ALPHAS = (1e-3, 0.1, 1.0, 30.0)


def gain(x, y, groups, seed=0):
    return online_code(x, y, groups=groups, alphas=DEFAULT_ALPHAS, rng=np.random.default_rng(seed)).gain


def test_bits_equal_the_density_of_scipy_and_a_number_by_hand(rng):
    # one standard deviation off: log2(sqrt(2 pi) * 2) + 1 / (2 ln 2)
    by_hand = np.log2(np.sqrt(2 * np.pi) * 2) + 0.5 / np.log(2)
    assert gaussian_bits(np.array([[3.0]]), mean=np.array([1.0]), variance=np.array([4.0])) == pytest.approx(by_hand)
    ratings, mean, variance = rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), np.array([0.3, 2.0])
    expected = -norm.logpdf(ratings, mean, np.sqrt(variance)).sum(axis=0) / np.log(2)
    np.testing.assert_allclose(gaussian_bits(ratings, mean=mean, variance=variance), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("n_speakers", "n_each", "sizes"),
    [
        (64, 5, [20, 20, 40, 80, 160]),  # 2 speakers hold 1/32 but are fewer than 4
        (64, 3, [18, 6, 24, 48, 96]),  # 4 speakers hold 1/16 but have fewer than 16 utterances
        (320, 2, [20, 20, 40, 80, 160, 320]),
        (10, 20, [80, 20, 100]),
        (5, 4, [16, 4]),
        (24, 1, [16, 8]),
    ],
)
def test_portions_double_from_the_smallest_that_can_choose_alpha(rng, n_speakers, n_each, sizes):
    portion = speaker_portions(np.repeat(np.arange(n_speakers), n_each), rng=rng)
    assert np.bincount(portion).tolist() == sizes


def test_portions_keep_speakers_whole_in_random_order(rng):
    groups = rng.permutation(np.repeat(np.arange(40) * 7 + 3, rng.integers(1, 30, size=40)))
    portion = speaker_portions(groups, rng=np.random.default_rng(1))
    assert all(len(np.unique(portion[groups == speaker])) == 1 for speaker in np.unique(groups))
    assert (speaker_portions(groups, rng=np.random.default_rng(2)) != portion).any()


@pytest.mark.parametrize(
    ("n_speakers", "n_each", "noun"), [(1, 50, "speaker"), (4, 50, "speakers"), (16, 1, "speakers")]
)
def test_too_few_speakers_are_refused_in_a_sentence(rng, n_speakers, n_each, noun):
    groups = np.repeat(np.arange(n_speakers), n_each)
    text = (
        f"{n_speakers} {noun} with {n_speakers * n_each} utterances are too few for an online code: it learns from 4 "
        "speakers with 16 utterances, or more, before it codes another speaker. Add speakers."
    )
    with pytest.raises(InputError, match=f"^{re.escape(text)} \\[LP\\d{{3}}\\]$"):
        online_code(np.zeros((len(groups), 2)), np.zeros((len(groups), 1)), groups=groups, alphas=ALPHAS, rng=rng)


def by_scikit_learn(x, y, groups, rng, n_inner_folds):
    """Bits given the layer, marginal bits and coded utterances of one target, one utterance and one fit at a time."""
    order = rng.permutation(np.unique(groups)).tolist()
    portions, block, n_encoded, due = [], [], 0, [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]
    for speaker in order:
        block.append(speaker)
        n_encoded += int((groups == speaker).sum())
        long_enough = portions or (len(block) >= 4 and n_encoded >= 16)
        if long_enough and n_encoded >= due[0] * len(groups):
            portions.append(block)
            block, due = [], [fraction for fraction in due if fraction * len(groups) > n_encoded]

    def model(rows, alpha):
        z = StandardScaler().fit_transform(x[rows])
        return make_pipeline(StandardScaler(), Ridge(alpha * (z**2).sum() / min(z.shape))).fit(x[rows], y[rows])

    coded = marginal = n_coded = 0
    for k in range(1, len(portions)):
        seen = np.flatnonzero(np.isin(groups, functools.reduce(operator.iadd, portions[:k], [])))
        coming = np.flatnonzero(np.isin(groups, portions[k]))
        folds = speaker_folds(groups[seen], n_folds=n_inner_folds, rng=rng)
        errors = []
        for alpha in ALPHAS:
            squares = []
            for fold in range(n_inner_folds):
                held_out = seen[folds == fold]
                squares.extend((model(seen[folds != fold], alpha).predict(x[held_out]) - y[held_out]) ** 2)
            errors.append(np.mean(squares))
        best = int(np.argmin(errors))
        fold_of = list(zip(seen, folds, strict=True))
        off = [(y[row] - y[seen[folds != fold]].mean()) ** 2 for row, fold in fold_of]
        for row, prediction in zip(coming, model(seen, ALPHAS[best]).predict(x[coming]), strict=True):
            coded -= norm.logpdf(y[row], prediction, np.sqrt(errors[best])) / np.log(2)
            marginal -= norm.logpdf(y[row], y[seen].mean(), np.sqrt(np.mean(off))) / np.log(2)
            n_coded += 1
    return coded, marginal, n_coded


@pytest.mark.parametrize(("n_features", "n_inner_folds"), [(6, 4), (6, 2), (60, 3), (210, 4)])
def test_code_lengths_equal_those_of_one_fit_at_a_time(rng, n_features, n_inner_folds):
    """With more utterances than features, with fewer, and in between: within a thousandth of a bit an utterance."""
    groups = np.repeat(np.arange(40), rng.integers(2, 9, size=40))
    x = rng.normal(2, 3, size=(len(groups), n_features))
    y = x[:, :4] @ rng.normal(size=(4, 2)) + 2 * rng.normal(size=(len(groups), 2)) + rng.normal(size=(40, 2))[groups]
    ours = online_code(x, y, groups=groups, alphas=ALPHAS, rng=np.random.default_rng(5), n_inner_folds=n_inner_folds)
    for target in range(2):
        coded, marginal, n_coded = by_scikit_learn(x, y[:, target], groups, np.random.default_rng(5), n_inner_folds)
        assert ours.n_coded == n_coded
        assert ours.coded[target] == pytest.approx(coded, abs=1e-3 * n_coded)
        assert ours.marginal[target] == pytest.approx(marginal, rel=1e-9)
        assert ours.gain[target] == pytest.approx((marginal - coded) / n_coded, abs=1e-3)


@pytest.mark.parametrize("n_features", [5, 60])
def test_an_uninformative_layer_gains_nothing(rng, n_features):
    """Fitting n_features numbers in vain loses about n_features / (2 ln 2 n_seen) bits; shrinkage loses less."""
    x, y, groups = rng.normal(size=(3000, n_features)), rng.normal(3, 1, size=(3000, 3)), np.repeat(np.arange(300), 10)
    assert np.all(gain(x, y, groups) < 0.005)
    assert np.all(gain(x, y, groups) > -0.02)


@pytest.mark.parametrize("n_features", [3, 40])
def test_a_planted_signal_gains_half_the_log_of_variance_over_what_is_left(rng, n_features):
    """By hand: 0.5 log2((3 + 1) / 1) = 1 bit and 0.5 log2((3 + 5) / 5) = 0.339.

    Tolerance: an utterance's gain has a standard deviation below 1.5 bits, the mean of 8000 below 0.017; five portions
    of 40 coefficients cost at most 5 * 40 / (2 ln 2) bits, 0.018 an utterance. Three of one and one of the other: 0.07.
    """
    x, groups = rng.normal(size=(8000, n_features)), np.repeat(np.arange(800), 10)
    y = x[:, :3] @ np.ones((3, 2)) + rng.normal(size=(8000, 2)) * np.sqrt([1, 5])
    np.testing.assert_allclose(gain(x, y, groups), [1.0, 0.339], atol=0.07)


def test_the_better_of_two_layers_gains_more(rng):
    signal, groups = rng.normal(size=(1500, 4)), np.repeat(np.arange(150), 10)
    y = signal @ rng.normal(size=(4, 2)) + rng.normal(size=(1500, 2))
    clear, faint = (signal + noise * rng.normal(size=(1500, 4)) for noise in (0.3, 2.0))
    assert np.all(gain(clear, y, groups) > gain(faint, y, groups) + 0.1)
    assert np.all(gain(faint, y, groups) > 0.01)


def test_a_layer_that_only_identifies_speakers_gains_nothing(rng):
    """The same layer gains bits where a speaker's utterances may be on both sides: each a group of its own."""
    groups = np.repeat(np.arange(200), 8)
    codes, ratings = np.eye(200), rng.normal(size=(200, 1))
    x, y = codes[groups] + 0.01 * rng.normal(size=(1600, 200)), ratings[groups]
    assert gain(x, y, groups) < 0.05
    assert gain(x, y, np.arange(1600)) > 0.5


def test_a_layer_whose_meaning_turns_around_with_new_speakers_loses_bits(rng):
    """Each speaker's voice codes valence the other way than the next one's, in a first portion of few speakers."""
    groups = np.repeat(np.arange(12), 30)
    sign = np.where(speaker_portions(groups, rng=np.random.default_rng(0)) == 0, 1.0, -1.0)
    x = rng.normal(size=(360, 1))
    assert gain(x, x * sign[:, None] + 0.1 * rng.normal(size=(360, 1)), groups) < -1


def test_the_unit_of_the_ratings_moves_both_codes_and_no_gain(rng):
    x, groups = rng.normal(size=(400, 5)), np.repeat(np.arange(40), 10)
    y = x[:, :1] + rng.normal(size=(400, 1))
    one, eight = (
        online_code(x, scale * y + 4, groups=groups, alphas=ALPHAS, rng=np.random.default_rng(3)) for scale in (1, 8)
    )
    np.testing.assert_allclose(eight.gain, one.gain, atol=1e-9)
    np.testing.assert_allclose(eight.coded - one.coded, 3 * one.n_coded, rtol=1e-9)  # log2(8) bits each


def test_the_same_generator_repeats_every_bit_and_another_orders_speakers_anew(rng):
    x, y, groups = rng.normal(size=(300, 8)), rng.normal(size=(300, 2)), np.repeat(np.arange(30), 10)
    first, again, other = (gain(x, y, groups, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize("n_features", [8, 200])
def test_the_order_of_utterances_does_not_matter(rng, n_features):
    x, y, groups = rng.normal(size=(300, n_features)), rng.normal(size=(300, 2)), np.repeat(np.arange(30), 10)
    y += x[:, :2]
    shuffled = rng.permutation(300)
    np.testing.assert_allclose(gain(x[shuffled], y[shuffled], groups[shuffled]), gain(x, y, groups), atol=1e-9)


def test_a_layer_that_holds_the_ratings_themselves_gains_a_finite_number(rng):
    y, groups = rng.normal(size=(400, 2)), np.repeat(np.arange(40), 10)
    # by hand, with the least error allowed: 0.5 log2(1e6), less a surprise of 0 and with the marginal's 1 / (2 ln 2);
    # its mean over 360 utterances varies by 0.72 * sqrt(2 / 360) = 0.05
    np.testing.assert_allclose(gain(y.astype(np.float32), y, groups), 9.966 + 0.721, atol=0.15)


def test_a_target_of_equal_ratings_is_nan_and_leaves_the_others_alone(rng):
    x, y, groups = rng.normal(size=(300, 8)), rng.normal(size=(300, 2)), np.repeat(np.arange(30), 10)
    alone = gain(x, y[:, 1:], groups)
    y[:, 0] = 0.1
    both = gain(x, y, groups)
    assert np.isnan(both[0])
    assert both[1] == pytest.approx(alone[0], abs=1e-9)
