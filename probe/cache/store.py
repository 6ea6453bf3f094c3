"""The zarr store of pooled embeddings: its layout, and reading it.

A group of format 3 with the array ``embeddings`` (n_utterances, n_layers, n_poolings, dim), float32, and beside it
``utterance_id`` and ``sound`` (the content hash and span that a row was made from), both (n_utterances,). A shard
holds a block of 512 utterances and an inner chunk one layer of it, so that writing a block and reading one layer
over all utterances are both sequential; every inner chunk carries its crc32c. A block is written, made durable, and
only then named in ``journal.jsonl``: rows that the journal does not name are never read. A row whose ``utterance_id``
is empty was taken out and is never read either. Refused utterances stand in ``quarantine.csv``. Only this file,
`probe.cache.writer` and `probe.filesystem` know zarr.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from layerprobe.probe.cache.journal import JOURNAL, BlockLine, CacheDamagedError, n_whole_rows, read_journal
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import (
    QUARANTINE,
    QUARANTINE_COLUMNS,
    connect,
    digest_of,
    is_remote,
    read_table,
    zarr_store,
)

BLOCK = 512  # utterances in a shard: 50 MB for 25 layers of 1024 in one pooling
READ_AT_ONCE = 16 * BLOCK  # rows
ASKED_AT_ONCE = 16  # of an object store, which takes its time to answer
FORMAT = 1
ARRAYS = ("embeddings", "utterance_id", "audio_hash")
MEND = "Look at it with layerprobe cache verify."


class CacheMismatchError(InputError):
    """The cache was made under another plan than the one asked for."""

    def __init__(
        self,
        path: Path,
        plan: ExtractionPlan,
        asked: ExtractionPlan,
        mend: str = "Name another --out, or ask for what it holds.",
    ) -> None:
        """Name every field that differs, with both values."""
        super().__init__(f"{path} was extracted with {'; '.join(plan.differences(asked))}. {mend}")


@dataclass(frozen=True)
class Cache:
    """A cache opened for reading; only rows whose block is whole are seen."""

    path: Path
    plan: ExtractionPlan
    utterance_ids: np.ndarray  # (n_utterances,) str
    audio_hashes: np.ndarray  # (n_utterances,) str, hash and span
    quarantine: pd.DataFrame  # utterance_id, path, reason
    places: np.ndarray  # (n_utterances,) of their rows in the arrays, ascending
    _embeddings: zarr.Array[Any]

    @property
    def n_rows(self) -> int:
        """Rows on disk, those included that were taken out."""
        return n_whole_rows(read_journal(self.path))

    @property
    def dim(self) -> int:
        """Features of one pooling of one layer."""
        return int(self._embeddings.shape[-1])

    @property
    def values_per_utterance(self) -> int:
        """Layers times poolings times dim."""
        return int(np.prod(self._embeddings.shape[1:]))

    def read_layer(self, layer: str, rows: np.ndarray | None = None) -> np.ndarray:
        """All poolings of one layer side by side, ``(n_utterances, n_poolings * dim)`` float32.

        Args:
            layer: one of the plan's
            rows: ``(n_rows,)`` numbers of those that are wanted, each once, in the order of the result; None for all.
                No more is held than the result and what is read at once.

        Raises:
            InputError: if there is no such layer
            CacheDamagedError: if a chunk is missing or its checksum does not match
        """
        if layer not in self.plan.layers:
            raise InputError(f"{self.path} has no layer {layer!r}; it has {', '.join(self.plan.layers)}.")
        n = int(self.places[-1]) + 1 if len(self.places) else 0
        rows = np.arange(len(self.places)) if rows is None else rows
        place = np.full(n, -1)
        place[self.places[rows]] = np.arange(len(rows))
        _, _, n_poolings, dim = self._embeddings.shape
        layer_embeddings = np.empty((len(rows), n_poolings * dim), dtype=np.float32)
        for begin in range(0, n, READ_AT_ONCE):
            wanted = place[begin : begin + READ_AT_ONCE]
            if (wanted >= 0).any():
                first, last = np.flatnonzero(wanted >= 0)[[0, -1]]
                wanted, where = wanted[first : last + 1], slice(begin + int(first), begin + int(last) + 1)
                index = self.plan.layers.index(layer)
                values = read_array(self.path, self._embeddings, where, index, first=where.start)
                layer_embeddings[wanted[wanted >= 0]] = values.reshape(len(values), -1)[wanted >= 0]
        return layer_embeddings

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """All layers of some rows, ``(n_rows, n_layers, n_poolings, dim)`` float32; arguments and errors as above."""
        layers = [self.read_layer(name, rows) for name in self.plan.layers]
        return np.stack(layers, axis=1).reshape(len(rows), len(layers), len(self.plan.poolings), -1)


def open_cache(path: Path | str) -> Cache:
    """Open a cache for reading.

    Raises:
        InputError: if there is no cache at ``path``
        CacheDamagedError: if its journal can't be read
    """
    path = connect(path)
    group = open_group(path, "r")
    lines = read_journal(path)
    check_names(path, lines)
    n = n_whole_rows(lines)
    plan = plan_of(path, group)
    ids, sounds = (read_array(path, array_of(group, name), slice(0, n)).astype(object) for name in ARRAYS[1:])
    short = [name for name in ARRAYS if array_of(group, name).shape[0] < n]
    if short:
        raise CacheDamagedError(f"{path}: {short[0]} is shorter than the {n} rows that the journal names. {MEND}")
    places = np.flatnonzero(ids != "")
    return Cache(path, plan, ids[places], sounds[places], read_quarantine(path), places, array_of(group, "embeddings"))


def read_quarantine(path: Path) -> pd.DataFrame:
    """The refused utterances of a cache: ``utterance_id, path, reason``, as text."""
    file = path / QUARANTINE
    if not file.exists():
        return pd.DataFrame(columns=list(QUARANTINE_COLUMNS), dtype=str)
    return read_table(file, dtype=str)


def open_group(path: Path, mode: str) -> zarr.Group:
    """The store, to read (``r``) or to go on with (``r+``).

    Raises:
        InputError: if it is none of ours
    """
    if not (path / JOURNAL).exists() or not (path / "zarr.json").exists():
        raise InputError(f"{path} is no cache of embeddings. Make one with layerprobe extract.")
    group = zarr.open_group(zarr_store(path), mode="r" if mode == "r" else "r+")
    found = dict(group.attrs).get("layerprobe_format")
    if found != FORMAT:
        raise InputError(f"{path} has format {found}; this version reads {FORMAT}. Extract it again.")
    return group


def plan_of(path: Path, group: zarr.Group) -> ExtractionPlan:
    """The plan that a store was filled under."""
    content: Any = dict(group.attrs)["plan"]
    known = {field.name for field in fields(ExtractionPlan)}
    other = sorted(known.symmetric_difference(content))
    if other:
        raise InputError(
            f"{path} was made by another version, whose plans differ in {', '.join(other)}. Extract into another --out."
        )
    return ExtractionPlan.from_json(content)


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """One of `ARRAYS`."""
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise CacheDamagedError(f"{group.store_path}: {name} is no array. {MEND}")
    return array


def read_array(path: Path, array: zarr.Array[Any], *where: slice | int, first: int = 0) -> np.ndarray:
    """Rows of one array, with damage told apart from anything else."""
    try:
        values = np.asarray(array[where])
    except (ValueError, OSError, RuntimeError) as error:
        raise CacheDamagedError(f"{path}: {array.name} is damaged ({error}). {MEND}") from error
    if values.dtype.kind == "f" and np.isnan(values).any():
        rows = np.flatnonzero(np.isnan(values.reshape(len(values), -1)).any(axis=1))
        raise CacheDamagedError(f"{path}: {len(rows)} rows from {first + rows[0]} on are missing. {MEND}")
    return values


def check_names(path: Path, lines: dict[int, BlockLine]) -> None:
    """See that ids and sounds are those that were written; the embeddings, which are large, are left to ``verify``.

    Raises:
        CacheDamagedError: if a file is missing or another
    """
    written = [(name, line) for line in lines.values() for name in ARRAYS[1:] if line.files]

    def is_there(name: str, line: BlockLine) -> bool:
        try:
            return digest_of(block_file(path, name, line.block)) == line.files.get(name)
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(ASKED_AT_ONCE if is_remote(path) else 1) as pool:
        found = pool.map(lambda pair: is_there(*pair), written)
        for (name, line), same in zip(written, found, strict=True):
            if not same:
                raise CacheDamagedError(f"{path}: {name} of block {line.block} is not what was written. {MEND}")


def block_file(path: Path, name: str, block: int) -> Path:
    """Where a block of one of `ARRAYS` lies."""
    return path.joinpath(name, "c", str(block), *(["0"] * (3 if name == "embeddings" else 0)))
