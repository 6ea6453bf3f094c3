"""The lease of a cache: one process at a time writes to a store; see `probe.lease`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from layerprobe.probe.cache.journal import FILES
from layerprobe.probe.lease import Lease, held_lease

LEASE, LOCK = f"{FILES}/lease.json", f"{FILES}/lock"


def leased(path: Path) -> AbstractContextManager[Lease]:
    """Be the only writer of a store.

    Raises:
        InputError: naming the process, if another one writes to it
    """
    return held_lease(path, lease=path / LEASE, lock=path / LOCK)
