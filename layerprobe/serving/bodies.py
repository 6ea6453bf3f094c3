"""The body of a request, read into memory within limits of size and time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from layerprobe.serving.refusals import RequestError

IDLE_SECONDS = 10.0  # between two parts of a body
CLOSE = {"connection": "close"}
AUDIO_TYPES = ("audio/", "video/", "application/octet-stream", "application/ogg")


async def read_body(request: Request, *, max_bytes: int, seconds: float) -> bytes:
    """Return the body of a request.

    Args:
        request: whose body was not read
        max_bytes: that a body may have; neither a stated nor a sent one is larger
        seconds: in which it must arrive

    Raises:
        RequestError: if it is no audio by its type, too large, too slow, cut or empty
    """
    check_type(request)
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    body = request.stream()
    try:
        async with asyncio.timeout(seconds):
            while True:
                async with asyncio.timeout(min(IDLE_SECONDS, seconds)):
                    part = await anext(body, None)
                if part is None:
                    break
                size += len(part)
                if size > max_bytes:
                    parts.clear()
                    raise _too_large(max_bytes)
                parts.append(part)
    except TimeoutError as error:
        raise RequestError(
            "LP958",
            f"The recording did not arrive in time: {size} bytes came. It must arrive within {seconds:g} s, without a "
            f"pause of {min(IDLE_SECONDS, seconds):g} s.",
            status=408,
            headers=CLOSE,
        ) from error
    except ClientDisconnect as error:
        raise RequestError("LP958", "The connection ended before the whole recording arrived.", status=400) from error
    if not size:
        raise RequestError("LP959", "The request has no body. Send the bytes of an audio file as its body.", status=400)
    return b"".join(parts)


def check_type(request: Request) -> None:
    """Check the type of a request's body.

    Raises:
        RequestError: if it is not that of an audio file as it is
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not kind.startswith(AUDIO_TYPES):
        raise RequestError(
            "LP960",
            f"The content type is {kind[:80] or 'missing'}. Send the bytes of the file as they are, with a type such "
            "as audio/wav or application/octet-stream.",
            status=415,
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(
            "LP960",
            "The content type is audio, and its encoding is not identity. Send the bytes of the file as they are.",
            status=415,
        )


async def disconnected(request: Request) -> None:
    """Return when the client of a request, whose body was read, is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        "LP957",
        f"The recording is larger than the {max_bytes / 1e6:g} MB that this server receives. Send a shorter or a "
        "compressed one, or start the server with a larger --max-mb.",
        status=413,
    )
