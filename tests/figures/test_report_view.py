"""What readers do with the report in a real browser: choose, point, sort, filter, download, return to a view, print."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from urllib.parse import unquote

import pytest
from helpers.browser import chromium, open_at
from selenium.webdriver.common.keys import Keys

WIDTHS = (375, 768, 1440)
N_TARGETS = 7  # three rated ones, the residual of dominance, and three given the text


@pytest.fixture(scope="module")
def report(reported):
    return reported / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser, report):
    browser.get("about:blank")
    open_at(browser, report, width=1440)
    return browser


def visible_top(page, selector):
    """Whether the first element of a selector begins in the part of the page that a window shows at first."""
    return page.execute_script(
        "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return b.top >= 0 && b.top < 860",
        selector,
    )


def n_of(page, selector):
    return page.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_screen_holds_the_table_and_at_full_width_the_answer_on_depth(page, report, width):
    open_at(page, report, width=width)
    assert visible_top(page, "h1")
    assert visible_top(page, "table.answers tbody tr:nth-child(2)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    if width == 1440:
        assert visible_top(page, "aside svg.depth")
        assert page.execute_script(
            "const t = document.querySelector('table.answers').closest('.scroll');return t.scrollWidth <= t.clientWidth"
        )


def test_without_scripts_everything_is_readable(browser, report):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_at(browser, report, width=1440)
        shown = browser.find_element("css selector", "main").text
        for text in ("valence", "0.", "Heatmap, moment-matched CCC", "Findings", "Checks", "Methods"):
            assert text in shown
        assert browser.find_element("css selector", "details.static img, details.static svg").is_displayed()
        assert not browser.find_element("id", "choices").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_cell_highlights_its_layer_in_cells_curves_weights_and_tables(page):
    cell = page.find_element("id", "m0-cell-3")
    layer = page.execute_script(
        "const d = JSON.parse(document.getElementById('study-data').textContent)[0]; return d.cells[3][3]"
    )
    page.execute_script("arguments[0].focus()", cell)
    assert n_of(page, "#m0-explore line.marker") == N_TARGETS
    assert n_of(page, "#m0-explore circle.marker") == N_TARGETS + 3  # scores, and weights of the rated targets
    lit = page.execute_script(
        "const rows = [...document.querySelectorAll('#m0-layer-weighting tr.lit')];"
        "return rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    assert all(layer in row for row in lit)
    assert n_of(page, "#m0-controls tr.lit, #m0-layer-weighting tr.lit") > 0
    assert n_of(page, "#m0-heatmap .lit") >= N_TARGETS
    assert f"layer {layer}: arousal " in page.find_element("css selector", ".detail").text
    marker = page.execute_script("return +document.querySelector('#m0-explore line.marker').getAttribute('x1')")
    assert marker == pytest.approx(34 + int(layer) / 4 * (340 - 34 - 8), abs=0.1)  # relative depth of five layers


def changed_page(report, tmp_path, change):
    """A copy of the report whose data of the first page were changed."""
    text = report.read_text(encoding="utf-8")
    found = re.search(r'(id="study-data">)(.*?)(</script>)', text, flags=re.DOTALL)
    data = json.loads(found[2])
    change(data[0])
    path = tmp_path / "report.html"
    path.write_text(text[: found.start(2)] + json.dumps(data) + text[found.end(2) :], encoding="utf-8")
    return path


def test_final_is_a_point_of_its_own_that_no_curve_joins_and_that_has_no_weight(page, report, tmp_path):
    def end_with_final(data):
        encoder = data["encoders"][0]
        encoder["layers"][-1] = "final"
        for scores in encoder["scores"].values():
            if scores["weight"]:
                scores["weight"][-1] = None

    open_at(page, changed_page(report, tmp_path, end_with_final), width=1440)
    panel = "document.querySelector('#m0-explore svg.panel')"
    curve = page.execute_script(f"return {panel}.querySelector('path[stroke-width=\"1.8\"]').getAttribute('d')")
    assert curve.count("L") == 3  # between four blocks, of five layers
    assert n_of(page, "#m0-explore circle.final") == N_TARGETS
    end = page.execute_script(f"return +{panel}.querySelector('circle.final').getAttribute('cx')")
    assert end == pytest.approx(340 - 8)
    page.execute_script("history.replaceState(null, '', '#view?cell=m0%7Chubert%7Cfinal')")
    page.execute_script("dispatchEvent(new HashChangeEvent('hashchange'))")
    assert n_of(page, "#m0-explore line.marker") == N_TARGETS
    assert n_of(page, "#m0-explore circle.marker") == N_TARGETS  # of scores alone


def test_without_an_answer_on_depth_the_table_takes_the_whole_width(page, report):
    wide = "const e = document.querySelector('.answer'); return [e.firstElementChild.offsetWidth, e.offsetWidth]"
    table, section = page.execute_script(wide)
    assert table < section - 300  # next to the answer on depth
    page.execute_script("document.querySelector('.answer > aside').remove()")
    table, section = page.execute_script(wide)
    assert table == section


def test_arrow_keys_move_between_cells_and_enter_keeps_one(page):
    page.execute_script("document.getElementById('m0-cell-0').focus()")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.get_attribute("id") == "m0-cell-1"
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert page.switch_to.active_element.get_attribute("id") == "m0-cell-6"  # the next target, the same layer
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert "cell=m0%7Chubert%7C1" in page.current_url
    page.execute_script("document.activeElement.blur()")
    assert n_of(page, "#m0-explore line.marker") == N_TARGETS
    tabbable = page.execute_script("return document.querySelectorAll('[id^=m0-cell-][tabindex=\"0\"]').length")
    assert tabbable == 1  # one stop of the tab key, not one for each cell


def test_a_choice_hides_rows_curves_and_dims_cells_and_the_fragment_restores_it(page, report):
    box = page.find_element("css selector", "#choices input[value='target:valence']")
    box.send_keys(Keys.SPACE)
    rows = "return [...document.querySelectorAll('table.answers tr[data-target=valence]')].every(r => r.hidden)"
    curves = "return [...document.querySelectorAll('#m0-explore figure')].filter(f => !f.hidden).length"
    assert page.execute_script(rows)
    assert page.execute_script(curves) == N_TARGETS - 1
    assert page.execute_script("return document.querySelectorAll('.cells .off').length") > 0
    head = page.find_element("css selector", "table.answers button.sort")
    head.click()
    url = page.current_url
    assert "off=target%3Avalence" in url
    page.get("about:blank")
    page.get(url)
    assert page.execute_script(rows)
    assert page.execute_script(curves) == N_TARGETS - 1
    assert page.execute_script("return document.querySelector('table.answers th').ariaSort") == "ascending"
    assert not page.find_element("css selector", "#choices input[value='target:valence']").is_selected()


def columns_of(page, selector, number):
    script = (
        "return [...document.querySelectorAll(arguments[0] + ' tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.cells[arguments[1]].textContent.trim())"
    )
    return page.execute_script(script, selector, number)


def number(text):
    return float(text.replace("−", "-").replace("< ", ""))


def test_tables_sort_by_number_and_by_name_in_both_directions(page):
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    table = "#m0-layer-selection table"
    heads = page.find_elements("css selector", f"{table} button.sort")
    heads[4].click()
    losses = [number(text) for text in columns_of(page, table, 4)]
    assert losses == sorted(losses)
    assert len(set(losses)) > 3
    heads[4].click()
    assert [number(text) for text in columns_of(page, table, 4)] == sorted(losses, reverse=True)
    heads[1].click()
    targets = columns_of(page, table, 1)
    assert targets == sorted(targets)
    assert len(set(targets)) == N_TARGETS


def test_a_filter_leaves_the_rows_with_its_text_and_the_csv_equals_the_table(page):
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    section = page.find_element("id", "m0-layer-selection")
    section.find_element("css selector", "input[type=search]").send_keys("valence")
    shown = page.execute_script(
        "return [...document.querySelectorAll('#m0-layer-selection table tr')].filter(r => !r.hidden)"
        ".map(r => [...r.cells].map(c => c.textContent.trim()))"
    )
    assert 2 < len(shown) < n_of(page, "#m0-layer-selection tr")
    assert all("valence" in row[1] for row in shown[1:])
    link = section.find_element("xpath", ".//a[text()='CSV']")
    page.execute_script("arguments[0].addEventListener('click', e => e.preventDefault())", link)
    link.click()
    address = link.get_attribute("href")
    assert address.startswith("data:text/csv;charset=utf-8,")
    assert list(csv.reader(io.StringIO(unquote(address.split(",", 1)[1])))) == shown
    assert link.get_attribute("download") == "m0-layer-selection.csv"


def test_every_figure_can_be_saved_as_svg(page):
    links = page.find_elements("css selector", "figure[data-name] a.download")
    assert len(links) == len(page.find_elements("css selector", "figure[data-name]")) > 5
    for link in (links[0], links[-1]):
        page.execute_script("arguments[0].addEventListener('click', e => e.preventDefault())", link)
        page.execute_script("arguments[0].click()", link)
        address = link.get_attribute("href")
        assert address.startswith("data:image/svg+xml")
        shown = page.execute_script(
            "const d = new DOMParser().parseFromString(arguments[0], 'image/svg+xml');"
            "return [d.documentElement.tagName, d.querySelectorAll('path').length]",
            unquote(address.split(",", 1)[1]),
        )
        assert shown[0] == "svg"
        assert shown[1] > 10


def test_each_finding_links_to_a_record_that_the_page_then_shows(page):
    link = page.find_element("css selector", "#findings .links a")
    text = link.find_element("xpath", "./ancestor::li").text
    page.execute_script("arguments[0].click()", link)
    record = page.find_element("css selector", link.get_attribute("href").split("#", 1)[1].join(["#", ""]))
    assert record.is_displayed()
    target = record.find_elements("css selector", "td")[1].text
    assert target in text
    anchors = page.execute_script("return [...document.querySelectorAll('.links a, nav a')].map(a => a.hash.slice(1))")
    missing = page.execute_script("return arguments[0].filter(id => !document.getElementById(id))", anchors)
    assert missing == []


def test_the_structure_serves_assistive_technology(page):
    """The rules of axe-core that matter here: landmarks, headings, names, table headers, ids, language."""
    found = page.execute_script(
        """
        const all = s => [...document.querySelectorAll(s)];
        const levels = all('h1, h2, h3').map(h => +h.tagName[1]);
        return {
          lang: document.documentElement.lang,
          landmarks: ['header', 'main', 'nav', 'aside'].map(s => all(s).length),
          h1: levels.filter(l => l === 1).length,
          jumps: levels.filter((l, k) => k && l > levels[k - 1] + 1).length,
          unnamed: all('input, button, a').filter(e => !(e.innerText || e.textContent || e.ariaLabel || '').trim()
            && !(e.labels && e.labels.length) && !e.getAttribute('aria-label')).length,
          scopes: all('th').filter(th => !th.scope).length,
          double: all('[id]').map(e => e.id).filter((id, k, ids) => ids.indexOf(id) !== k).length,
          images: all('img').filter(i => !i.alt).length,
          drawings: all('aside svg, table svg, svg.panel').filter(s => !s.getAttribute('aria-label')).length,
          regions: all('.scroll[tabindex]').filter(e => !e.getAttribute('aria-label')).length,
        };
        """
    )
    assert found["lang"] == "en"
    assert found["landmarks"] == [1, 1, 1, 1]
    assert found["h1"] == 1
    for name in ("jumps", "unnamed", "scopes", "double", "images", "drawings", "regions"):
        assert (name, found[name]) == (name, 0)


def focused(page):
    return page.execute_script(
        "const e = document.activeElement; return [e.tagName, e.id, e.type || '', getComputedStyle(e).outlineStyle]"
    )


def test_the_keyboard_alone_reaches_the_table_choices_and_a_cell_with_a_visible_focus(page):
    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Skip to the results"
    reached = []
    for _ in range(4):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(focused(page))
    assert ["BUTTON", "", "button"] in [r[:3] for r in reached]  # the first head of the table
    page.execute_script("document.querySelector('nav li:last-child a').focus()")
    for _ in range(3 + 1 + N_TARGETS):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(focused(page))
    assert reached[-1][:3] == ["INPUT", "", "checkbox"]
    assert all(style != "none" for *_, style in reached)
    page.execute_script("[...document.querySelectorAll('#choices input')].pop().focus()")
    page.switch_to.active_element.send_keys(Keys.TAB)
    assert focused(page)[1] == "m0-cell-0"


def test_it_prints_on_a_few_pages_with_all_sections_open_and_closes_them_again(page):
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script("return [...document.querySelectorAll('details')].every(d => d.open)")
    page.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert n_of(page, "details[open]:not(.static)") == 0
    printed = page.execute_cdp_cmd(
        "Page.printToPDF", {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
    )
    pages = re.findall(rb"/Type\s*/Page\b(?!s)", base64.b64decode(printed["data"]))
    assert 8 < len(pages) < 60


def test_no_figure_is_larger_than_a_printed_page(page, report):
    open_at(page, report, width=688, height=1016)  # A4 within its margins
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        page.execute_script("document.querySelectorAll('.sheet img').forEach(i => {i.style.height = '9999px'})")
        sizes = page.execute_script(
            "return [...document.querySelectorAll('.sheet svg, .sheet img')].map(e => e.getBoundingClientRect())"
            ".map(r => [r.right, r.height]).filter(r => r[1])"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert sizes
    assert all(right <= 688 and height <= 1016 for right, height in sizes), sizes
