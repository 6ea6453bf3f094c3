"""One writer a store: who writes claims it, renews the claim while it lives, and a dead owner's claim is taken over.

On a folder the lock of the file ``lock`` tells the processes of one machine apart, and is gone with its process. It
does not reach between machines on every shared folder, and object stores have none, so ``lease.json`` names the owner
besides: a process of this machine that is gone has lost it at once, one of another machine when it was not renewed
for `LEASE_SECONDS` seconds by the store's own clock.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote, replace_file

LEASE, LOCK = "lease.json", "lock"
RENEW_SECONDS = 20.0  # seconds between two renewals
LEASE_SECONDS = 90.0  # seconds without one
SETTLE_SECONDS = 1.0  # seconds after which of two that take a claim over at once one knows that it has lost it


class Lease:
    """That this process writes to a store."""

    def __init__(self, path: Path) -> None:
        """Of the store at ``path``; nothing is written yet."""
        self._path = path
        self._file = path / LEASE
        self._token = secrets.token_hex(8)
        self._ends = threading.Event()
        self._lost = False

    def take(self) -> None:
        """Write the claim, over that of a dead owner if there is one.

        Raises:
            InputError: naming the owner, if it lives
        """
        if not _created(self._file, self._text()):
            owner = _owner(self._file)
            if not self._is_dead(owner):
                whose = f" ({owner['pid']} on {owner['host']})" if owner else ""
                raise InputError(
                    f"{self._path} is being written by another process{whose}. "
                    f"Wait for it to end; if it has died, its claim lapses after {LEASE_SECONDS:.0f} seconds."
                )
            with suppress(FileNotFoundError):  # of another that was faster and has tidied up
                self._write()
            if is_remote(self._path) or owner.get("machine") != _machine():  # on one machine the lock has decided
                self._ends.wait(SETTLE_SECONDS)
                self.refuse_lost()
        threading.Thread(target=self._renew, daemon=True).start()

    def refuse_lost(self) -> None:
        """See that the claim is still ours.

        Raises:
            InputError: if another process has taken it over, as it may where this one stood still for long
        """
        if self._lost or _owner(self._file).get("token") != self._token:
            self._lost = True
            raise InputError(f"{self._path} was taken over by another process. Wait for it to end, then run again.")

    def release(self) -> None:
        """Give it up."""
        self._ends.set()
        if _owner(self._file).get("token") == self._token:
            self._file.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ends.wait(RENEW_SECONDS):
            try:
                self.refuse_lost()
                self._write()
            except InputError:
                return  # told by the next writing
            except Exception:  # each store's client has errors of its own: what writes will tell them, in words
                continue  # the next renewal may come through; if none does, another may take over, which we see

    def _write(self) -> None:
        replace_file(self._file, self._text(), mark=self._token)

    def _text(self) -> str:
        return json.dumps(
            {"token": self._token, "pid": os.getpid(), "host": socket.gethostname(), "machine": _machine()}
        )

    def _is_dead(self, owner: dict[str, Any]) -> bool:
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
            lock = FileLock(path / LOCK, timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise InputError(f"{path} is being written by another process. Wait for it to end.") from error
            held.callback(lock.release)
        claim = Lease(path)
        claim.take()
        held.callback(claim.release)
        yield claim


def _created(file: Path, text: str) -> bool:
    """Whether the file was made, which it is not if there was one."""
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
    """What a claim says; nothing if there is none, or it was torn when its owner died."""
    try:
        owner = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and {"pid", "host"} <= set(owner) else {}


def _age(file: Path) -> float:
    """Seconds since it was written, by the clock of the store: a file is written now to ask for it."""
    now = file.with_name(f"now-{secrets.token_hex(4)}")
    now.write_bytes(b"")
    try:
        return float(now.stat().st_mtime - file.stat().st_mtime) if file.exists() else float("inf")
    finally:
        now.unlink(missing_ok=True)


def _machine() -> str:
    """This machine since it was started, and where it is divided, the container: whose numbers of processes we see."""
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
