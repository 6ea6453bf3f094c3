"""Stage: caches, ratings and a plan become scores, held-out predictions and layer weights."""

from __future__ import annotations

import multiprocessing
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.dask_client import cluster, n_workers
from layerprobe.probe.data.manifest.schema import ASR_TRANSCRIPT, TRANSCRIPT, Manifest
from layerprobe.probe.data.word_errors import WORD_ERRORS, word_error_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.lease import Lease, leased_folder
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.results.pending import PENDING, is_complete, pending_fingerprint
from layerprobe.probe.results.predictions import NO_RESULTS, ProbeResults, held_out_predictions
from layerprobe.probe.results.run_folder import (
    JOINED,
    PEAK_SPANS,
    WEIGHT_COLUMNS,
    Run,
    check_same_run,
    score_table,
    write_run,
)
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.data.bin_parts import bin_sweep
from layerprobe.probe.sweep.data.concepts import ConceptCache
from layerprobe.probe.sweep.data.covariates import Covariate, parse_covariate
from layerprobe.probe.sweep.data.in_time import InTime, caches_in_time, covariate_in_time, dataset_in_time
from layerprobe.probe.sweep.data.inputs import SweepDataset, controlled_encoder, encoder_names, open_caches, row_indices
from layerprobe.probe.sweep.data.provenance import (
    describe_settings,
    joint_quarantine,
    settings_fingerprint,
    with_counts,
)
from layerprobe.probe.sweep.data.rated_parts import target_counts
from layerprobe.probe.sweep.fits.erasure_sources import ErasureSources
from layerprobe.probe.sweep.fits.expected_work import layer_bytes
from layerprobe.probe.sweep.fits.layer_probes import CovariateFeatures
from layerprobe.probe.sweep.fits.peak_spans import peak_table
from layerprobe.probe.sweep.fits.task_inputs import ProbedCache, TaskInputs, choose_algebra
from layerprobe.probe.sweep.fits.tasks import FIRST, FUSED, all_tasks, pending_names, with_choices
from layerprobe.probe.sweep.fits.time_left import TimeLeft
from layerprobe.probe.sweep.fits.workers import FinishedTask, RunTasks, Task, default_jobs, on_cluster, task_runner
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.time.bins import BinPlan
from layerprobe.probe.time.span_means import utterance_means
from layerprobe.probe.time.span_ratings import SpanRatings
from layerprobe.probe.toml import check_encodable

AT_ONCE = 60.0  # expected seconds on one core up to which a sweep has no first part whose scores are written


