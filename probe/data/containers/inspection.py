"""The length of an audio file by its bytes: by the container that its first bytes show, whatever its name."""

from __future__ import annotations

import functools
import mmap
from pathlib import Path

from layerprobe.probe.data.containers.flac import flac_length
from layerprobe.probe.data.containers.foreign import foreign_format, truncation
from layerprobe.probe.data.containers.length import Bytes, StreamLength, after_tag
from layerprobe.probe.data.containers.mpeg import mpeg_length, parse_header
from layerprobe.probe.data.containers.ogg import ogg_length
from layerprobe.probe.data.containers.samples import samples_length
from layerprobe.probe.data.stored.stored_audio import ReceivedAudio, StoredAudio

MPEG_ENDINGS = (".mp3", ".mp2", ".mpga")
FILES_REMEMBERED = 64  # spans of one file follow each other


def inspect_length(path: Path | StoredAudio) -> StreamLength:
    """Return what the bytes of an audio file show about its length; nothing is decoded.

    Raises:
        OSError: if the file can't be read
    """
    if isinstance(path, ReceivedAudio):  # not remembered, since that would keep its content
        return _length_of(path.content, "") if path.content else StreamLength()
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
    if found := foreign_format(data):
        fault = ogg_length(data).fault if found.demuxer == "ogg" else truncation(data, found)
        return StreamLength(stated=found.states_length, fault=fault, foreign=found)
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
