"""The tasks of a sweep, done one after the other, in parallel processes, or on a cluster, with equal results.

Every task runs with one thread of BLAS, OpenMP and torch, wherever it runs: its sums are rounded alike for any number
of jobs, and no thread waits for another, which on a shared machine takes longer than the arithmetic.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor, process_executor
from joblib.externals.loky.backend.resource_tracker import ensure_running
from threadpoolctl import threadpool_limits

from layerprobe.probe.dask_client import RETRIES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.interrupts import ENDINGS, signals_held_back
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.results.predictions import ProbeResults
from layerprobe.probe.sweep.fits.task_inputs import TaskInputs
from layerprobe.probe.system import cores, torch_threads, usable_memory

SPARE = 2**30  # bytes over one layer that a sweep may take by itself
WORKER = 150 * 2**20  # bytes of a process in addition to its layer
QUICK = 4.0  # expected seconds up to which starting processes takes longer than it saves
PARENT_SECONDS = 1.0  # between two looks of a process at whether the one that started it lives
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    )
} | {"OMP_WAIT_POLICY": "PASSIVE"}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Work that is done as a whole and saved under a name; it is pickled."""

    name: str  # under which its results are saved until the run is complete
    label: str  # for the progress
    kind: str  # tasks of one kind take times in proportion to their expected ones
    seconds: float  # expected, on one core
    work: Callable[[TaskInputs], ProbeResults]
    stage: int = 0  # tasks of a lower stage are done first
    adds: tuple[str, ...] = ()  # controls, probes and baselines that it adds to the scores
    memory: int = 0  # bytes that it may take in addition to a layer
    uses_torch: bool = False
    reads: tuple[int, str] | None = None  # the cache, by its number, and the layer that it begins with


@dataclass(frozen=True)
class FinishedTask:
    """A task with its results."""

    task: Task
    results: ProbeResults
    seconds: float  # that it took by itself; 0 if its results were saved before


RunTasks = Callable[[list[Task]], Iterator[FinishedTask]]


def default_jobs(layer_bytes: int, expected_seconds: float) -> int:
    """Return how many tasks run in parallel: as many as there are cores, in a layer's memory and a GiB more.

    Args:
        layer_bytes: of the largest layer, as it is read
        expected_seconds: of all tasks together, on one core
    """
    if expected_seconds <= QUICK:
        return 1
    by_memory = (layer_bytes + SPARE) // (layer_bytes + WORKER)
    return max(1, min(cores(), by_memory))


@contextmanager
def task_runner(
    inputs: TaskInputs, partial_results: PartialResults, *, jobs: int, started: Callable[[Task], None]
) -> Iterator[RunTasks]:
    """Yield a function that does tasks and yields them as they are finished, in any order.

    Args:
        inputs: of all tasks
        partial_results: saved results are not computed again, and new ones are saved
        jobs: number of processes; 1 for this process alone
        started: called when a task begins
    """
    if jobs == 1:
        yield functools.partial(_in_this_process, inputs, partial_results, started=started)
        return
    with _processes(jobs, inputs, partial_results) as executor:
        yield functools.partial(_in_processes, executor, jobs, partial_results, started=started)


def do_task(task: Task, inputs: TaskInputs) -> ProbeResults:
    """Do a task with one thread."""
    with one_thread(with_torch=task.uses_torch):
        return task.work(inputs)


@contextmanager
def one_thread(*, with_torch: bool) -> Iterator[None]:
    """Let BLAS and OpenMP have one thread within a context, and torch too where it is used or was imported."""
    with ExitStack() as limits:
        if with_torch or "torch" in sys.modules:
            limits.enter_context(torch_threads(1))
        limits.enter_context(threadpool_limits(1))
        yield


def on_cluster(
    client: Any, inputs: TaskInputs, partial_results: PartialResults, tasks: list[Task]
) -> Iterator[FinishedTask]:
    """Yield tasks in order, done by Dask workers, who find the caches at the same paths; this process saves results."""
    kept = [partial_results.load(task.name) for task in tasks]
    with joblib.parallel_config(backend="dask", client=client, retries=RETRIES, scatter=[inputs]):
        parallel = joblib.Parallel(return_as="generator", batch_size=1)
        pairs = zip(tasks, kept, strict=True)
        made = parallel(joblib.delayed(_timed)(task, inputs) for task, done in pairs if done is None)
        with closing(made):
            for task, done in zip(tasks, kept, strict=True):
                if done is not None:
                    yield FinishedTask(task, done, 0.0)
                else:
                    results, seconds = next(made)
                    yield FinishedTask(task, partial_results.save(task.name, results), seconds)
            next(made, None)  # ends it


