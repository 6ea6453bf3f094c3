"""What a file is that is not what its name promises: a pointer of git-lfs, a web page, an archive, or nothing."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 1024
PARQUET_MARK = b"PAR1"  # the first and the last four bytes
_STARTS = (  # of a file, what it is then, and what to do
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself", "Fetch the file: git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex, not the file itself", "Fetch the file: git annex get"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "Unpack it, or save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "Save it as CSV UTF-8"),
    (b"\x1f\x8b", "compressed by gzip", "Unpack it: gunzip"),
    (b"BZh", "compressed by bzip2", "Unpack it: bunzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz", "Unpack it: unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "Unpack it: unzstd"),
)
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")


def foreign_content(path: Path) -> str:
    """Return what a file holds in place of its content, and what to do, or '' where nothing strange is seen.

    The first bytes are read alone. A Parquet file is one that begins and ends with its mark; text of any kind is not
    judged further.

    Args:
        path: of a file that exists

    Raises:
        OSError: if it can't be read
    """
    size = path.stat().st_size
    if size == 0:
        return "it is empty (0 bytes). Save it again, or fetch it again"
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(0, size - len(PARQUET_MARK)))
        tail = file.read()
    if not head.strip(b"\0"):
        return "it holds zeros alone, as after a power failure. Save it again, or fetch it again"
    for start, kind, advice in _STARTS:
        if head.startswith(start):
            return f"it is {kind}. {advice}"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return "it is a web page. Fetch the file itself; its address may ask for a login"
    if path.suffix.lower() == ".parquet":
        return _parquet_fault(head, tail, size)
    if head.startswith(PARQUET_MARK):
        return "it is a Parquet file. Name it .parquet"
    return ""


def _parquet_fault(head: bytes, tail: bytes, size: int) -> str:
    if not head.startswith(PARQUET_MARK):
        return "it does not begin as a Parquet file. Save it again, or give it the ending of what it is"
    if tail != PARQUET_MARK or size < 3 * len(PARQUET_MARK):
        return (
            f"it is cut, for the end of a Parquet file is missing after {size:,} bytes. Save it again, or copy it again"
        )
    return ""
