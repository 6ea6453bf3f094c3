"""What a file is that is not what it should be: empty, a git-lfs pointer, a web page, an archive, cut."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

HEAD = 1024  # bytes that are looked at
LFS_POINTER = b"version https://git-lfs"
POINTER_ADVICE = "fetch the file: git lfs pull"
_STARTS = (  # of a file, what it is then, and what to do
    (LFS_POINTER, "is a git-lfs pointer, not the file itself", POINTER_ADVICE),
    (b"/annex/objects/", "is a git-annex pointer, not the file itself", "fetch the file: git annex get"),
    (b"PK\x03\x04", "is a zip archive or an Excel workbook", "unpack it, or save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook", "save it as CSV UTF-8"),
    (b"\x1f\x8b", "is compressed by gzip", "unpack it: gunzip"),
    (b"BZh", "is compressed by bzip2", "unpack it: bunzip2"),
    (b"\xfd7zXZ\x00", "is compressed by xz", "unpack it: unxz"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "unpack it: unzstd"),
)
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")
_ARCHIVES = ("is a zip", "is an Excel", "is compressed")  # .bin of a model and .npz of a run are zip files


class Foreign(NamedTuple):
    """What stands in place of a file's content."""

    clause: str  # to follow the name of the file, such as "is a web page, not the file itself"
    advice: str  # what to do, as a clause


def recognise(path: Path) -> Foreign | None:
    """Return what stands in place of a file's content, by its first bytes; None if nothing is recognised.

    Args:
        path: of the file, which may be missing

    Raises:
        OSError: if it can't be read
    """
    if not path.is_file():
        return Foreign("is a folder" if path.exists() else "is missing", "restore it")
    with path.open("rb") as file:
        return recognise_start(file.read(HEAD))


def recognise_start(head: bytes) -> Foreign | None:
    """Return what a file is by its first bytes; None if nothing is recognised."""
    if not head:
        return Foreign("is empty (0 bytes)", "save it again, or fetch it again")
    if not head.strip(b"\0"):
        return Foreign("holds zeros alone, as after a power failure", "save it again, or fetch it again")
    for start, clause, advice in _STARTS:
        if head.startswith(start):
            return Foreign(clause, advice)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return Foreign("is a web page, not the file itself", "fetch the file; its address may ask for a login")
    return None


def foreign_content(path: Path) -> str:
    """Return what stands in place of a file's content, as a clause; "" if nothing is recognised or it is an archive."""
    found = recognise(path)
    if found is None or found.clause.startswith(_ARCHIVES):
        return ""
    return f"{found.clause} ({POINTER_ADVICE})" if found.advice == POINTER_ADVICE else found.clause


def damage_of(path: Path, fault: object) -> str:
    """Return why a file can't be read as a clause: what stands in its place, or the first line of the fault.

    Args:
        path: of the file
        fault: the error of its reader
    """
    return foreign_content(path) or f"can't be read ({first_line(fault)})"


def first_line(fault: object) -> str:
    """Return the first line of a fault's text, and the next if it ends with a colon, without a full stop.

    Where there is no text it is the fault's type, and of a `KeyError` the key that is missing.
    """
    if isinstance(fault, KeyError) and fault.args:
        return f"{fault.args[0]!r} is missing"
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()] or [type(fault).__name__]
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).rstrip(".")
