"""How a command ends that is ended from outside: by Ctrl-C, a scheduler, a closed terminal or a closed pipe.

SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that what holds a lease or rows that wait writes and
releases them; the exit code is 128 and the signal's number, as shells count.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BROKEN_PIPE = 128 + signal.SIGPIPE  # exit code of a command after the reader of its output has ended, as that of cat
REPEAT_SECONDS = 5.0  # schedulers send SIGTERM and SIGHUP, or one of them twice, at once
_received: list[tuple[int, float]] = []  # the signals that interrupted this process, and when


def heed_signals() -> None:
    """Let SIGTERM and SIGHUP interrupt this process as Ctrl-C does; one that is ignored, as under nohup, stays so.

    A repetition within `REPEAT_SECONDS` is ignored, for it would interrupt the writing of what is done.
    """
    for number in ENDINGS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _interrupt)


def received_signal() -> int | None:
    """Return the number of the signal that interrupted this process first; None if none did."""
    return _received[0][0] if _received else None


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Start processes within, which receive no ending signal before they call `release_signals`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """Heed signals in a process that was started while they were held back; one that waits interrupts at once."""
    heed_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


def ignore_signals() -> None:
    """Ignore ending signals from here on, in a process that has nothing more to do than to end.

    Otherwise one that arrives while Python ends interrupts what libraries do then, which prints a traceback.
    """
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)


def silence_closed_outputs() -> bool:
    """Return whether a reader of this process's output has gone, and discard what would be written to it."""
    closed = [number for number in (1, 2) if _is_closed(number)]
    for number in closed:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)
    return bool(closed)


def flush_output() -> None:
    """Write what waits for standard output, so that an error is raised here and not when Python ends."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _interrupt(number: int, frame: Any) -> None:
    del frame
    now = time.monotonic()
    repeated = bool(_received) and now - _received[-1][1] < REPEAT_SECONDS
    if repeated and number != signal.SIGINT:
        return
    _received.append((number, now))
    raise KeyboardInterrupt


def _is_closed(number: int) -> bool:
    poll = select.poll()
    try:
        poll.register(number, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except OSError:
        return False
