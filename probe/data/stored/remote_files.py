"""Files behind a URL that fsspec opens: ``s3://``, ``gs://``, ``https://`` and others, read whole or by ranges.

A client is requested at every use, because fsspec's clients belong to a process, and fsspec keeps them itself. No
listing is remembered, because other programs write into a store.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from layerprobe.probe.data.stored.locations import scheme_of
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.problem import Problem, StoredAudioError

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "abfs": "adlfs",
    "az": "adlfs",
}  # that fsspec needs for a scheme
# What a store states of an object's version, by the names that fsspec's clients give it.
MARKS = ("ETag", "etag", "md5Hash", "LastModified", "Last-Modified", "last_modified", "mtime", "updated", "generation")
WAITS = (0.2, 1.0)  # seconds before another attempt where a connection is lost
FAILING_SECONDS = 30.0  # for which a store that failed repeatedly is given one attempt, so that many rows end soon
CONNECT_SECONDS, READ_SECONDS = 15, 60  # until a web server counts as silent

Answer = TypeVar("Answer")
_failing: dict[str, float] = {}  # until when, by store


@dataclass(frozen=True)
class RemoteStatus:
    """What a store states of an object."""

    size: int | None  # bytes; None where a server doesn't state it
    version: int  # another number where the object was replaced; -1 where the store doesn't state enough to know


def remote_status(url: str) -> RemoteStatus:
    """Ask a store for the size and version of an object.

    Raises:
        StoredAudioError: if it isn't there or the store refuses access or doesn't answer
    """
    info = _requested(url, lambda client, path: client.info(path))
    if info.get("type") == "directory":
        raise StoredAudioError(Problem("LP200", f"{url} is a folder, not a file"))
    marks = repr([(name, info[name]) for name in MARKS if info.get(name)])
    version = int(hashlib.sha256(marks.encode()).hexdigest()[:15], 16) if marks != "[]" else -1
    size = info.get("size")
    return RemoteStatus(None if size is None else int(size), version)


def read_remote(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read an object, or the bytes from ``start`` to ``end`` of it, by one request.

    Raises:
        StoredAudioError: as `remote_status`
    """
    content: bytes = _requested(url, lambda client, path: client.cat_file(path, start=start, end=end))
    return content


def open_remote(url: str) -> Any:
    """Open an object for reading by ranges.

    Raises:
        StoredAudioError: as `remote_status`
    """
    return _requested(url, lambda client, path: client.open(path, "rb"))


def listed(folder: str) -> set[str]:
    """Return the URLs of the objects in a folder; none where it can't be listed."""
    client, path = _client(folder)
    try:
        entries = client.ls(path, detail=True)
    except Exception:  # each store's client has errors of its own; the objects are then looked up one by one
        return set()
    start = f"{path.rstrip('/')}/"
    names = [str(entry["name"]) for entry in entries if entry.get("type") != "directory"]
    return {f"{folder}/{name.removeprefix(start)}" for name in names if name.startswith(start)}


def store_of(url: str) -> str:
    """Return the part of a URL that names a store: a bucket, or a server.

    >>> store_of("s3://bucket/wav/a.wav")
    's3://bucket'
    """
    return "/".join(url.split("/")[:3])


def remote_problem(url: str, error: Exception) -> Problem:
    """Return why an object can't be read, by the error of its store's client."""
    if isinstance(error, StoredAudioError):
        return error.problem
    if isinstance(error, FileNotFoundError):
        return Problem("LP200", f"no such file: {url}")
    status = getattr(error, "status", None)  # of an answer over HTTP
    if isinstance(error, PermissionError) or status in (401, 403):
        return Problem("LP238", f"{url} can't be read: access is denied. Check this machine's credentials for it")
    text = f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__
    return Problem("LP238", f"{url} can't be read ({text}). Check the address and the network, and run again")


def _requested(url: str, ask: Callable[[Any, str], Answer]) -> Answer:
    client, path = _client(url)
    for wait in (*(() if time.monotonic() < _failing.get(store_of(url), 0.0) else WAITS), None):
        try:
            return ask(client, path)
        except Exception as raised:  # each store's client has errors of its own
            error = _reported(raised)
            lasting = isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "status", 0) >= 400
            if not lasting and wait is None:
                _failing[store_of(url)] = time.monotonic() + FAILING_SECONDS
            if lasting or wait is None:
                raise StoredAudioError(remote_problem(url, error)) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _web_options() -> dict[str, Any]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def _reported(error: Exception) -> Exception:
    """Return what a web server answered, where fsspec reports each failure as a missing file."""
    cause = error.__cause__
    from_server = isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp")
    if isinstance(error, FileNotFoundError) and from_server and getattr(cause, "status", 0) not in (404, 410):
        return cause  # type: ignore[return-value]
    return error


def _client(url: str) -> tuple[Any, str]:
    """Return fsspec's client of a store, and the object's path there."""
    from fsspec.core import url_to_fs

    scheme = scheme_of(url)
    try:
        options = _web_options() if scheme in ("http", "https") else {"use_listings_cache": False}
        client, path = url_to_fs(url, **options)
        return client, path
    except (ImportError, ValueError) as error:
        package = PACKAGES.get(scheme)
        advice = f"pip install {package}" if package else "use a path, tar://, parquet://, arrow://, s3:// or https://"
        raise StoredAudioError(Problem("LP239", f"{url} can't be opened ({first_line(error)}): {advice}")) from error
