"""Verification of a cache against its journal, comparison of two caches, and coverage of a manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from layerprobe.probe.cache.generation import check_generation, read_generation
from layerprobe.probe.cache.journal import FILES, BlockLine, CacheDamagedError, n_complete_rows, read_journal
from layerprobe.probe.cache.layout import (
    METADATA,
    block_file,
    consolidated_metadata,
    open_array,
    open_group,
    read_array,
    read_plan,
    row_arrays,
)
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import NUMBERS, without_spans
from layerprobe.probe.cache.store import BLOCK, Cache
from layerprobe.probe.cache.unfinished_repair import REPAIR, UnfinishedRepair
from layerprobe.probe.filesystem import connect, digest_of
from layerprobe.probe.identities import normalise_name
from layerprobe.probe.progress import NullProgress

EMBEDDINGS = "embeddings"
DIFFERENT = f"its {METADATA} differs from the copy in that of the group"


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written, and the utterances that this affects."""

    block: int | None  # None for metadata, and for an array without a row per utterance, such as the names of layers
    rows: range  # of the arrays
    array: str
    fault: str  # human-readable
    layers: tuple[str, ...]  # of embeddings those that can't be read; all where the whole file is another
    utterance_ids: tuple[str, ...]  # () where they are unknown

    def summary(self) -> str:
        """Return one sentence, with the first utterances."""
        if self.block is None:
            return f"{self.array}: {self.fault}"
        ids = self.utterance_ids
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        affected = f"{', '.join(ids[:3])}{more}" if ids else f"rows {self.rows.start} to {self.rows.stop - 1}"
        layers = f", layers {', '.join(self.layers)}" if self.layers else ""
        return f"block {self.block}, {self.array}{layers}: {self.fault}; {affected}"


def verify(path: Path | str, *, progress: NullProgress | None = None) -> list[Damage]:
    """Compare every file of every complete block with its digest in the journal, and read those that differ.

    The arrays ``layer``, ``pooling`` and ``extraction``, which the journal does not name, are compared with the plan;
    the metadata of all arrays with their copy in the group. Blocks can't be read before damaged metadata are repaired.

    Returns:
        the damaged files, and the list of a repair that was not finished; none if the cache is intact

    Raises:
        InputError: if there is no cache at ``path``, or one of another format
        CacheChangedError: if rows were changed or moved meanwhile
        CacheDamagedError: if its journal can't be read
    """
    found = file_damages(path, progress=progress)
    unfinished = UnfinishedRepair.read(connect(path))
    if unfinished is not None:
        names = unfinished.utterances
        fault = f"a repair was not finished, and the spans of {len(names)} utterances are missing (first: {min(names)})"
        found.append(Damage(None, range(0), REPAIR, fault, (), ()))
    return found


def file_damages(path: Path | str, *, progress: NullProgress | None = None) -> list[Damage]:
    """Return the damaged files of a cache alone; see `verify`."""
    path, progress = connect(path), progress or NullProgress()
    group, generation = open_group(path, "r"), read_generation(path)
    plan, lines = read_plan(path, group), read_journal(path)
    found = _metadata_damages(path, group, plan, n_complete_rows(lines))
    readable = not {damage.array for damage in found} & set(row_arrays(plan))
    progress.begin("verify", len(lines), "blocks")
    try:
        for block in sorted(lines) if readable else ():
            found += _damages(path, lines[block], plan)
            progress.advance(1, f"{len(found)} damaged files")
    finally:
        progress.end()
    check_generation(path, generation)  # what a process was changing meanwhile may have looked damaged
    return found


def block_ids(path: Path, line: BlockLine) -> tuple[str, ...] | None:
    """Return the utterance ids of a block's rows, "" for removed rows; None if their file is not what was written."""
    if _fault(path, line, "utterance_id"):
        return None
    rows = _rows(line)
    ids = read_array(path, open_array(open_group(path, "r"), "utterance_id"), slice(rows.start, rows.stop))
    return tuple(normalise_name(str(name)) for name in ids)


def differences(first: Cache, second: Cache) -> list[str]:
    """Return how two caches differ, in sentences; none if their content is the same."""
    sentences = [f"plan: {text}" for text in first.plan.differences(second.plan)]
    rows = "spans" if first.spans is not None and second.spans is not None else "utterances"
    hashes, others = (dict(zip(c.utterance_ids, c.audio_hashes, strict=True)) for c in (first, second))
    for cache, present, absent in ((first, hashes, others), (second, others, hashes)):
        only = [u for u in present if u not in absent]
        if only:
            sentences.append(f"{len(only)} {rows} are only in {cache.path} (first: {only[0]})")
    common = [u for u in hashes if u in others]
    changed = [u for u in common if without_spans(hashes[u]) != without_spans(others[u])]
    if changed:
        sentences.append(f"{len(changed)} {rows} were made from other audio or text (first: {changed[0]})")
    same = [u for u in common if without_spans(hashes[u]) == without_spans(others[u])]
    sentences += _differences_of_spans(first, second, same)
    for layer in [name for name in first.layers if name in second.layers]:
        if first.poolings != second.poolings or first.dim != second.dim or not same:
            break
        values = [_read_utterances(cache, layer, same) for cache in (first, second)]
        largest = np.abs(values[0] - values[1]).max(axis=1)  # difference of each row
        if (largest > 0).any():
            relative = largest.max() / max(float(np.abs(values[0]).max()), 1e-30)
            sentences.append(
                f"layer {layer}: {np.count_nonzero(largest)} of {len(same)} rows differ, at most by "
                f"{largest.max():.3g} ({relative:.2g} of the largest value), in {same[int(largest.argmax())]}"
            )
    return sentences


