"""Is a cache what its journal says, what differs between two, and how much of a manifest does one hold?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layerprobe.probe.cache.journal import BlockLine, CacheDamagedError, read_journal
from layerprobe.probe.cache.store import ARRAYS, BLOCK, Cache, array_of, block_file, open_group, plan_of, read_array
from layerprobe.probe.filesystem import connect, digest_of
from layerprobe.probe.progress import NullProgress


@dataclass(frozen=True)
class Damage:
    """A file of a block that is not what was written, and whom that hits."""

    block: int
    rows: range  # of the arrays
    array: str
    what: str  # in words
    layers: tuple[str, ...]  # of embeddings those that can't be read; all where the whole file is another
    utterance_ids: tuple[str, ...]  # () where these can't be told

    def words(self) -> str:
        """One sentence, with the first utterances."""
        ids = self.utterance_ids
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        whom = f"{', '.join(ids[:3])}{more}" if ids else f"rows {self.rows.start} to {self.rows.stop - 1}"
        layers = f", layers {', '.join(self.layers)}" if self.layers else ""
        return f"block {self.block}, {self.array}{layers}: {self.what}; {whom}"


def verify(path: Path | str, *, progress: NullProgress | None = None) -> list[Damage]:
    """Hold every file of every whole block against the journal's digests, and read what differs.

    Raises:
        InputError: if there is no cache at ``path``
        CacheDamagedError: if its journal can't be read
    """
    path, progress = connect(path), progress or NullProgress()
    lines = read_journal(path) if (path / "zarr.json").exists() else {}
    layers = plan_of(path, open_group(path, "r")).layers
    progress.begin("verify", len(lines), "blocks")
    found: list[Damage] = []
    try:
        for block in sorted(lines):
            found += _verified(path, lines[block], layers)
            progress.advance(1, f"{len(found)} damaged files")
    finally:
        progress.end()
    return found


def ids_of_block(path: Path, line: BlockLine) -> tuple[str, ...] | None:
    """The ids of a block's rows, "" for those taken out; None where their file is not what was written."""
    if _fault(path, line, "utterance_id"):
        return None
    rows = _rows(line)
    ids = read_array(path, array_of(open_group(path, "r"), "utterance_id"), slice(rows.start, rows.stop))
    return tuple(map(str, ids))


def differences(first: Cache, second: Cache) -> list[str]:
    """How two caches differ, in sentences; none if they hold the same."""
    told = [f"plan: {words}" for words in first.plan.differences(second.plan)]
    own, other = (dict(zip(c.utterance_ids, c.audio_hashes, strict=True)) for c in (first, second))
    for cache, missing in ((first, [u for u in own if u not in other]), (second, [u for u in other if u not in own])):
        if missing:
            told.append(f"{len(missing)} utterances are in {cache.path} alone, {missing[0]} first")
    shared = [u for u in own if u in other]
    changed = [u for u in shared if own[u] != other[u]]
    if changed:
        told.append(f"{len(changed)} utterances were made from other sounds or words, {changed[0]} first")
    same = [u for u in shared if own[u] == other[u]]
    for layer in [name for name in first.plan.layers if name in second.plan.layers]:
        if first.plan.poolings != second.plan.poolings or first.dim != second.dim or not same:
            break
        values = [_layer_of(cache, layer, same) for cache in (first, second)]
        apart = np.abs(values[0] - values[1]).max(axis=1)
        if (apart > 0).any():
            relative = apart.max() / max(float(np.abs(values[0]).max()), 1e-30)
            told.append(
                f"layer {layer}: {np.count_nonzero(apart)} of {len(same)} rows differ, at most by {apart.max():.3g} "
                f"({relative:.2g} of the largest value), in {same[int(apart.argmax())]}"
            )
    return told


def _layer_of(cache: Cache, layer: str, utterance_ids: list[str]) -> np.ndarray:
    place = {name: k for k, name in enumerate(cache.utterance_ids)}
    return cache.read_layer(layer, np.array([place[u] for u in utterance_ids]))


def _verified(path: Path, line: BlockLine, layers: tuple[str, ...]) -> list[Damage]:
    faults = {name: fault for name in ARRAYS if (fault := _fault(path, line, name))}
    if not faults:
        return []
    ids = tuple(u for u in ids_of_block(path, line) or () if u)
    return [
        Damage(line.block, _rows(line), name, what, _unreadable(path, line, layers) if name == ARRAYS[0] else (), ids)
        for name, what in faults.items()
    ]


def _fault(path: Path, line: BlockLine, name: str) -> str:
    """What is wrong with a block's file; "" for nothing."""
    file = block_file(path, name, line.block)
    if not file.exists():
        return "the file is missing"
    if line.files and digest_of(file) == line.files.get(name):
        return ""
    rows, array = _rows(line), array_of(open_group(path, "r"), name)
    try:
        read_array(path, array, slice(rows.start, rows.stop), first=rows.start)
    except CacheDamagedError:
        return "the file is damaged"
    return "the file is not the one that the journal names" if line.files else ""


def _unreadable(path: Path, line: BlockLine, layers: tuple[str, ...]) -> tuple[str, ...]:
    rows, array = _rows(line), array_of(open_group(path, "r"), ARRAYS[0])
    bad = []
    for k, name in enumerate(layers):
        try:
            read_array(path, array, slice(rows.start, rows.stop), k, first=rows.start)
        except CacheDamagedError:
            bad.append(name)
    return tuple(bad) or layers


def _rows(line: BlockLine) -> range:
    return range(line.block * BLOCK, line.block * BLOCK + line.rows)


def coverage(cache: Cache, utterance_ids: list[str]) -> tuple[int, int, int]:
    """Of a manifest's utterances: how many the cache holds, how many it refused; and how many rows are of none."""
    held, refused = set(cache.utterance_ids), set(cache.quarantine["utterance_id"])
    wanted = set(utterance_ids)
    return len(wanted & held), len(wanted & (refused - held)), len(held - wanted)
