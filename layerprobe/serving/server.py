"""The server: uvicorn on a socket of this machine, until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from layerprobe.probe.encoders.examples import example_waveform
from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.predictors.predictor import Predictor, load_predictor
from layerprobe.serving.app import make_app
from layerprobe.serving.settings import ServingSettings, open_socket, url_of

HEAD_SECONDS = 30.0  # in which a connection must send the head of a request, or the rest of a refused one
IDLE_SECONDS = 30  # for which a connection is kept for the client's next request
SHUTDOWN_SECONDS = 5.0  # for requests that are answered when the server is ended
MOST_CONNECTIONS = 200
MOST_HEAD_BYTES = 16_384
EXAMPLE_SECONDS = 1.0


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose connections are closed where no whole head of a request arrives in time."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first head."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; the time runs between requests alone."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._head_timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the time."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def make_server(
    predictor: Predictor, settings: ServingSettings, *, log: Callable[[str], None] = lambda _: None
) -> uvicorn.Server:
    """Return a server that is not yet running; arguments as of `layerprobe.serving.app.make_app`."""
    return uvicorn.Server(
        uvicorn.Config(
            make_app(predictor, settings, log=log),
            http=PatientProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=int(SHUTDOWN_SECONDS),
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        )
    )


def serve(
    folder: Path,
    settings: ServingSettings,
    *,
    device: str | None,
    announce: Callable[[str, Predictor], None],
    log: Callable[[str], None],
) -> None:
    """Serve a predictor until the process is interrupted.

    Args:
        folder: of the predictor
        settings: where to listen, and limits
        device: to encode on; None for a GPU where there is one
        announce: called with the URL of the page and the predictor when requests are answered
        log: called with a line for each recording that was rated

    Raises:
        InputError: if the folder holds no predictor, or the host, the token or the port can't be used
    """
    with contextlib.closing(open_socket(settings)) as opened:
        predictor = load_predictor(folder, device=device)
        prepare(predictor)
        announce(url_of(opened, settings.host), predictor)
        run_until_interrupted(make_server(predictor, settings, log=log), opened)


def prepare(predictor: Predictor) -> None:
    """Rate an example, so that the first request is as fast as others, and give each thread one core."""
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(InvalidAudioError):
        predictor(
            np.asarray(example_waveform(EXAMPLE_SECONDS, sampling_rate=predictor.sampling_rate)),
            predictor.sampling_rate,
        )


def run_until_interrupted(server: uvicorn.Server, opened: socket.socket) -> None:
    """Answer requests on a socket until Ctrl-C, or another signal that ends the process."""
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[opened])
