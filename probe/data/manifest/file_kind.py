"""What a file is that is given as a table or a header and is none, in a sentence with what to do."""

from __future__ import annotations

from pathlib import Path

from layerprobe.probe.foreign_files import recognise

PARQUET_MARK = b"PAR1"  # the first and the last four bytes


def no_table(path: Path) -> str:
    """Return why a file is no table and no header, and what to do, or '' where nothing strange is seen.

    The first bytes are read alone. A Parquet file is one that begins and ends with its mark; text of any kind is not
    judged further.

    Args:
        path: of a file that exists

    Raises:
        OSError: if it can't be read
    """
    if found := recognise(path):
        return f"it {found.clause}. {found.advice[0].upper()}{found.advice[1:]}"
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(len(PARQUET_MARK))
        file.seek(max(0, size - len(PARQUET_MARK)))
        tail = file.read()
    if path.suffix.lower() == ".parquet":
        return _parquet_fault(head, tail, size)
    return "it is a Parquet file. Name it .parquet" if head == PARQUET_MARK else ""


def _parquet_fault(head: bytes, tail: bytes, size: int) -> str:
    if head != PARQUET_MARK:
        return "it does not begin as a Parquet file. Save it again, or give it the ending of what it is"
    if tail != PARQUET_MARK or size < 3 * len(PARQUET_MARK):
        return (
            f"it is cut, for the end of a Parquet file is missing after {size:,} bytes. Save it again, or copy it again"
        )
    return ""
