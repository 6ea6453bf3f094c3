"""One writer at a time: a writer takes a lease and renews it while it lives; an expired lease is taken over.

In a folder, a lock on a file excludes other processes of the same machine, and ends with its process. It does not
reach other machines on every shared folder, and object stores have no locks, so a file also names the owner. The lease
of a process of this machine ends with that process; the lease of a process of another machine expires if it is not
renewed for `LEASE_SECONDS` seconds, by the clock of the store. One that is dated later than that clock, such as by a
machine whose clock is wrong, expires if it is not renewed within `RENEWAL_WAIT_SECONDS`.
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

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import create_file, is_remote, remove_partial_files, replace_file
from layerprobe.probe.version import CACHE_FORMAT_VERSION

RUN_LEASE, RUN_LOCK = "lease.json", ".lock"  # in the folder of a run or a training
RENEW_SECONDS = 20.0  # between two renewals
LEASE_SECONDS = 90.0  # without a renewal
RENEWAL_WAIT_SECONDS = 1.5 * RENEW_SECONDS  # for a renewal of a lease that is dated later than the store's clock
CLOCK_SECONDS = 2.0  # by which a file may be dated later than one that is written now
WAIT_SECONDS = 1.0  # until, of two processes that take over at once, the first can see that it has lost


class Lease:
    """The right of this process to write to a store, a folder or a file."""

    def __init__(self, path: Path, file: Path) -> None:
        """Name what is written, ``path``, and the file of its lease; nothing is written yet."""
        self._path = path
        self._file = file
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
                    "LP440",
                    f"{self._path} is being written by another process{process}. "
                    f"Wait for it to end; if it has died, its lease expires after {LEASE_SECONDS:.0f} seconds.",
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
            raise InputError(
                "LP441", f"{self._path} was taken over by another process. Wait for it to end, then run again."
            )

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
        replace_file(self._file, self._text())

    def _text(self) -> str:
        owner = {"token": self._token, "pid": os.getpid(), "host": socket.gethostname(), "machine": _machine()}
        return json.dumps({"format_version": CACHE_FORMAT_VERSION, **owner})

    def _has_expired(self, owner: dict[str, Any]) -> bool:
        if owner.get("machine") == _machine():
            return not is_remote(self._path) or not _lives(int(owner["pid"]))  # a folder's lock is ours already
        age = _age(self._file)
        if age < -CLOCK_SECONDS:
            before = _renewal(self._file)
            self._ends.wait(RENEWAL_WAIT_SECONDS)
            return _renewal(self._file) in (before, None)
        return age > LEASE_SECONDS


@contextmanager
def held_lease(path: Path, *, lease: Path, lock: Path) -> Iterator[Lease]:
    """Be the only writer of a store, a folder or a file.

    Args:
        path: what is written, for messages; on whether it is in an object store depends whether there is a lock
        lease: file of the lease
        lock: file of the lock, which is empty and stays

    Raises:
        InputError: naming the process, if another one writes there
    """
    with ExitStack() as held:
        if not is_remote(path):
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout as error:
                owner = _owner(lease)
                process = f" ({owner['pid']} on {owner['host']})" if owner else ""
                raise InputError(
                    "LP440", f"{path} is being written by another process{process}. Wait for it to end."
                ) from error
        one = Lease(path, lease)
        held.callback(one.release)  # before it is taken, so that a signal in between leaves none
        one.take()
        yield one


@contextmanager
def leased_folder(folder: Path) -> Iterator[Lease]:
    """Be the only writer of the folder of a run or a training; one that is empty in the end is removed.

    Raises:
        InputError: naming the process, if another one writes there
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("LP401", f"{folder} is a file. Name a folder as --out.")
    lease, lock = folder / RUN_LEASE, folder / RUN_LOCK
    with ExitStack() as after, held_lease(folder, lease=lease, lock=lock) as held:
        remove_partial_files(folder)
        try:
            yield held
        finally:
            if {entry.name for entry in folder.iterdir()} <= {RUN_LEASE, RUN_LOCK}:
                lock.unlink(missing_ok=True)
                after.callback(_remove_if_empty, folder)


@contextmanager
def leased_file(path: Path) -> Iterator[Lease]:
    """Be the only writer of a file, with its lease and its lock next to it until the end.

    Raises:
        InputError: naming the process, if another one writes it
    """
    lock = path.with_name(f".{path.name}.lock")
    with held_lease(path, lease=path.with_name(f"{path.name}.lease.json"), lock=lock) as held:
        try:
            yield held
        finally:
            lock.unlink(missing_ok=True)


def is_held(lease: Path) -> bool:
    """Return whether a process writes there, according to the file of its lease; nothing is changed."""
    owner = _owner(lease)
    if owner.get("machine") == _machine():
        return _lives(int(owner["pid"]))
    try:
        return lease.exists() and _age(lease) <= LEASE_SECONDS
    except OSError:  # the store can only be read, so that its clock can't be read
        return time.time() - lease.stat().st_mtime <= LEASE_SECONDS


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # another process now writes there
        folder.rmdir()


def _created(file: Path, text: str) -> bool:
    """Create a file and return whether it is new; one that exists is left as it is."""
    try:
        if is_remote(file):
            remote: Any = file
            remote.fs.pipe_file(remote.path, text.encode(), mode="create")
        else:
            create_file(file, text)
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


def _renewal(file: Path) -> tuple[float, bytes] | None:
    """Return the time and the content of a lease, by which a renewal is seen; None if there is none."""
    try:
        return float(file.stat().st_mtime), file.read_bytes()
    except FileNotFoundError:
        return None


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
