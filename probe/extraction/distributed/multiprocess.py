"""Extraction by several processes, each with a shard, its own encoder and, where there are several, its own GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any, cast

from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.encoders.loading import EncoderSettings
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.distributed.shards import Shard, ShardError, extract_shard, log_unused, merge
from layerprobe.probe.extraction.encoding.read_ahead import loaders_for
from layerprobe.probe.extraction.settings import DEFAULT_SETTINGS, ExtractionSettings
from layerprobe.probe.interrupts import ignore_signals, release_signals, signals_held_back
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import cores


@dataclass(frozen=True)
class ExtractionJob:
    """An extraction that several processes carry out, as plain values that can be sent to them."""

    manifest: Path
    speakers: bool  # whether speakers must be known
    encoder: EncoderSettings
    out: Path
    settings: ExtractionSettings = DEFAULT_SETTINGS

    def read_manifest(self) -> Manifest:
        """Read the manifest, with the column of texts; names that look alike stay as they are."""
        text = (self.settings.text_column,)
        return read_manifest(self.manifest, speakers=self.speakers, columns=text, join_names=False)


def extract_in_processes(job: ExtractionJob, n: int, *, progress: NullProgress | None = None) -> int:
    """Fill shards and merge them; existing rows are kept.

    Where utterances are encoded singly on the CPU, the bytes are those that one process writes.

    Args:
        job: the extraction
        n: number of processes
        progress: receives the progress

    Returns:
        number of rows added

    Raises:
        InputError: if a process fails or dies, or the spans can't be read
    """
    progress = progress or NullProgress()
    checked = job.read_manifest()
    log_unused(job.settings, checked, progress)
    progress.log(f"{n} processes load {job.encoder.name} …")
    running: list[tuple[Shard, BaseProcess, Connection]] = []
    progress.begin("extract", len(checked.table), "utterances")
    faults: dict[int, InputError] = {}  # by shard: that of the first shard is raised, in whatever order they arrive
    with _joined(running):
        _start(job, n, running)
        try:
            open_pipes = {pipe: shard for shard, _, pipe in running}
            while open_pipes:
                for pipe in cast("list[Connection[Any, Any]]", wait(list(open_pipes))):
                    try:
                        message = pipe.recv()
                    except EOFError:  # its process has ended
                        del open_pipes[pipe]
                        continue
                    if isinstance(message, _LogLine):
                        progress.log(f"shard {open_pipes[pipe]}: {message.text}")
                    elif isinstance(message, tuple):
                        faults[open_pipes[pipe].number] = ShardError(f"shard {open_pipes[pipe]}", *message)
                    else:
                        progress.advance(message, f"{n} processes")
        finally:
            progress.end()
    for shard, process, _ in running:
        if process.exitcode:
            faults.setdefault(shard.number, _died(shard, process.exitcode))
    if faults:
        raise faults[min(faults)]
    return merge(job.out, checked, progress=progress)


def _start(job: ExtractionJob, n: int, running: list[tuple[Shard, BaseProcess, Connection]]) -> None:
    """Start the processes, and add each to a list with its shard and the pipe that it reports through."""
    context = get_context("spawn")
    ensure_running()  # here, because it would let signals through
    with signals_held_back():
        for k in range(n):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_fill, args=(job, Shard(k + 1, n), theirs), daemon=False)
            process.start()
            theirs.close()
            running.append((Shard(k + 1, n), process, ours))


@contextmanager
def _joined(running: list[tuple[Shard, BaseProcess, Connection]]) -> Iterator[None]:
    """Wait for processes in the end; after an error or a signal they are ended, and write the rows that they have."""
    try:
        yield
    except BaseException:  # a signal to this process alone, too; Ctrl-C has reached them
        for _, process, _ in running:
            process.terminate()
        raise
    finally:
        for _, process, _ in running:
            process.join()


@dataclass(frozen=True)
class _LogLine:
    """A line of a process's log, sent to the process that started it."""

    text: str


class _PipeProgress(NullProgress):
    """Sends the number of finished utterances to the process that started this one; the first shard also its log."""

    def __init__(self, pipe: Connection, *, logs: bool) -> None:
        self._pipe, self._logs, self._task = pipe, logs, ""

    def log(self, line: str) -> None:
        if self._logs:
            self._pipe.send(_LogLine(line))

    def begin(self, task: str, total: float, unit: str) -> None:  # noqa: ARG002 - as NullProgress has it
        self._task = task

    def advance(self, amount: float = 1.0, note: str = "") -> None:  # noqa: ARG002 - as NullProgress has it
        if self._task == "extract":
            self._pipe.send(amount)


def _died(shard: Shard, exit_code: int) -> InputError:
    """Return the error of a process that ended without a message, as one that the system killed does."""
    return InputError(
        "LP454",
        f"The process of shard {shard} died (exit code {exit_code}; -9 is often a lack of memory). Run the same "
        "command again, with fewer --processes if memory was short.",
    )


def _fill(job: ExtractionJob, shard: Shard, pipe: Connection) -> None:
    try:
        release_signals()
        import torch

        torch.set_num_threads(1)  # this process is one of several
        device = job.encoder.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda":
            device = f"cuda:{(shard.number - 1) % torch.cuda.device_count()}"
        jobs = job.settings.jobs or (max(1, cores() // shard.of) if device == "cpu" else None)
        loaders = job.settings.loaders or loaders_for(device, n_processes=shard.of)
        manifest = job.read_manifest()
        encoder = replace(job.encoder, device=device).load(show_download=False)
        progress = _PipeProgress(pipe, logs=shard.number == 1)
        settings = replace(job.settings, jobs=jobs, loaders=loaders)
        done = extract_shard(manifest, encoder, job.out, shard, settings, progress=progress)
        if done.stages is not None:
            progress.log(done.stages.sentence())
    except InputError as error:
        pipe.send((error.code, error.message))
    except KeyboardInterrupt:
        died = InputError("LP454", "interrupted. Finished work is kept; run the same command again to resume.")
        pipe.send((died.code, died.message))
    finally:
        ignore_signals()
        pipe.close()
