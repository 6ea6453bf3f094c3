"""The length of an audio file by its bytes: by the container that its first bytes show, whatever its name."""

from __future__ import annotations

import functools
import mmap
from pathlib import Path

from layerprobe.probe.data.containers.flac import flac_length
from layerprobe.probe.data.containers.length import Bytes, StreamLength, after_tag
from layerprobe.probe.data.containers.mpeg import mpeg_length, parse_header
from layerprobe.probe.data.containers.ogg import ogg_length
from layerprobe.probe.data.containers.samples import samples_length
from layerprobe.probe.data.stored_audio import StoredAudio

MPEG_ENDINGS = (".mp3", ".mp2", ".mpga")
FILES_REMEMBERED = 64  # spans of one file follow each other
# What libsndfile can't decode, by its first bytes and their offset.
FOREIGN = (
    (4, b"ftyp", "MPEG-4 audio (M4A, AAC)"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\x30\x26\xb2\x75", "Windows Media audio"),
    (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"FLV", "Flash video"),
    (8, b"AVI ", "AVI video"),
)


def inspect_length(path: Path | StoredAudio) -> StreamLength:
    """Return what the bytes of an audio file show about its length; nothing is decoded.

    Raises:
        OSError: if the file can't be read
    """
    status = path.stat()
    return _inspect(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=FILES_REMEMBERED)
def _inspect(path: Path | StoredAudio, size: int, _modified: int) -> StreamLength:
    if size == 0:
        return StreamLength()
    if isinstance(path, StoredAudio):
        return _length_of(path.read_bytes(), path.suffix.lower())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _length_of(data, path.suffix.lower())


def _length_of(data: Bytes, ending: str) -> StreamLength:
    begin = 0
    while behind := after_tag(data, begin):
        begin = behind
    magic = data[begin : begin + 4]
    if magic == b"fLaC":
        return flac_length(data)
    if magic == b"OggS":
        return ogg_length(data)
    length = samples_length(data)
    if length is not None:
        return length
    if parse_header(data, begin) is not None or ending in MPEG_ENDINGS:
        return mpeg_length(data)
    return StreamLength()


def foreign_format(path: Path | StoredAudio) -> str:
    """Return the name of a known format that can't be decoded here; "" for any other."""
    with path.open("rb") as file:
        opening = file.read(16)
    return next((name for at, magic, name in FOREIGN if opening[at : at + len(magic)] == magic), "")
