"""The JSON interface by a real server: ratings of real files, and an answer with a reason to everything else."""

from __future__ import annotations

import io
import itertools
import struct

import jsonschema
import numpy as np
import pytest
import soundfile
from helpers.media_files import write_media
from helpers.predictors import LAYERS
from helpers.serving import RATE, SPEECH, audio


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_ratings_are_those_of_the_predictor_on_the_decoded_file(server, predictor, kind):
    content = audio(SPEECH, kind)
    found = server.rate(content, "?window=2&hop=1.5&peaks=7").json
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    expected = predictor(samples, rate)
    assert {t: tuple(r.values()) for t, r in found["ratings"].items()} == {
        t: pytest.approx(tuple(r), abs=1e-5) for t, r in expected.items()
    }
    assert found["duration"] == pytest.approx(len(samples) / rate, abs=1e-4)
    windows = found["trace"]["windows"]
    assert [(w["start"], w["end"]) for w in windows] == [(0, 2), (1.5, 3.5), (3, 5), (4.5, len(samples) / rate)]
    third = predictor(samples[3 * rate : 5 * rate], rate)
    assert {t: r["value"] for t, r in windows[2]["ratings"].items()} == {
        t: pytest.approx(r.value, abs=1e-5) for t, r in third.items()
    }
    bounds = [len(samples) * k // 7 for k in range(8)]
    peaks = [np.abs(samples[a:b]).max() for a, b in itertools.pairwise(bounds)]
    assert found["peaks"] == pytest.approx(peaks, abs=1e-4)
    assert found["layers"] == {t: list(layers) for t, layers in LAYERS.items()}


@pytest.mark.parametrize(
    ("seconds", "query", "windows"),
    [
        (3.9, "", None),  # too short for two of the usual windows
        (4.0, "", [(0, 3), (1, 4)]),
        (6.0, "?window=0", None),
        (1.0, "?window=5", [(0, 1)]),
        (2.5, "?window=1&hop=2", [(0, 1), (2, 2.5)]),
        (2.5, "?window=1&hop=3", [(0, 1)]),
    ],
)
def test_windows_reach_the_end_of_the_recording(server, seconds, query, windows):
    trace = server.rate(audio(SPEECH[: round(seconds * RATE)]), query).json["trace"]
    assert (trace and [(w["start"], w["end"]) for w in trace["windows"]]) == windows


def test_a_format_of_ffmpeg_is_decoded_from_memory(server, tmp_path):
    pytest.importorskip("av")
    content = write_media(tmp_path, "aac.m4a", SPEECH).read_bytes()
    assert server.rate(content, headers={"Content-Type": "video/mp4"}).json["duration"] == pytest.approx(6, abs=0.2)


def test_without_pyav_a_format_that_needs_a_file_is_refused(server, tmp_path, monkeypatch):
    pytest.importorskip("av")
    content = write_media(tmp_path, "aac.m4a", SPEECH).read_bytes()
    monkeypatch.setattr("layerprobe.serving.rating.has_pyav", lambda: False)
    refused = server.rate(content)
    assert (refused.status, refused.code) == (422, "LP965")


def test_answers_are_those_of_the_openapi_document(server):
    document = server.request("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    answers = {
        ("/api/ratings", "post", "200"): server.rate(audio(SPEECH), "?peaks=5"),
        ("/api/ratings", "post", "422"): server.rate(b"no audio"),
        ("/api/ratings", "post", "415"): server.rate(b"x", headers={"Content-Type": "text/plain"}),
        ("/api/predictor", "get", "200"): server.request("/api/predictor"),
        ("/health", "get", "200"): server.request("/health"),
    }
    assert {path for path, _, _ in answers} == set(document["paths"])
    for (path, method, status), answer in answers.items():
        declared = document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
        assert answer.status == int(status)
        jsonschema.Draft202012Validator({**declared, "components": document["components"]}).validate(answer.json)


def test_the_answer_states_what_the_predictor_is_and_the_limits(server):
    found = server.request("/api/predictor").json
    assert [t["name"] for t in found["targets"]] == list(LAYERS)
    assert (found["encoder"]["blocks"], found["encoder"]["blocks_of_whole"]) == (2, 3)
    assert found["limits"] == {"megabytes": 1, "seconds": 20, "at_once": 2, "waiting": 8, "timeout": 5}


def flac_that_states(samples: int) -> bytes:
    """A FLAC file of silence whose header states so many samples."""
    content = bytearray(audio(np.zeros(RATE), "FLAC"))
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "status", "code", "text"),
    [
        (b"RIFF\0\0", 422, "LP204", "could not be decoded"),
        (b"<html><body>no audio</body></html>", 422, "LP202", "is a web page"),
        (audio(SPEECH)[:40], 422, None, ""),
        (audio(SPEECH, "FLAC")[:4000], 422, None, ""),
        (audio(np.zeros(RATE)), 422, "LP232", "silent: every sample is the same"),
        (audio(SPEECH[:160]), 422, "LP909", "too short: 0.010 s"),
        (audio(np.full(RATE, np.nan), subtype="FLOAT"), 422, "LP230", "not finite"),
        (audio(np.tile(SPEECH, 4)), 413, "LP962", "longer than the 20 s that this server rates"),
        (flac_that_states(2**35), 422, None, ""),
        (audio(np.zeros((4 * RATE, 8)) + 0.1, "FLAC", 192_000), 422, "LP232", "silent"),
        (audio(np.zeros((3 * 96_000, 8)), "FLAC", 96_000), 413, "LP962", "2.5 s that this server rates with 8 ch"),
        (b"", 400, "LP959", "has no body"),
        (bytes(1_100_000), 413, "LP957", "larger than the 1 MB"),
    ],
)  # fmt: skip
def test_what_can_not_be_rated_is_answered_with_the_reason(server, content, status, code, text):
    refused = server.rate(content)
    assert refused.status == status, refused.body
    assert code in (None, refused.code)
    message = refused.json["error"]["message"]
    assert text in message
    assert message.endswith(f"[{refused.code}]")
    assert b"Traceback" not in refused.body


