"""Every message that refuses something has a code, every code a page, and every page shows what is printed."""

from __future__ import annotations

import pickle
import re

import pytest
from helpers.coded_messages import one_line, sentences, sites

from layerprobe.analysis.checks.run import CHECKS
from layerprobe.probe.code_pages import FAMILIES, NEEDED, codes, explain, read_page
from layerprobe.probe.data.shared_audio import SharedAudio, handled_text
from layerprobe.probe.exceptions import InputError, InvalidAudioError

SITES = sites()
WIDTH = 90  # columns of a page, with the indentation by which it is printed


def test_every_error_of_the_user_has_a_code():
    assert len(SITES) > 300
    assert [site.where for site in SITES if site.code in (None, "LP000")] == []


def test_codes_in_use_and_pages_are_the_same():
    in_use = {site.code for site in SITES} | set(CHECKS)
    assert sorted(in_use - set(codes())) == []  # a code without a page
    assert sorted(set(codes()) - in_use) == []  # a page that nothing prints
    assert {code for code in codes() if code.startswith("LP0")} == set(CHECKS)
    assert {code[2] for code in codes()} == set(FAMILIES)


@pytest.mark.parametrize("code", codes())
def test_a_page_has_all_its_parts(code):
    page = read_page(code)
    assert list(page.sections)[: len(NEEDED)] == list(NEEDED)
    assert set(page.sections) <= {*NEEDED, "Source"}
    assert all(page.sections.values())
    assert 5 < len(page.title) < 60
    assert page.text == explain(code.lower())
    assert page.text.startswith(f"{code}  {page.title}\n\nSymptom\n")
    assert [line for line in page.text.splitlines() if len(line) > WIDTH] == []
    assert page.sections["Cause"].endswith(".")
    assert page.sections["What to do"].endswith((".", "`", "```"))


@pytest.mark.parametrize("code", [code for code in codes() if code not in CHECKS])
def test_the_symptom_of_a_page_is_what_is_printed(code):
    patterns = [site.pattern for site in SITES if site.code == code]
    symptom = one_line(read_page(code).sections["Symptom"])
    assert f"[{code}]" in symptom
    if None not in patterns:
        assert any(re.search(pattern, symptom) for pattern in patterns)


@pytest.mark.parametrize("code", CHECKS)
def test_the_symptom_of_a_check_is_what_the_report_prints(code):
    printed = re.match(rf"(Issue|Tip) {code}: (.+)", one_line(read_page(code).sections["Symptom"]))
    patterns = [s.pattern for s in sentences(CHECKS[code].__name__) if s.state == printed[1]]
    assert patterns
    known = [pattern for pattern in patterns if pattern is not None]
    assert not known or any(re.match(pattern, printed[2]) for pattern in known)
    assert known or code == "LP008"


def test_the_symptom_of_shared_audio_is_what_the_report_prints():
    shared = SharedAudio(4, 4, n_across_speakers=0, n_other_ratings=0, examples=("u017 and u203",))
    sentence = f"Tip LP008: {shared}: {handled_text('group', 0)}."
    assert one_line(read_page("LP008").sections["Symptom"]).startswith(sentence)


def test_titles_differ():
    titles = [read_page(code).title.casefold() for code in codes()]
    assert len(set(titles)) == len(titles)


def test_explain_lists_all_codes_and_refuses_others():
    listed = re.findall(r"^  (LP\d{3})  (.+)$", explain(), flags=re.MULTILINE)
    assert listed == [(code, read_page(code).title) for code in codes()]
    with pytest.raises(InputError, match=r"^There is no code LP999\. "):
        explain("LP999")


@pytest.mark.parametrize("kind", [InputError, InvalidAudioError])
def test_an_error_carries_its_code_also_to_another_process(kind):
    error = pickle.loads(pickle.dumps(kind("LP123", "a.csv is empty.")))
    assert (error.code, error.message, str(error)) == ("LP123", "a.csv is empty.", "a.csv is empty. [LP123]")
