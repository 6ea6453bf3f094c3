"""Stage: encode the utterances of damaged blocks of a cache again, and no others."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.create import create_labels
from layerprobe.probe.cache.generation import CacheChangedError, rewritten
from layerprobe.probe.cache.journal import (
    FILES,
    BlockLine,
    append_block,
    n_complete_rows,
    read_journal,
    rewrite_journal,
)
from layerprobe.probe.cache.layout import (
    ARRAYS,
    METADATA,
    CacheMismatchError,
    block_file,
    consolidate,
    consolidated_metadata,
    open_array,
    open_group,
    read_plan,
    read_quarantine,
    write_quarantine,
)
from layerprobe.probe.cache.lease import leased
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.storage import StorageOverflowError, stored
from layerprobe.probe.cache.store import BLOCK
from layerprobe.probe.cache.verify import DIFFERENT, Damage, block_ids, verify
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import InputReader
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Manifest
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.workers import embed_in_order
from layerprobe.probe.extraction.first_utterance import check_first_utterance
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.settings import check_parallelism, extraction_plan, settings_in
from layerprobe.probe.filesystem import QUARANTINE_COLUMNS, connect, digest_of, make_durable, replace_file
from layerprobe.probe.progress import NullProgress


@dataclass(frozen=True)
class Repair:
    """The result of a repair."""

    damages: list[Damage]
    n_encoded: int  # utterances
    lost: pd.DataFrame  # utterance_id, path, reason: utterances whose input can't be used any more


def repair(
    path: Path | str,
    manifest: Manifest,
    encoder: AnyEncoder,
    *,
    jobs: int | None = None,
    progress: NullProgress | None = None,
) -> Repair:
    """Encode the utterances of damaged blocks again and rewrite those blocks, rows in the same order.

    A journal with unreadable lines is rewritten, too: files whose checksums match are taken as they are. Names of
    layers and poolings are written anew from the plan if they are damaged; other metadata are restored from their copy.

    Args:
        path: of the cache
        manifest: contains the utterances of damaged blocks
        encoder: with which the cache was made
        jobs: utterances encoded in parallel; None for one per core, or one on a GPU
        progress: receives the progress

    Raises:
        CacheMismatchError: if the encoder is another
        InputError: if there is no cache, it is being written, the utterances of damaged rows can't be determined,
            ``jobs`` has no effect, or the forward pass differs from transformers' on the first utterance
    """
    path, progress = connect(path), progress or NullProgress()
    plan = read_plan(path, open_group(path, "r"))
    check_parallelism(encoder, replace(settings_in(plan), jobs=jobs))
    given = extraction_plan(encoder, settings_in(plan))
    if plan != given:
        raise CacheMismatchError(path, plan, given, advice="A repair needs the encoder that the cache was made with.")
    if isinstance(encoder, SpeechEncoder) and encoder.preprocessing_note:
        progress.log(encoder.preprocessing_note)
    with leased(path):
        if read_plan(path, open_group(path, "r")) != plan:
            raise CacheChangedError(path)
        _repair_journal(path)
        damages = verify(path, progress=progress)
        if not damages:
            return Repair([], 0, pd.DataFrame(columns=list(QUARANTINE_COLUMNS)))
        check_first_utterance(encoder, manifest.table, text_column=plan.text_column or TRANSCRIPT)
        with rewritten(path):
            return _repair_files(path, damages, manifest, encoder, jobs, progress)


def _repair_files(
    path: Path, damages: list[Damage], manifest: Manifest, encoder: AnyEncoder, jobs: int | None, progress: NullProgress
) -> Repair:
    plan = read_plan(path, open_group(path, "r"))
    of_metadata = [damage for damage in damages if damage.block is None]
    if of_metadata:
        _repair_metadata(path, plan, of_metadata)
        damages = of_metadata + verify(path, progress=progress)
    ids = _utterances_of_blocks(path, manifest, sorted({d.block for d in damages if d.block is not None}))
    hashes = AudioHashes(path / FILES if encoder.reads == "audio" else None)
    reader = make_input_reader(encoder, manifest.table, hashes, settings_in(plan))
    progress.begin("repair", sum(map(len, ids.values())), "utterances")
    lost: list[tuple[str, str, str]] = []
    try:
        for block, names in ids.items():
            lost += _encode_block(path, block, names, manifest, encoder, reader, jobs, progress)
    finally:
        progress.end()
    if lost:
        write_quarantine(path, [*read_quarantine(path).itertuples(index=False, name=None), *lost])
    n_encoded = sum(sum(map(bool, names)) for names in ids.values())
    return Repair(damages, n_encoded, pd.DataFrame(lost, columns=list(QUARANTINE_COLUMNS)))


def _encode_block(
    path: Path, block: int, ids: list[str], manifest: Manifest, encoder: AnyEncoder, reader: InputReader,
    jobs: int | None, progress: NullProgress,
) -> list[tuple[str, str, str]]:  # fmt: skip
    plan = read_plan(path, open_group(path, "r"))
    row_of = {name: k for k, name in enumerate(ids) if name}
    table = manifest.table.set_index("utterance_id", drop=False).loc[list(row_of)]
    shape = (len(ids), len(plan.layers), len(plan.poolings), encoder.dim)
    rows = np.full(shape, np.nan, dtype=plan.storage_dtype)  # as of removed rows
    digests, lost = [""] * len(ids), []
    for embedded in embed_in_order(table, encoder, reader, poolings=plan.poolings, jobs=jobs, log=progress.log):
        name = str(embedded.row["utterance_id"])
        reason = embedded.reason
        if embedded.embeddings is not None:
            try:
                rows[row_of[name]] = stored(embedded.embeddings, plan.storage_dtype)
                digests[row_of[name]] = embedded.content
            except StorageOverflowError as error:
                reason = str(error)
        if reason:
            ids[row_of[name]] = ""
            lost.append((name, str(embedded.row["path"]), reason))
        progress.advance(1, f"{len(lost)} lost")
    _rewrite_block(path, block, ids, digests, rows)
    return lost


def _utterances_of_blocks(path: Path, manifest: Manifest, blocks: list[int]) -> dict[int, list[str]]:
    """Return the utterance ids of each damaged block's rows; lost ids are those that are in no other block."""
    lines = read_journal(path)
    known = {block: block_ids(path, line) for block, line in lines.items()}
    taken = {name for ids in known.values() for name in ids or ()} | set(read_quarantine(path)["utterance_id"])
    nameless = [block for block in blocks if known[block] is None]
    spare = [name for name in manifest.table["utterance_id"] if name not in taken]
    n_needed = sum(lines[block].rows for block in nameless)
    if nameless and len(spare) != n_needed:
        raise InputError(
            "LP415",
            f"{path}: {n_needed} rows from {nameless[0] * BLOCK} on have lost their ids, and {len(spare)} utterances "
            "of the manifest are in no other row. Give the manifest that it was extracted from, or name another --out.",
        )
    found: dict[int, list[str]] = {}
    for block in blocks:
        ids = known[block]
        if ids is None:
            ids, spare = tuple(spare[: lines[block].rows]), spare[lines[block].rows :]
        found[block] = list(ids)
    missing = {u for ids in found.values() for u in ids if u} - set(manifest.table["utterance_id"])
    if missing:
        raise InputError(
            "LP415",
            f"{len(missing)} damaged utterances are not in the manifest (first: {min(missing)}). Give the manifest "
            f"that {path} was extracted from.",
        )
    return found