def sweep(  # noqa: PLR0913 - each is a choice that a user can make
    caches: Sequence[Cache | Path | str],
    manifest: Manifest,
    plan: SweepPlan | None = None,
    *,
    out: Path | str,
    random_weights: Sequence[Cache | Path | str] = (),
    covariates: Sequence[Covariate | str] = (),
    time: InTime | None = None,
    without: Sequence[str] = (),
    concepts: Sequence[ConceptCache | Cache | Path | str] = (),
    command: str = "",
    jobs: int | None = None,
    dask: str | None = None,
    progress: NullProgress | None = None,
) -> Run:
    """Probe every layer of every cache for every target on unseen speakers, with control tasks, and write a run folder.

    The ratings of all layers come first: unless the whole sweep takes less than a minute on one core, their scores are
    written as a run that can be read, with what is pending in its plan.toml, and that the complete run replaces. An
    interrupted sweep resumes at the task it was in. All caches are scored on the utterances that every one of them
    holds, and each target on those of them that have a rating of it.

    Args:
        caches: of the encoders under study, opened or by their paths
        manifest: the ratings
        plan: of `probe.sweep.settings.plan_sweep`; by default its defaults for this manifest
        out: the run folder
        random_weights: caches of the same architectures with random weights, as a control
        covariates: layers of other caches (``CACHE@LAYER``), or ``transcript``, that each layer is also fitted with
        time: for caches of spans, the bins of time by which the ratings of utterances are also predicted, of
            `probe.time.bins.plan_bins`, or ratings of spans, of `probe.time.span_ratings.read_span_ratings`
        without: erasures of concepts from every layer: keys of `probe.sweep.data.concepts.CONCEPTS`, those joined
            by ``+`` together
        concepts: caches of acoustic features and of a text encoder, ``PATH`` or ``PATH@LAYER``, that concepts are read
            from; those under study are looked at as well
        command: the command line, for plan.toml
        jobs: layers and mixes fitted in parallel, each by a process with one thread; by default as many as there are
            cores, in the memory of a layer and a GiB. It changes no number.
        dask: address of a Dask scheduler whose workers probe the layers and mixes; they find the caches at the same
            paths
        progress: receives the progress

    Returns:
        the run, as `probe.results.run_folder.read_run` reads it from ``out``

    Raises:
        InputError: if no utterance is both cached and rated, ``out`` holds another run or is being written by another
            process, ``jobs`` is below 1, or a path has bytes that are not UTF-8
    """
    studied, controls = open_caches(caches), open_caches(random_weights)
    if not studied:
        raise InputError("LP502", "No cache is given. Name one or more that layerprobe extract made.")
    parsed = [parse_covariate(c) if isinstance(c, str) else c for c in covariates]
    studied, controls = (caches_in_time(some, time) for some in (studied, controls))
    parsed = [covariate_in_time(one, time) for one in parsed]
    manifest = time.manifest(manifest) if isinstance(time, SpanRatings) else manifest
    plan, progress, out = plan or plan_sweep(manifest), progress or NullProgress(), Path(out)
    if jobs is not None and jobs < 1:
        raise InputError("LP530", f"jobs is {jobs}. Give 1 or more, or None for as many as there are cores.")
    if dask is not None and plan.device != "cpu":
        raise InputError("LP533", "Dask workers probe on their CPUs. Leave --device or --dask out.")
    if jobs is not None and jobs > 1 and plan.device != "cpu":
        raise InputError("LP533", "One process probes on a GPU. Leave --device or --jobs out.")
    names = encoder_names(studied)
    partners = [controlled_encoder(cache, studied, names) for cache in controls]
    named, untrained = dict(zip(names, studied, strict=True)), list(zip(partners, controls, strict=True))
    described = [covariate.to_toml() for covariate in parsed]
    if without and time is not None:
        raise InputError(
            "LP595",
            "Concepts are erased from embeddings of whole utterances. Sweep them in a run without --by and --spans.",
        )
    sources = ErasureSources.open(without, concepts)
    settings = describe_settings(
        {name: utterance_means(cache) for name, cache in named.items()},
        [(name, utterance_means(cache)) for name, cache in untrained],
        manifest,
        plan,
        covariates=described,
        command=command,
    )
    settings |= {"time": time.to_toml()} if time is not None else {}
    settings |= sources.to_toml()
    fingerprint = settings_fingerprint(settings)
    check_encodable(settings)
    if note := check_same_run(out, fingerprint, settings):
        progress.log(note)
    if plan.fused and len(studied) < 2:
        raise InputError("LP508", "One encoder alone can't be fused. Give the caches of two, of audio and of text.")
    others = [*controls, *(cache for covariate in parsed for cache in covariate.caches)]
    others += [one.cache for one in sources.caches]
    dataset, described_time = dataset_in_time([*studied, *others], manifest, plan, time)
    for line in [*dataset.notes, *_notes(dataset)]:
        progress.log(line)
    features = CovariateFeatures(JOINED.join(c.name for c in parsed), [c.features(dataset) for c in parsed])
    keyed: list[tuple[Cache, dict[str, Any]]] = [
        *((c, {"encoder": n, "control": "none", "seed": 0}) for n, c in named.items()),
        *((c, {"encoder": n, "control": "random_init", "seed": c.plan.random_init}) for n, c in untrained),
    ]
    probed = [ProbedCache(cache, keys, row_indices(cache, dataset)) for cache, keys in keyed]
    binned = bin_sweep(time, [one.cache for one in probed], dataset) if isinstance(time, BinPlan) else None
    for line in binned.notes() if binned is not None else ():
        progress.log(line)
    settings |= {"time": binned.to_toml() if binned is not None else described_time} if time is not None else {}
    erasures = sources.read(dataset, studied)
    for line in erasures.notes():
        progress.log(line)
    inputs = TaskInputs(probed, dataset, plan.device, features, binned, erasures)
    choose_algebra(plan.device)  # an error about it before any work
    partial_results = PartialResults(out, fingerprint, dataset.data.utterance_ids)
    with leased_folder(out) as lease:
        content = with_counts(settings, dataset, [*studied, *others]) | sources.to_toml(erasures)
        writer = _Writer(fingerprint, content, inputs, out, lease)
        tasks = _Tasks(inputs, partial_results, progress, jobs, dask)
        run = writer.write(tasks.finish(writer))
        partial_results.clear()
    return run


@dataclass(frozen=True)
class _Writer:
    """Writes the run folder, while work is pending and in the end."""

    fingerprint: str
    content: dict[str, Any]  # of plan.toml
    inputs: TaskInputs
    out: Path
    lease: Lease

    def write(self, results: ProbeResults, pending: Sequence[str] = ()) -> Run:
        """Write results as a run, complete or with the names of what is pending, and return it."""
        dataset, studied = self.inputs.dataset, [one for one in self.inputs.caches if one.is_studied]
        named = {one.keys["encoder"]: one.cache for one in studied}
        run = Run(
            pending_fingerprint(self.fingerprint) if pending else self.fingerprint,
            {**self.content, **dataset.units, **({PENDING: list(pending)} if pending else {})},
            score_table(results.scores, {name: cache.plan.layers for name, cache in named.items()}),
            pd.DataFrame(results.weights, columns=list(WEIGHT_COLUMNS)),
            joint_quarantine(list(named.values()), list(named)),
            self.out,
        )
        tables = {}
        if {TRANSCRIPT, ASR_TRANSCRIPT} <= set(dataset.rows):
            tables[WORD_ERRORS] = word_error_table(dataset.rows, reference=TRANSCRIPT, hypothesis=ASR_TRANSCRIPT)
        if any(part.data.blocks is not None for part in dataset.parts) and not pending:
            tables[PEAK_SPANS] = peak_table(results.peaks)
        self.lease.check()
        write_run(run, held_out_predictions(results.columns, dataset.data), tables)
        return run

    @property
    def has_complete_run(self) -> bool:
        """Whether the folder has the complete run already, which no part of it should replace."""
        return is_complete(self.out, self.fingerprint)


