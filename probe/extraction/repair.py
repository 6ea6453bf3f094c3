"""Stage: encode the utterances of damaged blocks of a cache again, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.generation import CacheChangedError, rewritten
from layerprobe.probe.cache.journal import (
    FILES,
    BlockLine,
    read_journal,
    rewrite_journal,
)
from layerprobe.probe.cache.layout import (
    CacheMismatchError,
    open_group,
    read_plan,
    read_quarantine,
    write_quarantine,
)
from layerprobe.probe.cache.lease import leased
from layerprobe.probe.cache.storage import StorageOverflowError, stored
from layerprobe.probe.cache.store import BLOCK
from layerprobe.probe.cache.unfinished_repair import UnfinishedRepair
from layerprobe.probe.cache.verify import Damage, block_ids, file_damages
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import InputReader
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Manifest
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.workers import embed_in_order
from layerprobe.probe.extraction.first_utterance import check_first_utterance
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.repaired_blocks import (
    Repair,
    empty_damaged_blocks,
    encode_again,
    repair_metadata,
    rewrite_block,
)
from layerprobe.probe.extraction.settings import check_parallelism, extraction_plan, settings_in
from layerprobe.probe.filesystem import QUARANTINE_COLUMNS, connect
from layerprobe.probe.progress import NullProgress


def repair(
    path: Path | str,
    manifest: Manifest,
    encoder: AnyEncoder,
    *,
    jobs: int | None = None,
    spans: SpanOptions | None = None,
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
        spans: of a span cache, as it was extracted with; windows are known from its plan. Rows of damaged blocks are
            removed, and all spans of their utterances are encoded again. After an error or a kill in between `verify`
            names these utterances, and the next repair resumes
        progress: receives the progress

    Raises:
        CacheMismatchError: if the encoder is another
        InputError: if there is no cache, it is being written, the utterances of damaged rows can't be determined,
            ``jobs`` has no effect, the spans of a span cache are not given or are others, or the forward pass differs
            from transformers' on the first utterance; then no row has been removed
    """
    path, progress = connect(path), progress or NullProgress()
    plan = read_plan(path, open_group(path, "r"))
    settings = replace(settings_in(plan, spans), jobs=jobs)
    check_parallelism(encoder, settings)
    given = extraction_plan(encoder, settings)
    if plan != given:
        raise CacheMismatchError(path, plan, given, advice="A repair needs the encoder that the cache was made with.")
    if isinstance(encoder, SpeechEncoder) and encoder.preprocessing_note:
        progress.log(encoder.preprocessing_note)
    with leased(path):
        if read_plan(path, open_group(path, "r")) != plan:
            raise CacheChangedError(path)
        _repair_journal(path)
        damages, unfinished = file_damages(path, progress=progress), UnfinishedRepair.read(path)
        if not damages and unfinished is None:
            return Repair([], 0, pd.DataFrame(columns=list(QUARANTINE_COLUMNS)))
        check_first_utterance(encoder, manifest.table, text_column=plan.text_column or TRANSCRIPT)
        if settings.spans is not None:
            found = settings.spans.read(manifest.table)
            lost = empty_damaged_blocks(path, damages, manifest, found, unfinished or UnfinishedRepair())
        else:
            with rewritten(path):
                return _repair_files(path, damages, manifest, encoder, jobs, progress)
    return encode_again(path, damages, lost, manifest, encoder, settings, found, progress)


def _repair_files(
    path: Path, damages: list[Damage], manifest: Manifest, encoder: AnyEncoder, jobs: int | None, progress: NullProgress
) -> Repair:
    plan = read_plan(path, open_group(path, "r"))
    of_metadata = [damage for damage in damages if damage.block is None]
    if of_metadata:
        repair_metadata(path, plan, of_metadata)
        damages = of_metadata + file_damages(path, progress=progress)
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
    columns = {
        "embeddings": rows,
        "utterance_id": np.array(ids, dtype=object),
        "audio_hash": np.array(digests, dtype=object),
    }
    rewrite_block(path, block, columns)
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


def _repair_journal(path: Path) -> None:
    """Name every block again; where an entry is lost, the files are taken as they are if their checksums match."""
    lines = read_journal(path, tolerant=True)
    complete = [lines.get(k, BlockLine(k, BLOCK)) for k in range(max(lines, default=-1) + 1)]
    rewrite_journal(path, complete)
