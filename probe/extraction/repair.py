"""Stage: what is damaged in a cache is heard again, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.journal import BlockLine, append_block, read_journal, rewrite_journal
from layerprobe.probe.cache.lease import leased
from layerprobe.probe.cache.store import (
    ARRAYS,
    BLOCK,
    CacheMismatchError,
    array_of,
    block_file,
    open_group,
    plan_of,
    read_quarantine,
)
from layerprobe.probe.cache.verify import Damage, ids_of_block, verify
from layerprobe.probe.cache.writer import StorageOverflowError, stored
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import MAX_DURATION, InputReader
from layerprobe.probe.data.schema import TRANSCRIPT, Manifest
from layerprobe.probe.encoders.base import Upstream
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extraction_plan
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.workers import embed_in_order, utterances_at_once
from layerprobe.probe.filesystem import QUARANTINE, QUARANTINE_COLUMNS, connect, digest_of, make_durable, replace_file
from layerprobe.probe.progress import NullProgress


@dataclass(frozen=True)
class Repair:
    """What a repair came to."""

    damages: list[Damage]
    n_encoded: int  # utterances
    lost: pd.DataFrame  # utterance_id, path, reason: those whose sound can't be used any more


def repair(
    path: Path | str,
    manifest: Manifest,
    encoder: Upstream,
    *,
    jobs: int | None = None,
    progress: NullProgress | None = None,
) -> Repair:
    """Hear the utterances of damaged blocks again and write those blocks anew, in their place and order.

    A journal with lines that can't be read is written anew, too: files whose checksums hold are taken as they are.

    Args:
        path: of the cache
        manifest: which holds the damaged utterances
        encoder: that the cache was made with
        jobs: utterances heard at once; None for one a core, or one on a GPU
        progress: receives the progress

    Raises:
        CacheMismatchError: if the encoder is another
        InputError: if there is no cache, it is being written, or it can't be told whose rows are damaged
    """
    path, progress = connect(path), progress or NullProgress()
    plan = plan_of(path, open_group(path, "r"))
    text_column = plan.text_column or TRANSCRIPT
    given = extraction_plan(encoder, poolings=plan.poolings, text_column=text_column, storage_dtype=plan.storage_dtype)
    if plan != given:
        raise CacheMismatchError(path, plan, given, mend="A repair needs what the cache was made with.")
    with leased(path):
        _mend_journal(path)
        damages = verify(path, progress=progress)
        ids = _whose(path, manifest, sorted({d.block for d in damages}))
        hashes = AudioHashes(path if encoder.reads == "audio" else None)
        source = make_input_reader(encoder, manifest.table, hashes, text_column=text_column, max_duration=MAX_DURATION)
        jobs = jobs or utterances_at_once(encoder)
        progress.begin("repair", sum(map(len, ids.values())), "utterances")
        lost: list[tuple[str, str, str]] = []
        try:
            for block, names in ids.items():
                lost += _mended(path, block, names, manifest, encoder, source, jobs, progress)
        finally:
            progress.end()
        if lost:
            rows = [*read_quarantine(path).itertuples(index=False, name=None), *lost]
            table = pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS))
            replace_file(path / QUARANTINE, table.to_csv(index=False, lineterminator="\n"))
    n_encoded = sum(sum(map(bool, names)) for names in ids.values()) - len(lost)
    return Repair(damages, n_encoded, pd.DataFrame(lost, columns=list(QUARANTINE_COLUMNS)))


def _mended(
    path: Path, block: int, ids: list[str], manifest: Manifest, encoder: Upstream, source: InputReader, jobs: int,
    progress: NullProgress,
) -> list[tuple[str, str, str]]:  # fmt: skip
    plan = plan_of(path, open_group(path, "r"))
    place = {name: k for k, name in enumerate(ids) if name}
    table = manifest.table.set_index("utterance_id", drop=False).loc[list(place)]
    rows = np.zeros((len(ids), len(plan.layers), len(plan.poolings), encoder.dim), dtype=plan.storage_dtype)
    sounds, lost = [""] * len(ids), []
    for heard in embed_in_order(table, encoder, source, poolings=plan.poolings, jobs=jobs, loaders=2):
        name = str(heard.row["utterance_id"])
        reason = heard.reason
        if heard.embeddings is not None:
            try:
                rows[place[name]] = stored(heard.embeddings, plan.storage_dtype)
                sounds[place[name]] = heard.content
            except StorageOverflowError as error:
                reason = str(error)
        if reason:
            ids[place[name]] = ""
            lost.append((name, str(heard.row["path"]), reason))
        progress.advance(1, f"{len(lost)} lost")
    _rewrite_block(path, block, ids, sounds, rows)
    return lost


def _whose(path: Path, manifest: Manifest, blocks: list[int]) -> dict[int, list[str]]:
    """The ids of each damaged block's rows; where those are lost, what the manifest has and no other block."""
    lines = read_journal(path)
    known = {block: ids_of_block(path, line) for block, line in lines.items()}
    taken = {name for ids in known.values() for name in ids or ()} | set(read_quarantine(path)["utterance_id"])
    nameless = [block for block in blocks if known[block] is None]
    spare = [name for name in manifest.table["utterance_id"] if name not in taken]
    n_needed = sum(lines[block].rows for block in nameless)
    if nameless and len(spare) != n_needed:
        raise InputError(
            f"{path}: {n_needed} rows from {nameless[0] * BLOCK} on have lost their names, and {len(spare)} utterances "
            f"of the manifest could be theirs. Give the manifest that it was extracted from, or name another --out."
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
            f"{len(missing)} damaged utterances are not in the manifest, {min(missing)} first. Give the manifest that "
            f"{path} was extracted from."
        )
    return found


def _mend_journal(path: Path) -> None:
    """Name every block again; of one whose line is lost the files are taken as they are, if their checksums hold."""
    lines = read_journal(path, mending=True)
    whole = [lines.get(k, BlockLine(k, BLOCK)) for k in range(max(lines, default=-1) + 1)]
    rewrite_journal(path, whole)


def _rewrite_block(path: Path, block: int, ids: list[str], sounds: list[str], embeddings: np.ndarray) -> None:
    """Write a block anew, whatever its files hold now.

    Args:
        path: of the cache
        block: its number
        ids: of its rows, "" for those that are taken out
        sounds: what each row was made from
        embeddings: ``(n_rows, n_layers, n_poolings, dim)``
    """
    group = open_group(path, "r+")
    rows = slice(block * BLOCK, block * BLOCK + len(ids))
    columns = (embeddings, np.array(ids, dtype=object), np.array(sounds, dtype=object))
    for name, values in zip(ARRAYS, columns, strict=True):
        array, file = array_of(group, name), block_file(path, name, block)
        if array.shape[0] < rows.stop:
            array.resize((rows.stop, *array.shape[1:]))
        file.unlink(missing_ok=True)  # a part of a block would be read before it is written
        array[rows] = values
        make_durable(file)
        make_durable(path / name / "zarr.json")
    append_block(path, BlockLine(block, len(ids), {name: digest_of(block_file(path, name, block)) for name in ARRAYS}))
