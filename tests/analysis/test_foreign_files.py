"""Findings and similarities that were cut, or are something else, are named in one sentence."""

from __future__ import annotations

import shutil

import pytest
from helpers.command_line import refused
from helpers.foreign import FOREIGN

from layerprobe.analysis.findings.records import read_findings
from layerprobe.analysis.runs import read_similarity
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_run


@pytest.fixture
def folder(reported, tmp_path):
    """A copy of a reported run without its figures."""
    return shutil.copytree(reported, tmp_path / "run", ignore=shutil.ignore_patterns("figures"))


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_stands_in_the_place_of_findings_or_similarities_is_named(folder, kind):
    content, stated = FOREIGN[kind]
    (folder / "findings.json").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"findings\.json {stated}\. Make it anew with layerprobe report\. \[LP\d{{3}}\]$"
    ):
        read_findings(folder / "findings.json")
    (folder / "similarity.csv").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"similarity\.csv {stated}\. Make it anew with layerprobe similarity\. \[LP\d{{3}}\]$"
    ):
        read_similarity(folder, read_run(folder).fingerprint)


def test_cut_findings_and_similarities_are_refused_wherever_they_were_cut(folder):
    fingerprint = read_run(folder).fingerprint
    for name, read in (
        ("findings.json", lambda: read_findings(folder / "findings.json")),
        ("similarity.csv", lambda: read_similarity(folder, fingerprint)),
    ):
        path = folder / name
        whole = path.read_bytes()
        ends = [k + 1 for k in range(len(whole) - 1) if whole[k : k + 1] == b"\n"][:: max(1, len(whole) // 2_000)]
        for n in [1, 10, *ends, *range(11, len(whole) - 2, len(whole) // 20), len(whole) - 2]:
            path.write_bytes(whole[:n])
            with pytest.raises(InputError, match=rf"^{path} .*Make it anew with layerprobe \w+\. \[LP\d{{3}}\]$"):
                read()
        path.write_bytes(whole)
        assert len(read()) > 10


def test_findings_of_another_kind_are_refused(folder):
    path = folder / "findings.json"
    for content in ("[]", "3", '{"format_version": 1}', '{"format_version": 1, "findings": [{"layers": null}]}'):
        path.write_text(content)
        with pytest.raises(
            InputError, match=r"findings\.json can't be read \(.*\)\. Make it anew with layerprobe report"
        ):
            read_findings(path)


def test_a_report_over_a_damaged_similarity_is_one_sentence(folder):
    (folder / "similarity.csv").write_bytes(FOREIGN["page"][0])
    message = refused("report", folder, "--quiet")
    assert message.endswith(
        "similarity.csv is a web page, not the file itself. Make it anew with layerprobe similarity. [LP615]"
    )
