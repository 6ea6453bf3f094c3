"""Where a cache lies: a folder, or a prefix in an object store by its URL (needs ``s3fs`` for ``s3://``).

An object is written whole or not at all and is durable once the store has answered, so that what a folder needs
renaming and fsync for comes by itself; in turn nothing is appended to an object, but it is written anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerprobe.probe.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd
    from zarr.storage import FsspecStore

CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "gcloud", "azure", "adlfs")  # whose errors stores raise
QUARANTINE = "quarantine.csv"  # in a cache, a run, a trained encoder: what was refused, and why
QUARANTINE_COLUMNS = ("utterance_id", "path", "reason")
PARTIAL = ".partial"  # ends the names of files that are being written


def place(where: str | Path) -> Path:
    """A folder's path as it is, or what stands for one where ``where`` is a URL such as ``s3://bucket/h.zarr``.

    Nothing is asked of the store yet; `connect` does that.

    Raises:
        InputError: if the packages for such a URL are not installed
    """
    if not isinstance(where, str) or "://" not in where:
        return Path(where) if isinstance(where, str) else where
    try:
        from upath import UPath

        path: Any = UPath(where, use_listings_cache=False)  # others write, too
        path.fs  # noqa: B018  # its client is imported here
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{where} can't be opened ({error}). For s3:// install what it needs: pip install s3fs universal-pathlib."
        ) from error
    return path  # type: ignore[no-any-return]


def is_remote(path: Path) -> bool:
    """Whether it is in an object store."""
    return not isinstance(path, Path)


def connect(where: str | Path) -> Path:
    """The `place`, after its object store was asked whether it answers; of a folder nothing is asked.

    Raises:
        InputError: if the store does not answer, or does not let us in
    """
    path = place(where)
    if not is_remote(path):
        return path
    remote: Any = path
    try:
        if path.exists():
            return path
        with suppress(PermissionError):  # who may not look at all of a bucket may well write into a part of it
            remote.fs.ls(remote.path.split("/")[0], detail=False)  # fails if there is none; we never make one
        return path
    except Exception as error:  # each store's client has errors of its own; all of them are told
        raise InputError(
            f"{path} can't be reached ({type(error).__name__}: {error}). See that the address is right, that its "
            "bucket exists, and that this machine has credentials for it (AWS_ACCESS_KEY_ID and its fellows)."
        ) from error


def is_store_error(error: Exception) -> bool:
    """Whether an object store's client raised it: a lost connection, say."""
    return type(error).__module__.split(".")[0] in CLIENTS


def zarr_store(path: Path) -> Path | FsspecStore:
    """What zarr opens."""
    if not is_remote(path):
        return path
    from zarr.storage import FsspecStore

    return FsspecStore.from_url(str(path), storage_options={"use_listings_cache": False})


def digest_of(file: Path) -> str:
    """Sixteen hex digits over a file's bytes."""
    if is_remote(file):
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]  # in one request; a block is held whole
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def make_durable(file: Path) -> None:
    """Flush a file and its folder to the disk; zarr's store replaces files atomically but never syncs them."""
    if is_remote(file):
        return
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, text: str, *, mark: str = "") -> None:
    """Write a small file whole or not at all; ``mark`` tells those apart that may write it at once."""
    if is_remote(path):
        path.write_bytes(text.encode())
        return
    temporary = path.with_name(f"{path.stem}{mark}{PARTIAL}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def append_line(path: Path, text: str) -> None:
    """Add a line to a small file; it is durable when this returns."""
    if is_remote(path):
        path.write_bytes(path.read_bytes() + text.encode())
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_table(file: Path, **options: Any) -> pd.DataFrame:
    """A CSV file that `replace_file` wrote."""
    import pandas as pd  # late, for the command line starts by this file

    with file.open("rb") as opened:
        table: pd.DataFrame = pd.read_csv(opened, keep_default_na=False, **options)
        return table


def size_of(path: Path) -> int:
    """Bytes of all files under ``path``."""
    if is_remote(path):
        remote: Any = path
        return int(remote.fs.du(remote.path))
    return sum(map(_size, path.rglob("*")))


def _size(file: Path) -> int:
    try:
        status = file.stat()
    except FileNotFoundError:  # of another process, which has renamed it since it was listed
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def remove(path: Path) -> None:
    """A folder, or a prefix, with all that is under it."""
    if is_remote(path):
        remote: Any = path
        remote.fs.rm(remote.path, recursive=True)
        return
    shutil.rmtree(path)
