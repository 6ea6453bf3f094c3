"""The zarr store of pooled embeddings: rows, checksums, journal, resume.

A group of format 3 with the array ``embeddings`` (n_utterances, n_layers, n_poolings, dim), float32, and beside it
``utterance_id`` and ``sound`` (the content hash and span that a row was made from), both (n_utterances,). A shard
holds a block of 512 utterances and an inner chunk one layer of it, so that writing a block and reading one layer
over all utterances are both sequential; every inner chunk carries its crc32c. A block is written, made durable, and
only then named in ``journal.jsonl``: rows that the journal does not name are never read. Refused utterances stand
in ``quarantine.csv``. This is the only file that knows zarr.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from filelock import FileLock, Timeout
from zarr.codecs import Crc32cCodec

from probe.errors import InputError
from probe.journal import (
    JOURNAL,
    CacheDamaged,
    make_durable,
    n_whole_rows,
    note_block,
    read_journal,
    replace_file,
    rewrite_journal,
)
from probe.plan import ExtractionPlan

BLOCK = 512  # utterances in a shard: 50 MB for 25 layers of 1024 in one pooling
READ_AT_ONCE = 16 * BLOCK  # rows
FORMAT = 1
QUARANTINE = "quarantine.csv"
QUARANTINE_COLUMNS = ("utterance_id", "path", "reason")


class CacheMismatch(InputError):
    """The cache was made under another plan than the one asked for."""


@dataclass(frozen=True)
class Cache:
    """A cache opened for reading; only rows whose block is whole are seen."""

    path: Path
    plan: ExtractionPlan
    utterance_ids: np.ndarray  # (n_utterances,) str
    sounds: np.ndarray  # (n_utterances,) str, hash and span
    quarantine: pd.DataFrame  # utterance_id, path, reason
    _embeddings: zarr.Array[Any]

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
            CacheDamaged: if a chunk is missing or its checksum does not match
        """
        if layer not in self.plan.layers:
            raise InputError(f"{self.path} has no layer {layer!r}; it has {', '.join(self.plan.layers)}.")
        n = len(self.utterance_ids)
        rows = np.arange(n) if rows is None else rows
        place = np.full(n, -1)
        place[rows] = np.arange(len(rows))
        _, _, n_poolings, dim = self._embeddings.shape
        layer_embeddings = np.empty((len(rows), n_poolings * dim), dtype=np.float32)
        for begin in range(0, n, READ_AT_ONCE):
            wanted = place[begin : begin + READ_AT_ONCE]
            if (wanted >= 0).any():
                where = slice(begin, min(n, begin + READ_AT_ONCE))
                values = _read(self.path, self._embeddings, where, self.plan.layers.index(layer), first=begin)
                layer_embeddings[wanted[wanted >= 0]] = values.reshape(len(values), -1)[wanted >= 0]
        return layer_embeddings


def open_cache(path: Path | str) -> Cache:
    """Open a cache for reading.

    Raises:
        InputError: if there is no cache at ``path``
        CacheDamaged: if its journal can't be read
    """
    path = Path(path)
    group = _open_group(path, "r")
    n = n_whole_rows(read_journal(path))
    plan = _plan(path, group)
    ids, sounds = (_read(path, _array(group, name), slice(0, n)).astype(object) for name in ("utterance_id", "sound"))
    return Cache(path, plan, ids, sounds, read_quarantine(path), _array(group, "embeddings"))


def read_quarantine(path: Path) -> pd.DataFrame:
    """The refused utterances of a cache: ``utterance_id, path, reason``, as text."""
    file = path / QUARANTINE
    if not file.exists():
        return pd.DataFrame(columns=list(QUARANTINE_COLUMNS), dtype=str)
    return pd.read_csv(file, dtype=str, keep_default_na=False)


