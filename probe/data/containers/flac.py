"""FLAC: the number of samples by its last frame, since a stream may state none (RFC 9639, sections 8.2 and 9)."""

from __future__ import annotations

from dataclasses import dataclass

from layerprobe.probe.data.containers.length import TOLERANCE_SECONDS, Bytes, StreamLength, after_tag, end_without_tags
from layerprobe.probe.problem import Problem

STREAMINFO = 4  # offset of its block from the marker
TOTAL = STREAMINFO + 4 + 13  # offset from the marker of the 36 bits that state the number of samples
BLOCK_SIZES = {1: 192, **{k: 576 << (k - 2) for k in range(2, 6)}, **{k: 256 << (k - 8) for k in range(8, 16)}}
UNUSED_RATE = 15
UNSTATED = 2**36 - 1  # besides 0
FRAME_OVERHEAD = 64  # bytes of a frame in addition to its samples, at most


def _crc_table(polynomial: int, bits: int) -> tuple[int, ...]:
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    table = []
    for byte in range(256):
        crc = byte << (bits - 8)
        for _ in range(8):
            crc = (crc << 1 ^ (polynomial if crc & top else 0)) & mask
        table.append(crc)
    return tuple(table)


CRC8, CRC16 = _crc_table(0x07, 8), _crc_table(0x8005, 16)


@dataclass(frozen=True)
class FrameHeader:
    """The header of a frame."""

    begin: int  # its first sample
    end: int  # the sample behind its last
    kind: int  # bits in which all frames of a stream agree: blocking, channels and depth


def flac_length(data: Bytes) -> StreamLength:
    """Compare the number of samples that a FLAC file states with the end of its last frame.

    Args:
        data: the whole file

    Returns:
        the length; with a header that states it, where the file's own doesn't
    """
    begin = 0
    while behind := after_tag(data, begin):
        begin = behind
    first = _first_frame(data, begin)
    if first is None:
        return StreamLength()
    stated = int.from_bytes(data[begin + TOTAL : begin + TOTAL + 5]) & (1 << 36) - 1
    if data.find(b"fLaC\0\0\0\x22", first) >= 0:
        text = "several FLAC streams follow each other in it; split it into a file for each"
        return StreamLength(fault=Problem("LP211", text))
    stated = 0 if stated == UNSTATED else stated
    last = _last_sample(data, begin, first, stated)
    if last == stated and stated:
        return StreamLength()
    if last is None:  # something else may follow the last frame; the decoder will count what is stated
        text = "truncated, or followed by something else: it states no length, and no whole FLAC frame ends it"
        return StreamLength(stated=stated > 0, fault=None if stated else Problem("LP210", text))
    rate = int.from_bytes(data[begin + 18 : begin + 21]) >> 4
    if stated - last > TOLERANCE_SECONDS * rate:
        return StreamLength(fault=Problem("LP210", f"truncated: {last} of {stated} samples are there"))
    corrected = bytearray(data[begin : begin + TOTAL + 5])
    corrected[TOTAL:] = ((corrected[TOTAL] & 0xF0) << 32 | last).to_bytes(5)
    remark = f"its header states {stated} samples, {last} are there; all were read" if stated else ""
    return StreamLength(stated=stated > 0, remark=remark, header=bytes(corrected), skipped=begin + TOTAL + 5)


def _first_frame(data: Bytes, begin: int) -> int | None:
    """Return the offset of the first frame; None where this is no FLAC file or its metadata are cut."""
    if data[begin : begin + 4] != b"fLaC":
        return None
    position, last = begin + 4, False
    while not last:
        if position + 4 > len(data):
            return None
        last = bool(data[position] & 0x80)
        position += 4 + int.from_bytes(data[position + 1 : position + 4])
    return position if position < len(data) else None


def _last_sample(data: Bytes, begin: int, first: int, stated: int) -> int | None:
    """Return the number of samples by the frame that ends the file; None where no whole frame does.

    A frame header with a valid checksum that ends at the stated number is believed, since the decoder checks the
    frame; any other needs the checksum of its frame, too.
    """
    blocksize = int.from_bytes(data[begin + 10 : begin + 12])
    opening = parse_frame_header(data, first, blocksize)
    if opening is None:
        return None
    n_channels, depth = (data[begin + 20] >> 1 & 7) + 1, (data[begin + 20] & 1) << 4 | data[begin + 21] >> 4
    longest = n_channels * blocksize * (depth + 2) // 8 + FRAME_OVERHEAD
    end = end_without_tags(data)
    floor, at = max(first, end - longest), end
    while (at := data.rfind(b"\xff", floor, at)) >= first:
        header = parse_frame_header(data, at, blocksize)
        if header is None or header.kind != opening.kind:
            continue
        if header.end == stated or crc16(data[at:end]) == 0:
            return header.end
    return None


def parse_frame_header(data: Bytes, at: int, blocksize: int) -> FrameHeader | None:
    """Return the header of a frame at an offset; None where there is none with a valid checksum.

    Args:
        data: the file
        at: offset
        blocksize: samples of each frame but the last, where these are fixed
    """
    if len(data) < at + 6 or data[at] != 0xFF or data[at + 1] & 0xFE != 0xF8 or data[at + 3] & 1:
        return None
    size_code, rate_code = data[at + 2] >> 4, data[at + 2] & 0xF
    if size_code == 0 or rate_code == UNUSED_RATE:
        return None
    number, position = _coded_number(data, at + 4)
    if position < 0:
        return None
    size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    n_samples = BLOCK_SIZES.get(size_code) or int.from_bytes(data[position : position + size_bytes]) + 1
    position += size_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    crc = 0
    for byte in data[at : position + 1]:
        crc = CRC8[crc ^ byte]
    if crc or position >= len(data):
        return None
    variable = data[at + 1] & 1
    begin = number if variable else number * blocksize
    return FrameHeader(begin, begin + n_samples, data[at + 1] << 8 | data[at + 3] >> 1 & 7)


def _coded_number(data: Bytes, at: int) -> tuple[int, int]:
    """Return a number coded as UTF-8 codes characters, up to 36 bits, and the offset behind it; -1, -1 for none."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    n_more = 7 - (first ^ 0xFF).bit_length()
    more = data[at + 1 : at + 1 + n_more]
    if not 1 <= n_more <= 6 or len(more) < n_more or any(byte & 0xC0 != 0x80 for byte in more):
        return -1, -1
    number = first & 0x3F >> n_more
    for byte in more:
        number = number << 6 | byte & 0x3F
    return number, at + 1 + n_more


def crc16(content: bytes) -> int:
    """Return FLAC's checksum of a frame's bytes; 0 for a whole frame, which ends with it."""
    crc = 0
    for byte in content:
        crc = (crc << 8 & 0xFFFF) ^ CRC16[crc >> 8 ^ byte]
    return crc
