"""Stage: caches, ratings and a plan become scores, held-out predictions and layer weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.dask_client import cluster, n_workers
from layerprobe.probe.data.schema import ASR_TRANSCRIPT, TRANSCRIPT, Manifest, rater_columns
from layerprobe.probe.data.word_errors import WORD_ERRORS, word_error_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.fingerprints import combined_fingerprint
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.results.predictions import NO_RESULTS, ProbeResults, held_out_predictions
from layerprobe.probe.results.run_folder import (
    COVARIATES_ONLY,
    JOINED,
    WEIGHT_COLUMNS,
    Run,
    check_same_run,
    score_table,
    write_run,
)
from layerprobe.probe.results.selection import chosen_layers
from layerprobe.probe.solvers.backends import HOST, Algebra
from layerprobe.probe.sweep.baselines import baselines
from layerprobe.probe.sweep.fusion import fused_ridge, fused_weighted_sum
from layerprobe.probe.sweep.inputs import (
    Band,
    SweepDataset,
    make_dataset,
    names_of,
    partner_of,
    provenance,
    quarantine_of,
    row_indices,
    rows_fingerprint,
    transcripts_of,
    with_text_residuals,
)
from layerprobe.probe.sweep.layer_probes import banded_probe
from layerprobe.probe.sweep.mix_probes import mix_probes
from layerprobe.probe.sweep.plan import SweepPlan
from layerprobe.probe.sweep.workers import Job, Task, fitted, fitted_on_cluster, fitted_unit, with_threads
from layerprobe.probe.weighted_sum.layers import ReadLayer


def sweep(  # noqa: PLR0913 - each is a choice that a user can make
    caches: list[Cache],
    manifest: Manifest,
    plan: SweepPlan,
    *,
    out: Path | str,
    random_weights: list[Cache] | None = None,
    covariate: Sequence[Band] = (),
    command: str = "",
    jobs: int | None = None,
    dask: str | None = None,
    progress: NullProgress | None = None,
) -> Run:
    """Score every layer of every cache for every target on speakers never heard, with controls; write ``out``.

    An interrupted sweep goes on at the layer it was in. All caches are scored on the utterances that every one of them
    holds.

    Args:
        caches: one for each encoder under study
        manifest: what was rated
        plan: as `probe.sweep.settings.plan_sweep` settles it
        out: the run folder
        random_weights: caches of the same architectures with untrained weights
        beside: layers of other caches, or the words, that each layer is fitted beside, for joint scores and what is
            unique to it
        command: the command line, to be written down
        jobs: layers at once; as many as two threads each and the memory allow if None. It changes no bit.
        dask: a scheduler whose workers probe the layers and mixes; they see the caches at the same paths
        progress: receives the progress

    Raises:
        InputError: if caches and manifest share too little, or ``out`` holds another run
    """
    if dask is not None and plan.device != "cpu":
        raise InputError("Workers of Dask probe on their processors. Leave --device or --dask out.")
    progress, controls, bands = progress or NullProgress(), random_weights or [], list(covariate)
    names = names_of(caches)
    partners = [partner_of(cache, caches, names) for cache in controls]
    named, untrained = dict(zip(names, caches, strict=True)), list(zip(partners, controls, strict=True))
    others = [*controls, *(cache for band in bands for cache in band.caches)]
    fingerprint = combined_fingerprint(
        plan.fingerprint(),
        manifest.content_hash(),
        *(c.plan.fingerprint() for c in [*caches, *others]),
        *(rows_fingerprint(c) for c in [*caches, *others]),
        *(f"beside {band.name}" for band in bands),
    )
    check_same_run(Path(out), fingerprint)
    if plan.fused and len(caches) < 2:
        raise InputError("One encoder alone can't be fused. Give the caches of two, of sound and of text.")
    used = with_text_residuals(make_dataset([*caches, *others], manifest, plan), plan)
    algebra = _algebra(plan.device)
    studied: list[tuple[Cache, dict[str, Any]]] = [
        *((c, {"encoder": n, "control": "none", "seed": 0}) for n, c in named.items()),
        *((c, {"encoder": n, "control": "random_init", "seed": c.plan.random_init}) for n, c in untrained),
    ]
    units = [Job(c, layer, keys, row_indices(c, used)) for c, keys in studied for layer in c.plan.layers]
    mixed = [(cache, keys) for cache, keys in studied if plan.mixes and cache.plan.is_stack]
    unfinished = PartialResults(Path(out), fingerprint)
    finished = NO_RESULTS
    progress.begin("sweep", len(units) + 1 + len(plan.mixes) * len(mixed) + 2 * plan.fused, "layers and mixes")
    try:
        other = [band.features(used) for band in bands]
        if dask is not None:
            finished += _on_cluster(dask, units, mixed, used, plan, other, unfinished, progress)
        else:
            for unit, done in zip(units, fitted(units, used.data, plan, other, algebra, unfinished, jobs), strict=True):
                finished += done
                progress.advance(1, unit.words)
            for cache, keys in mixed:
                finished += unfinished.unit(_mixes(keys), partial(_mixed, cache, keys, used, plan, progress))
        if plan.fused:
            finished += unfinished.unit("fused", lambda: _fused(named, finished, used, plan, algebra, progress))
        finished += _baselines(caches, used, plan, algebra)
        if other:  # what they reach without the layer under study
            keys = {
                "encoder": "",
                "probe": "ridge",
                "layer": "",
                "control": "none",
                "baseline": COVARIATES_ONLY,
                "seed": 0,
            }
            keys["covariates"] = JOINED.join(band.name for band in bands)
            finished += banded_probe(other, used.data, plan, keys, algebra=algebra)
        progress.advance(1, "baselines")
    finally:
        progress.end()
    run = Run(
        fingerprint,
        provenance(named, untrained, manifest, plan, used, bands, command=command),
        score_table(finished.scores),
        pd.DataFrame(finished.weights, columns=list(WEIGHT_COLUMNS)),
        quarantine_of(caches, names),
    )
    write_run(Path(out), run, held_out_predictions(finished.columns, used.data))
    if {TRANSCRIPT, ASR_TRANSCRIPT} <= set(used.rows):
        errors = word_error_table(used.rows, reference=TRANSCRIPT, hypothesis=ASR_TRANSCRIPT)
        errors.assign(fingerprint=fingerprint).to_csv(Path(out) / WORD_ERRORS, index=False, lineterminator="\n")
    unfinished.clear()
    return run


def _algebra(device: str) -> Algebra:
    if device == "cpu":
        return HOST
    if not torch.cuda.is_available():
        raise InputError(f"device {device} is asked for, and torch sees no GPU. Use --device cpu.")
    from layerprobe.probe.solvers.torch_backend import DeviceAlgebra

    return DeviceAlgebra(device)


def _on_cluster(
    scheduler: str,
    units: list[Job],
    mixed: list[tuple[Cache, dict[str, Any]]],
    used: SweepDataset,
    plan: SweepPlan,
    other: list[np.ndarray],
    unfinished: PartialResults,
    progress: NullProgress,
) -> ProbeResults:
    """What layers and mixes give, by Dask's workers."""
    finished, threads = NO_RESULTS, torch.get_num_threads()
    tasks = [Task(u.name, u.words, 1, partial(fitted_unit, u, used.data, plan, other, HOST)) for u in units]
    for cache, keys in mixed:
        mix = partial(with_threads, threads, partial(_mixed, cache, keys, used, plan, NullProgress()))
        tasks.append(Task(_mixes(keys), f"{keys['encoder']} mixes", len(plan.mixes), mix))
    with cluster(scheduler, progress) as client:
        progress.log(f"{n_workers(client)} workers probe …")
        for task, done in zip(tasks, fitted_on_cluster(client, tasks, unfinished), strict=True):
            finished += done
            progress.advance(task.n_steps, task.words)
    return finished


