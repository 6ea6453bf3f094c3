"""The report: one page, whole in itself, that says what the run's numbers say and escapes what users write."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from test_findings import SCORES

from analysis.findings import find
from figures.report import Pictures, report_html
from probe.score_table import Run

ENCODER = {"name": "e", "layers": ["0", "1"], "poolings": ["mean", "std"], "fingerprint": "f"}
CORPUS = {
    "name": "<script>alert(1)</script>", "version": "1", "notes": "", "n_utterances": 40, "n_speakers": 24,
    "n_held_out": 40, "n_not_cached": 0, "n_not_rated": 0,
}  # fmt: skip
SWEEP = {"targets": ["arousal"], "n_folds": 5, "n_inner_folds": 4, "alphas": [0.1, 1.0, 10.0], "speakers": True}


@pytest.fixture
def page(tmp_path):
    svg = tmp_path / "a.svg"
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    quarantine = pd.DataFrame([{"encoder": "e", "utterance_id": "<b>7</b>", "path": "x", "reason": "silent"}])
    plan = {"corpus": CORPUS, "sweep": SWEEP, "encoders": [ENCODER | {"random_init": 0}], "random_weights": [ENCODER]}
    run = Run("abc123", plan, SCORES, pd.DataFrame(), quarantine)
    findings = find(SCORES, metric="ccc_matched")
    return report_html(run, findings, pictures=[Pictures("CCC, matched", heatmap=svg, curves=svg)])


def test_the_page_says_what_the_findings_say(page):
    for text in (
        "e predicts arousal best from layer 1: CCC, matched 0.60 (folds 0.55 to 0.64);",
        "The weights of e are untrained",
        "40 utterances of 24 speakers",
        "over 5 speaker-disjoint folds",
        "Run abc123",
        "random-weight control",
    ):
        assert text in page.replace("&#39;", "'")


def test_the_page_asks_for_nothing_from_outside(page):
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert addresses
    assert all(a.startswith("data:image/svg+xml;base64,") for a in addresses)
    assert "http://" not in page
    assert "https://" not in page


def test_what_comes_from_a_manifest_is_escaped(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;7&lt;/b&gt;" in page


def test_every_tag_is_closed(page):
    open_tags = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []
