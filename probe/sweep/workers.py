"""The layers of a sweep, probed one after the other, in parallel processes, or on a cluster, with equal results."""

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
from layerprobe.probe.results.predictions import NO_RESULTS, ProbeResults
from layerprobe.probe.solvers.backends import Algebra
from layerprobe.probe.sweep.layer_probes import CovariateFeatures, layer_probes
from layerprobe.probe.sweep.rated_parts import RatedPart
from layerprobe.probe.system import cores, torch_threads

THREADS = 2  # of one job, always: sums are rounded alike however many jobs run in parallel
SPARE = 2**30  # bytes over one layer that a sweep may take by itself
WORKER = 150 * 2**20  # bytes of a job in addition to its layer


@dataclass(frozen=True)
class Job:
    """One layer of one cache that is to be probed."""

    cache: Cache
    layer: str
    keys: dict[str, Any]
    rows: np.ndarray  # of the cache

    @property
    def name(self) -> str:
        """The name under which the layer's results are saved until the run is complete."""
        return f"{self.keys['encoder']}-{self.keys['control']}-layer-{self.layer}"

    @property
    def label(self) -> str:
        """The encoder and the layer, for the progress."""
        return f"{self.keys['encoder']} layer {self.layer}"


@dataclass(frozen=True)
class Task:
    """Work that one worker of a cluster does as a whole."""

    name: str  # under which its results are saved
    label: str  # for the progress
    n_steps: int  # of the sweep's progress
    work: Callable[[], ProbeResults]  # is pickled


def parallel_layers(layer_bytes: int) -> int:
    """Return how many layers may be probed in parallel, with two threads each, in a layer's memory and a GiB more."""
    by_memory = (layer_bytes + SPARE) // (layer_bytes + WORKER)
    return max(1, min(cores() // THREADS, by_memory))


def fit_jobs(
    units: list[Job],
    parts: list[RatedPart],
    covariates: CovariateFeatures,
    algebra: Algebra,
    partial_results: PartialResults,
    jobs: int | None,
) -> Iterator[ProbeResults]:
    """Yield the results of each job in order, from worker processes, or from this one, which reads a layer ahead."""
    first = units[0]
    layer_bytes = parts[0].n_utterances * 4 * first.cache.values_per_utterance // len(first.cache.plan.layers)
    jobs = parallel_layers(layer_bytes) if jobs is None else jobs
    if jobs > 1 and parts[0].plan.device == "cpu":
        work = joblib.delayed(_fit_or_load)
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch=jobs, max_nbytes="1M")
        yield from parallel(work(unit, parts, covariates, algebra, partial_results) for unit in units)
        return
    waiting = [unit for unit in units if not partial_results.has(unit.name)]
    with ThreadPoolExecutor(1) as reader:
        coming: dict[str, Future[np.ndarray]] = {}
        for unit in units:
            if waiting and unit is waiting[0]:
                for near in waiting[:2]:
                    if near.name not in coming:
                        coming[near.name] = reader.submit(near.cache.read_layer, near.layer, near.rows)
                waiting.pop(0)
            yield _fit_or_load(unit, parts, covariates, algebra, partial_results, coming.pop(unit.name, None))


def fit_on_cluster(client: Any, tasks: list[Task], partial_results: PartialResults) -> Iterator[ProbeResults]:
    """Yield the results of each task in order, through joblib's Dask backend; this process saves them.

    Args:
        client: of the scheduler
        tasks: layers and mixes
        partial_results: saved results are not computed again
    """
    kept = [partial_results.load(task.name) for task in tasks]
    with joblib.parallel_config(backend="dask", client=client, retries=RETRIES):
        parallel = joblib.Parallel(return_as="generator", batch_size=1)
        made = parallel(joblib.delayed(task.work)() for task, done in zip(tasks, kept, strict=True) if done is None)
        for task, done in zip(tasks, kept, strict=True):
            yield partial_results.save(task.name, next(made)) if done is None else done


def fit_layer(
    unit: Job,
    parts: list[RatedPart],
    covariates: CovariateFeatures,
    algebra: Algebra,
    coming: Future[np.ndarray] | None = None,
) -> ProbeResults:
    """Fit every probe of the plan to one layer, which is read here, or by another thread into ``coming``."""

    def work() -> ProbeResults:
        x = coming.result() if coming else unit.cache.read_layer(unit.layer, unit.rows)
        keys, results = {**unit.keys, "layer": unit.layer}, NO_RESULTS
        for part in parts:
            features = CovariateFeatures(covariates.name, [part.take(f) for f in covariates.features])
            fitted = layer_probes(part.take(x), part.data, part.plan, keys, covariates=features, algebra=algebra)
            results += part.in_whole(fitted)
        return results

    return with_threads(THREADS, work)


def with_threads(n: int, work: Callable[[], ProbeResults]) -> ProbeResults:
    """Run a function with a number of threads of BLAS and torch."""
    with torch_threads(n), threadpool_limits(n):
        return work()


def _fit_or_load(
    unit: Job,
    parts: list[RatedPart],
    covariates: CovariateFeatures,
    algebra: Algebra,
    partial_results: PartialResults,
    coming: Future[np.ndarray] | None = None,
) -> ProbeResults:
    return partial_results.load_or_compute(unit.name, partial(fit_layer, unit, parts, covariates, algebra, coming))
