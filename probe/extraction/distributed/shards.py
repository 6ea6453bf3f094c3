"""Extraction by many processes: each fills a cache of its own with a shard of the manifest, and these are merged.

The shards of ``NAME.zarr`` lie in ``NAME.zarr.shards``. They are ordinary caches, each with its own lock, which ends
with the process that holds it; a partial shard is resumed like any cache. Merged in the manifest's order they give the
bytes that one process would have written, where utterances are encoded one by one.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.journal import JOURNAL
from layerprobe.probe.cache.layout import CacheMismatchError, check_format, read_quarantine
from layerprobe.probe.cache.lease import leased
from layerprobe.probe.cache.store import BLOCK, Cache, open_cache
from layerprobe.probe.cache.unfinished_repair import finish_repair
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.data.spans import unused_sentence
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import Extraction, run_extraction
from layerprobe.probe.extraction.remarks import AudioRemarks
from layerprobe.probe.extraction.settings import DEFAULT_SETTINGS, ExtractionSettings, extraction_plan
from layerprobe.probe.filesystem import connect, is_remote, remove
from layerprobe.probe.progress import NullProgress


class ShardError(InputError):
    """A fault in another process, which filled a shard; its code is that of the fault."""

    def __init__(self, shard: str, code: str, message: str) -> None:
        """Name the shard, and state the code and the message of its fault."""
        super().__init__(code, f"{shard}: {message}")


@dataclass(frozen=True)
class Shard:
    """One of several consecutive parts of a manifest."""

    number: int  # from 1
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a text such as ``3/16``.

        Raises:
            InputError: if it is no shard
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise InputError("LP450", f"{text!r} is no shard. Write NUMBER/OF, such as 3/16; the first is 1/16.")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        """Return the shard as text such as ``3/16``."""
        return f"{self.number}/{self.of}"

    def of_table(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the shard's rows of a table, which are consecutive; every row is in exactly one shard."""
        begin, end = ((n * len(table)) // self.of for n in (self.number - 1, self.number))
        return table.iloc[begin:end]

    def path(self, out: Path) -> Path:
        """Return the path of the shard's cache."""
        return _folder(out) / f"{self.number:04d}-of-{self.of:04d}.zarr"


def extract_shard(
    manifest: Manifest,
    encoder: AnyEncoder,
    out: Path | str,
    shard: Shard,
    settings: ExtractionSettings = DEFAULT_SETTINGS,
    *,
    progress: NullProgress | None = None,
) -> Extraction:
    """Extract a shard of a manifest, except utterances that the cache at ``out`` has already.

    Args:
        manifest: the whole manifest, the same for every shard
        encoder: of speech or text
        out: the cache that `merge` will create or extend
        shard: the one to extract
        settings: poolings, storage and parallelism
        progress: receives the progress

    Raises:
        CacheMismatchError, InputError: as `extract` does, and if ``out`` was split into another number of shards before
    """
    out = connect(out)
    check_format(out)
    of = n_shards(out)
    if of not in (0, shard.of):
        raise InputError(
            "LP451", f"{_folder(out)} holds {of} shards, not {shard.of}. Use --shard NUMBER/{of}, or merge these first."
        )
    elsewhere: dict[str, str] = {}
    if (out / JOURNAL).exists():
        cache = open_cache(out)
        elsewhere = cache.contents
        plan = extraction_plan(encoder, settings)
        if plan != cache.plan:
            raise CacheMismatchError(out, cache.plan, plan)
    path = shard.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = replace(manifest, table=shard.of_table(manifest.table).reset_index(drop=True))
    spans = None if settings.spans is None else settings.spans.read(manifest.table)
    return run_extraction(
        part, encoder, path, settings, elsewhere=elsewhere, n_shards=shard.of, spans=spans, progress=progress
    )


def log_unused(settings: ExtractionSettings, manifest: Manifest, progress: NullProgress) -> None:
    """Log how many entries of the spans are of no utterance.

    Raises:
        InputError: if the spans can't be read, which shows before any process is started
    """
    sentence = "" if settings.spans is None else unused_sentence(settings.spans.read(manifest.table))
    if sentence:
        progress.log(sentence)


def merge(out: Path | str, manifest: Manifest, *, progress: NullProgress | None = None) -> int:
    """Merge all shards into one cache, in the manifest's order, and return how many rows were added.

    A shard is removed once its rows are durable, so that the disk holds all of them once and one of them twice. A kill
    leaves the other shards and a cache that the next merge resumes.

    Raises:
        InputError: naming the shards that are missing or incomplete, or one that is being filled
        CacheMismatchError: if the shards were made under different plans
    """
    out, progress = connect(out), progress or NullProgress()
    shards = _found(out)
    if not shards:
        raise InputError("LP452", f"{_folder(out)} holds no shards. Fill them with layerprobe extract … --shard 1/N.")
    with ExitStack() as held:
        for shard in shards:  # nothing is added to one after it was read and before it is removed
            held.enter_context(leased(shard.path(out)))
        return _merge(out, shards, manifest, progress)


def _merge(out: Path, shards: list[Shard], manifest: Manifest, progress: NullProgress) -> int:
    caches = [open_cache(shard.path(out)) for shard in shards]
    _check_complete(out, shards, caches, manifest)
    for cache in caches[1:]:
        if cache.plan != caches[0].plan:
            raise CacheMismatchError(
                cache.path, cache.plan, caches[0].plan, advice="Delete it and fill it like the others."
            )
    refilled = {name for c in caches for name in (*c.contents, *c.quarantine["utterance_id"])}
    before = read_quarantine(out)
    gone = ~before["utterance_id"].isin(list(refilled)) & before["utterance_id"].isin(manifest.table["utterance_id"])
    before = before[gone]  # of shards that were merged and removed
    added = 0
    progress.begin("merge", sum(len(c.utterance_ids) for c in caches), "rows")
    try:
        first = caches[0]
        with CacheWriter(out, first.plan, dim=first.dim, encoder_folder=first.encoder_folder) as writer:
            remarks = AudioRemarks(writer.path)
            for row in before.itertuples(index=False, name=None):
                writer.refuse(*row)
            known = writer.cached
            changed = {name for c in caches for name, content in c.contents.items() if known.get(name) != content}
            writer.replaceable = changed | {name for c in caches for name in c.quarantine["utterance_id"]}
            for cache in caches:
                added += _add(cache, writer, progress)
                remarks.take_over(cache)
                remarks.save()  # before the shard is removed
                for row in cache.quarantine.itertuples(index=False, name=None):
                    writer.refuse(*row)
                writer.flush()
                _remove_shard(cache.path)
            remarks.keep(writer.cached)
            remarks.save()
        finish_repair(out, set(manifest.table["utterance_id"]))
    finally:
        progress.end()
    for shard in (Shard(number, shards[0].of) for number in range(1, shards[0].of + 1)):
        _remove_shard(shard.path(out))  # remains of one that was merged before a kill
    if not is_remote(out) and not any(_folder(out).iterdir()):
        _folder(out).rmdir()
    return added


def _add(cache: Cache, writer: CacheWriter, progress: NullProgress) -> int:
    known, added = writer.cached, 0
    parents = cache.utterance_ids if cache.spans is None else cache.spans.parent
    if cache.spans is not None:  # spans that an utterance had before may have other ids
        changed = {name for name, content in cache.contents.items() if known.get(name) != content}
        writer.drop(changed & writer.utterances)
    for begin in range(0, len(cache.utterance_ids), BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, len(cache.utterance_ids)))
        rows = rows[[known.get(parents[k]) != cache.audio_hashes[k] for k in rows]]
        if len(rows):
            for k, embeddings in zip(rows, cache.read_rows(rows), strict=True):
                span = None if cache.spans is None else cache.spans[int(k)]
                writer.append(str(cache.utterance_ids[k]), str(cache.audio_hashes[k]), embeddings, span)
            added += len(rows)
        progress.advance(min(BLOCK, len(cache.utterance_ids) - begin))
    return added