@dataclass(frozen=True)
class _Tasks:
    """All tasks of a sweep, and where they are done."""

    inputs: TaskInputs
    partial: PartialResults
    progress: NullProgress
    jobs: int | None
    dask: str | None

    def finish(self, writer: _Writer) -> ProbeResults:
        """Do all tasks, write the scores of the ratings once they are there, and return all results in order."""
        at_once = sum(task.seconds for task in all_tasks(self.inputs, separate=False)) <= AT_ONCE
        tasks = all_tasks(self.inputs, separate=not at_once)
        first, later = _in_two_parts(tasks, at_once=at_once)
        done: dict[str, ProbeResults] = {}

        def in_order(wanted: list[Task]) -> ProbeResults:
            return sum((done[task.name] for task in wanted), NO_RESULTS)

        self.progress.begin("sweep", len(tasks), "steps")
        try:
            with self._runner([t for t in tasks if not self.partial.has(t.name)]) as run_tasks:
                self._do(first, run_tasks, done)
                ratings = in_order([task for task in tasks if task.stage == FIRST])
                if not at_once and not writer.has_complete_run:
                    pending = pending_names(later)
                    writer.write(ratings, pending)
                    self.progress.log(
                        f"{writer.out} has the scores of all layers on the ratings; pending: {', '.join(pending)}. "
                        f"First figure: {shlex.join(['layerprobe', 'heatmap', str(writer.out)])}"
                    )
                self._do([with_choices(task, self.inputs, ratings) for task in later], run_tasks, done)
        finally:
            self.progress.end()
        return in_order(tasks)

    def _do(self, tasks: list[Task], run_tasks: RunTasks, done: dict[str, ProbeResults]) -> None:
        for finished in run_tasks(tasks):
            done[finished.task.name] = finished.results
            self.progress.advance(1, finished.task.label)

    @contextmanager
    def _runner(self, waiting: list[Task]) -> Iterator[RunTasks]:
        """Yield a function that does tasks here, in processes or on a cluster, and reports the time left."""
        with ExitStack() as held:
            if self.dask is not None:
                client = held.enter_context(cluster(self.dask, self.progress))
                jobs = n_workers(client)
                self.progress.log(f"{jobs} workers probe …")
            else:
                jobs = self._n_jobs(waiting)
            left = TimeLeft(waiting, jobs=jobs)
            if self.dask is not None:
                run_tasks: RunTasks = partial(on_cluster, client, self.inputs, self.partial)
            else:
                run_tasks = held.enter_context(task_runner(self.inputs, self.partial, jobs=jobs, started=left.started))

            def reported(tasks: list[Task]) -> Iterator[FinishedTask]:
                for finished in run_tasks(tasks):
                    left.finished(finished.task, finished.seconds)
                    self.progress.set_time_left(left.seconds())
                    yield finished

            yield reported

    def _n_jobs(self, waiting: list[Task]) -> int:
        """Return the number of processes, 1 for this one; one of a pool of multiprocessing may not start others."""
        if self.inputs.device != "cpu" or not waiting or multiprocessing.current_process().daemon:
            return 1
        largest = max(layer_bytes(len(one.rows), one.n_features) for one in self.inputs.caches)
        jobs = default_jobs(largest, sum(t.seconds for t in waiting)) if self.jobs is None else self.jobs
        return min(jobs, len(waiting))


def _in_two_parts(tasks: list[Task], *, at_once: bool) -> tuple[list[Task], list[Task]]:
    """Return the tasks in the order in which they are done: those of a first figure, and what follows them.

    Args:
        tasks: all
        at_once: whether no first figure is wanted; the longest tasks come first then, so that all processes end
            together, and only the encoders together, which need layers chosen by their ratings, follow
    """
    if at_once:
        alone = sorted((task for task in tasks if task.stage != FUSED), key=lambda task: -task.seconds)
        return alone, [task for task in tasks if task.stage == FUSED]
    later = sorted((task for task in tasks if task.stage != FIRST), key=lambda task: task.stage)
    return [task for task in tasks if task.stage == FIRST], later


def _notes(dataset: SweepDataset) -> list[str]:
    """Return a sentence for each target that some utterances do not rate, and for each that is left out."""
    n = len(dataset.data.utterance_ids)
    return [
        *(
            f"{row['name']}: {row['n_utterances']} of {n} utterances are rated; it is trained and scored on these."
            for row in target_counts(dataset.parts)
            if row["n_not_rated"]
        ),
        *(f"{one.target} is left out: {one.reason}." for one in dataset.left_out),
    ]
