"""Where samples lie by the headers of uncompressed containers: WAV, RF64, W64, AIFF, CAF, AU, NIST SPHERE.

WAV and RF64: EBU Tech 3306. W64: Sony's Wave64. AIFF: Apple, 1989. CAF: Apple's Core Audio Format. AU: Sun's audio(4).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from layerprobe.probe.data.containers.length import Bytes

W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
W64_VERSIONS = (b"\xd3\x11", b"\xcf\x11")  # bytes 6 and 7 of the names of its chunks
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # of a sample, by encoding
NIST_HEADER = 1024  # bytes
NIST_BYTES = {"pcm": 0, "ulaw": 1, "alaw": 1, "mu-law": 1}  # of a sample, by coding; 0: the header states them
METADATA = (b"LIST", b"bext", b"iXML", b"id3 ", b"ID3 ", b"cue ", b"smpl", b"fact", b"PEAK", b"JUNK", b"axml", b"_PMX")
SHORTEST_HEADER = 24  # bytes, that of AU
UNSTATED_32, UNSTATED_64 = 0xFFFFFFFF, 2**64 - 1


@dataclass(frozen=True)
class SampleBytes:
    """Where the samples of a file lie by its header."""

    begin: int  # offset of the first
    stated: int  # bytes
    block: int  # bytes of a sample of all channels, or of a block of a compressed encoding
    per_second: float  # bytes
    next_chunk: Callable[[Bytes, int], int] | None  # offset behind the chunk at an offset, 0 for none; None: no chunks
    with_length: Callable[[bytes, int], bytes]  # the header, with another number of bytes
    wide: bool = False  # whether the number has 64 bits


def find_samples(data: Bytes) -> SampleBytes | None:
    """Return where a file's samples lie by its header; None for another container or a damaged header."""
    reader = READERS.get(data[:4])
    try:
        samples = None if reader is None else reader(data)
    except (struct.error, IndexError, ArithmeticError, ValueError):  # a header whose numbers can't be
        return None
    # a header that is shorter than its own fields can't be corrected
    return None if samples is None or samples.begin < SHORTEST_HEADER else samples


def _writer(*fields: tuple[int, str, int]) -> Callable[[bytes, int], bytes]:
    """Return a function that writes a number of bytes at offsets, in formats of `struct`, each with an excess."""

    def write(header: bytes, n_bytes: int) -> bytes:
        corrected = bytearray(header)
        for offset, form, excess in fields:
            largest = 256 ** struct.calcsize(form) - 1
            struct.pack_into(form, corrected, offset, min(n_bytes + excess, largest))
        return bytes(corrected)

    return write


