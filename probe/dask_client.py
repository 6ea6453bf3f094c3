"""A cluster of Dask that does our work (needs ``distributed``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress

SECONDS_TO_ANSWER = 30
RETRIES = 5  # of a task whose worker died or failed


@contextmanager
def cluster(scheduler: str, progress: NullProgress) -> Iterator[Any]:
    """A client of the scheduler at ``tcp://host:8786``, which has workers.

    Raises:
        InputError: if Dask is not installed, the scheduler does not answer, or it has no workers
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("Dask is not installed. Install it: pip install distributed.") from error
    progress.log(f"Asking {scheduler} for workers …")
    try:
        client: Any = Client(scheduler, timeout=SECONDS_TO_ANSWER)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise InputError(
            f"No scheduler of Dask answers at {scheduler} ({error}). Start one: dask scheduler."
        ) from error
    with client:
        if not n_workers(client):
            raise InputError(f"The scheduler at {scheduler} has no workers. Start some: dask worker {scheduler}.")
        yield client


def n_workers(client: Any) -> int:
    """How many there are now."""
    return len(client.scheduler_info(n_workers=-1)["workers"])
