"""A progress that keeps what is logged."""

from __future__ import annotations

from layerprobe.probe.progress import NullProgress


class Messages(NullProgress):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.logged: list[str] = []

    def log(self, message: str) -> None:
        self.logged.append(message)
