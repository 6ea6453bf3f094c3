"""What the page states of a predictor: scores and intervals as they were measured, and numbers fine enough to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.browser import chromium, open_at
from helpers.predictors import write_small_predictor
from helpers.serving import SPEECH, Running, audio, serving
from selenium.webdriver.support.ui import WebDriverWait

from layerprobe.probe.predictors.folder import read_predictor, write_predictor
from layerprobe.probe.predictors.predictor import load_predictor

SCORES = [
    {"target": "arousal", "metric": "ccc", "estimate": 0.61, "ci_low": float("nan"), "ci_high": float("nan")},
    {"target": "valence", "metric": "ccc", "estimate": 0.52, "ci_low": 0.4, "ci_high": 0.6},
    {"target": "dominance", "metric": "ccc", "estimate": float("nan"), "ci_low": 0.4, "ci_high": 0.6},
]
SCALES = {"arousal": (0.0, 1.0), "valence": (1.0, 7.0), "dominance": (0.0, 100.0)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of a predictor whose run knew no speakers, with scores of which some could not be measured."""
    folder = write_small_predictor(tmp_path_factory.mktemp("few"))
    saved = read_predictor(folder)
    heads = tuple(
        replace(head, intercept=head.intercept / 7) if head.target == "arousal" else head for head in saved.heads
    )
    write_predictor(folder, replace(saved.plan, interval_unit="utterance"), heads, scales=SCALES, scores=SCORES)
    with serving(load_predictor(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(tmp_path_factory.mktemp("profile"), flags=flags) as browser:
        yield browser


def text_of(page: Any, name: str) -> str:
    return WebDriverWait(page, 20).until(lambda p: p.find_element("id", name).text)


def test_scores_that_could_not_be_measured_are_null(server: Running) -> None:
    answer = server.request("/api/predictor")
    assert answer.status == 200
    arousal, valence, dominance = (target["score"] for target in answer.json["targets"])
    assert arousal == {"metric": "ccc", "estimate": 0.61, "ci_low": None, "ci_high": None}
    assert (valence["ci_low"], valence["ci_high"]) == (0.4, 0.6)
    assert dominance is None
    document = server.request("/openapi.json").json
    schema = {**document["components"]["schemas"]["Predictor"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer.json)


def test_the_page_states_scores_and_intervals_as_they_were_measured(page: Any, server: Running, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(audio(SPEECH))
    open_at(page, server.url, width=1440)
    text_of(page, "limits")
    about = page.find_element("id", "about").text
    assert "Scores on unseen recordings" in about
    assert "arousal: CCC 0.61 (no interval could be measured)" in about
    assert "valence: CCC 0.52 (0.40 to 0.60)" in about
    assert "unseen speakers" not in about
    page.find_element("id", "file").send_keys(str(tmp_path / "talk.wav"))
    assert text_of(page, "interval-note").endswith("of the corpus, by the same speakers.")


def test_the_digits_fit_the_scale(page: Any, server: Running, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(audio(SPEECH))
    open_at(page, server.url, width=1440)
    text_of(page, "limits")
    page.find_element("id", "file").send_keys(str(tmp_path / "talk.wav"))
    text_of(page, "interval-note")
    values = {v.get_attribute("data-target"): v.text.split()[0] for v in page.find_elements("css selector", ".value")}
    for target, digits in (("arousal", r"\.\d\d"), ("valence", r"\.\d"), ("dominance", "")):
        assert re.fullmatch(rf"−?\d+{digits}", values[target]), (target, values)


def test_the_microphone_is_released_where_it_can_not_be_read(page: Any, server: Running) -> None:
    open_at(page, server.url, width=1440)
    text_of(page, "limits")
    page.execute_script(
        """window.AudioContext = function () { throw new Error("no such rate"); };
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wish) => (window.stream = await open(wish));"""
    )
    page.find_element("id", "record").click()
    assert text_of(page, "alert") == "The microphone can't be used: no such rate."
    assert page.execute_script("return window.stream.getTracks().map(t => t.readyState)") == ["ended"]


def test_a_page_that_was_opened_before_the_server_answered_asks_again(
    page: Any, server: Running, tmp_path: Path
) -> None:
    (tmp_path / "talk.wav").write_bytes(audio(SPEECH))
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/api/predictor"]})
    open_at(page, server.url, width=1440)
    assert text_of(page, "alert") == "The server can't be reached. Is it still running?"
    page.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.find_element("id", "file").send_keys(str(tmp_path / "talk.wav"))
    assert text_of(page, "result-title") == "Ratings of talk.wav"
