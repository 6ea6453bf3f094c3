"""The record of a finding: its words, and the file of all."""

from __future__ import annotations

import json

from helpers.finding_records import NAN, finding

from layerprobe.analysis.findings.records import write_findings


def test_a_value_has_its_interval_where_there_is_one():
    assert finding().value == "0.60 (95 % CI over speakers 0.50 to 0.70)"
    assert finding(ci_low=NAN, ci_high=NAN).value == "0.60"


def test_records_are_written_with_the_runs_fingerprint_and_null_for_what_is_not_known(tmp_path):
    write_findings(tmp_path / "f.json", [finding(p_value=0.25), finding(ci_low=NAN)], fingerprint="abc")
    text = (tmp_path / "f.json").read_text()
    assert "NaN" not in text
    content = json.loads(text)
    assert content["fingerprint"] == "abc"
    first, second = content["findings"]
    assert (first["estimate"], first["p_value"], first["p_adjusted"], first["source"]) == (0.6, 0.25, None, "s")
    assert second["ci_low"] is None