class CacheWriter:
    """Appends rows to a cache, new or begun, under one plan; a context manager that holds the store's lock."""

    def __init__(self, path: Path | str, plan: ExtractionPlan, *, dim: int) -> None:
        """Name the store; nothing is touched before the ``with``."""
        self.path, self.plan = Path(path), plan
        self._shape = (len(plan.layers), len(plan.poolings), dim)
        self._ids: list[str] = []
        self._sounds: list[str] = []
        self._block: list[np.ndarray] = []  # rows of the block in hand, those on disk included
        self._quarantine: list[tuple[str, str, str]] = []
        self._n_durable = 0
        self._lock = FileLock(self.path / "lock", timeout=0)

    def __enter__(self) -> CacheWriter:
        """Create the store or go on with it.

        Raises:
            CacheMismatch: naming the fields that differ, if it was made under another plan
            InputError: if ``path`` holds something else, or another process writes to it
        """
        if self.path.exists() and not (self.path / JOURNAL).exists() and not self._is_begun():
            raise InputError(f"{self.path} exists and is no cache. Name another --out.")
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise InputError(f"{self.path} is being written by another process. Wait for it to end.") from error
        try:
            self._go_on() if (self.path / JOURNAL).exists() else self._create()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Write the rows that wait, also after an error or Ctrl-C, and release the lock."""
        try:
            self.flush()
        finally:
            self._lock.release()

    @property
    def cached(self) -> dict[str, str]:
        """Utterances that have a row already, with the sound that it was made from."""
        return dict(zip(self._ids, self._sounds, strict=True))

    def append(self, utterance_id: str, sound: str, embeddings: np.ndarray) -> None:
        """Add one utterance's ``(n_layers, n_poolings, dim)``; every 512 rows a block is written."""
        if embeddings.shape != self._shape:
            raise ValueError(f"embeddings are {embeddings.shape}, not {self._shape}")
        self._ids.append(utterance_id)
        self._sounds.append(sound)
        self._block.append(embeddings.astype(np.float32))
        if len(self._block) == BLOCK:
            self.flush()

    def refuse(self, utterance_id: str, path: str, reason: str) -> None:
        """Quarantine an utterance with its reason."""
        self._quarantine.append((utterance_id, path, reason))

    def flush(self) -> None:
        """Write the block in hand as a whole shard, make it durable, then name it in the journal."""
        if len(self._ids) > self._n_durable:
            number = (len(self._ids) - 1) // BLOCK
            rows = slice(number * BLOCK, len(self._ids))
            self._embeddings.resize((len(self._ids), *self._shape))
            self._embeddings[rows] = np.stack(self._block)
            for array, values in ((self._id_array, self._ids), (self._sound_array, self._sounds)):
                array.resize((len(values),))
                array[rows] = np.array(values[rows], dtype=object)
            for name in ("embeddings", "utterance_id", "sound"):
                array_folder = self.path / name
                zeros = ["0"] * (3 if name == "embeddings" else 0)
                make_durable(array_folder.joinpath("c", str(number), *zeros))
                make_durable(array_folder / "zarr.json")
            note_block(self.path, block=number, rows=len(self._block))
            self._n_durable = len(self._ids)
        if len(self._block) == BLOCK:
            self._block = []
        table = pd.DataFrame(self._quarantine, columns=list(QUARANTINE_COLUMNS))
        replace_file(self.path / QUARANTINE, table.to_csv(index=False, lineterminator="\n"))

    def _is_begun(self) -> bool:
        """Whether the folder is empty, or a store of ours whose making was cut short before it had a journal."""
        if not self.path.is_dir():
            return False
        names = {path.name for path in self.path.iterdir()}
        if names <= {"lock", "zarr.json"}:
            return True
        if "zarr.json" not in names or (self.path / "embeddings" / "c").exists():
            return False  # rows that were written are never made anew
        return "layerprobe_format" in zarr.open_group(self.path, mode="r").attrs

    def _create(self) -> None:
        n_layers, n_poolings, dim = self._shape
        # "a", not "w", which would empty the folder, lock and all
        group = zarr.open_group(self.path, mode="a", zarr_format=3)
        group.attrs.update(self._attributes())
        self._embeddings = group.create_array(
            "embeddings",
            shape=(0, *self._shape),
            chunks=(BLOCK, 1, n_poolings, dim),
            shards=(BLOCK, *self._shape),
            dtype="float32",
            compressors=[Crc32cCodec()],  # embeddings hardly compress; the checksum is what is wanted
            fill_value=float("nan"),  # a row that was never written can't pass for one that was
            dimension_names=("utterance", "layer", "pooling", "feature"),
            overwrite=True,  # of a store whose making was cut short
        )
        self._id_array, self._sound_array = (
            group.create_array(
                name, shape=(0,), chunks=(BLOCK,), dtype=str, compressors=[Crc32cCodec()], overwrite=True
            )
            for name in ("utterance_id", "sound")
        )
        rewrite_journal(self.path, [])
        self._adopt([], [], [])

    def _go_on(self) -> None:
        group = _open_group(self.path, "r+")
        plan = _plan(self.path, group)
        if plan != self.plan:
            raise CacheMismatch(
                f"{self.path} was extracted with {'; '.join(plan.differences(self.plan))}. "
                "Name another --out, or ask for what it holds."
            )
        lines = read_journal(self.path)
        rewrite_journal(self.path, lines)
        n = n_whole_rows(lines)
        self._embeddings = _array(group, "embeddings")
        self._id_array, self._sound_array = _array(group, "utterance_id"), _array(group, "sound")
        self._embeddings.resize((n, *self._shape))
        for array in (self._id_array, self._sound_array):
            array.resize((n,))
        ids, sounds = (_read(self.path, a, slice(0, n)).tolist() for a in (self._id_array, self._sound_array))
        begun = slice(n - n % BLOCK, n)  # a shard is only ever written whole, so its first rows come along
        self._adopt(ids, sounds, list(_read(self.path, self._embeddings, begun)))

    def _adopt(self, ids: list[str], sounds: list[str], block: list[np.ndarray]) -> None:
        self._ids, self._sounds, self._block = ids, sounds, block
        self._n_durable = len(ids)

    def _attributes(self) -> dict[str, Any]:
        return {
            "layerprobe_format": FORMAT,
            "layers": list(self.plan.layers),
            "poolings": list(self.plan.poolings),
            "plan": self.plan.to_json(),
            "fingerprint": self.plan.fingerprint(),
        }


