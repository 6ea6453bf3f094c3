"""Files in a folder, or in an object store by its URL (needs ``s3fs`` for ``s3://``).

An object is written whole or not at all and is durable once the store has answered, so that it needs neither the
renaming nor the fsync of a file; in turn nothing can be appended to an object, and it is rewritten instead.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from layerprobe.probe.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd
    from zarr.storage import FsspecStore

CLIENTS = (
    "botocore",
    "aiobotocore",
    "aiohttp",
    "gcsfs",
    "gcloud",
    "azure",
    "adlfs",
)  # packages that raise the errors of stores
QUARANTINE = "quarantine.csv"  # in a cache, a run or a trained encoder: refused utterances and the reasons
QUARANTINE_COLUMNS = ("utterance_id", "path", "reason")
WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # errors of file systems that have no hard links
PARTIAL = ".partial"  # ends the names of files that are being written


def resolve(location: str | Path) -> Path:
    """Return the path of a folder, or an object with a path's interface for a URL such as ``s3://bucket/h.zarr``.

    No request is made to the store yet; `connect` does that.

    Raises:
        InputError: if the packages for such a URL are not installed
    """
    if not isinstance(location, str) or "://" not in location:
        return Path(location) if isinstance(location, str) else location
    try:
        from upath import UPath

        path: Any = UPath(location, use_listings_cache=False)  # other processes write, too
        path.fs  # noqa: B018  # its client is imported here
    except (ImportError, ValueError) as error:
        raise InputError(
            "LP880",
            f"{location} can't be opened ({error}). s3:// needs two packages: pip install s3fs universal-pathlib.",
        ) from error
    return path  # type: ignore[no-any-return]


def is_remote(path: Path) -> bool:
    """Return whether a path is in an object store."""
    return not isinstance(path, Path)


def connect(location: str | Path) -> Path:
    """Resolve a location and check that its object store, if it is in one, answers.

    Raises:
        InputError: if the store does not answer, or refuses access
    """
    path = resolve(location)
    if not is_remote(path):
        return path
    remote: Any = path
    try:
        if path.exists():
            return path
        with suppress(PermissionError):  # a user who may not list a bucket may still write into a part of it
            remote.fs.ls(remote.path.split("/")[0], detail=False)  # fails if there is none; we never make one
        return path
    except Exception as error:  # each store's client has errors of its own
        raise InputError(
            "LP881",
            f"{path} can't be reached ({type(error).__name__}: {error}). Check that the address is right, that its "
            "bucket exists, and that this machine has credentials for it (AWS_ACCESS_KEY_ID and others).",
        ) from error


def is_store_error(error: Exception) -> bool:
    """Return whether an object store's client raised an error, such as for a lost connection."""
    return type(error).__module__.split(".")[0] in CLIENTS


def zarr_store(path: Path) -> Path | FsspecStore:
    """Return what zarr opens for a path."""
    if not is_remote(path):
        return path
    from zarr.storage import FsspecStore

    return FsspecStore.from_url(str(path), storage_options={"use_listings_cache": False})


def digest_of(file: Path) -> str:
    """Return sixteen hex digits of the SHA-256 of a file's bytes."""
    return sha256_of(file)[:16]


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    if is_remote(file):
        return hashlib.sha256(file.read_bytes()).hexdigest()  # in one request; a block is held whole
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def has_content(file: Path, *, size: int, sha256: str) -> bool:
    """Return whether a file is there and has a size in bytes and a SHA-256; one of another size is not read."""
    return file.is_file() and file.stat().st_size == size and sha256_of(file) == sha256


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


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file next to ``path`` that replaces it when the block ends, so that it is written whole or not at all.

    After an error nothing of it is left. A link stays one, and what is no file, such as ``/dev/stdout``, is written to.

    Args:
        path: of the file, which may exist
        durable: whether the content is on disk before the file is replaced, so that a power failure leaves one or the
            other
    """
    if is_remote(path):
        content = io.BytesIO()
        yield content
        path.write_bytes(content.getvalue())
        return
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve() if path.is_symlink() else path
    temporary = target.with_name(f"{target.name}-{secrets.token_hex(4)}{PARTIAL}")  # several processes may write
    try:
        with temporary.open("xb") as file:
            yield file
        if durable:
            make_durable(temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_file(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a small text file whole or not at all; see `replacing`."""
    with replacing(path, durable=durable) as file:
        file.write(text.encode())


def create_file(path: Path, text: str) -> None:
    """Write a small local text file that must be new, together with its content, so that a kill leaves no empty one.

    Raises:
        FileExistsError: if it is there; it is left as it is
    """
    partial = path.with_name(f"{path.name}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        partial.write_bytes(text.encode())
        os.link(partial, path)
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        with path.open("xb") as file:
            file.write(text.encode())
    finally:
        partial.unlink(missing_ok=True)


def write_csv(path: Path, table: pd.DataFrame, *, durable: bool = False) -> None:
    """Write a table as CSV, whole or not at all; the same table gives the same bytes."""
    replace_file(path, table.to_csv(index=False, lineterminator="\n"), durable=durable)


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed process left of `replacing` in a folder, for the only process that writes there."""
    for leftover in folder.glob(f"*{PARTIAL}"):
        if leftover.is_file():
            leftover.unlink(missing_ok=True)


def append_line(path: Path, text: str) -> None:
    """Append text to a small file; it is durable when this returns."""
    if is_remote(path):
        path.write_bytes(path.read_bytes() + text.encode())
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_table(file: Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file that `replace_file` wrote; empty cells are empty text."""
    import pandas as pd  # here, because every start of the command line imports this file

    with file.open("rb") as opened:
        table: pd.DataFrame = pd.read_csv(opened, keep_default_na=False, **options)
        return table


def size_of(path: Path) -> int:
    """Return the bytes of all files under a path."""
    if is_remote(path):
        remote: Any = path
        return int(remote.fs.du(remote.path))
    return sum(map(_size, path.rglob("*")))


def _size(file: Path) -> int:
    try:
        status = file.stat()
    except FileNotFoundError:  # renamed by another process since it was listed
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def remove(path: Path) -> None:
    """Remove a folder, or the objects under a prefix."""
    if is_remote(path):
        remote: Any = path
        remote.fs.rm(remote.path, recursive=True)
        return
    shutil.rmtree(path)
