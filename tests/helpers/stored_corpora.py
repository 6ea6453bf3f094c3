"""A small corpus whose audio lies in files, a tar archive, and Parquet and Arrow tables, all with the same bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from layerprobe.probe.data.stored.locations import row_address, tar_address

RATE = 16_000
KINDS = ("tar", "parquet", "parquet of bytes", "arrow", "arrow file", "files that rows name")  # of `sources`
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as `datasets` stores a column of audio


def write_files(folder: Path, n: int = 6, *, seconds: float = 0.6, seed: int = 0) -> list[Path]:
    """Write ``n`` different recordings, in turn as WAV, FLAC and OGG."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k in range(n):
        ending = ("wav", "flac", "ogg")[k % 3]
        time = np.arange(round(RATE * (seconds + 0.05 * k))) / RATE
        wave = 0.3 * np.sin(2 * np.pi * (150 + 40 * k) * time) + 0.01 * rng.normal(size=len(time))
        files.append(folder / f"u{k}.{ending}")
        soundfile.write(files[-1], wave.astype(np.float32), RATE)
    return files


def pack_tar(archive: Path, files: list[Path], *, mode: str = "w") -> list[str]:
    """Pack files into an archive, and return the address of each."""
    with tarfile.open(archive, mode) as opened:
        for file in files:
            opened.add(file, arcname=f"clips/{file.name}")
    return [tar_address(archive, f"clips/{file.name}") for file in files]


def structures(files: list[Path]) -> pa.Array:
    """Return the files' bytes and names as a column of audio."""
    return pa.array([{"bytes": f.read_bytes(), "path": f.name} for f in files], type=AUDIO)


def write_parquet(table: Path, column: pa.Array, *, name: str = "audio", group: int = 4) -> list[str]:
    """Write a column of audio to a Parquet table with row groups of ``group``, and return the address of each row."""
    n = len(column)
    pq.write_table(pa.table({"number": range(n), name: column}), table, row_group_size=group)
    return [row_address(table, k, column=name) for k in range(n)]


def write_arrow(table: Path, column: pa.Array, *, batch: int = 4, stream: bool = True) -> list[str]:
    """Write a column of audio to an Arrow file in batches, and return the address of each row."""
    data = pa.table({"number": range(len(column)), "audio": column})
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(table), "wb") as file, new(file, data.schema) as writer:
        writer.write_table(data, max_chunksize=batch)
    return [row_address(table, k) for k in range(len(column))]


def sources(folder: Path, files: list[Path]) -> dict[str, list[str]]:
    """Write the files' bytes into everything that audio is read from, and return their addresses by its name."""
    column = structures(files)
    plain = pa.array([f.read_bytes() for f in files], type=pa.binary())
    return {
        "files": [str(f) for f in files],
        "tar": pack_tar(folder / "shard#1.tar", files),
        "parquet": write_parquet(folder / "train.parquet", column),
        "parquet of bytes": write_parquet(folder / "bytes.parquet", plain, name="speech"),
        "arrow": write_arrow(folder / "data-00000-of-00001.arrow", column),
        "arrow file": write_arrow(folder / "cache.arrow", column, stream=False),
        "files that rows name": write_parquet(folder / "paths.parquet", _named(folder, files)),
    }


def _named(folder: Path, files: list[Path]) -> pa.Array:
    return pa.array([{"bytes": None, "path": str(f.relative_to(folder))} for f in files], type=AUDIO)


def wave_bytes(samples: np.ndarray, rate: int = RATE) -> bytes:
    """Return a WAV file of samples."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="WAV")
    return content.getvalue()
