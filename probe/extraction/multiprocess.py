"""Several processes fill a cache, each its share, with an encoder and a GPU of its own where there are some."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from layerprobe.probe.data.read import read_manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.shards import Shard, merge
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import cores


@dataclass(frozen=True)
class ExtractionJob:
    """What each process is asked for."""

    manifest: Path
    speakers: bool  # whether talkers must be known
    encoder: str
    loading: dict[str, Any]  # of `probe.encoders.loading.load_encoder`
    out: Path
    extracting: dict[str, Any]  # of `probe.extraction.extract.extract`


def extract_in_processes(asked: ExtractionJob, n: int, *, progress: NullProgress | None = None) -> int:
    """Fill the shares and merge them; what is there already is kept. The same bytes as from one process, on the CPU.

    Args:
        asked: for what
        n: processes
        progress: receives the progress

    Returns:
        rows that were added

    Raises:
        InputError: what a process says, or that one died
    """
    progress = progress or NullProgress()
    checked = read_manifest(asked.manifest, speakers=asked.speakers)
    progress.log(f"{n} processes load {asked.encoder} …")
    context = get_context("spawn")
    running = []
    for k in range(n):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_fill, args=(asked, Shard(k + 1, n), theirs), daemon=False)
        process.start()
        theirs.close()
        running.append((Shard(k + 1, n), process, ours))
    progress.begin("extract", len(checked.table), "utterances")
    faults: dict[int, str] = {}  # by share: the first is told, whoever says its own first
    try:
        open_pipes = {pipe: shard for shard, _, pipe in running}
        while open_pipes:
            for pipe in wait(list(open_pipes)):
                assert isinstance(pipe, Connection)
                try:
                    told = pipe.recv()
                except EOFError:  # its process has ended
                    del open_pipes[pipe]
                    continue
                if isinstance(told, _Said):
                    progress.log(f"share {open_pipes[pipe]}: {told.text}")
                elif isinstance(told, str):
                    faults[open_pipes[pipe].number] = f"share {open_pipes[pipe]}: {told}"
                else:
                    progress.advance(told, f"{n} processes")
    finally:
        progress.end()
        for _, process, _ in running:
            process.join()  # after Ctrl-C, too, which they hear as well: they keep what they have
    for shard, process, _ in running:
        if process.exitcode:
            died = f"The process of share {shard} died ({process.exitcode}). Run the same command again."
            faults.setdefault(shard.number, died)
    if faults:
        raise InputError(faults[min(faults)])
    return merge(asked.out, checked, progress=progress)


@dataclass(frozen=True)
class _Said:
    text: str


class _Counted(NullProgress):
    """Tells the process that began this one how many utterances are done; the first share also what it foresees."""

    def __init__(self, pipe: Connection, *, speaks: bool) -> None:
        self._pipe, self._speaks, self._task = pipe, speaks, ""

    def log(self, line: str) -> None:
        if self._speaks:
            self._pipe.send(_Said(line))

    def begin(self, task: str, total: float, unit: str) -> None:  # noqa: ARG002 - of Silent
        self._task = task

    def advance(self, amount: float = 1.0, note: str = "") -> None:  # noqa: ARG002 - of Silent
        if self._task == "extract":
            self._pipe.send(amount)


def _fill(asked: ExtractionJob, shard: Shard, said: Connection) -> None:
    import torch

    from layerprobe.probe.encoders.loading import load_encoder
    from layerprobe.probe.extraction.shards import extract_shard

    try:
        device = asked.loading.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda":
            device = f"cuda:{(shard.number - 1) % torch.cuda.device_count()}"
        jobs = asked.extracting.get("jobs") or (max(1, cores() // shard.of) if device == "cpu" else None)
        manifest = read_manifest(asked.manifest, speakers=asked.speakers)
        encoder = load_encoder(asked.encoder, **asked.loading | {"device": device})
        choices = asked.extracting | {"jobs": jobs, "progress": _Counted(said, speaks=shard.number == 1)}
        extract_shard(manifest, encoder, asked.out, shard, **choices)
    except InputError as error:
        said.send(str(error))
    except KeyboardInterrupt:
        said.send("Interrupted. What was finished is kept; run the same command to go on.")
    finally:
        said.close()
