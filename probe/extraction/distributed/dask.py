"""Extraction on a Dask cluster: each shard is a task, restarted if its worker dies (needs ``distributed``).

Workers need the same packages, the manifest and its audio files at the same paths, and write access to the cache.
"""

from __future__ import annotations

from functools import lru_cache

from layerprobe.probe.dask_client import RETRIES, cluster, n_workers
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.loading import EncoderSettings
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed.multiprocess import ExtractionJob
from layerprobe.probe.extraction.distributed.shards import Shard, ShardError, extract_shard, log_unused, merge, n_shards
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.progress import NullProgress

SHARDS_PER_WORKER = 4  # so that no worker waits long for the slowest
ROWS_PER_SHARD = 2_048  # about, at most


def extract_on_dask(job: ExtractionJob, scheduler: str, *, progress: NullProgress | None = None) -> int:
    """Fill shards on a cluster and merge them here; existing rows are kept.

    Args:
        job: the extraction, with paths as the workers see them
        scheduler: address of the scheduler, ``tcp://host:8786``
        progress: receives the progress

    Returns:
        number of rows added

    Raises:
        InputError: if Dask is not installed, the scheduler does not answer, or a shard fails
    """
    progress = progress or NullProgress()
    manifest = job.read_manifest()
    log_unused(job.settings, manifest, progress)
    with cluster(scheduler, progress) as client:
        from distributed import as_completed

        workers = n_workers(client)
        n = n_shards(job.out) or max(SHARDS_PER_WORKER * workers, -(-len(manifest.table) // ROWS_PER_SHARD))
        n = min(n, max(1, len(manifest.table)))
        shards = [Shard(k, n) for k in range(1, n + 1)]
        tasks = client.map(_fill, [job] * n, shards, retries=RETRIES, pure=False, key=[f"shard {s}" for s in shards])
        progress.log(f"{workers} workers load {job.encoder.name} and fill {n} shards …")
        progress.begin("extract", n, "shards")
        try:
            for task in as_completed(tasks):  # type: ignore[no-untyped-call]
                fault = task.exception()
                if isinstance(fault, InputError):
                    raise ShardError(task.key, fault.code, fault.message) from fault
                if fault is not None:
                    raise InputError(
                        "LP873",
                        f"{task.key} failed on the cluster: {type(fault).__name__}: {first_line(fault)}. Correct that, "
                        "and run the same command again; finished shards are kept.",
                    ) from fault
                progress.advance(1, f"{workers} workers")
        finally:
            progress.end()
    return merge(job.out, manifest, progress=progress)


def _fill(job: ExtractionJob, shard: Shard) -> int:
    manifest = _manifest(job)
    return extract_shard(manifest, _encoder(job.encoder), job.out, shard, job.settings).n_extracted


@lru_cache(maxsize=1)
def _manifest(job: ExtractionJob) -> Manifest:
    return job.read_manifest()


@lru_cache(maxsize=1)
def _encoder(settings: EncoderSettings) -> AnyEncoder:
    """Load the encoder once per worker."""
    return settings.load(show_download=False)
