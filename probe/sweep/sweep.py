"""Stage: caches, ratings and a plan become scores, held-out predictions and layer weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.dask_client import cluster, n_workers
from layerprobe.probe.data.manifest.schema import ASR_TRANSCRIPT, TRANSCRIPT, Manifest, rater_columns
from layerprobe.probe.data.word_errors import WORD_ERRORS, word_error_table
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.lease import leased_folder
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
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.solvers.backends import HOST, Algebra
from layerprobe.probe.sweep.baselines import baselines
from layerprobe.probe.sweep.covariates import Covariate, parse_covariate
from layerprobe.probe.sweep.fusion import fused_ridge, fused_weighted_sum
from layerprobe.probe.sweep.inputs import (
    SweepDataset,
    controlled_encoder,
    encoder_names,
    make_dataset,
    open_caches,
    row_indices,
    transcripts,
    with_text_residuals,
)
from layerprobe.probe.sweep.layer_probes import CovariateFeatures, banded_probe
from layerprobe.probe.sweep.mix_probes import mix_probes
from layerprobe.probe.sweep.provenance import describe_settings, joint_quarantine, settings_fingerprint, with_counts
from layerprobe.probe.sweep.rated_parts import RatedPart, target_counts
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.workers import Job, Task, fit_jobs, fit_layer, fit_on_cluster, with_threads
from layerprobe.probe.toml import check_encodable
from layerprobe.probe.weighted_sum.layers import ReadLayer


def sweep(  # noqa: PLR0913 - each is a choice that a user can make
    caches: Sequence[Cache | Path | str],
    manifest: Manifest,
    plan: SweepPlan | None = None,
    *,
    out: Path | str,
    random_weights: Sequence[Cache | Path | str] = (),
    covariates: Sequence[Covariate | str] = (),
    command: str = "",
    jobs: int | None = None,
    dask: str | None = None,
    progress: NullProgress | None = None,
) -> Run:
    """Probe every layer of every cache for every target on unseen speakers, with control tasks, and write a run folder.

    An interrupted sweep resumes at the layer it was in. All caches are scored on the utterances that every one of them
    holds, and each target on those of them that have a rating of it.

    Args:
        caches: of the encoders under study, opened or by their paths
        manifest: the ratings
        plan: of `probe.sweep.settings.plan_sweep`; by default its defaults for this manifest
        out: the run folder
        random_weights: caches of the same architectures with random weights, as a control
        covariates: layers of other caches (``CACHE@LAYER``), or ``transcript``, that each layer is also fitted with
        command: the command line, for plan.toml
        jobs: layers probed in parallel; by default as many as two threads each and the memory allow. It changes no
            number.
        dask: address of a Dask scheduler whose workers probe the layers and mixes; they find the caches at the same
            paths
        progress: receives the progress

    Returns:
        the run, as `probe.results.run_folder.read_run` reads it from ``out``

    Raises:
        InputError: if no utterance is both cached and rated, ``out`` holds another run or is being written by another
            process, or a path has bytes that are not UTF-8
    """
    studied, controls = open_caches(caches), open_caches(random_weights)
    if not studied:
        raise InputError("No cache is given. Name one or more that layerprobe extract made.")
    parsed = [parse_covariate(c) if isinstance(c, str) else c for c in covariates]
    plan, progress, out = plan or plan_sweep(manifest), progress or NullProgress(), Path(out)
    if dask is not None and plan.device != "cpu":
        raise InputError("Dask workers probe on their CPUs. Leave --device or --dask out.")
    names = encoder_names(studied)
    partners = [controlled_encoder(cache, studied, names) for cache in controls]
    named, untrained = dict(zip(names, studied, strict=True)), list(zip(partners, controls, strict=True))
    described = [covariate.to_toml() for covariate in parsed]
    settings = describe_settings(named, untrained, manifest, plan, covariates=described, command=command)
    fingerprint = settings_fingerprint(settings)
    check_encodable(settings)
    if note := check_same_run(out, fingerprint, settings):
        progress.log(note)
    if plan.fused and len(studied) < 2:
        raise InputError("One encoder alone can't be fused. Give the caches of two, of audio and of text.")
    others = [*controls, *(cache for covariate in parsed for cache in covariate.caches)]
    dataset = with_text_residuals(make_dataset([*studied, *others], manifest, plan))
    for line in [*dataset.notes, *_notes(dataset)]:
        progress.log(line)
    partial_results = PartialResults(out, fingerprint, dataset.data.utterance_ids)
    features = CovariateFeatures(JOINED.join(c.name for c in parsed), [c.features(dataset) for c in parsed])
    fits = _Fits(named, untrained, dataset, plan, features, partial_results, progress)
    with leased_folder(out) as lease:
        results = _fit_all(fits, jobs=jobs, dask=dask)
        run = Run(
            fingerprint,
            {**with_counts(settings, dataset, [*studied, *others]), **dataset.units},
            score_table(results.scores, {n: c.plan.layers for n, c in named.items()}),
            pd.DataFrame(results.weights, columns=list(WEIGHT_COLUMNS)),
            joint_quarantine(studied, names),
            out,
        )
        tables = {}
        if {TRANSCRIPT, ASR_TRANSCRIPT} <= set(dataset.rows):
            tables[WORD_ERRORS] = word_error_table(dataset.rows, reference=TRANSCRIPT, hypothesis=ASR_TRANSCRIPT)
        lease.check()
        write_run(run, held_out_predictions(results.columns, dataset.data), tables)
        partial_results.clear()
    return run


@dataclass(frozen=True)
class _Fits:
    """Everything that is fitted, and to what."""

    caches: dict[str, Cache]  # of the encoders under study, by name
    untrained: list[tuple[str, Cache]]  # with random weights, by the name of the encoder under study
    dataset: SweepDataset
    plan: SweepPlan
    covariates: CovariateFeatures
    partial: PartialResults
    progress: NullProgress


def _fit_all(fits: _Fits, *, jobs: int | None, dask: str | None) -> ProbeResults:
    """Fit layers, mixes, fused encoders and baselines."""
    dataset, plan, progress, algebra = fits.dataset, fits.plan, fits.progress, _algebra(fits.plan.device)
    studied: list[tuple[Cache, dict[str, Any]]] = [
        *((c, {"encoder": n, "control": "none", "seed": 0}) for n, c in fits.caches.items()),
        *((c, {"encoder": n, "control": "random_init", "seed": c.plan.random_init}) for n, c in fits.untrained),
    ]
    units = [Job(c, layer, keys, row_indices(c, dataset)) for c, keys in studied for layer in c.plan.layers]
    mixed = [(cache, keys) for cache, keys in studied if plan.mixes and cache.plan.is_stack]
    results = NO_RESULTS
    n_mixes = sum(len(part.plan.mixes) for part in dataset.parts)
    progress.begin("sweep", len(units) + 1 + n_mixes * len(mixed) + 2 * plan.fused, "layers and mixes")
    try:
        if dask is not None:
            results += _fit_on_cluster(dask, units, mixed, fits)
        else:
            fitted = fit_jobs(units, dataset.parts, fits.covariates, algebra, fits.partial, jobs)
            for unit, done in zip(units, fitted, strict=True):
                results += done
                progress.advance(1, unit.label)
            for cache, keys in mixed:
                results += fits.partial.load_or_compute(
                    _mixes_name(keys), partial(_mix, cache, keys, dataset, progress)
                )
        if plan.fused:
            results += fits.partial.load_or_compute("fused", lambda: _fuse(fits, results, algebra))
        results += _baselines(list(fits.caches.values()), dataset, algebra)
        if fits.covariates.features:
            keys = {"encoder": "", "probe": "ridge", "layer": "", "control": "none", "seed": 0}
            keys |= {"baseline": COVARIATES_ONLY, "covariates": fits.covariates.name}
            for part in dataset.parts:
                features = [part.take(f) for f in fits.covariates.features]
                results += part.in_whole(banded_probe(features, part.data, part.plan, keys, algebra=algebra))
        progress.advance(1, "baselines")
    finally:
        progress.end()
    return results


def _algebra(device: str) -> Algebra:
    if device == "cpu":
        return HOST
    if not torch.cuda.is_available():
        raise InputError(f"device {device} is requested, and torch finds no GPU. Use --device cpu.")
    from layerprobe.probe.solvers.torch_backend import DeviceAlgebra

    return DeviceAlgebra(device)


def _fit_on_cluster(
    scheduler: str, units: list[Job], mixed: list[tuple[Cache, dict[str, Any]]], fits: _Fits
) -> ProbeResults:
    """Fit layers and mixes on Dask workers."""
    dataset, progress = fits.dataset, fits.progress
    results, threads = NO_RESULTS, torch.get_num_threads()
    tasks = [Task(u.name, u.label, 1, partial(fit_layer, u, dataset.parts, fits.covariates, HOST)) for u in units]
    for cache, keys in mixed:
        mix = partial(with_threads, threads, partial(_mix, cache, keys, dataset, NullProgress()))
        n_mixes = sum(len(part.plan.mixes) for part in dataset.parts)
        tasks.append(Task(_mixes_name(keys), f"{keys['encoder']} mixes", n_mixes, mix))
    with cluster(scheduler, progress) as client:
        progress.log(f"{n_workers(client)} workers probe …")
        for task, done in zip(tasks, fit_on_cluster(client, tasks, fits.partial), strict=True):
            results += done
            progress.advance(task.n_steps, task.label)
    return results


def _mixes_name(keys: dict[str, Any]) -> str:
    """Return the name under which an encoder's mixes are saved until the run is complete."""
    return f"{keys['encoder']}-{keys['control']}-mixes"