def _mixes(keys: dict[str, Any]) -> str:
    """The name by which they are kept."""
    return f"{keys['encoder']}-{keys['control']}-mixes"


def _mixed(
    cache: Cache, keys: dict[str, Any], used: SweepDataset, plan: SweepPlan, progress: NullProgress
) -> ProbeResults:
    read, layers, _ = _reader(cache, used)

    def advance(name: str) -> None:
        progress.advance(1, f"{keys['encoder']} {name.replace('_', ' ')}")

    label = {key: value for key, value in keys.items() if key != "seed"}
    return mix_probes(read, layers, used.data, plan, label, advance=advance)


def _fused(
    caches: dict[str, Cache],
    finished: ProbeResults,
    used: SweepDataset,
    plan: SweepPlan,
    algebra: Algebra,
    progress: NullProgress,
) -> ProbeResults:
    """All encoders together; mixed are those whose layers are a stack."""
    choices: dict[str, dict[tuple[str, str], str]] = {name: {} for name in caches}
    for encoder, target, fold, layer in chosen_layers(score_table(finished.scores)).itertuples(index=False):
        if encoder in choices:
            choices[encoder][target, fold] = layer

    def read(encoder: str, layer: str) -> np.ndarray:
        return caches[encoder].read_layer(layer, row_indices(caches[encoder], used))

    done = fused_ridge(read, choices, used.data, plan, algebra=algebra, advance=progress.log)
    progress.advance(1, "fused ridge")
    stacks = {name: _reader(cache, used) for name, cache in caches.items() if cache.plan.is_stack}
    if plan.mixes and len(stacks) > 1:
        done += fused_weighted_sum(stacks, used.data, plan, advance=lambda _: None)
    progress.advance(1, "fused weighted sum")
    return done


def _reader(cache: Cache, used: SweepDataset) -> tuple[ReadLayer, list[str], int]:
    """Reads a layer by its place, without ``final``; with the layers' names and width."""
    layers, own = [name for name in cache.plan.layers if name != FINAL], row_indices(cache, used)

    def read(layer: int, rows: np.ndarray) -> np.ndarray:
        return cache.read_layer(layers[layer], own[rows])

    return read, layers, cache.values_per_utterance // len(cache.plan.layers)


def _baselines(caches: list[Cache], used: SweepDataset, plan: SweepPlan, algebra: Algebra) -> ProbeResults:
    raters = {t: used.rows[columns].to_numpy() for t in plan.targets if (columns := rater_columns(used.rows, t))}
    acoustic = next((c for c in caches if {"duration", "loudness"} <= set(c.plan.layers)), None)
    features = None
    if acoustic is not None:
        own = row_indices(acoustic, used)
        features = np.concatenate([acoustic.read_layer(name, own) for name in ("duration", "loudness")], axis=1)
    texts = transcripts_of(used)
    return baselines(used.data, plan, raters=raters, transcripts=texts, acoustic=features, algebra=algebra)
