"""Formats that libsndfile can't decode, by a file's first bytes, whatever its name ends in."""

from __future__ import annotations

from layerprobe.probe.data.containers.length import Bytes, ForeignFormat, after_tag
from layerprobe.probe.problem import Problem

OGG_HEADER = 28  # bytes before the first packet of a stream that fits one segment
TRANSPORT_PACKET = 188  # bytes, of an MPEG transport stream (ISO/IEC 13818-1, section 2.4.3.2)
UNSTATED = 0xFFFFFFFF  # and 0, as a pipe leaves them

MPEG4 = ForeignFormat("MPEG-4 audio (M4A, AAC)", "mov")
AAC = ForeignFormat("AAC", "aac", states_length=False)
TRANSPORT = ForeignFormat("an MPEG transport stream", "mpegts", states_length=False)
SPEEX = ForeignFormat("Speex", "ogg")
_BY_FIRST_BYTES = (  # offset, bytes, format
    (4, b"ftyp", MPEG4),
    (4, b"moov", MPEG4),
    (4, b"wide", MPEG4),
    (4, b"mdat", MPEG4),
    (0, b"\xff\xf1", AAC),
    (0, b"\xff\xf9", AAC),
    (0, b"\x30\x26\xb2\x75", ForeignFormat("Windows Media audio", "asf")),
    (0, b"\x1a\x45\xdf\xa3", ForeignFormat("WebM or Matroska", "matroska")),
    (0, b"#!AMR", ForeignFormat("AMR", "amr", states_length=False)),
    (0, b"wvpk", ForeignFormat("WavPack", "wv")),
    (0, b"MAC ", ForeignFormat("Monkey's Audio", "ape")),
    (0, b"TTA1", ForeignFormat("True Audio", "tta")),
    (0, b".RMF", ForeignFormat("RealMedia", "rm", states_length=False)),
    (0, b"FLV", ForeignFormat("Flash video", "flv")),
    (8, b"AVI ", ForeignFormat("AVI video", "avi")),
    (0, b"\x00\x00\x01\xba", ForeignFormat("MPEG video", "mpeg", states_length=False)),
    (0, b"\x0b\x77", ForeignFormat("Dolby Digital (AC-3)", "ac3", states_length=False)),
)


def foreign_format(data: Bytes) -> ForeignFormat | None:
    """Return the format of a file that libsndfile can't decode; None for any other, known or not.

    Args:
        data: the whole file, or its first kilobyte
    """
    begin = 0
    while behind := after_tag(data, begin):
        begin = behind
    opening = data[begin : begin + 16]
    for offset, content, found in _BY_FIRST_BYTES:
        if opening[offset : offset + len(content)] == content:
            return found
    if opening[:4] == b"OggS" and data[begin + OGG_HEADER : begin + OGG_HEADER + 8] == b"Speex   ":
        return SPEEX
    if all(data[k * TRANSPORT_PACKET : k * TRANSPORT_PACKET + 1] == b"G" for k in range(4)):
        return TRANSPORT
    return None


def truncation(data: Bytes, found: ForeignFormat) -> Problem | None:
    """Return what a file lacks by the sizes that it states; None where it lacks nothing, or states none.

    A decoder takes a cut file for a shorter one, or for something else.

    Args:
        data: the whole file
        found: its format
    """
    n_stated = _STATED_BYTES[found.demuxer](data) if found.demuxer in _STATED_BYTES else 0
    if n_stated <= len(data):
        return None
    return Problem("LP210", f"truncated: {len(data)} of {n_stated} bytes are there")


def _riff_bytes(data: Bytes) -> int:
    stated = int.from_bytes(data[4:8], "little")
    return 0 if stated == UNSTATED else stated + 8


def _box_bytes(data: Bytes) -> int:
    """Return where the last of the boxes ends of which an MPEG-4 file consists (ISO/IEC 14496-12, section 4.2)."""
    at = 0
    while at + 16 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0: up to the end of the file
            return 0
        at += size
    return at


def _segment_bytes(data: Bytes) -> int:
    """Return where the segment ends that follows the header of a Matroska file (RFC 8794, section 4)."""
    at = 4
    for name in (b"", b"\x18\x53\x80\x67"):
        if data[at : at + len(name)] != name or at + len(name) >= len(data):
            return 0
        at += len(name)
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") & ~(1 << 7 * width)
        if width > 8 or size == (1 << 7 * width) - 1:  # all ones: as a pipe leaves it
            return 0
        at += width + size
    return at


_STATED_BYTES = {"avi": _riff_bytes, "mov": _box_bytes, "matroska": _segment_bytes}
