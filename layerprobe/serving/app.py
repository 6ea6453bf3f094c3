"""The application: its pages, its JSON, and what becomes of errors."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.predictors.predictor import Predictor
from layerprobe.serving.bodies import disconnected, read_body
from layerprobe.serving.description import describe_predictor
from layerprobe.serving.guards import Guard
from layerprobe.serving.openapi import openapi_document
from layerprobe.serving.rating import RatingRequest, UnwantedError, rate_recording
from layerprobe.serving.refusals import RequestError, error_content
from layerprobe.serving.settings import ServingSettings
from layerprobe.serving.work_queue import ClientGoneError, WorkQueue

PAGES = {  # by path: the file in ``pages`` and its type
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/recorder.js": ("recorder.js", "text/javascript"),
    "/recorder-worklet.js": ("recorder-worklet.js", "text/javascript"),
    "/api": ("api.html", "text/html"),
    "/api.js": ("api.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(
    predictor: Predictor, settings: ServingSettings, *, log: Callable[[str], None] = lambda _: None
) -> ASGIApp:
    """Return the application of ASGI that serves a predictor.

    Args:
        predictor: that rates
        settings: limits, host and token
        log: called with a line for each recording, without anything of its content
    """
    work = WorkQueue(concurrency=settings.concurrency, waiting=settings.waiting)
    about, document = describe_predictor(predictor, settings), openapi_document(predictor, settings)

    async def ratings(request: Request) -> Response:
        requested = RatingRequest.from_query(request.query_params)
        with work.place():
            content = await read_body(request, max_bytes=settings.max_bytes, seconds=settings.timeout)
            rate = functools.partial(_rate, predictor, content, max_seconds=settings.max_seconds, request=requested)
            size = len(content)
            del content  # the thread has it alone
            begin = time.perf_counter()
            try:
                found = await work.run(rate, seconds=settings.timeout, gone=disconnected(request))
            except ClientGoneError:
                return Response(status_code=400)
        waited = time.perf_counter() - begin
        log(f"{found['duration']:.1f} s of audio ({size / 1e6:.2f} MB) rated in {waited:.2f} s.")
        return JSONResponse(found)

    async def about_predictor(_: Request) -> Response:
        return JSONResponse(about)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def closing(_: Starlette) -> AsyncIterator[None]:
        yield
        work.close()

    routes = [
        *(Route(path, _page(*page), methods=["GET"]) for path, page in PAGES.items()),
        Route("/api/ratings", ratings, methods=["POST"]),
        Route("/api/predictor", about_predictor, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers=_HANDLERS, lifespan=closing)
    app.router.redirect_slashes = False
    return Guard(app, settings)


def _rate(predictor: Predictor, content: bytes, unwanted: Any, *, max_seconds: float, request: RatingRequest) -> Any:
    return rate_recording(predictor, content, max_seconds=max_seconds, request=request, unwanted=unwanted)


def _page(name: str, kind: str) -> Callable[[Request], Any]:
    content = (Path(str(files("layerprobe"))) / "serving" / "pages" / name).read_bytes()

    async def page(_: Request) -> Response:
        return Response(content, media_type=kind)

    return page


def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestError):
        raise error
    return JSONResponse(error_content(error.code, error.message), error.status, error.headers)


def _not_rated(_: Request, error: Exception) -> Response:
    """Answer with the reader's own reason why a recording can't be used."""
    if not isinstance(error, InvalidAudioError):
        raise error
    return JSONResponse(error_content(error.code, f"Not rated: {error.message}."), 422)


def _not_found(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = f"There is nothing at {request.url.path[:80]}; the addresses of this server are listed at /api."
    if error.status_code == 405:
        message = f"{request.method[:20]} is not for {request.url.path[:80]}; /api lists what is."
    return JSONResponse(error_content("LP966", message), error.status_code, error.headers)


def _failed(_: Request, error: Exception) -> Response:
    """Answer an error of this program; its traceback is printed where the server runs, and is not sent."""
    del error
    return JSONResponse(error_content("LP967", "The server failed on this request; it printed why where it runs."), 500)


_HANDLERS: dict[Any, Any] = {
    RequestError: _refused,
    InvalidAudioError: _not_rated,
    HTTPException: _not_found,
    UnwantedError: _failed,
    Exception: _failed,
}