def _differences_of_spans(first: Cache, second: Cache, ids: list[str]) -> list[str]:
    """Return how many spans of two caches have other utterances, times or labels."""
    if first.spans is None or second.spans is None or not ids:
        return []
    one, other = (
        s.frame().set_index(c.utterance_ids).loc[ids] for c, s in ((first, first.spans), (second, second.spans))
    )
    sentences = []
    for what, columns in (("utterances", ["parent"]), ("times", ["start", "end"]), ("labels", ["label"])):
        others = (one[columns] != other[columns]).any(axis=1).to_numpy()
        if others.any():
            sentences.append(f"{int(others.sum())} spans have other {what} (first: {ids[int(others.argmax())]})")
    return sentences


def coverage(cache: Cache, utterance_ids: list[str]) -> tuple[int, int, int]:
    """Count how a cache and the utterances of a manifest overlap.

    Returns:
        the manifest's utterances that are cached, those that are quarantined, and cached utterances that are not in it
    """
    cached, refused = set(cache.contents), set(cache.quarantine["utterance_id"])
    wanted = set(utterance_ids)
    return len(wanted & cached), len(wanted & (refused - cached)), len(cached - wanted)


def _read_utterances(cache: Cache, layer: str, utterance_ids: list[str]) -> np.ndarray:
    row_of = {name: k for k, name in enumerate(cache.utterance_ids)}
    return cache.read_layer(layer, np.array([row_of[u] for u in utterance_ids]))


def _metadata_damages(path: Path, group: zarr.Group, plan: ExtractionPlan, n_rows: int) -> list[Damage]:
    """Return the damages of the arrays' metadata, and of the arrays that have no row per utterance."""
    copies = consolidated_metadata(path)
    labels = {"layer": list(plan.layers), "pooling": list(plan.poolings), FILES: 0}
    faults = {}
    arrays = row_arrays(plan)
    for name in (*arrays, *labels):
        fault = _metadata_fault(path, name, copies.get(name), n_rows if name in arrays else None)
        faults[name] = fault or (_label_fault(path, group, name, labels[name]) if name in labels else "")
    return [Damage(None, range(0), name, fault, (), ()) for name, fault in faults.items() if fault]


def _metadata_fault(path: Path, name: str, copy: Any, n_rows: int | None) -> str:
    """Return what is wrong with the metadata of an array; "" if nothing is.

    Args:
        path: of the cache
        name: of the array
        copy: its metadata as the group has them, None if it has none
        n_rows: that the journal names; None for an array that has no row per utterance
    """
    try:
        metadata = json.loads((path / name / METADATA).read_bytes())
    except FileNotFoundError:
        return f"its {METADATA} is missing"
    except ValueError:
        return f"its {METADATA} is damaged"
    if copy is None or not isinstance(metadata, dict):
        return DIFFERENT
    n_free = 0 if n_rows is None else 1  # the copy may have the number of rows of an earlier block
    free, fixed = metadata.get("shape", [])[:n_free], metadata.get("shape", [])[n_free:]
    if metadata | {"shape": fixed} != copy | {"shape": copy.get("shape", [])[n_free:]}:
        return DIFFERENT
    return f"its {METADATA} has fewer rows than the journal" if n_rows is not None and free[0] < n_rows else ""


def _label_fault(path: Path, group: zarr.Group, name: str, expected: object) -> str:
    """Return what is wrong with an array that has no row per utterance; "" if it has the values expected."""
    try:
        values = read_array(path, open_array(group, name)).tolist()
    except CacheDamagedError:
        return "the file is damaged"
    return "" if values == expected else "its values are not those of the plan"


def _damages(path: Path, line: BlockLine, plan: ExtractionPlan) -> list[Damage]:
    faults = {name: fault for name in row_arrays(plan) if (fault := _fault(path, line, name))}
    if not faults:
        return []
    ids = tuple(u for u in block_ids(path, line) or () if u)
    return [
        Damage(line.block, _rows(line), name, fault, _unreadable(path, line, plan.layers, name), ids)
        for name, fault in faults.items()
    ]


def _fault(path: Path, line: BlockLine, name: str) -> str:
    """Return what is wrong with a block's file; "" if nothing is."""
    file = block_file(path, name, line.block)
    if not file.exists():
        return "the file is missing"
    if line.files and digest_of(file) == line.files.get(name):
        return ""
    rows, array = _rows(line), open_array(open_group(path, "r"), name)
    live = _live_rows(path, line) if name in (EMBEDDINGS, *NUMBERS) else None
    try:
        read_array(path, array, slice(rows.start, rows.stop), first=rows.start, rows=live)
    except CacheDamagedError:
        return "the file is damaged"
    return "the file is not the one that the journal names" if line.files else ""


def _live_rows(path: Path, line: BlockLine) -> np.ndarray | None:
    """Return which rows of a block were not removed, ``(n_rows,)`` bool; None where ids can't be read."""
    ids = block_ids(path, line)
    return None if ids is None else np.array([name != "" for name in ids])


def _unreadable(path: Path, line: BlockLine, layers: tuple[str, ...], damaged: str) -> tuple[str, ...]:
    """Return the layers of a block that can't be read; none where another file than its embeddings is damaged."""
    if damaged != EMBEDDINGS:
        return ()
    rows, array = _rows(line), open_array(open_group(path, "r"), EMBEDDINGS)
    live = _live_rows(path, line)
    bad = []
    for k, name in enumerate(layers):
        try:
            read_array(path, array, slice(rows.start, rows.stop), k, first=rows.start, rows=live)
        except CacheDamagedError:
            bad.append(name)
    return tuple(bad) or layers


def _rows(line: BlockLine) -> range:
    return range(line.block * BLOCK, line.block * BLOCK + line.rows)
