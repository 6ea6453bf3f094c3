"""Parts of a repair: blocks written anew whatever their files contain, and metadata restored from their copies."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.create import create_labels
from layerprobe.probe.cache.generation import rewritten
from layerprobe.probe.cache.journal import BlockLine, append_block, n_complete_rows, read_journal
from layerprobe.probe.cache.layout import (
    METADATA,
    block_file,
    consolidate,
    consolidated_metadata,
    open_array,
    open_group,
    read_array,
    read_plan,
    read_quarantine,
    row_arrays,
    write_quarantine,
)
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import NUMBERS
from layerprobe.probe.cache.store import BLOCK
from layerprobe.probe.cache.verify import DIFFERENT, Damage, verify
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.filesystem import digest_of, make_durable, replace_file
from layerprobe.probe.identities import normalise_name
from layerprobe.probe.progress import NullProgress


@dataclass(frozen=True)
class Repair:
    """The result of a repair."""

    damages: list[Damage]
    n_encoded: int  # utterances
    lost: pd.DataFrame  # utterance_id, path, reason: utterances whose input can't be used any more


def empty_damaged_blocks(path: Path, damages: list[Damage], manifest: Manifest) -> set[str]:
    """Remove every row of the damaged blocks of a span cache, and return the utterances that had spans there.

    Where the parents of a block's rows can't be read, these are the utterances of the manifest that have no row in any
    other block and are not quarantined.

    Raises:
        InputError: if the metadata of an array can't be restored
    """
    plan = read_plan(path, open_group(path, "r"))
    with rewritten(path):
        of_metadata = [damage for damage in damages if damage.block is None]
        if of_metadata:
            repair_metadata(path, plan, of_metadata)
            damages = verify(path)
        lines, group = read_journal(path), open_group(path, "r")
        damaged = {d.block for d in damages if d.block is not None}
        nameless = {d.block for d in damages if d.array in ("parent", "utterance_id")}
        parents = {block: _parents(path, line, nameless) for block, line in lines.items()}
        names = {name for block in damaged for name in parents[block]}
        if nameless:
            held = {name for block in set(lines) - damaged for name in parents[block]}
            refused = set(read_quarantine(path)["utterance_id"])
            names |= set(manifest.table["utterance_id"]) - held - refused
        for block in sorted(damaged):
            shape = open_array(group, "embeddings").shape[1:]
            rewrite_block(path, block, _removed(plan, lines[block].rows, shape))
    return names


def encode_again(
    path: Path,
    damages: list[Damage],
    names: set[str],
    manifest: Manifest,
    encoder: AnyEncoder,
    settings: ExtractionSettings,
    progress: NullProgress,
) -> Repair:
    """Encode utterances of a span cache again, of which spans were in damaged blocks.

    Raises:
        InputError: if one of them is not in the manifest, or as `run_extraction` does
    """
    missing = names - set(manifest.table["utterance_id"])
    if missing:
        raise InputError(
            "LP415",
            f"{len(missing)} damaged utterances are not in the manifest (first: {min(missing)}). Give the manifest "
            f"that {path} was extracted from.",
        )
    before = read_quarantine(path)
    rows = manifest.table["utterance_id"].isin(list(names))
    part = replace(manifest, table=manifest.table[rows].reset_index(drop=True))
    done = run_extraction(part, encoder, path, settings, n_shards=2 if part.table.empty else 1, progress=progress)
    kept = before[~before["utterance_id"].isin(list(names))]
    lost = [*kept.itertuples(index=False, name=None), *done.quarantine.itertuples(index=False, name=None)]
    write_quarantine(path, lost)
    return Repair(damages, done.n_extracted, done.quarantine)


def _parents(path: Path, line: BlockLine, nameless: set[int | None]) -> set[str]:
    """Return the utterances that have spans in a block; none where they can't be read."""
    if line.block in nameless:
        return set()
    begin = line.block * BLOCK
    values = read_array(path, open_array(open_group(path, "r"), "parent"), slice(begin, begin + line.rows))
    return {normalise_name(str(name)) for name in values} - {""}


def _removed(plan: ExtractionPlan, n: int, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return what the arrays of a block of removed rows hold."""
    columns: dict[str, np.ndarray] = {}
    for name in row_arrays(plan):
        if name == "embeddings":
            columns[name] = np.full((n, *shape), np.nan, dtype=plan.storage_dtype)
        else:
            columns[name] = np.full(n, np.nan) if name in NUMBERS else np.full(n, "", dtype=object)
    return columns


def repair_metadata(path: Path, plan: ExtractionPlan, damages: list[Damage]) -> None:
    """Restore the metadata of arrays from their copy in the group, and write names of layers and poolings anew.

    Raises:
        InputError: if the metadata of an array and their copy can both be read: which of them is damaged is unknown
    """
    copies, n_rows = consolidated_metadata(path), n_complete_rows(read_journal(path))
    for damage in [damage for damage in damages if damage.array in row_arrays(plan)]:
        if damage.fault == DIFFERENT or damage.array not in copies:
            raise InputError(
                "LP416", f"{path}: {damage.summary()}. It can't be repaired: extract anew and name another --out."
            )
        content = copies[damage.array]
        content["shape"][0] = n_rows
        replace_file(path / damage.array / METADATA, json.dumps(content, indent=2), durable=True)
    if any(damage.array not in row_arrays(plan) for damage in damages):
        create_labels(path, open_group(path, "r+"), plan)
    consolidate(path)


def rewrite_block(path: Path, block: int, columns: dict[str, np.ndarray]) -> None:
    """Write a block anew, whatever its files contain now.

    Args:
        path: of the cache
        block: its number
        columns: of its rows, for each of `row_arrays`: "" and NaN for removed rows
    """
    group = open_group(path, "r+")
    n = len(columns["utterance_id"])
    rows = slice(block * BLOCK, block * BLOCK + n)
    for name, values in columns.items():
        array, file = open_array(group, name), block_file(path, name, block)
        if array.shape[0] < rows.stop:
            array.resize((rows.stop, *array.shape[1:]))
        file.unlink(missing_ok=True)  # a part of a block would be read before it is written
        array[rows] = values
        make_durable(file)
        make_durable(path / name / METADATA)
    consolidate(path)
    append_block(path, BlockLine(block, n, {name: digest_of(block_file(path, name, block)) for name in columns}))