def _chunks(data: Bytes, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, size and offset of the content of chunks of four bytes' name and size."""
    while at + 8 <= len(data):
        name, size = struct.unpack(order + "4sI", data[at : at + 8])
        yield name, size, at + 8
        at += 8 + size + size % 2


def _next_chunk(order: str) -> Callable[[Bytes, int], int]:
    def behind(data: Bytes, at: int) -> int:
        if at + 8 > len(data) or not re.fullmatch(rb"[ -~]{4}", data[at : at + 4]):
            return 0
        end = at + 8 + int(struct.unpack(order + "I", data[at + 4 : at + 8])[0])
        if end > len(data) and data[at : at + 4] in METADATA:  # which was cut, and the samples before it were not
            return len(data)
        return end + end % 2 if end <= len(data) else 0

    return behind


def _riff(data: Bytes) -> SampleBytes | None:
    """Read the header of WAV, big-endian WAV, RF64 or BW64."""
    order = ">" if data[:4] == b"RIFX" else "<"
    block, per_second, wide = 1, 0.0, 0
    if data[8:12] != b"WAVE":
        return None
    for name, size, at in _chunks(data, 12, order):
        if name == b"ds64":
            wide = at + 8
        elif name == b"fmt ":
            block, per_second = _wave_format(data, at, order)
        elif name == b"data":
            write = _writer((4, order + "I", at - 8), (at - 4, order + "I", 0))
            if wide and size == UNSTATED_32:
                size = int(struct.unpack("<Q", data[wide : wide + 8])[0])
                write = _writer((wide - 8, "<Q", at - 8), (wide, "<Q", 0))
            return SampleBytes(at, size, max(1, block), per_second, _next_chunk(order), write, wide=wide > 0)
    return None


def _wave_format(data: Bytes, at: int, order: str) -> tuple[int, float]:
    """Return the bytes of a block, and those of a second, of which there are no more than blocks in it."""
    _, _, rate, per_second, block = struct.unpack(order + "HHIIH", data[at : at + 14])
    return block, float(min(per_second, rate * block))


def _w64(data: Bytes) -> SampleBytes | None:
    block, per_second = 1, 0.0
    at = 40
    while at + 24 <= len(data):
        size = int(struct.unpack("<Q", data[at + 16 : at + 24])[0])
        if data[at : at + 4] == b"fmt ":
            block, per_second = _wave_format(data, at + 24, "<")
        if data[at : at + 16] == W64_DATA:
            write = _writer((16, "<Q", at + 24), (at + 16, "<Q", 24))
            return SampleBytes(at + 24, max(0, size - 24), max(1, block), per_second, _next_w64, write, wide=True)
        if size < 24:
            return None
        at += -(-size // 8) * 8
    return None


def _next_w64(data: Bytes, at: int) -> int:
    at = -(-at // 8) * 8
    if at + 24 > len(data) or data[at + 6 : at + 8] not in W64_VERSIONS:
        return 0
    end = at + int(struct.unpack("<Q", data[at + 16 : at + 24])[0])
    return end if at + 24 <= end <= len(data) else 0


def _aiff(data: Bytes) -> SampleBytes | None:
    block, per_second, frames_at = 1, 0.0, 0
    if data[8:12] not in (b"AIFF", b"AIFC"):
        return None
    for name, size, at in _chunks(data, 12, ">"):
        if name == b"COMM":
            n_channels, _, depth, exponent, mantissa = struct.unpack(">HIHHQ", data[at : at + 18])
            rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16_383 - 63)
            plain = data[8:12] == b"AIFF" or data[at + 18 : at + 22] in (b"NONE", b"sowt", b"twos", b"fl32", b"fl64")
            block = n_channels * -(-depth // 8) if plain else 1
            per_second, frames_at = rate * n_channels * depth / 8, at + 2
        elif name == b"SSND":
            offset = int(struct.unpack(">I", data[at : at + 4])[0])
            write = _aiff_writer(at, offset, frames_at, block)
            return SampleBytes(
                at + 8 + offset, max(0, size - 8 - offset), max(1, block), per_second, _next_chunk(">"), write
            )
    return None


def _aiff_writer(ssnd: int, offset: int, frames_at: int, block: int) -> Callable[[bytes, int], bytes]:
    sizes = _writer((4, ">I", ssnd + offset), (ssnd - 4, ">I", 8 + offset))

    def write(header: bytes, n_bytes: int) -> bytes:
        corrected = sizes(header, n_bytes)
        if block > 1 and frames_at:
            frames = struct.pack(">I", n_bytes // block)
            corrected = corrected[:frames_at] + frames + corrected[frames_at + 4 :]
        return corrected

    return write


def _caf(data: Bytes) -> SampleBytes | None:
    block, per_second, at = 1, 0.0, 8
    while at + 12 <= len(data):
        name, size = struct.unpack(">4sQ", data[at : at + 12])
        if name == b"desc":
            rate, _, _, packet, frames = struct.unpack(">d4sIII", data[at + 12 : at + 36])
            block = max(1, packet)
            per_second = rate * packet / frames if frames else 0.0
        elif name == b"data":
            stated = UNSTATED_64 if size >= 2**63 else max(0, size - 4)
            return SampleBytes(at + 16, stated, block, per_second, _next_caf, _writer((at + 4, ">Q", 4)), wide=True)
        at += 12 + size
    return None


def _next_caf(data: Bytes, at: int) -> int:
    if at + 12 > len(data) or not re.fullmatch(rb"[ -~]{4}", data[at : at + 4]):
        return 0
    end = at + 12 + int(struct.unpack(">Q", data[at + 4 : at + 12])[0])
    return end if end <= len(data) else 0


def _au(data: Bytes) -> SampleBytes | None:
    order = ">" if data[:4] == b".snd" else "<"
    begin, stated, encoding, rate, n_channels = struct.unpack(order + "IIIII", data[4:24])
    block = AU_BYTES.get(encoding, 1) * n_channels
    return SampleBytes(begin, stated, max(1, block), rate * block, None, _writer((8, order + "I", 0)))


def _nist(data: Bytes) -> SampleBytes | None:
    header = data[:NIST_HEADER].decode("latin-1")
    found = {name: int(number) for name, number in re.findall(r"^(\w+) -i (\d+)\s*$", header, re.MULTILINE)}
    coding = re.search(r"^sample_coding -s\d+ (\S+)", header, re.MULTILINE)
    name = coding[1] if coding else "pcm"
    if "sample_count" not in found or name not in NIST_BYTES:  # others are compressed
        return None
    block = max(1, found.get("channel_count", 1) * (NIST_BYTES[name] or found.get("sample_n_bytes", 2)))
    begin = int(header.split()[1])

    def write(content: bytes, n_bytes: int) -> bytes:
        line = rb"sample_count -i %d" % (n_bytes // block)
        return re.sub(rb"sample_count -i \d+", line, content).rstrip(b"\0 ").ljust(begin)[:begin]

    stated = found["sample_count"] * block
    return SampleBytes(begin, stated, block, float(found.get("sample_rate", 0) * block), None, write)


READERS: dict[bytes, Callable[[Bytes], SampleBytes | None]] = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), _riff),
    b"riff": _w64,
    b"FORM": _aiff,
    b"caff": _caf,
    **dict.fromkeys((b".snd", b"dns."), _au),
    b"NIST": _nist,
}
