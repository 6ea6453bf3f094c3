"""A real server of a predictor on a free port of this machine, in a thread, and clients that need no library."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import numpy as np
import soundfile
from helpers.voices import voice

from layerprobe.probe.predictors.predictor import Predictor
from layerprobe.serving.server import make_server
from layerprobe.serving.settings import ServingSettings, open_socket, url_of

WAV = {"Content-Type": "audio/wav"}
# of a request whose body follows
HEAD = b"POST /api/ratings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/wav\r\nConnection: close\r\n"
RATE = 16_000
SPEECH = voice(6.0, seed=1).astype("float32")


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class Running:
    """A server that answers."""

    url: str
    port: int
    log: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)  # that were received whole, in order

    def request(
        self, path: str, body: Any = None, *, method: str = "GET", headers: dict[str, str] | None = None
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()

    def rate(self, body: Any, query: str = "", headers: dict[str, str] | None = None) -> Answer:
        return self.request(f"/api/ratings{query}", body, method="POST", headers=WAV | (headers or {}))

    def raw(self, content: bytes, *, seconds: float = 20.0) -> bytes:
        """What comes back for bytes that are sent as they are, until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as opened:
            opened.sendall(content)
            return read_all(opened)


def audio(samples: np.ndarray, kind: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    """An audio file of samples ``(n_samples,)`` or ``(n_samples, n_channels)``."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def read_all(opened: socket.socket) -> bytes:
    """What is received until the other side closes the connection."""
    received = b""
    while part := opened.recv(65536):
        received += part
    return received


@contextmanager
def serving(predictor: Predictor, **settings: Any) -> Iterator[Running]:
    """Run the server that ``layerprobe serve`` runs, until the end of the context."""
    chosen = ServingSettings(port=0, **settings)
    opened = open_socket(chosen)
    running = Running(url_of(opened, chosen.host), opened.getsockname()[1])
    server = make_server(predictor, chosen, log=running.log.append)
    server.config.app = _recording(server.config.app, running.bodies)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def _recording(app: Any, bodies: list[bytes]) -> Any:
    """The application, with the bodies that it received."""

    async def recorded(scope: Any, receive: Any, send: Any) -> None:
        parts = []

        async def noted() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                parts.append(message.get("body", b""))
                if not message.get("more_body") and any(parts):
                    bodies.append(b"".join(parts))
            return message

        await app(scope, noted, send)

    return recorded
