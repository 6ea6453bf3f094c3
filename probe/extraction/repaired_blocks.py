"""Parts of a repair: blocks written anew whatever their files contain, and metadata restored from their copies."""

from __future__ import annotations

import json
from collections import Counter
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
from layerprobe.probe.cache.spans import NUMBERS, n_spans_in, spans_content, spans_part
from layerprobe.probe.cache.store import BLOCK
from layerprobe.probe.cache.unfinished_repair import UnfinishedRepair, finish_repair
from layerprobe.probe.cache.verify import DIFFERENT, Damage, file_damages
from layerprobe.probe.data.audio_hashes import records
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.data.spans import SpanSource, TimedSpan
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


def empty_damaged_blocks(
    path: Path, damages: list[Damage], manifest: Manifest, spans: SpanSource, unfinished: UnfinishedRepair
) -> UnfinishedRepair:
    """Remove every row of the damaged blocks of a span cache, and return the utterances that had spans there.

    Where the parents of a block's rows can't be read, these are the utterances of the manifest that have spans, no row
    in any other block, and are not quarantined. Nothing is removed before all of them are named on the disk.

    Args:
        path: of the cache
        damages: of its files
        manifest: that it was extracted from
        spans: of the manifest
        unfinished: an earlier repair, whose utterances are added

    Raises:
        InputError: if the metadata of an array can't be restored, an utterance is not in the manifest, or the spans are
            not those that the cache was extracted with
    """
    plan = read_plan(path, open_group(path, "r"))
    of_metadata = [damage for damage in damages if damage.block is None]
    if of_metadata:
        with rewritten(path):
            repair_metadata(path, plan, of_metadata)
        damages = file_damages(path)
    lines, group = read_journal(path), open_group(path, "r")
    damaged = {d.block for d in damages if d.block is not None}
    nameless = {d.block for d in damages if d.array in ("parent", "utterance_id")}
    parents = {block: _values(path, line, "parent", nameless) for block, line in lines.items()}
    names = {normalise_name(name) for block in damaged for name in parents[block]} | unfinished.utterances
    refused = read_quarantine(path)
    given = {str(row["utterance_id"]): spans.given(row) for row in records(manifest.table)}
    if nameless:
        held = {normalise_name(name) for block in set(lines) - damaged for name in parents[block]}
        names |= {name for name, own in given.items() if own != ()} - held - set(refused["utterance_id"])
    if missing := names - set(given):
        raise InputError(
            "LP415",
            f"{len(missing)} damaged utterances are not in the manifest (first: {min(missing)}). Give the manifest "
            f"that {path} was extracted from.",
        )
    unreadable = {d.block for d in damages if d.array == "audio_hash"}
    stated = _spans_of_blocks({k: _values(path, line, "audio_hash", unreadable) for k, line in lines.items()}, damaged)
    lost = UnfinishedRepair(
        frozenset(names),
        stated | unfinished.spans,
        unfinished.quarantine or tuple(refused.itertuples(index=False, name=None)),
    )
    _check_spans(path, lost, given, spans)
    lost.write(path)
    with rewritten(path):
        for block in sorted(damaged):
            shape = open_array(group, "embeddings").shape[1:]
            rewrite_block(path, block, _removed(plan, lines[block].rows, shape))
    return lost


def _check_spans(
    path: Path, lost: UnfinishedRepair, given: dict[str, tuple[TimedSpan, ...] | None], spans: SpanSource
) -> None:
    """Check that the spans of lost utterances are those that they were extracted with; windows are, by the plan.

    Raises:
        InputError: if they are not
    """
    of_file = {name: own for name in lost.utterances if (own := given[name]) is not None}
    none = sorted(name for name, own in of_file.items() if not own)
    others = lost.spans - {spans_part(spans_content("", own)) for own in of_file.values()} if of_file else frozenset()
    if none or others:
        what = f"no span of {none[0]}" if none else f"other spans of {len(others)} utterances"
        raise InputError(
            "LP269",
            f"{spans.name} has {what}, which lost theirs in a damaged block of {path}. Give the spans that it was "
            "extracted with.",
        )


def _spans_of_blocks(contents: dict[int, list[str]], blocks: set[int]) -> frozenset[str]:
    """Return number and hash of the spans of each utterance with rows in some blocks; of whole utterances alone.

    Those of which a killed process has written a part may be of another table.
    """
    n_rows = Counter(content for of_block in contents.values() for content in of_block)
    affected = {content for block in blocks for content in contents[block]}
    return frozenset(spans_part(content) for content in affected if n_rows[content] == n_spans_in(content))


def encode_again(
    path: Path,
    damages: list[Damage],
    lost: UnfinishedRepair,
    manifest: Manifest,
    encoder: AnyEncoder,
    settings: ExtractionSettings,
    spans: SpanSource,
    progress: NullProgress,
) -> Repair:
    """Encode utterances of a span cache again, of which spans were in damaged blocks.

    Raises:
        InputError: as `run_extraction` does
    """
    rows = manifest.table["utterance_id"].isin(list(lost.utterances))
    part = replace(manifest, table=manifest.table[rows].reset_index(drop=True))
    done = run_extraction(part, encoder, path, settings, spans=spans, progress=progress)
    kept = [row for row in lost.quarantine if row[0] not in lost.utterances]
    write_quarantine(path, [*kept, *done.quarantine.itertuples(index=False, name=None)])
    finish_repair(path)
    return Repair(damages, done.n_extracted, done.quarantine)


def _values(path: Path, line: BlockLine, array: str, unreadable: set[int | None]) -> list[str]:
    """Return the texts of a block's rows that were not removed; none where they can't be read."""
    if line.block in unreadable:
        return []
    begin = line.block * BLOCK
    values = read_array(path, open_array(open_group(path, "r"), array), slice(begin, begin + line.rows))
    return [str(value) for value in values if value]


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
