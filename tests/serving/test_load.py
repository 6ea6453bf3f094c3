"""The server under load: places, time limits, clients that leave, failures, and what is left behind."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time

import pytest
from helpers.media_files import write_media
from helpers.serving import HEAD, RATE, SPEECH, audio, serving

from layerprobe.probe.predictors.predictor import Predictor


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
