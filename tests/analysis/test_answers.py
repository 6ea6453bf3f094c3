"""Answers: numbers of a study by hand, marks by adjusted p-values, and the tables for papers and notebooks."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from helpers.hand_study import HandStudy

from layerprobe.analysis.answer_formats import csv_table, latex_table, markdown_table, notes
from layerprobe.analysis.answer_html import answers_html, notes_text, strip_svg
from layerprobe.analysis.answers import answers, depth_answers, depth_sentence


def test_an_answer_holds_the_cross_validated_score_the_best_layers_and_what_they_are_compared_with():
    first, second = answers(HandStudy())
    assert (first.encoder, first.layer, first.score) == ("a_b & co", "cv_selected", 0.45)
    assert first.ci_low < 0.45 < first.ci_high
    assert (first.best_layer, first.best_score, first.best_set) == ("1", 0.5, ("1", "2"))
    assert (first.random_init, first.gain, first.chance) == (0.3, 0.2, 0.25)  # 0.3 is the best untrained layer
    assert (first.acoustic, first.text, first.one_rater) == (0.33, 0.12, 0.7)  # of the selected feature, not the best
    assert (second.best_layer, second.best_set) == ("2", ("2",))
    assert second.above_random is None  # it has no random initialisation
    assert first.depths == (0.0, 0.5, 1.0)


def test_marks_follow_p_values_adjusted_over_all_encoders_and_targets():
    """By hand (Holm, 1979): .01 × 3, then max(.03, .02 × 2) = .04, then .4."""
    first, second = answers(HandStudy())
    assert (first.p_chance, second.p_chance) == pytest.approx((0.03, 0.04))
    assert (first.above_chance, second.above_chance) == (True, True)
    raised = answers(HandStudy(p_permutation={"a_b & co": 0.02, "other": 0.03, "acoustic": 0.4}))
    assert raised[0].p_chance == pytest.approx(0.06)
    assert [a.above_chance for a in raised] == [False, False]


def test_too_few_permutations_give_no_mark_rather_than_a_wrong_one():
    """Of 19 permutations, .05 is the lowest p-value; adjusted for three tests it is .15, whatever the score."""
    few = answers(HandStudy(p_permutation=dict.fromkeys(("a_b & co", "other", "acoustic"), 0.05), n_permutations=19))
    assert few[0].p_chance == pytest.approx(0.15)
    assert few[0].above_chance is None
    assert any("too few" in sentence for sentence in notes(few))
    assert "where the mark is ?." in notes_text(few)


def test_the_notes_of_the_page_name_both_columns_that_have_its_sign():
    text = notes_text(answers(HandStudy()))
    assert "✓ above chance (p ≤ .05 in 99 permutations, " in text
    assert "✓ above random initialisation (" in text
    assert text.count("✓") == 2
    assert "where the mark is" not in text


@pytest.mark.parametrize(("p", "expected"), [(0.03, [False, True]), (0.2, [True, True])])
def test_bold_are_the_encoders_that_none_exceeds_significantly(p, expected):
    assert [a.is_best for a in answers(HandStudy(p_difference=p))] == expected


def test_the_csv_holds_every_field_unrounded():
    rows = list(csv.DictReader(io.StringIO(csv_table(answers(HandStudy())))))
    assert [row["encoder"] for row in rows] == ["a_b & co", "other"]
    assert (rows[0]["best_set"], rows[0]["best_score"], rows[0]["ceiling"]) == ("1 2", "0.5", "")
    assert rows[1]["above_chance"] == "True"


def test_the_latex_table_escapes_names_and_marks_scores():
    text = latex_table(answers(HandStudy()))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert rows[0].startswith(
        r"target & encoder & score & 95 \% CI & highest-scoring layer & 95 \% set & random init. & chance"
    )
    assert rows[1].startswith(r"arousal & a\_b \& co & 0.45\textsuperscript{*}\textsuperscript{\dag} & ")
    assert rows[1].endswith(r" & 1 & 1, 2 & 0.30 & 0.25 & 0.33 & 0.12 & 0.70 \\")
    assert rows[2].startswith(r" & other & \textbf{0.58\textsuperscript{*}} & ")
    n_columns = len(re.search(r"tabular\}\{(\w+)\}", text)[1])
    assert {row.replace(r"\&", "").count("&") for row in rows} == {n_columns - 1}
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    assert all(text.count(rf"\{rule}rule") == 1 for rule in ("top", "mid", "bottom"))


def test_the_markdown_table_has_as_many_cells_in_each_row():
    lines = [line for line in markdown_table(answers(HandStudy())).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert r"a\_b & co" in lines[2]
    assert "**0.58\\***" in lines[3]


def test_the_strip_fills_the_95_percent_set_and_is_pale_below_chance():
    first = answers(HandStudy())[0]
    svg = strip_svg(first)
    assert svg.count('fill="var(--accent') == 2
    assert 'aria-label="95 % set: 1, 2 of layers 0 to 2; highest-scoring layer 1"' in svg
    assert "opacity=" in strip_svg(answers(HandStudy(p_permutation=dict.fromkeys(HandStudy().layers, 0.5)))[0])[:150]


def test_the_html_table_escapes_names_and_has_scopes():
    text = answers_html(answers(HandStudy()))
    assert "a_b & co" not in text
    assert "a_b & co" in unescape(text)
    assert len(re.findall("<th", text)) == len(re.findall(r'scope="(?:col|row|rowgroup)"', text)) + 1  # <thead>


def test_the_sentence_on_depth_names_the_encoders_and_their_verdicts():
    study = HandStudy()
    depths = depth_answers(study, answers(study))
    assert [d.p_value for d in depths] == pytest.approx([0.02, 0.5])  # those that the study adjusted
    assert depth_sentence(depths) == (
        "Depth of valence compared with arousal: valence lies deeper (a_b & co); does not differ significantly (other)."
    )
    below = HandStudy(p_permutation={"a_b & co": 0.5, "other": 0.01, "acoustic": 0.5})
    assert depth_sentence(depth_answers(below, answers(below))).startswith(
        "Depth of valence compared with arousal: can't be compared where a target is not predicted above chance (a_b"
    )
    assert depth_sentence([]) == ""


def test_the_sentence_on_depth_needs_an_interval_that_excludes_0_as_the_findings_do():
    (first, _) = depth_answers(study := HandStudy(), answers(study))
    assert "does not differ significantly" in depth_sentence([replace(first, ci_low=-0.1)])
    assert "could not be estimated" in depth_sentence([replace(first, ci_low=np.nan, ci_high=np.nan)])
