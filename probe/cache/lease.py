"""One writer per store: a writer takes a lease and renews it while it lives; an expired lease is taken over.

In a folder, a lock on the file ``lock`` excludes other processes of the same machine, and ends with its process. It
does not reach other machines on every shared folder, and object stores have no locks, so ``lease.json`` also names the
owner. The lease of a process of this machine ends with that process; the lease of a process of another machine
expires if it is not renewed for `LEASE_SECONDS` seconds, by the clock of the store.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from layerprobe.probe.cache.journal import FILES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote, replace_file
from layerprobe.probe.version import CACHE_FORMAT_VERSION

LEASE, LOCK = f"{FILES}/lease.json", f"{FILES}/lock"
RENEW_SECONDS = 20.0  # between two renewals
LEASE_SECONDS = 90.0  # without a renewal
WAIT_SECONDS = 1.0  # until, of two processes that take over at once, the first can see that it has lost


class Lease:
    """The right of this process to write to a store."""

    def __init__(self, path: Path) -> None:
        """Name the store at ``path``; nothing is written yet."""
        self._path = path
        self._file = path / LEASE
        self._token = secrets.token_hex(8)
        self._ends = threading.Event()
        self._lost = False

    def take(self) -> None:
        """Write the lease, or take over an expired one, and renew it from now on.

        Raises:
            InputError: naming the owner, if another process holds it
        """
        if not _created(self._file, self._text()):
            owner = _owner(self._file)
            if not self._has_expired(owner):
                process = f" ({owner['pid']} on {owner['host']})" if owner else ""
                raise InputError(
                    f"{self._path} is being written by another process{process}. "
                    f"Wait for it to end; if it has died, its lease expires after {LEASE_SECONDS:.0f} seconds."
                )
            with suppress(FileNotFoundError):  # of another process that was faster and has tidied up
                self._write()
            if is_remote(self._path) or owner.get("machine") != _machine():  # on one machine the lock has decided
                self._ends.wait(WAIT_SECONDS)
                self.check()
        threading.Thread(target=self._renew, daemon=True).start()

    def check(self) -> None:
        """Check that this process still holds the lease.

        Raises:
            InputError: if another process has taken it over, as it may after a long suspension of this one
        """
        if self._lost or _owner(self._file).get("token") != self._token:
            self._lost = True
            raise InputError(f"{self._path} was taken over by another process. Wait for it to end, then run again.")

    def release(self) -> None:
        """End the lease."""
        self._ends.set()
        if _owner(self._file).get("token") == self._token:
            self._file.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ends.wait(RENEW_SECONDS):
            try:
                self.check()
                self._write()
            except InputError:
                return  # the next write raises it
            except Exception:  # each store's client has errors of its own, which the next write raises too
                continue  # the next renewal may succeed; if none does, another process may take over, which we see

    def _write(self) -> None:
        replace_file(self._file, self._text(), mark=self._token)

    def _text(self) -> str:
        owner = {"token": self._token, "pid": os.getpid(), "host": socket.gethostname(), "machine": _machine()}
        return json.dumps({"format_version": CACHE_FORMAT_VERSION, **owner})

    def _has_expired(self, owner: dict[str, Any]) -> bool:
        if owner.get("machine") == _machine():
            return not is_remote(self._path) or not _lives(int(owner["pid"]))  # a folder's lock is ours already
        return _age(self._file) > LEASE_SECONDS


@contextmanager
def leased(path: Path) -> Iterator[Lease]:
    """Be the only writer of a store.

    Raises:
        InputError: if another process writes to it
    """
    with ExitStack() as held:
        if not is_remote(path):
            (path / FILES).mkdir(parents=True, exist_ok=True)
            lock = FileLock(path / LOCK, timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise InputError(f"{path} is being written by another process. Wait for it to end.") from error
            held.callback(lock.release)
        lease = Lease(path)
        lease.take()
        held.callback(lease.release)
        yield lease


def _created(file: Path, text: str) -> bool:
    """Create a file and return whether it is new; one that exists is left as it is."""
    try:
        if is_remote(file):
            remote: Any = file
            remote.fs.pipe_file(remote.path, text.encode(), mode="create")
        else:
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
    except FileExistsError:
        return False
    return True


def _owner(file: Path) -> dict[str, Any]:
    """Read the owner of a lease; empty if there is none, or if it can't be known.

    A file that was torn when the owner died, or that has another format version, holds until it expires.
    """
    try:
        owner = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(owner, dict) or owner.get("format_version") != CACHE_FORMAT_VERSION:
        return {}
    return owner if {"pid", "host"} <= set(owner) else {}


def _age(file: Path) -> float:
    """Return the seconds since a file was written, by the clock of the store, for which another file is written now."""
    now = file.with_name(f"now-{secrets.token_hex(4)}")
    now.write_bytes(b"")
    try:
        return float(now.stat().st_mtime - file.stat().st_mtime) if file.exists() else float("inf")
    finally:
        now.unlink(missing_ok=True)


def _machine() -> str:
    """Identify this machine since its last start, and its container, in which numbers of processes have a meaning."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return socket.gethostname()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another user
    return True


def is_leased(path: Path) -> bool:
    """Return whether a process writes to a store, according to its lease; nothing is changed."""
    file = path / LEASE
    owner = _owner(file)
    if owner.get("machine") == _machine():
        return _lives(int(owner["pid"]))
    try:
        return file.exists() and _age(file) <= LEASE_SECONDS
    except OSError:  # the store can only be read, so that its clock can't be read
        return time.time() - file.stat().st_mtime <= LEASE_SECONDS
