"""Who may send requests and how: names, origins, tokens, and bodies that are large, slow, cut or no HTTP."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from helpers.serving import HEAD, RATE, SPEECH, audio, read_all, serving


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


GET = b"GET / HTTP/1.1\r\n"


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