def _check_complete(out: Path, shards: list[Shard], caches: list[Cache], manifest: Manifest) -> None:
    of = shards[0].of
    merged = open_cache(out) if (out / JOURNAL).exists() else None
    cached = set() if merged is None else set(merged.contents)
    refused = set() if merged is None else set(merged.quarantine["utterance_id"])
    by_shard = dict(zip(shards, caches, strict=True))
    lacking = []
    for number in range(1, of + 1):
        shard = Shard(number, of)
        wanted = set(shard.of_table(manifest.table)["utterance_id"]) - cached
        cache = by_shard.get(shard)
        done = refused if cache is None else {*cache.contents, *cache.quarantine["utterance_id"]}
        if wanted - done:
            lacking.append(f"{shard} ({len(wanted - done)} of {len(wanted)} utterances)")
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise InputError(
            "LP453",
            f"{out}: some shards are incomplete: {', '.join(lacking[:3])}{more}. Run layerprobe extract with --shard "
            f"{lacking[0].split()[0]} again.",
        )


def _remove_shard(path: Path) -> None:
    """Remove a merged shard; no process finds it any more, even if a kill leaves some of its files."""
    if is_remote(path):
        (path / JOURNAL).unlink(missing_ok=True)
        if path.exists():
            remove(path)
        return
    gone = path.with_suffix(".merged")
    if gone.exists():  # since a kill
        remove(gone)
    if path.exists():
        path.rename(gone)
        remove(gone)


def n_shards(out: Path) -> int:
    """Return into how many shards a cache was split; 0 if there are none."""
    return max((shard.of for shard in _found(out)), default=0)


def _found(out: Path) -> list[Shard]:
    names = [path.stem.split("-of-") for path in _folder(out).glob("*-of-*.zarr") if (path / JOURNAL).exists()]
    return sorted((Shard(int(number), int(of)) for number, of in names), key=lambda s: s.number)


def _folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.shards")
