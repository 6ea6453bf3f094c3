"""Sentences follow the numbers of the findings, whichever way they fall."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.finding_records import NAN, finding

from layerprobe.analysis.findings.sentences import headlines, predicts_above_chance
from layerprobe.analysis.formatting import range_text

LEVEL = "chance level 0.10 (95th percentile of the maximum over layers in 99 permutations)"


def chance(p=0.01, *, n=99, **fields):
    control = {"control": "permuted_by_speaker", "layer": "all"}
    fields = {"p_adjusted": p} | fields
    return finding("chance", 0.1, NAN, NAN, p_value=p, n_permutations=n, **control, **fields)


def best_set(*layers):
    return finding("best_set", len(layers), NAN, NAN, layers=layers)


def test_a_target_above_chance_has_its_selected_layer_the_highest_scoring_layer_and_the_best_set():
    selected = finding("cv_selected_layer", 0.55, 0.45, 0.65, layer="cv_selected")
    assert headlines([finding(), best_set("0", "1", "2"), selected, chance()]) == [
        "e predicts arousal above chance, with a moment-matched CCC of 0.55 (95 % CI over speakers 0.45 to 0.65) at "
        f"the layer selected by cross-validation; {LEVEL}, Holm-adjusted p = .010.",
        "For arousal, the highest-scoring layer of e is 1 (moment-matched CCC 0.60, a maximum over layers); layers "
        "0 to 2 are not significantly worse than the best (95 % set).",
    ]
    assert headlines([finding(), best_set("1"), chance()]) == [
        "e predicts arousal above chance: its highest-scoring layer, 1, reaches a moment-matched CCC of 0.60 (95 % CI "
        f"over speakers 0.50 to 0.70); {LEVEL}, Holm-adjusted p = .010.",
        "For arousal, the highest-scoring layer of e is 1; all others are significantly worse than the best (95 % "
        "set).",
    ]


def test_acoustic_feature_sets_are_not_called_layers():
    sets = [finding(layer="egemaps"), best_set("egemaps", "mfcc"), chance()]
    first, second = headlines(sets)
    assert "its highest-scoring feature set, egemaps, reaches" in first
    assert second.startswith("For arousal, the highest-scoring feature set of e is egemaps; feature sets egemaps")
    (below,) = headlines([finding(layer="egemaps"), chance(0.4)])
    assert "its highest-scoring feature set, egemaps, reaches" in below


def test_a_target_that_is_not_above_chance_has_one_sentence():
    (sentence,) = headlines([finding(estimate=0.05, ci_low=-0.1, ci_high=0.2), best_set("0", "1"), chance(p=0.4)])
    assert sentence == (
        "e does not predict arousal above chance: its highest-scoring layer, 1, reaches a moment-matched CCC of 0.05 "
        f"(95 % CI over speakers −0.10 to 0.20); {LEVEL}, Holm-adjusted p = .400."
    )


@pytest.mark.parametrize(
    ("n", "p", "adjusted", "known"),
    [
        (99, 0.04, 0.04, True),
        (99, 0.01, 0.05, True),
        (99, 0.04, 0.06, False),
        (99, 0.01, 0.06, None),  # the least p-value of 99 permutations, corrected for six tests
        (5, 1 / 6, 1 / 6, None),
        (5, 2 / 6, 2 / 6, False),
    ],
)
def test_the_adjusted_p_value_decides_and_too_few_permutations_decide_nothing(n, p, adjusted, known):
    records = [finding(), chance(p, n=n, p_adjusted=adjusted, method="in 3 permutations")]  # no text is parsed
    assert predicts_above_chance(records) is known
    assert predicts_above_chance(records[:1]) is None


def test_too_few_permutations_are_stated_and_not_called_a_test():
    (sentence,) = headlines([finding(), chance(0.1, n=9)])
    assert sentence.startswith(
        "e predicts arousal better than in all 9 permutations, too few for a test at the 5 % level: its highest-scoring"
    )
    assert sentence.endswith("p = .100.")
    (sentence,) = headlines([finding(), chance(0.02, n=49, p_adjusted=0.24)])
    assert sentence.startswith("e predicts arousal better than in all 49 permutations, too few for a test at the 5 % ")
    assert sentence.endswith("in 49 permutations), Holm-adjusted p = .240.")
    (sentence,) = headlines([finding(), chance(0.05, n=19)])
    assert sentence.startswith("e predicts arousal above chance: ")


@pytest.mark.parametrize(
    ("gain", "p", "text"),
    [
        (0.2, 0.03, "For arousal, layer 1 of e scores better than the best untrained layer, 0: Δ = 0.20 (95 % CI over"),
        (
            -0.2,
            0.03,
            "For arousal, layer 1 of e scores worse than the best untrained layer, 0: Δ = −0.20 (95 % CI over",
        ),
        (
            0.2,
            0.06,
            "For arousal, layer 1 of e does not differ significantly from the best untrained layer, 0: Δ = 0.2",
        ),
    ],
)
def test_the_gain_of_training_is_that_over_the_best_untrained_layer_and_the_same_layer_is_given_too(gain, p, text):
    ends = (gain, gain - 0.1, gain + 0.1)
    fair = finding("gain_over_best_random", *ends, p_value=0.01, p_adjusted=p, reference_layer="0")
    same = finding("gain_over_random", 0.3, 0.2, 0.4, p_value=0.001, p_adjusted=0.002, reference_layer="1")
    (sentence,) = [s for s in headlines([finding(), chance(), same, fair]) if "untrained" in s]
    assert sentence.startswith(text)
    assert (
        f"{range_text(*ends[1:])}), Holm-adjusted p = .0{round(100 * p)}0; from the same layer untrained, Δ = 0.30 ("
        in sentence
    )
    here = replace(fair, reference_layer="1")
    (sentence,) = [s for s in headlines([finding(), chance(), same, here]) if "untrained" in s]
    assert "the best untrained layer, 1 (the same layer): Δ = " in sentence
    assert "; from" not in sentence


@pytest.mark.parametrize(
    ("gain", "p", "verdict"),
    [
        (0.2, 0.05, "scores better than"),
        (-0.2, 0.01, "scores worse than"),
        (0.2, 0.051, "does not differ significantly"),
    ],
)
def test_an_encoder_is_compared_with_acoustic_features(gain, p, verdict):
    about = {"reference": "acoustic", "layer": "cv_selected", "p_value": 0.01, "p_adjusted": p}
    found = finding("gain_over_acoustic", gain, gain - 0.1, gain + 0.1, **about)
    (sentence,) = [s for s in headlines([finding(), chance(), found]) if "acoustic" in s]
    assert sentence.startswith(f"For arousal, e {verdict}")
    assert " acoustic features, each selected by cross-validation: Δ = " in sentence


def difference(low, high, control="none", p_adjusted=0.02, measure="shift", **fields):
    about = {"deeper": "valence", "shallower": "arousal", "measure": measure, "control": control, "n_blocks": 12}
    about |= {"target": "valence − arousal", "layer": "all", "detectable": 0.2, "interval": "percentile_95_speakers"}
    values = {"p_value": 0.01, "p_adjusted": p_adjusted, **about, **fields}
    return finding("depth_difference", (low + high) / 2, low, high, **values)


def both(p_valence=0.01):
    return [finding(), chance(), finding(target="valence"), chance(p_valence, target="valence")]


CONTRAST = "The difference of depths of valence and arousal in e"
EQUAL = "In e, the depths of valence and arousal do not differ significantly (shift of the profile"


@pytest.mark.parametrize(
    ("low", "high", "control", "text"),
    [
        (0.05, 0.15, "none", "In e, valence lies deeper than arousal, as de Oliveira et al. (2023) found for HuBERT ("),
        (-0.15, -0.05, "none", "In e, valence lies shallower than arousal, contrary to the hypothesis (shift"),
        (-0.05, 0.15, "none", EQUAL),
        (0.1, 0.2, "difference", f"{CONTRAST} is larger than that in the randomly initialised encoder (shift"),
        (-0.2, -0.1, "difference", f"{CONTRAST} is smaller than that in the randomly initialised encoder (shift"),
        (-0.1, 0.2, "difference", f"{CONTRAST} does not differ significantly from that in the randomly initialised"),
    ],
)
def test_the_depths_of_two_targets_are_compared_and_their_difference_with_random_initialisation(
    low, high, control, text
):
    trained = [difference(0.05, 0.15)] if control == "difference" else []
    last = headlines([*both(), *trained, difference(low, high, control=control)])[-1]
    assert last.startswith(text)
    assert f", {range_text(low, high)}; Holm-adjusted p = .020)" in last


def test_a_shift_is_given_in_blocks_and_on_relative_depth():
    last = headlines([*both(), difference(0.05, 0.15)])[-1]
    assert last.endswith(
        "(shift of the profile over layers 1.2 of 12 blocks, 95 % CI over speakers 0.6 to 1.8; on relative depth 0.10, "
        "0.05 to 0.15; Holm-adjusted p = .020)."
    )
    largest = headlines([*both(), difference(0.5, 0.5)])[-1]
    assert "6.0 of 12 blocks, the largest that was fitted, 95 % CI" in largest


@pytest.mark.parametrize(
    ("detectable", "end"),
    [
        (0.2, "; a shift of 2.4 blocks (0.20) would be detected with a power of .8."),
        (0.6, "; even a shift of half of the encoder would be detected with a power below .8."),
        (None, "; what shift the corpus could have detected is not known."),
    ],
)
def test_without_a_difference_the_sentence_states_what_shift_could_be_detected(detectable, end):
    last = headlines([*both(), difference(-0.05, 0.15, p_adjusted=0.3, detectable=detectable)])[-1]
    assert last.startswith(EQUAL)
    assert last.endswith(end)


def test_a_difference_that_is_significant_before_correction_alone_is_none():
    assert headlines([*both(), difference(0.05, 0.15, p_adjusted=0.06)])[-1].startswith(EQUAL)


def test_a_measure_that_contradicts_significantly_is_named_in_the_same_sentence():
    weights = difference(-0.3, -0.1, measure="weight_centre", p_adjusted=0.004, interval="jackknife_95_folds")
    agreeing = difference(0.02, 0.06, measure="score_centre")
    unsure = difference(-0.3, 0.1, measure="expected_layer")
    last = headlines([*both(), difference(0.05, 0.15), agreeing, weights, unsure])[-1]
    assert last.startswith("In e, valence lies deeper than arousal, as")
    assert last.endswith(
        "; but the centre of gravity of the layer weights differs significantly the other way (Δ = −0.20 (95 % CI over "
        "folds −0.30 to −0.10), Holm-adjusted p = .004)."
    )


def test_other_measures_alone_have_no_headline():
    records = [*both(), difference(0.05, 0.15, measure="score_centre"), difference(-0.05, 0.15, p_adjusted=0.4)]
    assert not any("deeper" in sentence for sentence in headlines(records))
    assert not any("depth" in sentence for sentence in headlines(records[:-1]))


def test_the_depth_of_a_target_that_is_not_above_chance_is_not_compared():
    last = headlines([*both(p_valence=0.5), difference(0.05, 0.15)])[-1]
    assert last == (
        "The depths of valence and arousal in e can't be compared, because it does not predict valence above chance."
    )


def test_profiles_without_a_shift_are_not_compared():
    last = headlines([*both(), difference(NAN, NAN)])[-1]
    assert last.startswith("The depths of valence and arousal in e can't be compared: their profiles over layers are")


def test_an_unknown_depth_of_random_initialisation_has_no_sentence():
    unknown = difference(NAN, NAN, control="difference")
    assert not any("initialised" in s for s in headlines([*both(), difference(0.05, 0.15), unknown]))


def test_an_error_is_compared_with_the_lower_end_of_chance():
    assert headlines([finding(metric="rmse"), chance(metric="rmse")]) == [
        "e predicts arousal above chance: its highest-scoring layer, 1, reaches an RMSE of 0.60 (95 % CI over speakers "
        "0.50 to 0.70); chance level 0.10 (5th percentile of the minimum over layers in 99 permutations), "
        "Holm-adjusted p = .010."
    ]


def test_default_choices_that_are_significantly_worse_are_named():
    worse = finding("regret", 0.1, 0.05, 0.15, reference="last layer", p_value=0.001, p_adjusted=0.002)
    equal = finding("regret", 0.1, 0.01, 0.19, reference="middle layer", p_value=0.04, p_adjusted=0.08)
    better = finding("regret", -0.1, -0.15, -0.05, reference="weighted sum", p_value=0.001, p_adjusted=0.002)
    assert headlines([finding(), chance(), worse, equal, better])[-1] == (
        "For arousal, default choices score worse than the layer of e selected by cross-validation: the last layer by "
        "0.10 (95 % CI over speakers 0.05 to 0.15), Holm-adjusted p = .002."
    )


def test_the_partitioned_variance_names_layer_and_covariates():
    values = {"with_covariates": 0.5, "unique_layer": 0.2, "unique_covariates": 0.3, "shared": 0.0}
    parts = [
        finding("unique_variance", v, v - 0.1, v + 0.1, component=k, covariates="bert", metric="r2")
        for k, v in values.items()
    ]
    assert headlines([finding(), chance(), *parts])[-1] == (
        "Of the variance of arousal, layer 1 of e and bert together explain R² = 0.50 (95 % CI over speakers 0.40 to "
        "0.60); 0.20 (95 % CI over speakers 0.10 to 0.30) is unique to the layer, and 0.30 (95 % CI over speakers 0.20 "
        "to 0.40) to bert."
    )


@pytest.mark.parametrize(
    ("estimate", "p_adjusted", "text"),
    [
        (
            0.1,
            0.03,
            "f predicts arousal better than e (moment-matched CCC, each at the layer selected by cross-validation): ",
        ),
        (-0.1, 0.03, "f predicts arousal worse than e (moment-matched CCC, each"),
        (0.1, 0.06, "f and e do not differ significantly for arousal (moment-matched CCC, each"),
    ],
)
def test_encoders_differ_where_the_adjusted_p_value_is_significant(estimate, p_adjusted, text):
    about = {"encoder": "f", "reference": "e", "layer": "cv_selected", "p_value": 0.01, "p_adjusted": p_adjusted}
    (sentence,) = headlines([finding("encoder_difference", estimate, estimate - 0.05, estimate + 0.05, **about)])
    assert sentence.startswith(text)
    assert sentence.endswith(f"), Holm-adjusted p = .0{round(100 * p_adjusted)}0.")


@pytest.mark.parametrize(
    ("low", "high", "effect"),
    [
        (0.1, 0.3, "improves the score"),
        (-0.3, -0.1, "lowers the score"),
        (-0.1, 0.3, "does not change the score significantly"),
    ],
)
def test_the_gain_of_fused_ridge_is_stated_and_that_of_the_weighted_sum_is_not(low, high, effect):
    about = {"added": "bert", "alone": "e over f, g", "encoder": "e over f, g + bert", "p_value": 0.01}
    about["p_adjusted"] = 0.02 if low * high > 0 else 0.3
    gains = [
        finding("fusion_gain", (low + high) / 2, low, high, probe=probe, **about)
        for probe in ("fused_ridge", "fused_weighted_sum")
    ]
    (sentence,) = headlines(gains)  # names may hold anything, because no text is parsed
    assert sentence.startswith(f"For arousal, adding bert to e over f, g {effect} (moment-matched CCC): Δ = ")
