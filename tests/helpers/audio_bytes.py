"""Audio files with headers that misstate their length, made by changing bytes; and ffmpeg's decoding of any file."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from layerprobe.probe.data.containers.mpeg import parse_header, scan_frames

RATE = 16_000


def with_number(path: Path, marker: bytes, number: int, *, form: str = "<I", offset: int = 4) -> Path:
    """Write a number into a file, so many bytes behind the beginning of a marker."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.index(marker) + offset, number)
    path.write_bytes(content)
    return path


def with_flac_total(path: Path, total: int) -> Path:
    """Write the number of samples that a FLAC file states; 0 is what a pipe leaves there."""
    content = bytearray(path.read_bytes())
    content[21:26] = ((content[21] & 0xF0) << 32 | total).to_bytes(5)
    path.write_bytes(content)
    return path


def without_xing(path: Path) -> Path:
    """Remove the frame that states the length of an MP3, as a pipe leaves it out."""
    content = path.read_bytes()
    scan = scan_frames(content)
    header = parse_header(content, scan.first)
    assert b"Xing" in content[: header.length] or b"Info" in content[: header.length]
    path.write_bytes(content[scan.first + header.length :])
    return path


def write_vbr(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """Write an MP3 of variable bit rate."""
    soundfile.write(path, samples, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.4)
    return path


def ffmpeg(*arguments: object) -> bytes:
    """Run ffmpeg and return what it writes to a pipe; skipped where there is none."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    command = [program, "-nostdin", "-v", "error", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def decoded_by_ffmpeg(path: Path, n_channels: int = 1) -> np.ndarray:
    """Return ffmpeg's decoding of a file at its own rate, ``(n_samples, n_channels)`` float32."""
    return np.frombuffer(ffmpeg("-i", path, "-f", "f32le", "-c:a", "pcm_f32le", "-"), "<f4").reshape(-1, n_channels)


def with_ogg_position(path: Path, position: int) -> Path:
    """Write the position that the last page of an Ogg states, and the page's checksum (RFC 3533, section 6)."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"OggS")
    struct.pack_into("<q", content, at + 6, position)
    content[at + 22 : at + 26] = bytes(4)
    crc = 0
    for byte in content[at:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    struct.pack_into("<I", content, at + 22, crc)
    path.write_bytes(content)
    return path