def _repair_metadata(path: Path, plan: ExtractionPlan, damages: list[Damage]) -> None:
    """Restore the metadata of arrays from their copy in the group, and write names of layers and poolings anew.

    Raises:
        InputError: if the metadata of an array and their copy can both be read: which of them is damaged is unknown
    """
    copies, n_rows = consolidated_metadata(path), n_complete_rows(read_journal(path))
    for damage in [damage for damage in damages if damage.array in ARRAYS]:
        if damage.fault == DIFFERENT or damage.array not in copies:
            raise InputError(
                "LP416", f"{path}: {damage.summary()}. It can't be repaired: extract anew and name another --out."
            )
        content = copies[damage.array]
        content["shape"][0] = n_rows
        replace_file(path / damage.array / METADATA, json.dumps(content, indent=2), durable=True)
    if any(damage.array not in ARRAYS for damage in damages):
        create_labels(path, open_group(path, "r+"), plan)
    consolidate(path)


def _repair_journal(path: Path) -> None:
    """Name every block again; where an entry is lost, the files are taken as they are if their checksums match."""
    lines = read_journal(path, tolerant=True)
    complete = [lines.get(k, BlockLine(k, BLOCK)) for k in range(max(lines, default=-1) + 1)]
    rewrite_journal(path, complete)


def _rewrite_block(path: Path, block: int, ids: list[str], digests: list[str], embeddings: np.ndarray) -> None:
    """Write a block anew, whatever its files contain now.

    Args:
        path: of the cache
        block: its number
        ids: of its rows, "" for removed rows
        digests: hash of the input that each row was made from, "" for removed rows
        embeddings: ``(n_rows, n_layers, n_poolings, dim)``, NaN for removed rows
    """
    group = open_group(path, "r+")
    rows = slice(block * BLOCK, block * BLOCK + len(ids))
    columns = (embeddings, np.array(ids, dtype=object), np.array(digests, dtype=object))
    for name, values in zip(ARRAYS, columns, strict=True):
        array, file = open_array(group, name), block_file(path, name, block)
        if array.shape[0] < rows.stop:
            array.resize((rows.stop, *array.shape[1:]))
        file.unlink(missing_ok=True)  # a part of a block would be read before it is written
        array[rows] = values
        make_durable(file)
        make_durable(path / name / METADATA)
    consolidate(path)
    append_block(path, BlockLine(block, len(ids), {name: digest_of(block_file(path, name, block)) for name in ARRAYS}))
