"""What stands before every request: its Host, its Origin and its token are checked, and every answer is hardened.

A page of another site can make a browser send requests to this machine. A name that such a site lets point to 127.0.0.1
(DNS rebinding) is refused by its Host header, a form or script of it by its Origin, and no answer allows another site
to read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layerprobe.serving.refusals import RequestError, error_content
from layerprobe.serving.settings import ServingSettings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
NEEDS_TOKEN = "/api/"
DISCARDING_SECONDS = 2.0
REQUEST_TIMEOUT = 408
HARDENED = {
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """An application of ASGI that passes on what may be answered."""

    def __init__(self, app: ASGIApp, settings: ServingSettings) -> None:
        """Take what answers requests, and the settings with host and token."""
        self._app, self._host, self._token = app, settings.host, settings.secret.encode()
        self._names = LOOPBACK_NAMES | {settings.host.lower()}
        if settings.host in EVERY_ADDRESS:
            self._names |= {socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see the specification of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        body = IncomingBody(scope, receive)

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HARDENED)
                if message["status"] != REQUEST_TIMEOUT:
                    await body.discard()
            await send(message)

        try:
            self._check(scope)
        except RequestError as refused:
            answer = JSONResponse(error_content(refused.code, refused.message), refused.status, refused.headers)
            await answer(scope, body.receive, hardened)
            return
        await self._app(scope, body.receive, hardened)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if not self._is_own(headers.getlist("host")):
            raise RequestError(
                "LP954",
                "This server does not answer under this name. Open it under the address that layerprobe serve printed.",
                status=421,
            )
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(headers):
            raise RequestError(
                "LP955", "Another site's page may not use this server. Send requests from its own page.", status=403
            )
        if self._token and scope["path"].startswith(NEEDS_TOKEN) and not self._has_token(headers):
            raise RequestError(
                "LP956",
                "The token is missing or wrong. Send the header Authorization: Bearer with the token of this server.",
                status=401,
                headers={"www-authenticate": "Bearer"},
            )

    def _is_own(self, hosts: list[str]) -> bool:
        name = host_name(hosts[0]) if len(hosts) == 1 else ""
        if name in self._names:
            return True
        # Rebinding needs a name; under an address there is none.
        return self._host in EVERY_ADDRESS and _is_address(name)

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)


class IncomingBody:
    """The body of a request that may be answered before all of it arrived.

    A client that sends all before it reads sees an answer only if the rest of its body is taken. uvicorn does so after
    the answer, unless the connection is to be closed then.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        """Take what receives the parts."""
        headers = Headers(scope=scope)
        closes = headers.get("connection", "").lower() == "close" or scope.get("http_version") == "1.0"
        waits = headers.get("expect", "").lower() == "100-continue"  # and sends nothing before it may
        self._receive, self._open = receive, closes and not waits

    async def receive(self) -> Message:
        """Return the next part; see the specification of ASGI."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._open = False
        return message

    async def discard(self) -> None:
        """Take the rest and keep nothing of it, for a short time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARDING_SECONDS):
                while self._open:
                    await self.receive()


def host_name(host: str) -> str:
    """Return the name or address of a Host header, without its port, in lower case.

    >>> host_name("LOCALHOST:8000"), host_name("[::1]:8000"), host_name("::1")
    ('localhost', '::1', '')
    """
    name, separator, port = host.lower().rpartition(":") if not host.endswith("]") else (host.lower(), "", "")
    name, port = (name, port) if separator else (name or port, "")
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1]
    return "" if ":" in name or (separator and not port.isdecimal()) else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(headers: Headers) -> bool:
    """Return whether a request comes from the server's own page, or from no page at all, as that of curl."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    own = headers.get("host", "").lower()
    return origin is None or origin.lower() in (f"http://{own}", f"https://{own}")