def _timed(task: Task, inputs: TaskInputs) -> tuple[ProbeResults, float]:
    began = time.perf_counter()
    return do_task(task, inputs), time.perf_counter() - began


def _in_this_process(
    inputs: TaskInputs, partial_results: PartialResults, tasks: list[Task], *, started: Callable[[Task], None]
) -> Iterator[FinishedTask]:
    """Do tasks in order; while one is done, a thread reads the layer of the next."""
    waiting = [task for task in tasks if not partial_results.has(task.name)]
    with ThreadPoolExecutor(1) as reader:
        for task in tasks:
            if waiting and task is waiting[0]:
                for near in waiting[:2]:
                    inputs.read_ahead(reader, near.reads)
                waiting.pop(0)
            started(task)
            done = partial_results.load(task.name)
            if done is not None:
                yield FinishedTask(task, done, 0.0)
                continue
            results, seconds = _timed(task, inputs)
            yield FinishedTask(task, partial_results.save(task.name, results), seconds)


def _in_processes(
    executor: ProcessPoolExecutor,
    jobs: int,
    partial_results: PartialResults,
    tasks: list[Task],
    *,
    started: Callable[[Task], None],
) -> Iterator[FinishedTask]:
    """Do tasks in the order given, as many at once as there are processes and as the memory allows."""
    pending: list[Task] = []
    for task in tasks:
        done = partial_results.load(task.name)
        if done is None:
            pending.append(task)
        else:
            yield FinishedTask(task, done, 0.0)
    running: dict[Future[tuple[ProbeResults, float]], Task] = {}
    budget = usable_memory()
    try:
        while pending or running:
            while pending and len(running) < jobs:
                taken = sum(task.memory for task in running.values())
                if running and pending[0].memory and taken + pending[0].memory > budget:
                    break
                task = pending.pop(0)
                with signals_held_back():  # processes are started here
                    running[executor.submit(_work, task)] = task
                started(task)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                results, seconds = future.result()
                yield FinishedTask(task, results, seconds)
    except BrokenProcessPool as error:
        raise InputError(
            "LP562",
            "A process that probes layers died, perhaps for want of memory. Run the same command again, which resumes, "
            "with --jobs 1.",
        ) from error


@contextmanager
def _processes(jobs: int, inputs: TaskInputs, partial_results: PartialResults) -> Iterator[ProcessPoolExecutor]:
    """Yield an executor whose processes read the inputs from a file, once each; they end with the context."""
    file = partial_results.inputs_file()
    try:
        joblib.dump(inputs, file)
        ensure_running()  # here, because it would let signals through
        executor = ProcessPoolExecutor(
            jobs, initializer=_begin, initargs=(file, partial_results, os.getpid()), env=ONE_THREAD
        )
        try:
            yield executor
        except BaseException:  # a signal, too: what is being computed is lost, and what is finished is saved
            executor.shutdown(kill_workers=True)
            raise
        else:
            executor.shutdown()
    finally:
        with suppress(OSError):  # another process has taken over the folder
            file.unlink()
            file.parent.rmdir()  # of a sweep that has not finished any task


_of_this_process: list[tuple[TaskInputs, PartialResults]] = []  # one, in a process that `_begin` has prepared


def _begin(file: Path, partial_results: PartialResults, parent: int) -> None:
    """Read the inputs in a process that was started with signals held back; large arrays are mapped, not copied."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one ends it
    for number in ENDINGS[1:]:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    process_executor._USE_PSUTIL = False  # a process that imported torch is not taken for one that leaks memory
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _of_this_process.append((joblib.load(file, mmap_mode="r"), partial_results))


def _end_with(parent: int) -> None:
    """End this process when the one that started it has been killed."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _work(task: Task) -> tuple[ProbeResults, float]:
    ((inputs, partial_results),) = _of_this_process
    results, seconds = _timed(task, inputs)
    return partial_results.save(task.name, results), seconds
