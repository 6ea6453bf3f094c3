"""Filling a cache: rows are appended, replaced and taken out, a block at a time, and never half."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec

from layerprobe.probe.cache.journal import (
    JOURNAL,
    BlockLine,
    append_block,
    n_whole_rows,
    read_journal,
    rewrite_journal,
)
from layerprobe.probe.cache.lease import LEASE, LOCK, leased
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.store import (
    ARRAYS,
    BLOCK,
    FORMAT,
    CacheMismatchError,
    array_of,
    block_file,
    check_names,
    open_group,
    plan_of,
    read_array,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import (
    PARTIAL,
    QUARANTINE,
    QUARANTINE_COLUMNS,
    connect,
    digest_of,
    is_remote,
    make_durable,
    place,
    replace_file,
    zarr_store,
)
from layerprobe.probe.version import layerprobe_version


class StorageOverflowError(Exception):
    """Embeddings that the cache can't hold as it stores them."""


class CacheWriter:
    """Adds rows to a cache, new or begun, under one plan; a context manager that holds the store's lock."""

    def __init__(self, path: Path | str, plan: ExtractionPlan, *, dim: int) -> None:
        """Name the store; nothing is touched before the ``with``."""
        self.path, self.plan = place(path), plan
        self._shape = (len(plan.layers), len(plan.poolings), dim)
        self._ids: list[str] = []  # "" where a row was taken out
        self._sounds: list[str] = []
        self._place: dict[str, int] = {}
        self._block: list[np.ndarray] = []  # rows of the last block, those on disk included
        self._changed: dict[int, dict[int, np.ndarray]] = {}  # of earlier blocks: rows to replace, by place
        self._quarantine: list[tuple[str, str, str]] = []
        self._n_durable = 0
        self._tail_changed = False
        self._held = ExitStack()

    def __enter__(self) -> CacheWriter:
        """Create the store or go on with it.

        Raises:
            CacheMismatchError: naming the fields that differ, if it was made under another plan
            InputError: if ``path`` holds something else, or another process writes to it
        """
        resume_compaction(self.path)
        if connect(self.path).exists() and not (self.path / JOURNAL).exists() and not self._is_begun():
            raise InputError(f"{self.path} exists and is no cache. Name another --out.")
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            self._claim = held.enter_context(leased(self.path))
            for leftover in () if is_remote(self.path) else self.path.rglob(f"*{PARTIAL}"):  # of one that was killed
                leftover.unlink()
            self._go_on() if (self.path / JOURNAL).exists() else self._create()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the rows that wait, also after an error or Ctrl-C, and release the lock."""
        with self._held:
            self.flush()

    @property
    def n_rows(self) -> int:
        """Rows, those included that were taken out."""
        return len(self._ids)

    @property
    def cached(self) -> dict[str, str]:
        """Utterances that have a row already, with the sound that it was made from."""
        return {name: self._sounds[place] for name, place in self._place.items()}

    def append(self, utterance_id: str, sound: str, embeddings: np.ndarray) -> None:
        """Add one utterance's ``(n_layers, n_poolings, dim)``, or replace its row; every 512 rows a block is written.

        Raises:
            ValueError: if the shape is another
            StorageOverflowError: if a value is too large for how the cache stores it
        """
        if embeddings.shape != self._shape:
            raise ValueError(f"embeddings are {embeddings.shape}, not {self._shape}")
        row = stored(embeddings, self.plan.storage_dtype)
        place = self._place.get(utterance_id)
        if place is None:
            self._place[utterance_id] = len(self._ids)
            self._ids.append(utterance_id)
            self._sounds.append(sound)
            self._block.append(row)
            if len(self._block) == BLOCK:
                self.flush()
            return
        self._sounds[place] = sound
        self._touch(place, row)
        if sum(map(len, self._changed.values())) >= BLOCK:
            self.flush()

    def drop(self, utterance_ids: Collection[str]) -> None:
        """Take rows out; they are read no more, and `probe.cache.compact.compact` gives their room back."""
        for utterance_id in utterance_ids:
            place = self._place.pop(utterance_id)
            self._ids[place] = self._sounds[place] = ""
            self._touch(place, None)

    def refuse(self, utterance_id: str, path: str, reason: str) -> None:
        """Quarantine an utterance with its reason; a row that it had is taken out, for its sound is another now."""
        self._quarantine.append((utterance_id, path, reason))
        if utterance_id in self._place:
            self.drop([utterance_id])

    def flush(self) -> None:
        """Write what waits in whole shards, make them durable, then name them in the journal.

        Raises:
            InputError: if another process has taken the store over
        """
        self._claim.refuse_lost()
        for block in sorted(self._changed):
            self._rewrite(block, self._changed[block])
        self._changed = {}
        if len(self._ids) > self._n_durable or self._tail_changed:
            block = (len(self._ids) - 1) // BLOCK
            self._embeddings.resize((len(self._ids), *self._shape))
            for array in (self._id_array, self._sound_array):
                array.resize((len(self._ids),))
            self._write(block, np.stack(self._block))
            self._n_durable, self._tail_changed = len(self._ids), False
        if len(self._block) == BLOCK:
            self._block = []
        table = pd.DataFrame(self._quarantine, columns=list(QUARANTINE_COLUMNS))
        replace_file(self.path / QUARANTINE, table.to_csv(index=False, lineterminator="\n"))

    def _touch(self, place: int, row: np.ndarray | None) -> None:
        begin = len(self._ids) - len(self._block)  # of the last block
        if place >= begin:
            self._tail_changed = True
            if row is not None:
                self._block[place - begin] = row
            return
        rows = self._changed.setdefault(place // BLOCK, {})
        if row is not None:
            rows[place] = row

    def _rewrite(self, block: int, rows: dict[int, np.ndarray]) -> None:
        values = None
        if rows:
            where = slice(block * BLOCK, min((block + 1) * BLOCK, self._n_durable))
            values = read_array(self.path, self._embeddings, where, first=where.start)
            for place, row in rows.items():
                values[place - where.start] = row
        self._write(block, values)

    def _write(self, block: int, embeddings: np.ndarray | None) -> None:
        """One block, ids and sounds as they are now; embeddings if they are given."""
        rows = slice(block * BLOCK, min((block + 1) * BLOCK, len(self._ids)))
        n_before = min(rows.stop, self._n_durable) - rows.start
        if n_before > 0:  # its files are about to differ from their digests; a kill leaves it to the next run
            append_block(self.path, BlockLine(block, n_before))
        if embeddings is not None:
            self._embeddings[rows] = embeddings
        for array, values in ((self._id_array, self._ids), (self._sound_array, self._sounds)):
            array[rows] = np.array(values[rows], dtype=object)
        for name in ARRAYS:
            make_durable(block_file(self.path, name, block))
            make_durable(self.path / name / "zarr.json")
        files = {name: digest_of(block_file(self.path, name, block)) for name in ARRAYS}
        append_block(self.path, BlockLine(block, rows.stop - rows.start, files))

    def _is_begun(self) -> bool:
        """Whether the folder is empty, or a store of ours whose making was cut short before it had a journal."""
        if not self.path.is_dir():
            return False
        names = {path.name for path in self.path.iterdir() if path.suffix != PARTIAL}
        if names <= {LOCK, LEASE, "zarr.json"}:
            return True
        if "zarr.json" not in names or (self.path / "embeddings" / "c").exists():
            return False  # rows that were written are never made anew
        return "layerprobe_format" in zarr.open_group(zarr_store(self.path), mode="r").attrs

    def _create(self) -> None:
        _, n_poolings, dim = self._shape
        # "a", not "w", which would empty the folder, lock and all
        group = zarr.open_group(zarr_store(self.path), mode="a", zarr_format=3)
        group.attrs.update(self._attributes())
        self._embeddings = group.create_array(
            "embeddings",
            shape=(0, *self._shape),
            chunks=(BLOCK, 1, n_poolings, dim),
            shards=(BLOCK, *self._shape),
            dtype=self.plan.storage_dtype,
            compressors=[Crc32cCodec()],  # embeddings hardly compress; the checksum is what is wanted
            fill_value=float("nan"),  # a row that was never written can't pass for one that was
            dimension_names=("utterance", "layer", "pooling", "feature"),
            overwrite=True,  # of a store whose making was cut short
        )
        self._id_array, self._sound_array = (
            group.create_array(
                name, shape=(0,), chunks=(BLOCK,), dtype=str, compressors=[Crc32cCodec()], overwrite=True
            )
            for name in ARRAYS[1:]
        )
        rewrite_journal(self.path, [])
        self._adopt([], [], [])

    def _go_on(self) -> None:
        group = open_group(self.path, "r+")
        plan = plan_of(self.path, group)
        if plan != self.plan:
            raise CacheMismatchError(self.path, plan, self.plan)
        lines = read_journal(self.path)
        check_names(self.path, lines)
        rewrite_journal(self.path, lines.values())
        n = n_whole_rows(lines)
        self._embeddings = array_of(group, "embeddings")
        self._id_array, self._sound_array = array_of(group, "utterance_id"), array_of(group, "audio_hash")
        self._embeddings.resize((n, *self._shape))
        for array in (self._id_array, self._sound_array):
            array.resize((n,))
        ids, sounds = (read_array(self.path, a, slice(0, n)).tolist() for a in (self._id_array, self._sound_array))
        begun = slice(n - n % BLOCK, n)  # a shard is only ever written whole, so its first rows come along
        self._adopt(ids, sounds, list(read_array(self.path, self._embeddings, begun)))
        for block in [line.block for line in lines.values() if not line.files]:
            self._touch(block * BLOCK, None)

    def _adopt(self, ids: list[str], sounds: list[str], block: list[np.ndarray]) -> None:
        self._ids, self._block = ids, block
        self._sounds = [sound if name else "" for name, sound in zip(ids, sounds, strict=True)]
        self._place = {name: place for place, name in enumerate(ids) if name}
        self._n_durable, self._tail_changed = len(ids), False

    def _attributes(self) -> dict[str, Any]:
        return {
            "layerprobe_format": FORMAT,
            "layerprobe_version": layerprobe_version(),
            "layers": list(self.plan.layers),
            "poolings": list(self.plan.poolings),
            "plan": self.plan.to_json(),
            "fingerprint": self.plan.fingerprint(),
        }


def compaction_folders(path: Path) -> tuple[Path, Path]:
    """Where a compaction writes a cache anew, and where it lays the old one until that has its place."""
    return path.with_name(f".{path.name}.compact-new"), path.with_name(f".{path.name}.compact-old")


def resume_compaction(path: Path) -> None:
    """Where a kill came between the two renamings of a compaction, make the second."""
    if is_remote(path):  # is never compacted
        return
    fresh, old = compaction_folders(path)
    if not path.exists() and fresh.exists() and old.exists():
        fresh.rename(path)
    if path.exists() and old.exists():
        shutil.rmtree(old, ignore_errors=True)


def stored(embeddings: np.ndarray, storage: str) -> np.ndarray:
    """Embeddings as a cache holds them.

    Raises:
        StorageOverflowError: if a value is beyond what ``storage`` can hold
    """
    with np.errstate(over="ignore"):  # it is said in words below
        row = embeddings.astype(storage)
    if not np.isfinite(row).all():
        raise StorageOverflowError(
            f"a value of {np.abs(embeddings).max():.3g} can't be held as {storage}; take float32"
        )
    return row
