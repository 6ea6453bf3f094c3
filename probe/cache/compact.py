"""A cache is written anew without the rows that were taken out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from layerprobe.probe.cache.journal import JOURNAL
from layerprobe.probe.cache.lease import LEASE, LOCK, leased
from layerprobe.probe.cache.store import BLOCK, Cache, open_cache
from layerprobe.probe.cache.writer import CacheWriter, compaction_folders, resume_compaction
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import is_remote, size_of

OWN = (JOURNAL, LOCK, LEASE, "zarr.json")  # of every store; the rest is carried over


def compact(path: Path) -> int:
    """Give the room of rows that were taken out back; returns the bytes that became free.

    The cache is written anew beside itself and then takes its own place, so that a kill leaves one or the other.

    Raises:
        InputError: if ``path`` is no cache, or another process writes to it
        CacheDamagedError: if a row can't be read
    """
    if is_remote(path):
        raise InputError(f"{path} is in an object store, where nothing takes another's place at once. Extract it anew.")
    resume_compaction(path)
    before = size_of(path)
    open_cache(path)  # refuses what is none before a lock is put there
    fresh, old = compaction_folders(path)
    shutil.rmtree(fresh, ignore_errors=True)
    with leased(path):
        _copy(open_cache(path), fresh)
        for file in path.iterdir():  # the quarantine and what else lies beside the arrays; not what is the copy's own
            if file.is_file() and file.name not in OWN:
                shutil.copy2(file, fresh / file.name)
        path.rename(old)
        fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    return before - size_of(path)


def _copy(cache: Cache, path: Path) -> None:
    with CacheWriter(path, cache.plan, dim=cache.dim) as writer:
        for begin in range(0, len(cache.utterance_ids), BLOCK):
            some = np.arange(begin, min(begin + BLOCK, len(cache.utterance_ids)))
            for k, row in zip(some, cache.read_rows(some), strict=True):
                writer.append(cache.utterance_ids[k], cache.audio_hashes[k], row)
