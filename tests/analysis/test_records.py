"""The record of a finding, and findings.json."""

from __future__ import annotations

import json
import re

import pytest
from helpers.finding_records import NAN, finding

from layerprobe.analysis.findings.records import read_findings, write_findings
from layerprobe.probe.exceptions import InputError


def test_a_value_has_its_interval_where_there_is_one():
    assert finding().value == "0.60 (95 % CI over speakers 0.50 to 0.70)"
    assert finding(ci_low=NAN, ci_high=NAN, interval="").value == "0.60"


def test_the_file_has_a_version_the_runs_fingerprint_and_null_for_what_is_not_known(tmp_path):
    write_findings(tmp_path / "f.json", [finding(p_value=0.25), finding(ci_low=NAN)], fingerprint="abc")
    text = (tmp_path / "f.json").read_text()
    assert "NaN" not in text
    content = json.loads(text)
    assert list(content) == ["format_version", "fingerprint", "findings"]
    assert (content["format_version"], content["fingerprint"]) == (1, "abc")
    first, second = content["findings"]
    assert (first["estimate"], first["p_value"], first["p_adjusted"], first["source"]) == (0.6, 0.25, None, "s")
    assert (first["n_permutations"], first["layers"]) == (None, None)
    assert second["ci_low"] is None
    assert first.keys() == second.keys()


def test_findings_are_read_as_they_were_written(tmp_path):
    found = [finding("best_set", 2, NAN, NAN, layers=("0", "1")), finding("chance", n_permutations=99, p_value=0.01)]
    write_findings(tmp_path / "f.json", found, fingerprint="abc")
    assert [repr(f) for f in read_findings(tmp_path / "f.json")] == [repr(f) for f in found]


@pytest.mark.parametrize("version", [None, 0, 2])
def test_findings_of_another_version_are_refused(tmp_path, version):
    (tmp_path / "f.json").write_text(json.dumps({"format_version": version, "fingerprint": "abc", "findings": []}))
    with pytest.raises(
        InputError,
        match=re.escape(f"f.json has format version {version}, and this version of layerprobe reads 1. Make"),
    ):
        read_findings(tmp_path / "f.json")
    with pytest.raises(InputError, match=r"none\.json is missing\. Make it with layerprobe report\. \[LP\d{3}\]$"):
        read_findings(tmp_path / "none.json")
