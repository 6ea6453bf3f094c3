"""Rewriting a cache without its removed rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from layerprobe.probe.cache.compaction import compaction_folders, resume_compaction
from layerprobe.probe.cache.generation import GENERATION
from layerprobe.probe.cache.journal import FILES, JOURNAL
from layerprobe.probe.cache.layout import METADATA
from layerprobe.probe.cache.lease import LEASE, LOCK, leased
from layerprobe.probe.cache.store import BLOCK, Cache, open_cache
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote, size_of

REWRITTEN = {JOURNAL, LOCK, LEASE, GENERATION, f"{FILES}/{METADATA}"}  # the new cache has these; other files are copied


def compact(path: Path) -> int:
    """Rewrite a cache without its removed rows and return the bytes that became free.

    The new cache is written next to the old one and then replaces it, so that a kill leaves one or the other.

    Raises:
        InputError: if ``path`` is no cache, or another process writes to it
        CacheDamagedError: if a row can't be read
    """
    if is_remote(path):
        raise InputError(
            "LP422", f"{path} is in an object store, where a cache can't be replaced at once. Extract it anew."
        )
    resume_compaction(path)
    path = path.resolve()  # of a link the cache is renamed, not the link
    before = size_of(path)
    open_cache(path)  # raises before a lock is put into a folder that is no cache
    fresh, old = compaction_folders(path)
    shutil.rmtree(fresh, ignore_errors=True)
    with leased(path):
        _copy(open_cache(path), fresh)
        for file in (path / FILES).iterdir():  # the quarantine and others
            if file.is_file() and f"{FILES}/{file.name}" not in REWRITTEN:
                shutil.copy2(file, fresh / FILES / file.name)
        path.rename(old)
        fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    return before - size_of(path)


def _copy(cache: Cache, path: Path) -> None:
    with CacheWriter(path, cache.plan, dim=cache.dim, encoder_folder=cache.encoder_folder) as writer:
        for begin in range(0, cache.n_utterances, BLOCK):
            block = np.arange(begin, min(begin + BLOCK, cache.n_utterances))
            for k, row in zip(block, cache.read_rows(block), strict=True):
                span = None if cache.spans is None else cache.spans[int(k)]
                writer.append(cache.utterance_ids[k], cache.audio_hashes[k], row, span)
