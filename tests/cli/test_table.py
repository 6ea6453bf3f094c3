"""The command table: the same numbers as the records of the run, in three formats."""

from __future__ import annotations

import csv
import io
import json

import pytest
from helpers.command_line import refused, run


def test_the_table_holds_the_numbers_of_the_findings(reported):
    findings = json.loads((reported / "findings.json").read_text(encoding="utf-8"))["findings"]
    chosen = {f["target"]: f for f in findings if f["name"] == "cv_selected_layer" and f["metric"] == "ccc_matched"}
    rows = list(csv.DictReader(io.StringIO(run("table", reported, "--format", "csv").stdout)))
    assert {row["target"] for row in rows} == set(chosen)
    for row in rows:
        for ours, theirs in (("score", "estimate"), ("ci_low", "ci_low"), ("ci_high", "ci_high")):
            assert float(row[ours]) == pytest.approx(chosen[row["target"]][theirs])


@pytest.mark.parametrize(("form", "start"), [("latex", r"\begin{table}[t]"), ("markdown", "Moment-matched CCC on ")])
def test_the_table_is_printed_or_written(reported, tmp_path, form, start):
    out = tmp_path / "table.txt"
    assert run("table", reported, "--format", form).stdout.startswith(start)
    assert str(out) in run("table", reported, "--format", form, "--out", out).stdout
    assert out.read_text(encoding="utf-8").startswith(start)


def test_an_unknown_format_is_refused_with_those_that_are_known(reported):
    assert "--format html is unknown; choose one of latex, markdown, csv." in refused(
        "table", reported, "--format", "html"
    )