def _open_group(path: Path, mode: str) -> zarr.Group:
    if not (path / JOURNAL).exists() or not (path / "zarr.json").exists():
        raise InputError(f"{path} is no cache of embeddings. Make one with layerprobe extract.")
    group = zarr.open_group(path, mode="r" if mode == "r" else "r+")
    found = dict(group.attrs).get("layerprobe_format")
    if found != FORMAT:
        raise InputError(f"{path} has format {found}; this version reads {FORMAT}. Extract it again.")
    return group


def _plan(path: Path, group: zarr.Group) -> ExtractionPlan:
    content: Any = dict(group.attrs)["plan"]
    known = {field.name for field in fields(ExtractionPlan)}
    other = sorted(known.symmetric_difference(content))
    if other:
        raise InputError(
            f"{path} was made by another version, whose plans differ in {', '.join(other)}. Extract into another --out."
        )
    return ExtractionPlan.from_json(content)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise CacheDamaged(f"{group.store_path}: {name} is no array. Extract it again.")
    return array


def _read(path: Path, array: zarr.Array[Any], *where: slice | int, first: int = 0) -> np.ndarray:
    """Rows of one array, with damage told apart from anything else."""
    try:
        values = np.asarray(array[where])
    except (ValueError, OSError, RuntimeError) as error:
        raise CacheDamaged(f"{path}: {array.name} is damaged ({error}). Extract it again.") from error
    if values.dtype.kind == "f" and np.isnan(values).any():
        rows = np.flatnonzero(np.isnan(values.reshape(len(values), -1)).any(axis=1))
        raise CacheDamaged(f"{path}: {len(rows)} rows from {first + rows[0]} on are missing. Extract it again.")
    return values
