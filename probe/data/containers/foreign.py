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
    (0, b".RMF", ForeignFormat("RealMedia", "rm")),
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


def truncated_riff(data: Bytes) -> Problem | None:
    """Return what an AVI file lacks by the size that its header states; None where it lacks nothing, or isn't AVI.

    FFmpeg takes the size of a cut file for its length.
    """
    stated = int.from_bytes(data[4:8], "little")
    if data[:4] != b"RIFF" or stated == UNSTATED or stated + 8 <= len(data):
        return None
    return Problem("LP210", f"truncated: {len(data)} of {stated + 8} bytes are there")
