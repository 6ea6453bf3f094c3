"""The page in a real browser: a file, a spoken recording, the keyboard, narrow and wide, and no request elsewhere."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from helpers.browser import chromium, open_at, requests_of
from helpers.predictors import LAYERS
from helpers.segments import find_segments
from helpers.serving import Running, serving
from helpers.voices import voice
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from layerprobe.probe.predictors.predictor import Predictor

RATE = 48_000  # in which the browser's own microphone works
WIDTHS = (375, 1440)
REAL = "test-other/1688/1688-142285-0000.flac"


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[Running]:
    with serving(predictor, max_mb=5, max_seconds=30) as running:
        yield running


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of real speech where there is any; else a voice of which no second is like another."""
    path = tmp_path_factory.mktemp("audio") / "talk.wav"
    real = Path(os.environ.get("LAYERPROBE_REAL_DATA", ""), "librispeech_mini", REAL)
    if real.is_file():
        samples, rate = soundfile.read(real, stop=80_000)
        samples = soxr.resample(samples, rate, RATE)
    else:
        samples = voice(5.0, rate=RATE, seed=3) * np.linspace(0.2, 1.0, 5 * RATE)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def page(server: Running, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    microphone = f"--use-file-for-fake-audio-capture={speech}%noloop"
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", microphone)
    with chromium(tmp_path_factory.mktemp("profile"), flags=flags) as browser:
        yield browser


def ready(page: Any, url: str, width: int = 1440) -> None:
    open_at(page, url, width=width)
    WebDriverWait(page, 10).until(lambda p: p.find_element("id", "limits").text)


def answered(page: Any) -> str:
    """What the page states when a recording was rated, or refused."""
    return WebDriverWait(page, 20).until(
        lambda p: p.find_element("id", "alert").text or re.match("Rated: .*", p.find_element("id", "status").text)
    ) and (page.find_element("id", "alert").text or page.find_element("id", "status").text)


def shown(page: Any) -> dict[str, float]:
    """The rating of each target that the page shows."""
    values = page.find_elements("css selector", "#targets .value")
    return {v.get_attribute("data-target"): float(v.text.split()[0].replace("−", "-")) for v in values}


def choose(page: Any, *paths: Path) -> str:
    page.find_element("id", "file").send_keys("\n".join(map(str, paths)))
    return answered(page)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_file_is_rated_and_nothing_is_wider_than_the_window(page, server, predictor, speech, width):
    page.get_log("browser"), page.get_log("performance")
    ready(page, server.url, width)
    choose(page, speech)
    expected = predictor(*soundfile.read(speech))
    assert shown(page) == {t: pytest.approx(r.value, abs=0.051) for t, r in expected.items()}
    low, high = expected["valence"].low, expected["valence"].high
    card = page.find_element("css selector", "section[aria-label=valence]").text
    assert f"90 % interval {low:.1f} to {high:.1f}".replace("-", "−") in card
    assert "layer 2 of 3" in card
    assert "real-time factor 0." in page.find_element("id", "facts").text
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    outside = page.execute_script(
        """return [...document.querySelectorAll('main *, aside *, header *')].filter(e => !e.closest('.scroll, svg'))
        .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    assert page.get_log("browser") == []
    own = (server.url, f"blob:{server.url}")
    assert [url for url in requests_of(page) if not url.startswith(own)] == []


def test_the_trace_is_that_of_windows_and_a_table_has_its_numbers(page, server, predictor, speech):
    ready(page, server.url)
    choose(page, speech)
    samples, _ = soundfile.read(speech)
    windows = [samples[k * RATE : (k + 3) * RATE] for k in range(3)]
    expected = [[f"{r.value:.2f}".replace("-", "−") for r in predictor(w, RATE).values()] for w in windows]
    page.execute_script("document.getElementById('table-box').open = true")
    rows = page.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    assert [row[0] for row in rows] == ["0.0 to 3.0", "1.0 to 4.0", "2.0 to 5.0"]
    numbers = [[float(v.replace("−", "-")) for v in row[1:]] for row in rows]
    assert numbers == [pytest.approx([float(v.replace("−", "-")) for v in row], abs=0.011) for row in expected]
    assert len(page.find_elements("css selector", "#chart polyline.line")) == len(LAYERS)
    assert len(page.find_elements("css selector", "#chart polygon.band")) == len(LAYERS)
    slider = page.find_element("id", "moment")
    before = page.find_element("id", "reading").text
    slider.send_keys(Keys.ARROW_RIGHT)
    assert page.find_element("id", "reading").text.startswith("1.0 to 4.0 s: arousal ") != before.startswith("1.0")
    assert slider.get_attribute("aria-valuetext") == page.find_element("id", "reading").text


def test_what_is_spoken_is_rated(page, server, predictor, speech):
    """The browser's microphone plays the file; what it sends is that file, up to the browser's own resampling."""
    ready(page, server.url)
    page.find_element("id", "record").click()
    WebDriverWait(page, 10).until(lambda p: float((p.find_element("id", "elapsed").text or "0").split()[0]) >= 2.5)
    assert page.find_element("id", "record").text == "Stop and rate"
    page.find_element("id", "record").click()
    assert answered(page).startswith("Rated: arousal ")
    sent, rate = soundfile.read(io.BytesIO(server.bodies[-1]))
    expected = predictor(sent, rate)
    assert shown(page) == {t: pytest.approx(r.value, abs=0.051) for t, r in expected.items()}
    original = soxr.resample(soundfile.read(speech)[0], RATE, rate)
    found = find_segments(sent, original, length=rate // 5)
    same = [segment for segment in found if segment.correlation > 0.99]
    assert len(found) >= 5
    assert len(same) >= 0.75 * len(found)  # on a busy machine its microphone drops or repeats a buffer of 10 ms
    assert all(a.place < b.place for a, b in itertools.pairwise(same))
    assert abs(same[0].lag) < 0.5 * rate  # the microphone may open before the browser's thread for samples runs


def test_all_is_reached_and_done_by_the_keyboard(page, server):
    ready(page, server.url)
    visited = []
    for _ in range(6):
        ActionChains(page).send_keys(Keys.TAB).perform()
        visited.append(page.execute_script("return document.activeElement.id || document.activeElement.className"))
    assert visited[:3] == ["skip", "file", "record"]
    assert page.execute_script(  # the input is covered by its label, which then shows the focus
        "document.getElementById('file').focus(); return getComputedStyle(document.querySelector('.drop')).outlineStyle"
    ) in ("solid", "none")
    page.find_element("id", "record").send_keys(Keys.ENTER)
    WebDriverWait(page, 10).until(lambda p: p.find_element("id", "discard").is_displayed())
    page.find_element("id", "discard").send_keys(Keys.SPACE)
    assert page.find_element("id", "status").text == "The recording was discarded."
    assert page.execute_script("return document.activeElement.id") == "record"


def test_every_control_has_a_name_and_results_are_announced(page, server, speech):
    ready(page, server.url)
    choose(page, speech)
    assert page.execute_script("return document.activeElement.id") == "result-title"
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {}
    for node in nodes:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if not node.get("ignored"):
            named.setdefault(role, []).append(name)
    for role in ("button", "slider", "link", "image", "heading", "region", "complementary"):
        assert named.get(role), role
        assert all(named[role]), (role, named[role])
    assert "Time in the recording" in named["slider"]
    assert [n for n in named["image"] if n.startswith("Waveform of 5.0 seconds. Over time: arousal from ")]
    assert "status" in named
    headings = page.execute_script(
        "return [...document.querySelectorAll('main :is(h1, h2, h3), header h1')].filter(e => e.checkVisibility())"
        ".map(e => Number(e.tagName[1]))"
    )
    assert headings[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))
    ids = page.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    broken = page.execute_script(
        """return [...document.querySelectorAll('[aria-labelledby], [aria-describedby], label[for]')].filter(e =>
        !document.getElementById(e.getAttribute('aria-labelledby') || e.getAttribute('aria-describedby') || e.htmlFor))
        .length"""
    )
    assert broken == 0


def test_what_can_not_be_rated_is_stated_in_an_alert(page, server, tmp_path):
    ready(page, server.url)
    (tmp_path / "notes.wav").write_text("no audio at all", encoding="utf-8")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    (tmp_path / "huge.wav").write_bytes(bytes(5_100_000))
    (tmp_path / "empty.wav").write_bytes(b"")
    assert choose(page, tmp_path / "notes.wav").startswith("Not rated: could not be decoded")
    assert choose(page, tmp_path / "silent.wav").startswith("Not rated: silent: every sample is the same")
    before = len(server.bodies)
    assert choose(page, tmp_path / "huge.wav") == "huge.wav has 5.1 MB; this server receives at most 5 MB."
    assert choose(page, tmp_path / "empty.wav") == "empty.wav is empty."
    assert len(server.bodies) == before
    assert not page.find_element("id", "result").is_displayed()
    page.get_log("browser")  # the console names answers of 422


def test_a_file_can_be_dropped_anywhere(page, server, speech):
    ready(page, server.url)
    content = speech.read_bytes()
    page.execute_script(
        """const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(arguments[0])], '<b>talk</b>.wav', {type: 'audio/wav'}));
        document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: data}));""",
        list(content),
    )
    assert answered(page).startswith("Rated: ")
    assert server.bodies[-1] == content
    assert page.find_element("id", "result-title").text == "Ratings of <b>talk</b>.wav"  # as text


def test_the_page_asks_for_the_token_and_keeps_it_in_the_tab(page, predictor, speech):
    with serving(predictor, token="a-token-of-this-test") as server:
        open_at(page, server.url, width=375)
        field = WebDriverWait(page, 10).until(lambda p: p.find_element("id", "token"))
        WebDriverWait(page, 10).until(lambda _: field.is_displayed())
        field.send_keys("a-wrong-token-of-it", Keys.ENTER)
        WebDriverWait(page, 10).until(lambda p: "not the token" in p.find_element("id", "alert").text)
        field.send_keys("a-token-of-this-test", Keys.ENTER)
        WebDriverWait(page, 10).until(lambda p: p.find_element("id", "limits").text)
        choose(page, speech)
        assert set(shown(page)) == set(LAYERS)
        assert page.execute_script("return [document.cookie, localStorage.length, location.href]") == [
            "",
            0,
            server.url,
        ]
        ready(page, server.url)
    page.get_log("browser")


def test_a_page_of_another_origin_can_neither_send_nor_read(page, server, predictor):
    """Another server of this machine is another origin."""
    with serving(predictor) as other:
        open_at(page, other.url, width=1440)
        tried = page.execute_async_script(
            """const done = arguments[1], url = arguments[0] + 'api/ratings';
            fetch(url, {method: 'POST', mode: 'no-cors', headers: {'Content-Type': 'text/plain'}, body: 'x'})
              .then(r => done(r.type), e => done(e.name));""",
            server.url,
        )
        assert tried == "TypeError"  # by the page's own policy
    page.get_log("browser")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_interface_is_described_on_a_page(page, server, width):
    page.get_log("browser"), page.get_log("performance")
    open_at(page, f"{server.url}api", width=width)
    WebDriverWait(page, 10).until(lambda p: "POST /api/ratings" in p.find_element("id", "paths").text)
    document = json.loads(server.request("/openapi.json").body)
    text = page.find_element("tag name", "body").text
    for name in (*document["paths"], *document["components"]["schemas"], "real_time_factor", "window", "422"):
        assert name in text
    assert "undefined" not in text
    assert f"{server.url}api/ratings" in page.find_element("id", "example").text
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.get_log("browser") == []
    assert [url for url in requests_of(page) if not url.startswith(server.url)] == []


def luminance(text: str) -> float:
    """Relative luminance of a CSS colour (WCAG 2.1)."""
    parts = [float(v) / 255 for v in re.findall(r"[\d.]+", text)[:3]]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_and_controls_have_contrast_and_nothing_moves_where_that_is_wished(server, speech, tmp_path, dark):
    with chromium(tmp_path / "profile", dark=dark) as browser:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "reduce"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, calm]})
        ready(browser, server.url, 375)
        choose(browser, speech)
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (luminance(paper) < 0.1) == dark
        pairs = browser.execute_script(
            """const seen = (e) => getComputedStyle(e);
            return [...document.querySelectorAll('h1, h2, h3, p, dt, dd, a, button, summary, .value, #chart text')]
              .filter(e => e.checkVisibility() && e.textContent.trim())
              .map(e => [e.closest('svg') ? seen(e).fill : seen(e).color,
                         e.matches('button:not(.plain)') ? seen(e).backgroundColor : arguments[0],
                         e.textContent.trim().slice(0, 30)])
              .filter(([, , text]) => text)""",
            paper,
        )
        low = []
        for ink, ground, text in pairs:
            high, less = sorted((luminance(ink), luminance(ground)), reverse=True)
            if (high + 0.05) / (less + 0.05) < 4.5:
                low.append((text, ink, ground))
        assert low == []
        browser.execute_script("document.getElementById('status').classList.add('busy')")
        time.sleep(0.05)
        running = "return document.getAnimations().filter(a => a.playState === 'running').length"
        assert browser.execute_script(running) == 0
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('button, .drop label')].filter(e => e.checkVisibility())"
            ".map(e => e.getBoundingClientRect().height)"
        )
        assert min(sizes) >= 44  # CSS pixels of a target that is pressed (WCAG 2.1, 2.5.5)