def _mix(cache: Cache, keys: dict[str, Any], dataset: SweepDataset, progress: NullProgress) -> ProbeResults:
    def advance(name: str) -> None:
        progress.advance(1, f"{keys['encoder']} {name.replace('_', ' ')}")

    label, results = {key: value for key, value in keys.items() if key != "seed"}, NO_RESULTS
    for part in (p for p in dataset.parts if p.plan.mixes):
        read, layers, _ = _layer_reader(cache, dataset, part)
        results += part.in_whole(mix_probes(read, layers, part.data, part.plan, label, advance=advance))
    return results


def _fuse(fits: _Fits, results: ProbeResults, algebra: Algebra) -> ProbeResults:
    """Fit all encoders together; those whose layers are a stack also in one weighted sum."""
    caches, dataset, progress = fits.caches, fits.dataset, fits.progress
    choices: dict[str, dict[tuple[str, str], str]] = {name: {} for name in caches}
    for encoder, target, fold, layer in chosen_layers(score_table(results.scores)).itertuples(index=False):
        if encoder in choices:
            choices[encoder][target, fold] = layer

    def read(part: RatedPart, encoder: str, layer: str) -> np.ndarray:
        return caches[encoder].read_layer(layer, part.take(row_indices(caches[encoder], dataset)))

    done, parts = NO_RESULTS, [part for part in dataset.parts if part.plan.fused]
    for part in parts:
        fused = fused_ridge(partial(read, part), choices, part.data, part.plan, algebra=algebra, advance=progress.log)
        done += part.in_whole(fused)
    progress.advance(1, "fused ridge")
    for part in parts:
        stacks = {n: _layer_reader(cache, dataset, part) for n, cache in caches.items() if cache.plan.is_stack}
        if part.plan.mixes and len(stacks) > 1:
            done += part.in_whole(fused_weighted_sum(stacks, part.data, part.plan, advance=lambda _: None))
    progress.advance(1, "fused weighted sum")
    return done


