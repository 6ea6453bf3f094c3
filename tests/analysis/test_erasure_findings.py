"""Findings on erasure: records with what the table has, and sentences that follow from their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.erased_run import CONCEPTS, EMPTY
from helpers.finding_records import NAN, finding

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.records import read_findings, write_findings
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.layers.scores import best_layer
from layerprobe.analysis.statistics.permutation import holm
from layerprobe.analysis.study import study
from layerprobe.figures.report.statements import statement_groups


def erasure(concept="loudness", p=0.01, estimate=0.5, **fields):
    """What a concept removes beyond random directions, of an encoder that predicts arousal by it."""
    known = {"concept": concept, "rank": 2, "removed": 0.52, "removed_random": 0.02, "is_above_chance": True}
    known |= {"fraction": 0.984, "fraction_ci_low": 0.91, "fraction_ci_high": 1.05, "fraction_random": 0.018}
    known |= {"p_value": p, "p_adjusted": p, "layers": ("1",), "reference": "random directions"}
    return finding("erasure", estimate, estimate - 0.1, estimate + 0.1, **(known | fields))


DELTA = "Δ = 0.50 (95 % CI over speakers 0.40 to 0.60), Holm-adjusted p = .010"


@pytest.fixture(scope="module")
def of_run(without_concepts):
    read = study(without_concepts)
    return read, [f for f in collect_findings(read) if f.name == "erasure"]


def test_every_concept_has_a_record_at_the_layer_that_scores_highest_as_it_is(of_run):
    read, found = of_run
    assert [(f.target, f.concept) for f in found] == [(t, c) for t in read.targets for c in CONCEPTS]
    for f in found:
        rows = read.erasure[(read.erasure["target"] == f.target) & (read.erasure["concept"] == f.concept)]
        assert f.layer == best_layer(rows.set_index("layer")["plain"], metric=read.metric)
        row = rows[rows["layer"] == f.layer].iloc[0]
        assert (f.estimate, f.ci_low, f.ci_high) == tuple(row[f"beyond_random{e}"] for e in ("", "_ci_low", "_ci_high"))
        assert (f.removed, f.removed_random, f.p_value) == (row["removed"], row["removed_random"], row["p_value"])
        assert f.rank == row["concept_rank"] == (2 if "+" in f.concept else 1)
        assert f.fraction is None if np.isnan(row["fraction"]) else f.fraction == row["fraction"]
        assert f.method
        assert f.source
        assert f.reference == "random directions"


def test_layers_are_those_from_which_more_is_removed_than_by_random_directions(of_run):
    _, found = of_run
    of = {(f.target, f.concept): f for f in found}
    assert of["arousal", "duration"].layers == ("1", "2", "3")
    assert EMPTY not in of["arousal", "duration"].layers
    assert of["valence", "duration"].layers == ()
    assert of["arousal", "gender"].layers == ()


def test_p_values_are_adjusted_for_the_concepts_of_an_encoder_and_target(of_run):
    _, found = of_run
    assert len({f.comparison for f in found}) == len({f.target for f in found}) == 4
    for target in ("arousal", "valence", "dominance", "dominance_residual"):
        own = [f for f in found if f.target == target]
        np.testing.assert_allclose([f.p_adjusted for f in own], holm(np.array([f.p_value for f in own])))


def test_sentences_of_a_run_name_what_was_planted_and_nothing_else(of_run):
    _, found = of_run
    shown = headlines(found)
    assert [s for s in shown if "Erasing duration removes" in s and "of the R² of arousal" in s]
    assert [s for s in shown if "Erasing duration + gender removes" in s and "of the R² of arousal" in s]
    assert not [s for s in shown if "of the R² of valence" in s]
    assert [s for s in shown if "does not predict dominance above chance" in s]
    assert not [s for s in shown if "removes" in s and "dominance" in s]


def test_a_concept_that_removes_more_than_random_directions_has_its_fraction_and_theirs():
    assert headlines([erasure()]) == [
        "Erasing loudness removes 98 % [91, 105] of the R² of arousal at layer 1 of e; random directions of rank 2 "
        f"remove 2 % (moment-matched CCC: {DELTA})."
    ]


def test_other_layers_are_named_and_the_first_concepts_are_those_that_are_sure():
    found = [erasure("text", 0.3), erasure("loudness", layers=("1", "2", "3", "5")), erasure("f0+gender", 0.9)]
    first, last = headlines(found)
    assert first.endswith(
        f"{DELTA}). It removes more than these in layers 2, 3, 5, too (adjusted for layers and concepts)."
    )
    assert last == (
        "Erasing text or f0 + gender does not change the score of arousal at layer 1 of e significantly more or less "
        "than random directions of the same rank do."
    )


def test_a_concept_that_removes_less_is_stated_as_such():
    (text,) = headlines([erasure(estimate=-0.5, fraction=0.02, fraction_random=0.2, layers=())])
    assert "remove 20 %, which is more (moment-matched CCC: Δ = −0.50" in text


def test_classes_and_errors_have_no_fraction():
    nothing = dict.fromkeys(("fraction", "fraction_ci_low", "fraction_ci_high", "fraction_random"))
    (text,) = headlines([erasure(metric="uar", **nothing)])
    assert "worsens unweighted average recall of arousal at layer 1 of e by 0.52; random directions of rank 2" in text
    assert "worsen it by 0.02" in text


def test_a_target_below_chance_has_one_sentence_for_all_concepts():
    (text,) = headlines([erasure(is_above_chance=False), erasure("f0", is_above_chance=False)])
    assert text.startswith("The highest-scoring layer 1 of e does not predict arousal above chance, so that there is")


def test_a_concept_without_a_p_value_has_no_sentence():
    assert headlines([erasure(p=NAN)]) == []


def test_findings_on_erasure_are_read_as_they_were_written(tmp_path):
    write_findings(tmp_path / "findings.json", [erasure(), erasure(rank=None, fraction=None)], fingerprint="f")
    first, second = read_findings(tmp_path / "findings.json")
    assert (first.concept, first.rank, first.fraction, first.layers) == ("loudness", 2, 0.984, ("1",))
    assert (second.rank, second.fraction, second.is_above_chance) == (None, None, True)


def test_statements_on_erasure_are_a_group_that_leads_to_the_section(of_run):
    read, _ = of_run
    findings = collect_findings(read)
    (group,) = [g for g in statement_groups(findings) if g.title == "Through what"]
    every = [*group.shown, *group.folded]
    assert {s.section for s in every} == {"Through what"}
    assert {findings[s.record].name for s in every} == {"erasure"}
    others = [s.text for g in statement_groups(findings) if g.title != "Through what" for s in [*g.shown, *g.folded]]
    assert not any("random directions" in text for text in others)
