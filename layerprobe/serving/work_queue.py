"""Work in threads: so much of it at once, so much that waits, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from layerprobe.serving.refusals import RequestError

Result = TypeVar("Result")
RETRY_SECONDS = 1


class ClientGoneError(Exception):
    """The client of a request went away before it was answered."""


class WorkQueue:
    """Threads that do the work of requests, with a bounded number of requests that wait for one."""

    def __init__(self, *, concurrency: int, waiting: int) -> None:
        """Start the threads.

        Args:
            concurrency: number of threads
            waiting: requests that may wait for a thread, or for the rest of their body
        """
        self._free = concurrency + waiting
        self._threads = asyncio.Semaphore(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="rating")
        self._running: set[threading.Event] = set()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places of requests, those that are worked on and those that wait.

        Raises:
            RequestError: if there is none
        """
        if self._free == 0:
            raise RequestError(
                "LP963",
                f"The server is busy with other recordings. Send this one again in {RETRY_SECONDS} s.",
                status=503,
                headers={"retry-after": str(RETRY_SECONDS)},
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    async def run(self, work: Callable[[threading.Event], Result], *, seconds: float, gone: Awaitable[None]) -> Result:
        """Do work in a thread, when one is free.

        A thread can't be ended: work that takes too long is set an event to end itself by, and holds its thread until
        then, so that no more of it runs than there are threads.

        Args:
            work: called in a thread with an event that is set when the result is no longer wanted
            seconds: for waiting and work together
            gone: returns when the client is no longer there

        Raises:
            RequestError: if it takes too long
            ClientGoneError: if the client went away
        """
        unwanted = threading.Event()
        working = asyncio.ensure_future(self._in_thread(work, unwanted))
        leaving = asyncio.ensure_future(gone)
        try:
            done, _ = await asyncio.wait({working, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                return working.result()
            if leaving in done:
                raise ClientGoneError
            raise RequestError(
                "LP964",
                f"The recording was not rated within {seconds:g} s. Send a shorter one, or start the server with a "
                "larger --timeout.",
                status=504,
            )
        finally:
            unwanted.set()
            working.cancel()
            leaving.cancel()

    def close(self) -> None:
        """Let running work end itself, and start none that waits."""
        for unwanted in self._running:
            unwanted.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[threading.Event], Result], unwanted: threading.Event) -> Result:
        await self._threads.acquire()
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, unwanted)
        self._running.add(unwanted)

        def finished(done: asyncio.Future[Result]) -> None:
            if not done.cancelled():
                done.exception()  # seen here where the request is not waiting any longer
            self._running.discard(unwanted)
            self._threads.release()

        future.add_done_callback(finished)
        return await asyncio.shield(future)
