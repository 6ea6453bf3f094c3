"""MPEG audio (MP3): its frames are counted, since a stream states their number in a Xing frame or nowhere.

A decoder estimates what isn't stated from the size of the first frame, which is wrong wherever the bit rate varies.
Headers of frames: ISO/IEC 11172-3 and 13818-3, section 2.4.2.3. Xing frames: as LAME and mpg123 write and read them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from layerprobe.probe.data.containers.length import Bytes, StreamLength, after_tag
from layerprobe.probe.problem import Problem

MPEG1, MPEG2 = 3, 2  # the bits of a version; 0 is MPEG 2.5
LAYER1, LAYER2, LAYER3 = 3, 2, 1  # the bits of a layer
MONO = 3  # the bits of a channel mode
KBITS = {  # by version and layer, of the indices 1 to 14
    (True, LAYER1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, LAYER2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, LAYER3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, LAYER1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, LAYER2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, LAYER3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {MPEG1: (44_100, 48_000, 32_000), MPEG2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
HEADER = 4  # bytes
SYNC = 0xFF  # the first byte of each frame
MARK = bytes((SYNC,))
KIND = 0xFE0C  # bits of bytes 1 and 2 in which all frames of a stream agree: version, layer, sampling rate
XING_FRAMES = 0x1  # the flag of a Xing frame that states the number of frames
XING_BYTES = 0x2  # and that of the number of bytes
RESYNCHRONISED = 1024  # bytes that mpg123 skips to find the next frame, at most
VBRI = 36  # offset of the tag that Fraunhofer's encoders write instead


@dataclass(frozen=True)
class Header:
    """The header of a frame."""

    length: int  # bytes of the frame, header included
    n_samples: int  # of each channel
    layer: int
    side_information: int  # bytes, of layer III


@dataclass(frozen=True)
class Scan:
    """The frames of a stream."""

    first: int  # offset of the first, in bytes
    n_frames: int
    cut: Problem | None  # what the last frame lacks; None where it is whole
    n_foreign_before: int  # bytes before the first that are no tag
    gaps: tuple[tuple[int, int], ...]  # offset and length of what is between or behind frames and no tag


def mpeg_length(data: Bytes) -> StreamLength:
    """Count the frames of a file of MPEG audio.

    Args:
        data: the whole file

    Returns:
        the length; with a Xing frame that states it where there is one, else with a size from which it follows
    """
    scan = scan_frames(data)
    if scan is None:
        return StreamLength()
    header = parse_header(data, scan.first)
    if header is None:
        return StreamLength()
    at = _xing_offset(data, scan.first, header)
    vbri = data[scan.first + VBRI : scan.first + VBRI + 4] == b"VBRI"
    described = at is not None or vbri  # the first frame holds no audio then
    n_frames = scan.n_frames - described
    stated = _stated_frames(data, at) if at is not None else 0
    if vbri and at is None:
        stated = int.from_bytes(data[scan.first + VBRI + 14 : scan.first + VBRI + 18])
    if stated > n_frames and (scan.cut or stated > n_frames + 1):  # some encoders count the frame that states it
        return StreamLength(fault=Problem("LP210", f"truncated: {n_frames} of {stated} MPEG frames are there"))
    fault = scan.cut if stated != n_frames else None
    at_gap, gap = max(scan.gaps, key=lambda one: one[1], default=(0, 0))
    inside = at_gap + gap < len(data)
    text = f"{gap} bytes from byte {at_gap} on are no MPEG audio"
    if inside and gap > RESYNCHRONISED:
        return StreamLength(fault=Problem("LP212", f"{text}; cut them out"))
    remark = f"{text}, and were skipped" if gap else ""
    if stated and stated != n_frames:
        remark = f"its header states {stated} MPEG frames, {n_frames} are there; all were read"
    begin = scan.first + (header.length if described else 0)
    if at is not None and stated:
        if stated == n_frames and scan.n_foreign_before == 0:
            return StreamLength(remark=remark)
        corrected = _corrected(data[scan.first : begin], at - scan.first, n_frames, len(data) - scan.first)
        return StreamLength(fault=fault, remark=remark, header=corrected, skipped=begin)
    # A decoder takes the size of the file for so many frames of the first one's size, and stops there.
    size = n_frames * (header.length + 1) + HEADER
    return StreamLength(
        stated=stated > 0, frames=n_frames * header.n_samples, fault=fault, remark=remark, skipped=begin, size=size
    )


def _corrected(frame: bytes, at: int, n_frames: int, n_bytes: int) -> bytes:
    """Return a Xing frame that states other numbers; the rest, as the delay of the encoder, stays."""
    corrected = bytearray(frame)
    flags = int.from_bytes(frame[at + 4 : at + 8])
    struct.pack_into(">I", corrected, at + 8, n_frames)
    if flags & XING_BYTES:
        struct.pack_into(">I", corrected, at + 12, n_bytes)
    return bytes(corrected)


def parse_header(data: Bytes, at: int) -> Header | None:
    """Return the header of a frame at an offset; None where there is none, or its length isn't stated (free format)."""
    if len(data) < at + HEADER or data[at] != SYNC or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    bitrate, rate, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if version == 1 or layer == 0 or rate == 3 or bitrate in (0, 15):
        return None
    bits_per_second = 1000 * KBITS[version == MPEG1, layer][bitrate - 1]
    hertz = RATES[version][rate]
    mono = data[at + 3] >> 6 == MONO
    if layer == LAYER1:
        return Header((12 * bits_per_second // hertz + padding) * 4, 384, layer, 0)
    if layer == LAYER2 or version == MPEG1:
        return Header(144 * bits_per_second // hertz + padding, 1152, layer, 17 if mono else 32)
    return Header(72 * bits_per_second // hertz + padding, 576, layer, 9 if mono else 17)


def scan_frames(data: Bytes) -> Scan | None:
    """Return the frames of a stream; None where no two frames follow each other at its beginning."""
    tags = 0
    while behind := after_tag(data, tags):
        tags = behind
    position = first = _first_frame(data, tags)
    if first < 0:
        return None
    kind = _kind(data, first)
    lengths: dict[int, int] = {}  # by bytes 1 and 2, which determine the length in a stream of one kind
    n_frames, size = 0, len(data)
    cut: Problem | None = None
    gaps: list[tuple[int, int]] = []
    while position + HEADER <= size:
        key = data[position + 1] << 8 | data[position + 2]
        length = lengths.get(key, 0) if data[position] == SYNC else 0
        if not length and _kind(data, position) == kind and (header := parse_header(data, position)):
            length = lengths[key] = header.length
        if position + length > size:
            cut = Problem("LP210", f"truncated: its last MPEG frame has {size - position} of {length} bytes")
            break
        n_frames += length > 0
        if length:
            position += length
        elif behind := after_tag(data, position):
            position = behind
        else:
            behind = _next_frame(data, position, kind)
            gaps.append((position, behind - position))
            position = behind
    if size - HEADER < position < size and data[position] == SYNC:
        cut = Problem("LP210", f"truncated: its last MPEG frame has {size - position} bytes")
    return Scan(first, n_frames, cut, first - tags, tuple(gaps))


def _kind(data: Bytes, at: int) -> int:
    """Return the bits in which all frames of a stream agree; 0 where no frame can begin."""
    if len(data) < at + HEADER or data[at] != SYNC:
        return 0
    return (data[at + 1] << 8 | data[at + 2]) & KIND


def _first_frame(data: Bytes, position: int) -> int:
    """Return the offset of the first frame that another of its kind follows, or that ends the file; -1 for none."""
    while (position := data.find(MARK, position)) >= 0:
        if (header := parse_header(data, position)) and _ends(data, position + header.length, _kind(data, position)):
            return position
        position += 1
    return -1


def _ends(data: Bytes, behind: int, kind: int) -> bool:
    """Return whether a frame can end at an offset: with the file, before another frame of its kind, or before a tag."""
    return behind == len(data) or _kind(data, behind) == kind or after_tag(data, behind) > 0


def _next_frame(data: Bytes, position: int, kind: int) -> int:
    """Return the offset of the next frame of a kind that is followed by another or by the end, or of a tag."""
    at = position
    while True:
        found = [k for k in (data.find(mark, at) for mark in (MARK, b"TAG", b"ID3", b"APETAGEX")) if k >= 0]
        if not found:
            return len(data)
        at = min(found)
        if data[at] != SYNC:
            if after_tag(data, at):
                return at
        elif _kind(data, at) == kind and (header := parse_header(data, at)) and _ends(data, at + header.length, kind):
            return at
        at += 1


def _xing_offset(data: Bytes, first: int, header: Header) -> int | None:
    """Return the offset of a Xing or Info tag in the first frame; None where there is none."""
    for at in (first + HEADER + header.side_information, first + HEADER + 2 + header.side_information):
        whole = at + 12 <= len(data)
        if whole and header.layer == LAYER3 and data[at : at + 4] in (b"Xing", b"Info"):
            return at
    return None


def _stated_frames(data: Bytes, at: int) -> int:
    """Return the number of frames that a Xing tag states; 0 where it states none."""
    flags, n_frames = struct.unpack(">II", data[at + 4 : at + 12])
    return int(n_frames) if flags & XING_FRAMES else 0
