"""Sentences on time follow the numbers of the findings, and stand in a group and in sections of their own."""

from __future__ import annotations

import pytest
from helpers.finding_records import NAN, finding

from layerprobe.analysis.findings.collect import collect_findings
from layerprobe.analysis.findings.records import read_findings, write_findings
from layerprobe.analysis.findings.sentences import headlines
from layerprobe.analysis.study import study
from layerprobe.figures.report.sections import make_sections
from layerprobe.figures.report.statements import statement_groups

SCORE = "moment-matched CCC = 0.60 (95 % CI over speakers 0.50 to 0.70)"


def peak(p=0.005, *, n=199, bins=("0.30–0.40", "0.40–0.50"), **fields):
    same = {"bins_kind": "position", "bin": "0.40–0.50", "bins": bins, "n_bins": 10, "n_permutations": n}
    return finding("time_peak", **{**same, "p_value": p, "p_adjusted": p, **fields})


def difference(p=0.01, **fields):
    same = {"bins_kind": "position", "bin": "0.40–0.50", "reference_bin": "0.90–1.00", "p_value": p, "p_adjusted": p}
    return finding("time_difference", 0.3, 0.1, 0.5, **{**same, "interval": "simultaneous_95_speakers", **fields})


def test_a_target_above_chance_has_its_best_bin_the_others_of_the_set_and_the_difference():
    assert headlines([peak(), difference()]) == [
        f"e predicts arousal best from spans at 0.40–0.50 of the utterance, by layer 1 ({SCORE}, the maximum over "
        "layers and 10 bins, Holm-adjusted p = .005).",
        "For arousal, spans at 0.30–0.40 of the utterance are not significantly worse in layer 1 of e (95 % set).",
        "For arousal, layer 1 of e scores better on spans at 0.40–0.50 of the utterance than on spans at 0.90–1.00 of "
        "the utterance (moment-matched CCC): Δ = 0.30 (simultaneous 95 % CI over speakers 0.10 to 0.50), Holm-adjusted "
        "p = .010, for all pairs of bins.",
    ]
    assert headlines([peak(bins=("0.40–0.50",))])[1] == (
        "For arousal, spans of all other bins are significantly worse in layer 1 of e by the probes of this run "
        "(95 % set)."
    )


def test_a_target_that_no_bin_predicts_has_one_sentence_and_no_difference():
    assert headlines([peak(0.4), difference()]) == [
        "e does not predict arousal above chance from spans of any bin of time: the highest score of all layers and "
        f"bins, that of layer 1 at 0.40–0.50 of the utterance, is {SCORE}, Holm-adjusted p = .400."
    ]


def test_bins_that_do_not_differ_are_not_called_better():
    (*_, last) = headlines([peak(), difference(0.3)])
    assert last.startswith(
        "For arousal, no two bins of layer 1 of e differ significantly if training speakers vary, too "
        "(moment-matched CCC); the least p-value is that of 0.40–0.50 and 0.90–1.00: "
    )


@pytest.mark.parametrize(("n", "text"), [(9, "better than in all 9 permutations, too few"), (None, "10 bins).")])
def test_too_few_permutations_and_none_are_stated_as_such(n, text):
    p = NAN if n is None else 0.1
    assert text in headlines([peak(p, n=n, p_adjusted=p if n is None else 0.2)])[0]


def test_labels_and_seconds_are_named_as_such():
    label = headlines([peak(bins_kind="label", bin="noun", bins=("noun", "particle", "other"))])
    assert "from spans labelled noun, by layer 1" in label[0]
    assert "spans labelled particle and other are" in label[1]
    onset = headlines([peak(bins_kind="onset", bin="0.5–1.0", bins=("0.5–1.0",))])
    assert "spans at 0.5–1.0 s from the beginning" in onset[0]


def test_one_bin_is_not_called_the_best_of_several():
    assert headlines([peak(bins=(), n_bins=1)]) == [
        f"e predicts arousal from spans at 0.40–0.50 of the utterance best by layer 1 ({SCORE}, the maximum over "
        "layers, Holm-adjusted p = .005)."
    ]


def test_differences_of_bins_are_one_family_whichever_bin_is_the_worst():
    assert difference().comparison == difference(reference_bin="0.00–0.10").comparison


def test_findings_over_time_are_read_as_they_were_written(tmp_path):
    findings = [peak(), difference()]
    write_findings(tmp_path / "findings.json", findings, fingerprint="f")
    first, second = read_findings(tmp_path / "findings.json")
    assert (first.bins, first.n_bins, second.reference_bin) == (findings[0].bins, 10, "0.90–1.00")


def test_a_report_has_a_group_and_sections_on_time_only_where_a_run_has_bins(timed, reported):
    read = study(timed)
    findings = collect_findings(read)
    sections = {section.title: section for section in make_sections(read, findings)}
    assert sections["When"].figure == "time-map"
    assert len(sections["When"].tables[0].rows) == 8  # two targets, four layers
    assert sections["Curves over time"].figure == "time-curve"
    (group,) = [g for g in statement_groups(findings) if g.title == "When"]
    assert {s.section for s in group.shown} == {"When"}
    assert {findings[s.record].name for s in group.shown} == {"time_peak", "time_difference"}
    assert sum("from spans at" in s.text for s in group.shown) == 2
    others = [g for g in statement_groups(findings) if g.title != "When"]
    assert not any("spans" in s.text for g in others for s in [*g.shown, *g.folded])
    plain = study(reported)
    assert not {"When", "Curves over time"} & {s.title for s in make_sections(plain, collect_findings(plain))}
