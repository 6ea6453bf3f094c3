"""Sentences follow the numbers, whichever way they fall."""

from __future__ import annotations

import pytest
from helpers.finding_records import NAN, finding

from layerprobe.analysis.findings.sentences import headlines, knows

METHOD = "largest score of any layer in 99 permutations (all dealt), every fit redone"


def chance(p=0.01, *, method=METHOD, **fields):
    return finding(
        "chance", 0.1, NAN, NAN, p_value=p, method=method, detail="permuted_by_speaker", layer="all", **fields
    )


def of_set(layers):
    return finding("best_set", len(layers.split(", ")), NAN, NAN, layer=layers)


def test_what_is_known_is_said_with_the_chosen_layer_the_set_and_chance():
    records = [
        finding(),
        of_set("0, 1, 2"),
        finding("cv_selected_layer", 0.55, 0.45, 0.65, layer="cv_selected"),
        chance(),
    ]
    assert headlines(records) == [
        "e predicts arousal with a matched CCC of 0.55 (95 % CI over speakers 0.45 to 0.65), its layer chosen inside the "
        "training speakers; the best of all is layer 1 (0.60), from which layers 0 to 2 can't be told; better than "
        "chance (the best layer on permuted ratings reaches up to 0.10 in 95 % of draws; p = .010)."
    ]
    alone = headlines([finding(), of_set("1"), chance()])[0]
    assert alone.startswith("e predicts arousal best from layer 1, with a matched CCC of 0.60 (95 % CI over speakers")
    assert "and no other layer is as good" in alone


def test_what_is_not_known_is_said_so():
    (sentence,) = headlines([finding(estimate=0.05, ci_low=-0.1, ci_high=0.2), of_set("0, 1"), chance(p=0.4)])
    assert sentence == (
        "e shows nothing of arousal: its best layer, 1, reaches a matched CCC of 0.05 (95 % CI over speakers -0.10 to "
        "0.20), no better than chance (the best layer on permuted ratings reaches up to 0.10 in 95 % of draws; "
        "p = .400)."
    )


@pytest.mark.parametrize(
    ("n", "p", "known"), [(99, 0.04, True), (99, 0.06, False), (5, 1 / 6, True), (5, 2 / 6, False)]
)
def test_few_permutations_must_all_be_beaten(n, p, known):
    records = [finding(), chance(p, method=f"largest score in {n} permutations")]
    assert knows(records) is known
    assert knows(records[:1]) is None


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            0.1,
            0.3,
            "For arousal, training made layer 1 of e better than random weights by 0.20 (95 % of the difference",
        ),
        (-0.3, -0.1, "For arousal, layer 1 of e is worse than with random weights, by 0.20"),
        (-0.1, 0.5, "For arousal, layer 1 of e can't be told from the same layer with random weights"),
    ],
)
def test_random_weights_are_beaten_or_not(low, high, words):
    above = finding("gain_over_random", (low + high) / 2, low, high)
    found = headlines([finding(), chance(), above, finding("random_init", 0.4)])
    assert any(s.startswith(words) for s in found)


def difference(low, high, detail="score_centre", target="valence − arousal"):
    return finding(
        "depth_difference", (low + high) / 2, low, high, p_value=0.02, detail=detail, target=target, layer="all"
    )


def both(p_valence=0.01):
    return [finding(), chance(), finding(target="valence"), chance(p_valence, target="valence")]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.05, 0.15, "In e valence lies deeper than arousal, as de Oliveira et al. (2023) found for HuBERT: centres"),
        (-0.15, -0.05, "In e valence lies shallower than arousal, against what was claimed: centres"),
        (-0.05, 0.15, "In e valence and arousal can't be told apart by depth: centres"),
    ],
)
def test_the_claim_is_a_hypothesis(low, high, words):
    (sentence,) = [s for s in headlines([*both(), difference(low, high)]) if s.startswith("In e")]
    assert sentence.startswith(words)
    assert f"({'95 % CI over speakers'} {low:.2f} to {high:.2f}), p = .020" in sentence


def test_depth_of_what_is_not_known_is_not_told():
    last = headlines([*both(p_valence=0.5), difference(0.05, 0.15)])[-1]
    assert last == "How deep valence lies in e can't be said, because it shows nothing of it."


@pytest.mark.parametrize(("low", "high", "word"), [(0.1, 0.2, "more than"), (-0.1, 0.2, "not told from")])
def test_the_claim_is_held_against_random_weights(low, high, word):
    against = difference(low, high, detail="score_centre, less that of random weights")
    last = headlines([*both(), difference(0.05, 0.15), against])[-1]
    assert last.startswith(f"That difference is {word} what random weights show (by 0.")


def test_a_depth_of_random_weights_that_is_not_known_is_not_told():
    against = difference(NAN, NAN, detail="score_centre, less that of random weights")
    assert not any("random weights show" in s for s in headlines([*both(), difference(0.05, 0.15), against]))


def test_an_error_is_held_against_what_chance_does_not_undercut():
    records = [finding(metric="rmse"), chance(metric="rmse")]
    assert headlines(records) == [
        "e predicts arousal best from layer 1, with an RMSE of 0.60 (95 % CI over speakers 0.50 to 0.70); better than "
        "chance (the best layer on permuted ratings reaches no better than 0.10 in 95 % of draws; p = .010)."
    ]


def test_usual_choices_that_cost_something_are_named():
    cost = finding("regret", 0.1, 0.05, 0.15, detail="last layer")
    free = finding("regret", 0.0, -0.05, 0.05, detail="middle layer")
    last = headlines([finding(), chance(), cost, free])[-1]
    assert last == (
        "Taking a usual choice instead costs arousal in e: the last layer 0.10 (95 % CI over speakers 0.05 to 0.15)."
    )


def test_shares_are_said_of_both_sides():
    shares = [finding("unique_variance", v, v - 0.1, v + 0.1, detail=k) for k, v in
              (("with_covariates", 0.5), ("unique_layer", 0.2), ("unique_covariates", 0.3), ("shared", 0.0))]  # fmt: skip
    last = headlines([finding(), chance(), *shares])[-1]
    assert "explain 0.50 together; 0.20 (95 % CI over speakers 0.10 to 0.30) is the layer's alone, 0.30" in last
