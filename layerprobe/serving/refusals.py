"""Requests that are refused: each has a code, a sentence and a status of HTTP."""

from __future__ import annotations

from typing import Any

from layerprobe.probe.exceptions import CodedError


class RequestError(CodedError):
    """The reason why a request is refused, for the client.

    Attributes:
        status: of HTTP
        headers: that the answer has in addition
    """

    def __init__(self, code: str, message: str, *, status: int, headers: dict[str, str] | None = None) -> None:
        """Set code, message, status and headers."""
        super().__init__(code, message)
        self.status, self.headers = status, headers or {}


def error_content(code: str, message: str) -> dict[str, Any]:
    """Return the JSON of a refusal; its message ends with the code, as all messages do."""
    return {"error": {"code": code, "message": f"{message} [{code}]"}}