def test_a_silent_window_has_no_rating_and_a_recording_unlike_the_corpus_a_remark(server, predictor):
    samples = np.concatenate([SPEECH[: 3 * RATE], np.zeros(3 * RATE, "float32")])
    found = server.rate(audio(samples), "?window=2&hop=2").json
    assert [w["ratings"]["arousal"] is None for w in found["trace"]["windows"]] == [False, False, True]
    outside = [t for t, r in found["ratings"].items() if not 1 <= r["value"] <= 7]
    remarks = [r for r in found["remarks"] if "outside" in r]
    assert len(remarks) == bool(outside)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?hop=0", "hop must be a number from 0.05 to 3600"),
        ("?window=two", "window must be a number"),
        ("?peaks=nan", "peaks must be a number"),
        ("?windows=3", "There is no option 'windows'"),
        ("?window=1&hop=0.005", "hop must be"),
    ],
)
def test_a_query_that_can_not_be_used_is_refused(server, query, text):
    refused = server.rate(audio(SPEECH), query)
    assert (refused.status, refused.code) == (400, "LP961")
    assert text in refused.json["error"]["message"]


@pytest.mark.parametrize("kind", ["", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_a_form_is_refused(server, kind):
    refused = server.rate(audio(SPEECH), headers={"Content-Type": kind})
    assert (refused.status, refused.code) == (415, "LP960")


def test_unknown_paths_and_methods_are_answered(server):
    for path in ("/nope", "/../etc/passwd", "/api/ratings/", "/%2e%2e/x"):
        assert (server.request(path).status, server.request(path).code) == (404, "LP966")
    for method, path in (
        ("PUT", "/"),
        ("DELETE", "/api/predictor"),
        ("OPTIONS", "/api/ratings"),
        ("GET", "/api/ratings"),
    ):
        refused = server.request(path, method=method)
        assert (refused.status, refused.code) == (405, "LP966")
        assert refused.headers["allow"]
