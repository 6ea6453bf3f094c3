"""Ogg: whether the last page is there and whole, and whether there is one stream alone (RFC 3533, section 6)."""

from __future__ import annotations

from layerprobe.probe.data.containers.length import Bytes, StreamLength
from layerprobe.probe.problem import Problem

PAGE = b"OggS\0"  # the marker and the version
BEGINNING, END = 0x02, 0x04  # bits of the sixth byte: the first and the last page of a stream
HEADER = 27  # bytes, before the table of segments
MOST_SAMPLES = 255 * 8192  # of a page: as many packets, each of the largest block that Vorbis has
PAGE_BYTES = 2**16  # a page is smaller


def ogg_length(data: Bytes) -> StreamLength:
    """Check that a file of Ogg holds one stream, to its last page.

    The position that the last page states is the length; where it isn't reached, decoding shows it.

    Args:
        data: the whole file
    """
    end = len(data)
    last = data.rfind(PAGE, max(0, end - 2 * PAGE_BYTES))
    if last < 0 or len(data) < last + HEADER:
        return StreamLength(fault=Problem("LP210", "truncated: the stream has no end page"))
    behind = end_of_page(data, last)
    if behind > end:
        text = f"truncated: its last Ogg page has {end - last} of {behind - last} bytes"
        return StreamLength(fault=Problem("LP210", text))
    if _begins_again(data):
        text = "several Ogg streams follow each other in it; split it into a file for each"
        return StreamLength(fault=Problem("LP211", text))
    if not data[last + 5] & END:
        return StreamLength(fault=Problem("LP210", "truncated: the stream has no end page"))
    earlier = data.rfind(PAGE, max(0, last - PAGE_BYTES), last)
    if earlier >= 0 and data[earlier + 14 : earlier + 18] == data[last + 14 : last + 18]:  # pages of one stream
        before, stated = (int.from_bytes(data[k + 6 : k + 14], "little", signed=True) for k in (earlier, last))
        if before >= 0 and not before <= stated <= before + MOST_SAMPLES:
            text = f"its last Ogg page states the position {stated}, which can't follow {before}"
            return StreamLength(fault=Problem("LP212", f"{text}; save it again"))
    return StreamLength()


def end_of_page(data: Bytes, at: int) -> int:
    """Return the offset behind a page at an offset, as far as its header is there."""
    table = data[at + HEADER : at + HEADER + data[at + HEADER - 1]]
    return at + HEADER + data[at + HEADER - 1] + sum(table)


def _begins_again(data: Bytes) -> bool:
    """Return whether a first page of a stream follows pages of others that are no first ones."""
    at = data.find(PAGE)
    while 0 <= at < len(data) - HEADER and data[at + 5] & BEGINNING:
        at = data.find(PAGE, end_of_page(data, at))
    return at >= 0 and data.find(PAGE + bytes((BEGINNING,)), at) >= 0
