"""What a file is that is not what it should be: empty, a git-lfs pointer, a web page, cut, in one clause."""

from __future__ import annotations

from pathlib import Path

HEAD = 512  # bytes that are looked at
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head")


def foreign_content(path: Path) -> str | None:
    """Return what stands in place of a file's content and what to do, as a clause; None if nothing is recognised."""
    if not path.is_file():
        return "is a folder" if path.exists() else "is missing"
    with path.open("rb") as file:
        head = file.read(HEAD)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        return "is empty"
    if not head.strip(b"\0"):
        return "holds zeros alone, as after a power failure"
    if text.startswith(LFS_POINTER):
        return "is a git-lfs pointer (git lfs pull fetches the file)"
    if text.lower().startswith(PAGES):
        return "is a web page, as a failed download leaves"
    return None


def damage_of(path: Path, fault: object) -> str:
    """Return why a file can't be read as a clause: what stands in its place, or the first line of the fault.

    Args:
        path: of the file
        fault: the error of its reader
    """
    return foreign_content(path) or f"can't be read ({_first_line(fault)})"


def damage_below(folder: Path, fault: object) -> str:
    """Return which file of a folder is not what it should be, or else the first line of the fault, as a clause.

    Args:
        folder: of files that one reader reads together
        fault: the error of that reader
    """
    if not folder.is_dir():
        return f"{folder} is missing"
    damaged = ((path, foreign_content(path)) for path in sorted(folder.glob("*")) if path.is_file())
    found = next((f"{path} {content}" for path, content in damaged if content), None)
    return found or f"{folder} can't be read ({_first_line(fault)})"


def _first_line(fault: object) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(fault).__name__
