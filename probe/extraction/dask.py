"""A cluster fills a cache: shares are tasks of Dask, begun again where a worker dies (needs ``distributed``).

Workers need the same packages, the manifest and its sounds at the same paths, and the cache's folder to write to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from layerprobe.probe.dask_client import RETRIES, cluster, n_workers
from layerprobe.probe.data.read import read_manifest
from layerprobe.probe.data.schema import Manifest
from layerprobe.probe.encoders.base import Upstream
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.multiprocess import ExtractionJob
from layerprobe.probe.extraction.shards import Shard, divided, extract_shard, merge
from layerprobe.probe.progress import NullProgress

SHARES_A_WORKER = 4  # so that no worker waits long for the slowest
ROWS_A_SHARE = 2_048  # at most about so many


def extract_on_dask(asked: ExtractionJob, scheduler: str, *, progress: NullProgress | None = None) -> int:
    """Fill the shares on a cluster and merge them here; what is there already is kept.

    Args:
        asked: for what; paths as the workers see them
        scheduler: its address, ``tcp://host:8786``
        progress: receives the progress

    Returns:
        rows that were added

    Raises:
        InputError: if Dask is not installed, the scheduler does not answer, or what a share says
    """
    progress = progress or NullProgress()
    manifest = read_manifest(asked.manifest, speakers=asked.speakers)
    with cluster(scheduler, progress) as client:
        from distributed import as_completed

        workers = n_workers(client)
        n = divided(asked.out) or max(SHARES_A_WORKER * workers, -(-len(manifest.table) // ROWS_A_SHARE))
        n = min(n, max(1, len(manifest.table)))
        shards = [Shard(k, n) for k in range(1, n + 1)]
        tasks = client.map(_fill, [asked] * n, shards, retries=RETRIES, pure=False, key=[f"share {s}" for s in shards])
        progress.log(f"{workers} workers load {asked.encoder} and fill {n} shares …")
        progress.begin("extract", n, "shares")
        try:
            for task in as_completed(tasks):  # type: ignore[no-untyped-call]
                fault = task.exception()
                if fault is not None:
                    raise InputError(f"{task.key}: {fault}") from fault
                progress.advance(1, f"{workers} workers")
        finally:
            progress.end()
    return merge(asked.out, manifest, progress=progress)


def _fill(asked: ExtractionJob, shard: Shard) -> int:
    manifest = _manifest(str(asked.manifest), asked.speakers)
    encoder = _encoder(asked.encoder, tuple(sorted(asked.loading.items())))
    return extract_shard(manifest, encoder, asked.out, shard, **asked.extracting).n_extracted


@lru_cache(maxsize=1)
def _manifest(path: str, speakers: bool) -> Manifest:
    return read_manifest(path, speakers=speakers)


@lru_cache(maxsize=1)
def _encoder(name: str, loading: tuple[tuple[str, Any], ...]) -> Upstream:
    """Loaded once by each worker."""
    return load_encoder(name, **dict(loading))
