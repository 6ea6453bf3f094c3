"""The report in a real browser: from disk, without a network, pointed at, in the dark, on a phone, on paper."""

from __future__ import annotations

import base64

import pytest
from helpers.browser import chromium, open_at, requests_of
from selenium.webdriver.support.ui import WebDriverWait


@pytest.fixture(scope="module")
def report(reported):
    return reported / "report.html"


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def contrast(colour, other):
    """Contrast ratio of two CSS colours (WCAG 2.1)."""

    def luminance(text):
        parts = [float(v) / 255 for v in text[text.index("(") + 1 : -1].split(",")[:3]]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(colour), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def ink_and_paper(page):
    return page.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")


@pytest.mark.parametrize("width", [375, 1440])
def test_it_opens_from_disk_without_a_request_or_a_word_in_the_console(page, report, width):
    page.get_log("browser"), page.get_log("performance")  # what was there before
    open_at(page, report, width=width)
    assert page.title.endswith(": layer-wise probing")
    assert page.get_log("browser") == []
    assert requests_of(page) == [report.as_uri()]
    assert page.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize("width", [375, 1440])
def test_nothing_overflows(page, report, width):
    """Wide tables and heatmaps scroll in their own boxes; the page itself does not."""
    open_at(page, report, width=width)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    outside = page.execute_script(
        """return [...document.querySelectorAll('body > *, h2, p, li, figure, figcaption, .scroll, .sheet, pre')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []


def test_pointing_at_a_cell_shows_its_score_interval_and_penalty(page, report):
    from selenium.webdriver.common.action_chains import ActionChains

    open_at(page, report, width=1440)
    cell = page.find_element("id", "m0-cell-3")
    expected = cell.get_attribute("aria-label")
    assert page.execute_script("return document.getElementById('tip').hidden")
    ActionChains(page).move_to_element(cell).perform()
    tip = page.find_element("id", "tip")
    assert tip.is_displayed()
    assert tip.text == expected
    for part in ("moment-matched CCC 0.", "95 % CI over speakers", "median alpha"):
        assert part in tip.text
    box, at = tip.rect, cell.rect
    assert abs(box["x"] + box["width"] / 2 - at["x"] - at["width"] / 2) < 200
    ActionChains(page).move_to_element(page.find_element("tag name", "h1")).perform()
    assert not tip.is_displayed()


def test_keys_reach_the_cells_too_and_a_tip_stays_on_a_phone(page, report):
    open_at(page, report, width=375)
    page.execute_script("document.getElementById('m0-cell-0').focus()")
    tip = page.find_element("id", "tip")
    WebDriverWait(page, 10).until(lambda _: tip.is_displayed())  # a browser may report the focus a moment later
    assert tip.rect["x"] >= 0
    assert tip.rect["x"] + tip.rect["width"] <= 375


def test_text_is_readable_in_light_and_dark_mode(page, report, tmp_path):
    open_at(page, report, width=1440)
    light = ink_and_paper(page)
    with chromium(tmp_path / "dark", dark=True) as browser:
        open_at(browser, report, width=1440)
        dark = ink_and_paper(browser)
        note = browser.execute_script(
            "const s = getComputedStyle(document.querySelector('.check')); return [s.color, s.backgroundColor]"
        )
    assert light != dark
    for pair in (light, dark, note):
        assert contrast(*pair) > 7


def test_it_prints_within_its_paper(page, report):
    open_at(page, report, width=1440)
    printed = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 794, "height": 1123, "deviceScaleFactor": 1, "mobile": False}
    )  # A4 in CSS pixels
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 794
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_names_from_a_manifest_run_no_script(page, report):
    open_at(page, report, width=1440)
    assert "<script>alert(1)</script>" in page.find_element("tag name", "h1").text
    assert page.execute_script("return document.querySelectorAll('h1 script, td script').length") == 0
