"""Several processes fill a cache, each its share, with an encoder and a GPU of its own where there are some."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from probe.cores import cores
from probe.errors import InputError
from probe.journal import JOURNAL, n_whole_rows, read_journal
from probe.manifest import read_manifest
from probe.progress import Silent
from probe.shards import Shard, merge

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Asked:
    """What each process is asked for."""

    manifest: Path
    speakers: bool  # whether talkers must be known
    encoder: str
    loading: dict[str, Any]  # of `probe.checkpoint.load_upstream`
    out: Path
    extracting: dict[str, Any]  # of `probe.extract.extract`


def extract_in_processes(asked: Asked, n: int, *, watch: Silent | None = None) -> int:
    """Fill the shares and merge them; what is there already is kept. The same bytes as from one process, on the CPU.

    Args:
        asked: for what
        n: processes
        watch: who is told of the progress

    Returns:
        rows that were added

    Raises:
        InputError: what a process says, or that one died
    """
    watch = watch or Silent()
    checked = read_manifest(asked.manifest, speakers=asked.speakers)
    context = get_context("spawn")
    running = []
    for k in range(n):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_fill, args=(asked, Shard(k + 1, n), theirs), daemon=False)
        process.start()
        theirs.close()
        running.append((Shard(k + 1, n), process, ours))
    watch.begin("extract", len(checked.table), "utterances")
    done = 0
    try:
        for _, process, _ in running:
            while process.is_alive():
                process.join(SECONDS_BETWEEN_LOOKS)
                before, done = done, sum(_rows(shard.path(asked.out)) for shard, _, _ in running)
                watch.advance(done - before, f"{n} processes")
    finally:
        watch.end()
        for _, process, _ in running:
            process.join()  # after Ctrl-C, too, which they hear as well: they keep what they have
    for shard, process, pipe in running:
        try:
            raise InputError(f"share {shard}: {pipe.recv()}")
        except EOFError:
            pass
        if process.exitcode:
            raise InputError(f"The process of share {shard} died ({process.exitcode}). Run the same command again.")
    return merge(asked.out, checked, watch=watch)


def _fill(asked: Asked, shard: Shard, said: Connection) -> None:
    import torch

    from probe.checkpoint import load_upstream
    from probe.shards import extract_shard

    try:
        loading = dict(asked.loading)
        device = loading.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda":
            device = f"cuda:{(shard.number - 1) % torch.cuda.device_count()}"
        loading["device"] = device if asked.encoder != "acoustic" else None
        extracting = dict(asked.extracting)
        if device == "cpu" and not extracting.get("jobs"):
            extracting["jobs"] = max(1, cores() // shard.of)
        manifest = read_manifest(asked.manifest, speakers=asked.speakers)
        encoder = load_upstream(asked.encoder, **loading)
        extract_shard(manifest, encoder, asked.out, shard, **extracting)
    except InputError as error:
        said.send(str(error))
    except KeyboardInterrupt:
        said.send("Interrupted. What was finished is kept; run the same command to go on.")
    finally:
        said.close()


def _rows(path: Path) -> int:
    return n_whole_rows(read_journal(path)) if (path / JOURNAL).exists() else 0
