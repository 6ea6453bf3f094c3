"""The JSON interface by a real server: ratings of real files, and an answer with a reason to everything else."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

import jsonschema
import numpy as np
import pytest
import soundfile
from helpers.media_files import write_media
from helpers.predictors import LAYERS, write_small_predictor
from helpers.serving import Running, read_all, serving
from helpers.voices import voice

from layerprobe.probe.predictors.predictor import Predictor, load_predictor

RATE = 16_000


def audio(samples: np.ndarray, kind: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load_predictor(write_small_predictor(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[Running]:
    with serving(predictor, max_mb=1, max_seconds=20, timeout=5) as running:
        yield running


SPEECH = voice(6.0, seed=1).astype("float32")


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


# ---- who may request ----


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "", "[::1", "a:b:c"])
def test_another_host_name_is_refused(server, host):
    for path in ("/", "/api/predictor", "/health"):
        refused = server.request(path, headers={"Host": host.format(port=server.port)})
        assert refused.status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:{port}", "[::1]:80"])
def test_every_name_of_this_machine_is_answered(server, host):
    assert server.request("/health", headers={"Host": host.format(port=server.port)}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_can_not_send_a_recording(server, headers):
    before = len(server.bodies)
    refused = server.rate(audio(SPEECH[:RATE]), headers=headers)
    assert (refused.status, refused.code) == (403, "LP955")
    assert len(server.bodies) == before  # was not read


def test_no_answer_may_be_read_by_another_site_and_all_are_hardened(server):
    own = {"Origin": server.url.rstrip("/")}
    for answer in (server.request("/"), server.request("/nope"), server.rate(b"x", headers=own), server.rate(b"x")):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


TOKEN = "a-token-of-this-test"


def test_a_token_is_needed_for_everything_that_rates_or_describes(predictor):
    with serving(predictor, token=TOKEN) as server:
        for given in (
            {},
            {"Authorization": "Bearer no"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": TOKEN},
        ):
            for refused in (server.request("/api/predictor", headers=given), server.rate(audio(SPEECH), headers=given)):
                assert (refused.status, refused.code) == (401, "LP956")
                assert refused.headers["www-authenticate"] == "Bearer"
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert server.rate(audio(SPEECH[:RATE]), headers=right).status == 200
        assert server.request("/api/predictor", headers=right).status == 200
        assert server.request("/openapi.json").json["security"] == [{"token": []}]
        assert TOKEN.encode() not in server.request("/").body + server.request("/openapi.json").body


# ---- bodies ----

GET = b"GET / HTTP/1.1\r\n"
HEAD = b"POST /api/ratings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/wav\r\nConnection: close\r\n"


def test_a_chunked_body_is_rated_and_one_without_an_end_is_refused(server):
    content = audio(SPEECH[:RATE])
    assert server.rate(iter([content[:5000], content[5000:]])).status == 200
    endless = b"".join(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(40))  # and no last chunk
    received = server.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + endless)
    assert b"413" in received.split(b"\r\n")[0]
    assert b"LP957" in received


def test_a_client_that_sends_all_before_it_reads_sees_the_refusal(server):
    request = HEAD + b"Content-Length: 30000000\r\n\r\n" + bytes(30_000_000)
    for head in (
        request,
        request.replace(b"Connection: close\r\n", b""),
        request.replace(b"127.0.0.1", b"evil.example"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as opened:
            opened.sendall(head)
            assert opened.recv(65536)[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 421")


def test_a_stated_length_over_the_limit_is_refused_before_anything_is_sent(server):
    begin = time.monotonic()
    received = server.raw(HEAD + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
    assert b"100 Continue" not in received
    assert b"413" in received.split(b"\r\n")[0]
    assert time.monotonic() - begin < 4


def test_a_slow_body_is_ended_and_others_are_answered_meanwhile(predictor):
    with serving(predictor, timeout=2.0) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
            slow.sendall(HEAD + b"Content-Length: 60000\r\n\r\nRIFF")
            assert server.rate(audio(SPEECH[:RATE])).status == 200
            received = read_all(slow)
        assert received.startswith(b"HTTP/1.1 408")
        assert b"LP958" in received


def test_a_body_that_comes_in_drops_is_ended(predictor):
    with serving(predictor, timeout=1.0) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(HEAD + b"Content-Length: 60000\r\n\r\nRIFF")
        begin = time.monotonic()
        slow.settimeout(0.2)  # less than a pause that would end it
        received = b""
        while not received and time.monotonic() - begin < 10:
            slow.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                received = slow.recv(65536)
        assert received.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begin < 6


def test_a_body_that_is_cut_leaves_the_server_as_it_was(server):
    for _ in range(12):  # more than there are places
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as cut:
            cut.sendall(HEAD + b"Content-Length: 60000\r\n\r\nRIFF")
    time.sleep(0.2)
    assert server.rate(audio(SPEECH[:RATE])).status == 200


@pytest.mark.parametrize(
    "content",
    [b"\x16\x03\x01\x02\x00\x01\x00", GET + b"\r\n", b"A" * 70_000, GET + b"Host: a\r\nHost: b\r\n\r\n"],
    ids=["TLS", "no host", "no line", "two hosts"],
)
def test_what_is_no_http_is_answered_or_closed(server, content):
    received = server.raw(content)
    assert received[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 421", b"")
    assert server.request("/health").status == 200


def test_a_connection_that_sends_nothing_is_closed(predictor, monkeypatch):
    monkeypatch.setattr("layerprobe.serving.server.HEAD_SECONDS", 0.3)
    with serving(predictor) as server:
        assert server.raw(b"") == b""
        assert server.raw(b"GET / HT") == b""
        assert server.rate(audio(SPEECH[:RATE])).status == 200


# ---- load ----


class SlowPredictor:
    """A predictor whose passes take a set time."""

    def __init__(self, predictor: Predictor, seconds: float) -> None:
        self._predictor, self._seconds = predictor, seconds
        self.running = self.most = 0

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def embed(self, waveform):
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(self._seconds)
        self.running -= 1
        return self._predictor.embed(waveform)


def test_more_requests_than_places_are_refused_and_none_is_lost_when_they_are_sent_again(predictor):
    slow, content, found = SlowPredictor(predictor, 0.05), audio(SPEECH[:RATE]), []
    expected = predictor(SPEECH[:RATE], RATE)["arousal"].value

    def client() -> None:
        refusals = 0
        while (answer := server.rate(content)).status == 503:
            assert (answer.code, answer.headers["retry-after"]) == ("LP963", "1")
            refusals += 1
            time.sleep(0.05)
        found.append((answer.json["ratings"]["arousal"]["value"], refusals))

    with serving(slow, concurrency=2) as server:
        clients = [threading.Thread(target=client) for _ in range(32)]
        for one in clients:
            one.start()
        for one in clients:
            one.join(30)
    assert [value for value, _ in found] == [pytest.approx(expected, abs=1e-3)] * 32
    assert sum(refusals for _, refusals in found) > 0
    assert slow.most == 2


def test_a_rating_that_takes_too_long_is_answered_and_does_not_hold_the_server(predictor):
    slow = SlowPredictor(predictor, 0.3)
    with serving(slow, concurrency=1, timeout=2.0) as server:
        late = server.rate(audio(SPEECH), "?window=1&hop=0.1")
        assert (late.status, late.code) == (504, "LP964")
        time.sleep(0.4)  # the window that was running ends, and none of the other 56 begins
        assert server.rate(audio(SPEECH[:RATE])).status == 200


def test_a_client_that_leaves_frees_its_place(predictor):
    slow, content = SlowPredictor(predictor, 0.3), audio(SPEECH[:RATE])
    with serving(slow, concurrency=1) as server:
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as gone:
                gone.sendall(HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
                time.sleep(0.02)
        begin = time.monotonic()
        assert server.rate(content).status == 200
        assert time.monotonic() - begin < 1.5  # and not 9 * 0.3 s


def test_an_error_of_the_program_has_no_traceback_in_its_answer(predictor, caplog):
    class Failing(SlowPredictor):
        def embed(self, waveform):
            raise RuntimeError("a secret of the implementation")

    with serving(Failing(predictor, 0)) as server:
        answer = server.rate(audio(SPEECH[:RATE]))
        assert (answer.status, answer.code) == (500, "LP967")
        assert b"secret" not in answer.body
        assert server.request("/health").status == 200
    assert "a secret of the implementation" in caplog.text  # where the server runs


def test_nothing_of_a_recording_is_on_the_disk_or_in_the_log(server, tmp_path):
    """Python reports each file that it opens, temporary ones, too."""
    pytest.importorskip("av")
    contents = [audio(SPEECH, "FLAC"), audio(SPEECH)[:-7], write_media(tmp_path, "aac.m4a", SPEECH).read_bytes()]
    opened: list[tuple[object, ...]] = []
    sys.addaudithook(lambda event, values: opened.append(values) if event == "open" and opened else None)
    opened.append(("from here on", "r", 0))
    for content in contents:
        assert server.rate(content).status == 200
    written = [values for values in opened if set("wax+") & set(str(values[1] or "")) or int(values[2] or 0) & 3]
    opened.clear()
    assert written == []
    assert all(re.fullmatch(r"[\d.]+ s of audio \([\d.]+ MB\) rated in [\d.]+ s\.", line) for line in server.log)