def _layer_reader(cache: Cache, dataset: SweepDataset, part: RatedPart) -> tuple[ReadLayer, list[str], int]:
    """Return a function that reads rows of a layer by its index, the names of layers but ``final``, and their width."""
    layers, indices = [name for name in cache.plan.layers if name != FINAL], part.take(row_indices(cache, dataset))

    def read(layer: int, rows: np.ndarray) -> np.ndarray:
        return cache.read_layer(layers[layer], indices[rows])

    return read, layers, cache.values_per_utterance // len(cache.plan.layers)


def _baselines(caches: list[Cache], dataset: SweepDataset, algebra: Algebra) -> ProbeResults:
    acoustic = next((c for c in caches if {"duration", "loudness"} <= set(c.plan.layers)), None)
    features = None
    if acoustic is not None:
        indices = row_indices(acoustic, dataset)
        features = np.concatenate([acoustic.read_layer(name, indices) for name in ("duration", "loudness")], axis=1)
    texts, results = transcripts(dataset), NO_RESULTS
    for part in dataset.parts:
        rows = dataset.rows.iloc[part.rows]
        results += baselines(
            part.data,
            part.plan,
            raters={t: rows[columns].to_numpy() for t in part.plan.targets if (columns := rater_columns(rows, t))},
            transcripts=None if texts is None else [texts[row] for row in part.rows],
            acoustic=None if features is None else part.take(features),
            algebra=algebra,
        )
    return results


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
