"""The report: one self-contained page that states the run's numbers and escapes what users write."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import jinja2
import pandas as pd
import pytest
from helpers.reported_run import EVIL

import layerprobe
from layerprobe.analysis.answers import DepthAnswer
from layerprobe.analysis.checks.run import CHECKS
from layerprobe.figures.report.depth_svg import depth_svg
from layerprobe.figures.report.report import commands, depth_caption
from layerprobe.figures.report.svg import image_address
from layerprobe.probe.results.run_folder import read_run


@pytest.fixture
def folder(reported):
    return reported


@pytest.fixture
def page(reported):
    return (reported / "report.html").read_text(encoding="utf-8")


def test_the_page_states_the_findings(folder, page):
    text = unescape(page)
    findings = json.loads((folder / "findings.json").read_text())["findings"]
    best = {f["target"]: f for f in findings if f["name"] == "highest_scoring_layer"}
    chosen = {f["target"]: f for f in findings if f["name"] == "cv_selected_layer"}
    assert (best["arousal"]["layer"], best["valence"]["layer"]) == ("1", "3")
    for target in ("arousal", "valence"):
        numbers = "{estimate:.2f} (95 % CI over speakers {ci_low:.2f} to {ci_high:.2f})".format(**chosen[target])
        assert f"predicts {target} better than in all 19 permutations" in text
        assert f"with a moment-matched CCC of {numbers} at the layer selected by" in text
        assert (
            f"For {target}, the highest-scoring layer of hubert is {best[target]['layer']} (moment-matched CCC" in text
        )
    assert "In hubert, valence lies deeper than arousal, as de Oliveira et al. (2023) found for HuBERT" in text
    assert f"Run {json.loads((folder / 'findings.json').read_text())['fingerprint']}" in text


@pytest.mark.parametrize(
    "heading",
    [
        "Findings", "Heatmap, moment-matched CCC", "Heatmap, unweighted average recall", "Curves, moment-matched CCC",
        "Layer selection", "Depth", "Gain over random initialisation", "Controls", "Layer weighting",
        "Variance partitioning", "Performance by speaker and group", "Similarity", "Baselines", "All findings",
        "Checks", "Methods", "Quarantined utterances", "Provenance",
    ],
)  # fmt: skip
def test_every_part_is_there(page, heading):
    assert re.search(rf"<h2[^>]*>{re.escape(heading)}</h2>", unescape(page))


def test_cells_of_tables_hold_one_thing_each(page):
    """No nan, no empty cell, and no number with its interval or layers in brackets behind it."""
    results = page[: page.index("<h2>Methods</h2>")]
    results = re.sub(r"<svg.*?</svg>", "strip", results, flags=re.DOTALL)
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", results, flags=re.DOTALL)]
    assert len(cells) > 500
    assert not [cell for cell in cells if cell.strip() == "" or re.search(r"\bnan\b", cell)]
    assert not [cell for cell in cells if re.match(r"−?\d+\.\d+ ?[(;,±/]", cell)]
    assert "–" in cells
    widths = [
        {row.count("<td") or row.count("<th ") for row in table.split("</tr>")[:-1]}
        for table in re.findall(r'<table class="data"[^>]*>(.*?)</table>', results, flags=re.DOTALL)
    ]
    assert widths
    assert all(len(width) == 1 for width in widths)


def test_negative_numbers_have_one_sign(page):
    results = unescape(page[: page.index("<h2>Provenance</h2>")])
    texts = re.sub(r'<svg.*?</svg>|<style>.*?</style>|src="[^"]*"', "", results, flags=re.DOTALL)
    assert re.findall(r"−\d", texts)
    assert not re.findall(r"(?:^|[\s>(])-\.?\d[^<]*", texts)


def test_a_uniform_mix_has_one_row_for_all_its_layers(page):
    tables = [table for table in re.findall(r"<table[^>]*>(.*?)</table>", page, flags=re.DOTALL) if "entropy" in table]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in tables[0].split("</tr>")]
    mixes = [row for row in rows if row[1:2] == ["uniform mix"]]
    assert [row[2] for row in mixes] == ["arousal", "valence", "dominance"]
    assert all(row[4:] == ["2.32", "0.00", "all", "0.20", "–", "–", "–"] for row in mixes)  # five layers
    assert sum(row[1:3] == ["weighted sum", "valence"] for row in rows) == 3


def test_the_best_layer_has_one_name_for_each_of_its_numbers(page):
    text = unescape(page)
    assert "at the layer selected by cross-validation" in text
    assert "a maximum over layers" in text
    assert not re.search(r"\bbest layer\b|chosen inside", text[: text.index("<script")])


def test_a_figure_has_the_same_caption_below_it_and_in_the_list_of_captions(page):
    below = [unescape(text) for text in re.findall(r"</div>\s*<figcaption>(.*?)</figcaption></figure>", page)]
    listed = re.findall(r"<p>(.*?)</p>", re.search(r'<div id="captions".*?</div>', page, flags=re.DOTALL)[0])
    assert len(below) > 8
    assert sorted(below) == sorted(unescape(text).split(": ", 1)[1] for text in listed)


def test_what_the_checks_object_to_is_stated(page):
    assert "Ratings of dominance mostly repeat those of arousal (r = " in unescape(page)


def test_the_methods_hold_this_runs_numbers_and_their_citations(page):
    text = unescape(page)
    assert "on 240 utterances of 24 speakers of" in text
    assert "5-fold cross-validation with disjoint speakers" in text
    assert "over 2,000 resamples of speakers" in text
    for work in ("Biometrics 45, 255–268", "arXiv:2305.19184", "Annals of Statistics 9", "NeuroImage 197"):
        assert work in text


def test_the_command_of_a_local_encoder_names_its_folder_and_is_quoted_for_the_shell(folder):
    run = read_run(folder)
    local = {**run.plan["encoders"][0], "encoder_folder": "/models/my hubert", "path": "/caches/a b.zarr"}
    plan = {**run.plan, "encoders": [local, {**local, "encoder_folder": "", "upstream": "team/x", "revision": "abc"}]}
    first, second = (shlex.split(line) for line in commands(replace(run, plan=plan))[:2])
    for option, value in (("--encoder", "/models/my hubert"), ("--out", "/caches/a b.zarr")):
        assert first[first.index(option) + 1] == value
    assert second[second.index("--encoder") + 1] == "team/x@abc"


def test_the_commands_that_made_it_can_be_copied(folder, page):
    commands = re.search(r'<pre class="commands">(.*?)</pre>', page, flags=re.DOTALL).group(1)
    assert "layerprobe extract" in commands
    assert "--random-init 3" in commands


def test_the_page_asks_for_nothing_from_outside(page):
    addresses: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda _, attrs: addresses.extend(
        v for k, v in attrs if k in ("src", "href", "xlink:href")
    )
    parser.feed(page)
    assert addresses
    assert all(a.startswith(("data:", "#")) for a in addresses)
    outside = set(re.findall(r"https?://[^\s\"'<]*", page)) - {"http://www.w3.org/2000/svg"}
    assert {u for u in outside if "w3.org" not in u and "purl.org" not in u and "creativecommons" not in u} <= {
        "https://matplotlib.org/"
    }  # names in the SVG's own description


def test_each_check_shows_its_code_and_the_command_that_explains_it(page):
    checks = page[page.index('<section id="checks">') : page.index('<section id="all-findings">')]
    found = re.findall(r"<strong>(Issue|Tip|Passed|Not applicable) (LP\d{3}):</strong>(.*?)</div>", checks)
    assert {code for _, code, _ in found} == set(CHECKS)
    assert len(found) == checks.count('<div class="check')
    for state, code, text in found:
        assert (f"<code>layerprobe explain {code}</code>" in text) == (state in ("Issue", "Tip"))
    assert "<code>layerprobe explain CODE</code> prints what it means" in checks


def test_what_comes_from_a_manifest_is_escaped(page):
    assert EVIL not in page
    assert EVIL in unescape(page)
    assert page.count("<script") == 2  # the data of the page, and the script


def test_the_policy_allows_the_script_of_the_page_alone(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    script = re.search(r"<script>(.*?)</script>", page, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert unescape(policy).endswith(f"script-src 'sha256-{digest}'")


def test_the_script_is_short_and_the_page_has_no_other(page):
    script = (Path(layerprobe.__file__).parent / "figures/report/page.js").read_text(encoding="utf-8")
    assert script.count("\n") <= 400
    assert script in page


def test_every_cell_has_its_text_with_score_interval_and_alpha(folder, page):
    data = json.loads(re.search(r'id="study-data">(.*?)</script>', page, flags=re.DOTALL)[1])
    scores = pd.read_csv(folder / "figures" / "heatmap.csv", dtype={"layer": str})
    for number, one in enumerate(data):
        assert len(one["cells"]) == len(re.findall(rf'id="m{number}-cell-\d+"', page)) > 0
    (text,) = [cell[4] for cell in data[0]["cells"] if cell[4].startswith("hubert, valence, layer 3: ")]
    row = scores.query("control == 'none' and target == 'valence' and layer == '3'").iloc[0]
    assert (
        f"moment-matched CCC {row['value']:.3f}, 95 % CI over speakers {row['ci_low']:.3f} to {row['ci_high']:.3f}"
        in text
    )
    assert f"median alpha {row['alpha']:g}" in text
    shown = data[0]["encoders"][0]["scores"]["valence"]
    assert shown["value"][3] == pytest.approx(row["value"], abs=5e-4)
    assert shown["low"][3] == pytest.approx(row["ci_low"], abs=5e-4)


def test_every_tag_is_closed(page):
    open_tags = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "link"):
                open_tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []


def test_each_figure_has_its_table(folder):
    plotted = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert {
        "heatmap",
        "heatmap-classes",
        "curves",
        "best-layer",
        "depth",
        "gain-over-random",
        "layer-weights",
        "similarity",
    } <= plotted
    for name in plotted:
        table = pd.read_csv(folder / "figures" / f"{name}.csv")
        assert len(table) > 0
        assert table["fingerprint"].nunique() == 1


def test_records_have_an_estimate_a_method_and_a_source(folder):
    findings = json.loads((folder / "findings.json").read_text(encoding="utf-8"))["findings"]
    for finding in findings:
        assert finding["method"]
        assert finding["source"]
    names = {f["name"] for f in findings}
    assert {
        "best_set",
        "regret",
        "depth",
        "depth_difference",
        "unique_variance",
        "subgroup",
        "cross_corpus",
        "selectivity",
    } <= names


def test_the_caption_of_the_depth_answer_states_no_difference_beyond_what_is_fitted():
    one = DepthAnswer("hubert", "valence − arousal", "shift", 0.1, -0.1, 0.3, 0.4, detectable=0.2)
    text = depth_caption([one, replace(one, encoder="whisper", detectable=1.04)])
    assert "Differences that would be detected with a power of .8: 0.20 (hubert)." in text
    assert "Even half of the encoder would be detected with a power below .8 (whisper)." in text
    assert "1.04" not in text
    assert text.endswith("No shift beyond 0.50 is fitted.")


def test_a_long_name_is_cut_before_the_value_in_the_figure_of_the_depth_answer():
    one = DepthAnswer("an-encoder-of-more-than-thirty-letters", "valence − arousal", "shift", 0.1, -0.1, 0.3, 0.4)
    text = depth_svg([one])
    assert ">an-encoder-of-more-than-thirt…<" in text
    assert f'aria-label="{one.encoder}: 0.10' in text


def test_the_address_of_an_image_needs_no_further_escape_in_an_attribute(tmp_path):
    text = '<svg><text x="1">it\'s &lt; 5 &amp; > 3</text></svg>'
    (tmp_path / "a.svg").write_text(text)
    shown = (
        jinja2.Environment(autoescape=True)
        .from_string('<img src="{{ a }}">')
        .render(a=image_address(tmp_path / "a.svg"))
    )
    (address,) = re.findall(r'^<img src="([^"<]*)">$', shown)
    found = ElementTree.fromstring(unquote(unescape(address)).split(",", 1)[1])
    assert ("".join(found.itertext()), found[0].get("x")) == ("it's < 5 & > 3", "1")
