"""Connection to a Dask cluster (needs ``distributed``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress

CONNECTION_TIMEOUT = 30
RETRIES = 5  # retries of a task whose worker died or failed


@contextmanager
def cluster(scheduler: str, progress: NullProgress) -> Iterator[Any]:
    """Connect to the scheduler at an address such as ``tcp://host:8786`` and yield its client.

    Raises:
        InputError: if Dask is not installed, the scheduler does not answer, or it has no workers
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("LP870", "Dask is not installed. Install it: pip install distributed.") from error
    progress.log(f"Connecting to {scheduler} …")
    try:
        client: Any = Client(scheduler, timeout=CONNECTION_TIMEOUT)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise InputError(
            "LP871", f"No Dask scheduler answers at {scheduler} ({error}). Start one: dask scheduler."
        ) from error
    with client:
        if not n_workers(client):
            raise InputError(
                "LP872", f"The scheduler at {scheduler} has no workers. Start some: dask worker {scheduler}."
            )
        yield client


def n_workers(client: Any) -> int:
    """Return the scheduler's current number of workers."""
    return len(client.scheduler_info(n_workers=-1)["workers"])
