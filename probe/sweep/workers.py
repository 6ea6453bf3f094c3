"""The layers of a sweep, one after the other here, several at once in processes, or on a cluster; the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.dask_client import RETRIES
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.results.predictions import ProbeResults, SweepData
from layerprobe.probe.solvers.backends import Algebra
from layerprobe.probe.sweep.layer_probes import layer_probes
from layerprobe.probe.sweep.plan import SweepPlan
from layerprobe.probe.system import cores, torch_threads

THREADS = 2  # of one unit of work, always: sums are rounded alike however many units run at once
SPARE = 2**30  # bytes over one layer that a sweep may take by itself
WORKER = 150 * 2**20  # bytes of a unit beside its layer


@dataclass(frozen=True)
class Job:
    """One layer of one cache to be probed."""

    cache: Cache
    layer: str
    keys: dict[str, Any]
    rows: np.ndarray  # of the cache

    @property
    def name(self) -> str:
        """Of what is kept of it."""
        return f"{self.keys['encoder']}-{self.keys['control']}-layer-{self.layer}"

    @property
    def words(self) -> str:
        """For who watches."""
        return f"{self.keys['encoder']} layer {self.layer}"


@dataclass(frozen=True)
class Task:
    """What a worker of a cluster does at once."""

    name: str  # to keep it by
    words: str  # for who watches
    n_steps: int  # of the sweep
    work: Callable[[], ProbeResults]  # is pickled


def layers_at_once(layer_bytes: int) -> int:
    """Layers at once that leave each two threads and take no more memory than one layer and a GiB."""
    by_memory = (layer_bytes + SPARE) // (layer_bytes + WORKER)
    return max(1, min(cores() // THREADS, by_memory))


def fitted(
    units: list[Job],
    data: SweepData,
    plan: SweepPlan,
    other: list[np.ndarray],
    algebra: Algebra,
    unfinished: PartialResults,
    jobs: int | None,
) -> Iterator[ProbeResults]:
    """What each unit gives, in order, in worker processes or here, where the next layer is read meanwhile."""
    first = units[0]
    layer_bytes = len(data.utterance_ids) * 4 * first.cache.values_per_utterance // len(first.cache.plan.layers)
    jobs = layers_at_once(layer_bytes) if jobs is None else jobs
    if jobs > 1 and plan.device == "cpu":
        work = joblib.delayed(_kept)
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch=jobs, max_nbytes="1M")
        yield from parallel(work(unit, data, plan, other, algebra, unfinished) for unit in units)
        return
    waiting = [unit for unit in units if not unfinished.has(unit.name)]
    with ThreadPoolExecutor(1) as reader:
        coming: dict[str, Future[np.ndarray]] = {}
        for unit in units:
            if waiting and unit is waiting[0]:
                for near in waiting[:2]:
                    if near.name not in coming:
                        coming[near.name] = reader.submit(near.cache.read_layer, near.layer, near.rows)
                waiting.pop(0)
            yield _kept(unit, data, plan, other, algebra, unfinished, coming.pop(unit.name, None))


def fitted_on_cluster(client: Any, tasks: list[Task], unfinished: PartialResults) -> Iterator[ProbeResults]:
    """What each task gives, in order, through joblib's Dask backend; it is kept here, not where it was made.

    Args:
        client: of the scheduler
        tasks: layers and mixes
        unfinished: what is kept already is not done again
    """
    kept = [unfinished.kept(task.name) for task in tasks]
    with joblib.parallel_config(backend="dask", client=client, retries=RETRIES):
        parallel = joblib.Parallel(return_as="generator", batch_size=1)
        made = parallel(joblib.delayed(task.work)() for task, done in zip(tasks, kept, strict=True) if done is None)
        for task, done in zip(tasks, kept, strict=True):
            yield unfinished.keep(task.name, next(made)) if done is None else done


def fitted_unit(
    unit: Job,
    data: SweepData,
    plan: SweepPlan,
    other: list[np.ndarray],
    algebra: Algebra,
    coming: Future[np.ndarray] | None = None,
) -> ProbeResults:
    """One layer, read or ``coming``, through every probe that the plan asks for."""

    def work() -> ProbeResults:
        x = coming.result() if coming else unit.cache.read_layer(unit.layer, unit.rows)
        return layer_probes(x, data, plan, {**unit.keys, "layer": unit.layer}, bands=other, algebra=algebra)

    return with_threads(THREADS, work)


def with_threads(n: int, work: Callable[[], ProbeResults]) -> ProbeResults:
    """Do some work with so many threads of BLAS and torch."""
    with torch_threads(n), threadpool_limits(n):
        return work()


def _kept(
    unit: Job,
    data: SweepData,
    plan: SweepPlan,
    other: list[np.ndarray],
    algebra: Algebra,
    unfinished: PartialResults,
    coming: Future[np.ndarray] | None = None,
) -> ProbeResults:
    return unfinished.unit(unit.name, partial(fitted_unit, unit, data, plan, other, algebra, coming))
