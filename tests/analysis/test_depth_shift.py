"""The shift between two profiles: by hand, unmoved by a weaker target, and of the nominal size."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.simulated_corpus import simulated
from scipy.stats import binom

from layerprobe.analysis.layers.depth import score_centre
from layerprobe.analysis.layers.shift import (
    detectable_shift,
    on_both_scales,
    profile_shift,
    shift_contrasts,
    shifts,
    signal_to_noise,
)
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.statistics.estimates import BootstrapSample

DEPTHS = [4, 12, 24]


def bump(n_blocks, *, at, low=0.45, high=0.75):
    blocks = np.arange(n_blocks + 1)
    return low + (high - low) * np.exp(-0.5 * ((blocks - at) / (0.2 * n_blocks)) ** 2)


def weaker_signal(r, factor):
    s = factor * signal_to_noise(r)
    return np.sqrt(s / (1 + s))


def test_a_shift_by_hand():
    """Of 5 layers, (0, 1, 4, 1, 0) moved by a block is (0, 0, 1, 4, 1): their correlation is 1 at that shift alone."""
    profile = np.array([0.0, 1.0, 4.0, 1.0, 0.0])
    moved = np.array([0.0, 0.0, 1.0, 4.0, 1.0])
    assert profile_shift(moved, profile) == 0.25
    assert profile_shift(profile, moved) == -0.25
    assert profile_shift(profile, profile) == 0.0


def test_the_shift_is_that_of_an_exhaustive_search(rng):
    """Interpolation by numpy and correlations by numpy, one shift after the other."""
    blocks = np.arange(9.0)
    lags = np.arange(-16, 17) / 4
    for _ in range(20):
        deeper, shallower = rng.normal(size=(2, 9)).cumsum(axis=1)
        found = [np.corrcoef(deeper, np.interp(blocks - lag, blocks, shallower))[0, 1] for lag in lags]
        if max(found) > 0:
            assert profile_shift(deeper, shallower) == lags[int(np.argmax(found))] / 8


@pytest.mark.parametrize("n_blocks", DEPTHS)
def test_one_block_deeper_is_one_block(n_blocks):
    first, second = (bump(n_blocks, at=n_blocks / 2 + k) for k in (0, 1))
    assert profile_shift(second, first) == pytest.approx(1 / n_blocks)


@pytest.mark.parametrize("n_blocks", DEPTHS)
@pytest.mark.parametrize("blocks", [0, 1])
def test_attenuation_leaves_the_shift_of_scores_and_a_weaker_signal_that_of_signal_to_noise(n_blocks, blocks):
    arousal, valence = (bump(n_blocks, at=n_blocks / 2 + k) for k in (0, blocks))
    assert profile_shift(0.3 * valence, arousal) == profile_shift(valence, arousal)
    pairs = (signal_to_noise(valence), signal_to_noise(arousal))
    weaker = signal_to_noise(weaker_signal(valence, 0.35)), signal_to_noise(arousal)
    assert profile_shift(*weaker) == profile_shift(*pairs)
    depth = np.linspace(0, 1, n_blocks + 1)
    if not blocks:  # a centre of gravity moves with the level alone where the profile is not symmetrical
        late = bump(n_blocks, at=0.8 * n_blocks)
        assert abs(score_centre(weaker_signal(late, 0.35), depth) - score_centre(late, depth)) > 0.003


def test_several_maxima_give_the_shift_nearest_to_zero():
    """A profile of period 2 fits after 0 and 2 blocks; one and its opposite fit as well before as after."""
    wave = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    assert profile_shift(wave, wave) == 0.0
    arch = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    peak = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert profile_shift(arch, peak) == 0.0  # by 3 blocks to either side


def test_a_maximum_at_the_end_of_the_grid_is_half_of_the_encoder():
    first, second = (bump(12, at=k) for k in (1, 11))
    assert profile_shift(second, first) == 0.5
    assert profile_shift(first, second) == -0.5


@pytest.mark.parametrize(
    ("deeper", "shallower"),
    [
        ([0.5] * 5, [0.1, 0.2, 0.5, 0.2, 0.1]),
        ([0.1, 0.2, 0.5, 0.2, 0.1], [0.5] * 5),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0.4, 0.3, 0.2, 0.5, 0.1]),  # no shift has a correlation above 0
    ],
)
def test_flat_profiles_and_unlike_ones_with_maxima_close_by_have_no_shift(deeper, shallower):
    assert np.isnan(profile_shift(np.array(deeper), np.array(shallower)))


def test_opposite_profiles_lie_at_least_differ_by_half_of_the_encoder_or_more():
    rising = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert profile_shift(rising, rising[::-1]) == 0.5
    assert profile_shift(rising[::-1], rising) == -0.5


def test_plateaus_at_either_end_have_a_shift():
    step = np.array([0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6])
    later = np.array([0.1, 0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 0.6])
    assert profile_shift(later, step) == 0.125


def sample(estimate, resamples, n_speakers=20):
    return BootstrapSample(np.array(estimate), np.array(resamples, dtype=float), np.full(n_speakers, estimate))


def evenly(low, high):
    return np.linspace(low, high, 2001)


@pytest.mark.parametrize(
    ("of_scores", "of_ratios", "side"),
    [
        ((0.1, 0.3), (0.05, 0.2), 1),
        ((-0.3, -0.1), (-0.2, -0.05), -1),
        ((0.1, 0.3), (-0.05, 0.2), 0),
        ((0.1, 0.3), (-0.3, -0.1), 0),
        ((-0.05, 0.3), (0.1, 0.2), 0),
    ],
)
def test_both_intervals_must_exclude_zero_on_the_same_side(of_scores, of_ratios, side):
    samples = tuple(sample(np.mean(ends), evenly(*ends)) for ends in (of_scores, of_ratios))
    found = on_both_scales(samples)
    assert int(found.ci_low > 0) - int(found.ci_high < 0) == side
    assert (found.p_value < 0.05) is (side != 0)
    assert found.p_value == 1 or found.p_value >= max(s.percentiles().p_value for s in samples)
    assert found.estimate == pytest.approx((np.mean(of_scores) + np.mean(of_ratios)) / 2)


def test_undefined_resamples_leave_no_interval():
    resamples = np.r_[np.full(1900, 0.2), np.full(200, np.nan)]
    found = on_both_scales((sample(0.2, resamples), sample(0.2, evenly(0.1, 0.3))))
    assert np.isnan([found.ci_low, found.ci_high, found.p_value]).all()


def test_resamples_at_zero_count_for_the_null_hypothesis():
    """.03 of the resamples at 0 are no .015: the interval of many speakers ends at 0, and p is .06."""
    found = sample(0.2, np.r_[np.zeros(30), np.full(970, 0.2)], n_speakers=10_000).percentiles()
    assert found.ci_low == 0
    assert found.p_value == pytest.approx(0.06, abs=1e-3)


def test_the_detectable_shift_is_that_of_the_normal_distribution(rng):
    """With many speakers 1.96 + 0.84 = 2.80 standard deviations of the wider scale (Bloom, 1995), and half a step."""
    wide, narrow = (sample(0.0, rng.normal(0, sd, 200_000), n_speakers=100_000) for sd in (0.1, 0.05))
    assert detectable_shift((narrow, wide), n_blocks=12) == pytest.approx(0.280 + 1 / 96, abs=0.002)
    constant = sample(0.0, np.zeros(100))
    assert detectable_shift((constant, constant), n_blocks=12) == pytest.approx(1 / 96)  # half a step of the grid


def normal_corpus(rng, valence, arousal, *, n_resamples=300):
    """Profiles with the errors of 400 utterances, .9 of whose variance all layers have in common, and resamples."""
    true = np.concatenate([valence, arousal])
    common = np.kron(np.eye(2), np.full((len(valence), len(valence)), 0.9))
    error = (1 - true**2) / np.sqrt(400)
    root = np.linalg.cholesky((common + 0.1 * np.eye(len(true))) * np.outer(error, error))
    estimate = true + root @ rng.normal(size=len(true))
    resamples = estimate + rng.normal(size=(n_resamples, len(true))) @ root.T
    parts = zip(*(np.split(a, 2, axis=-1) for a in (estimate, resamples)), strict=True)
    return tuple(BootstrapSample(e, r, e[None], np.full(e.shape, 1000)) for e, r in parts)


@pytest.mark.parametrize("weaken", [lambda r: 0.6 * r, lambda r: weaker_signal(r, 0.35)], ids=["attenuated", "signal"])
def test_a_weaker_target_with_the_same_profile_is_not_deeper(weaken):
    """Of 60 corpora at a size of .05 more than 8 are significant with a probability below .01."""
    arousal, rng, wrong = bump(6, at=5), np.random.default_rng(3), 0
    for _ in range(60):
        found = on_both_scales(shifts(*normal_corpus(rng, weaken(arousal), arousal)))
        wrong += found.ci_low > 0 or found.ci_high < 0
    assert wrong <= binom.ppf(0.99, 60, 0.05)


def test_a_deeper_target_is_found_although_it_is_weaker():
    valence, arousal = weaker_signal(bump(6, at=4, low=0.2), 0.5), bump(6, at=2, low=0.2)
    noise = {t: list(1.4 * np.sqrt(1 / r**2 - 1)) for t, r in (("arousal", arousal), ("valence", valence))}
    for seed in range(4):
        predictions = simulated(np.random.default_rng([4, seed]), noise, n_speakers=40, each=15)
        scores = bootstrap_scores(predictions, metric="pearson", n_resamples=200)
        (row,) = shift_contrasts(scores, layers={"e": list("0123456")}).to_dict("records")
        assert row["ci_low"] > 0
        assert row["p_value"] < 0.05


def test_encoders_of_three_layers_and_features_have_no_shift(rng):
    predictions = simulated(rng, {"arousal": [1.0, 2.0, 1.0], "valence": [1.0, 1.0, 2.0]})
    scores = bootstrap_scores(predictions, metric="pearson", n_resamples=20)
    assert shift_contrasts(scores, layers={"e": ["0", "1", "2"]}).empty
    assert shift_contrasts(scores, layers={"e": ["f0", "loudness", "rate", "pause"]}).empty


def test_trained_and_random_weights_are_subtracted_resample_by_resample(rng):
    n_layers = 7
    trained, untrained = ({"arousal": bump(6, at=a), "valence": bump(6, at=v)} for a, v in ((2, 3), (3, 3)))
    noise = {t: list(1.4 * np.sqrt(1 / np.r_[trained[t], untrained[t]] ** 2 - 1)) for t in trained}
    both = simulated(rng, noise)
    number = both.columns["layer"].astype(int)
    both.columns["control"] = np.where(number >= n_layers, "random_init", "none")
    both.columns["layer"] = [str(k % n_layers) for k in number]
    scores = bootstrap_scores(both, metric="pearson", n_resamples=200)
    layers = [str(k) for k in range(n_layers)]
    value = shift_contrasts(scores, layers={"e": layers}).set_index("control")["estimate"]
    assert value["difference"] == pytest.approx(value["none"] - value["random_init"])


def test_a_column_with_final_has_the_blocks_alone(rng):
    noise = list(1.4 * np.sqrt(1 / bump(4, at=2) ** 2 - 1))
    predictions = simulated(rng, {"arousal": noise, "valence": noise})
    scores = bootstrap_scores(predictions, metric="pearson", n_resamples=50)
    table = shift_contrasts(scores, layers={"e": [*map(str, range(5)), "final"]})
    assert table["n_blocks"].tolist() == [4]
    assert shifts(*(scores.of(["0", "1", "2", "3", "4"], probe="ridge", encoder="e", control="none", target=t)
                    for t in ("valence", "arousal")))[0].resamples.shape == (50,)  # fmt: skip
