"""The tasks of a sweep: layers of each encoder, its mixes, the encoders together, and the baselines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from layerprobe.probe.data.manifest.schema import rater_columns
from layerprobe.probe.results.erased import CONCEPT_ONLY
from layerprobe.probe.results.predictions import NO_RESULTS, ProbeResults
from layerprobe.probe.results.run_folder import COVARIATES_ONLY, FUSED_RIDGE, FUSED_WEIGHTED_SUM
from layerprobe.probe.results.score_table import score_table
from layerprobe.probe.results.selection import chosen_layers
from layerprobe.probe.sweep.data.inputs import row_indices, transcripts
from layerprobe.probe.sweep.fits.baselines import baselines
from layerprobe.probe.sweep.fits.bin_probes import bin_tasks
from layerprobe.probe.sweep.fits.erasure import REPEATS, concepts_alone, erased_probes
from layerprobe.probe.sweep.fits.expected_work import (
    PartSize,
    erased_seconds,
    mix_seconds,
    others_seconds,
    permutations_seconds,
    ratings_seconds,
)
from layerprobe.probe.sweep.fits.layer_probes import (
    OTHERS,
    PASSES,
    PERMUTATIONS,
    RATINGS,
    banded_probe,
    layer_passes,
    layer_probes,
)
from layerprobe.probe.sweep.fits.peak_spans import peak_tasks
from layerprobe.probe.sweep.fits.task_inputs import TaskInputs, rated_features
from layerprobe.probe.sweep.fits.workers import WORKER, Task
from layerprobe.probe.tasks.concepts import MOST_DIRECTIONS

MIX_LAYERS = 3  # copies of its layers that a mix may hold, and at most
MIX_BYTES = 4 * 2**30
TORCH_PROBES = {"mlp", "logistic"}
# Stages: cheap ones first, and what a first figure needs before all
FIRST, CONTROL_LAYERS, BASELINES, PERMUTED_LAYERS, IN_TIME, OTHER_LAYERS, ERASED_LAYERS, MIXED, FUSED = range(9)
LATER_PASSES = {PERMUTATIONS: PERMUTED_LAYERS, OTHERS: OTHER_LAYERS}


def all_tasks(inputs: TaskInputs, *, separate: bool) -> list[Task]:
    """Return all tasks in the order of their results; `Task.stage` has the order in which they are done.

    Args:
        inputs: of all tasks
        separate: whether the passes over a layer are tasks of their own, so that the ratings of all layers come first
    """
    sizes = [PartSize.from_part(part) for part in inputs.dataset.parts]
    tasks = [
        _layer_task(inputs, sizes, number, layer, passes)
        for number, one in enumerate(inputs.caches)
        for layer in one.cache.plan.layers
        for passes in _passes_of(inputs, number, separate=separate)
    ]
    fused = [_fused_task(inputs, sizes)] if any(part.plan.fused for part in inputs.dataset.parts) else []
    timed = [*bin_tasks(inputs, IN_TIME), *peak_tasks(inputs, IN_TIME)]
    erased = _erasure_tasks(inputs, sizes)
    return [*tasks, *_mix_tasks(inputs, sizes), *fused, *_baseline_tasks(inputs, sizes), *timed, *erased]


def _passes_of(inputs: TaskInputs, number: int, *, separate: bool) -> list[tuple[str, ...]]:
    """Return the passes over the layers of a cache that any part of the sweep has work for, by task."""
    one, covariates = inputs.caches[number], bool(inputs.covariates.features)
    every = [layer_passes(p.plan, one.keys["control"], covariates=covariates) for p in inputs.dataset.parts]
    wanted = tuple(name for name in PASSES if any(name in passes for passes in every))
    return [(name,) for name in wanted] if separate else [wanted]


def _layer_task(inputs: TaskInputs, sizes: list[PartSize], number: int, layer: str, passes: tuple[str, ...]) -> Task:
    one, d = inputs.caches[number], inputs.caches[number].n_features
    seconds = 0.0
    for size, part in zip(sizes, inputs.dataset.parts, strict=True):
        seconds += ratings_seconds(size, d) if RATINGS in passes else 0.0
        seconds += permutations_seconds(size, d, separate=RATINGS not in passes) if PERMUTATIONS in passes else 0.0
        if OTHERS in passes:
            n_corpora = len(np.unique(part.data.labels["corpus"])) if part.plan.cross_corpus else 0
            n_covariates = sum(f.shape[1] for f in inputs.covariates.features)
            seconds += others_seconds(
                size, d, n_corpora=n_corpora, n_probes=len(part.plan.probes), n_covariates=n_covariates
            )
    plans = [part.plan for part in inputs.dataset.parts]
    probes = {name for plan in plans for name in plan.probes}
    adds: tuple[str, ...] = () if one.is_studied else ("random_init",)
    if PERMUTATIONS in passes:
        adds += plans[0].controls
    if OTHERS in passes and one.is_studied:
        joint = ("banded_ridge",) if inputs.covariates.features else ()
        adds += (*joint, *(("train_corpus",) if plans[0].cross_corpus else ()), *sorted(probes))
    stage = (FIRST if one.is_studied else CONTROL_LAYERS) if RATINGS in passes else LATER_PASSES[passes[0]]
    return Task(
        f"{one.name}-layer-{layer}-{'+'.join(passes)}",
        f"{one.label} layer {layer}" + (f", {passes[0]}" if passes[0] != RATINGS else ""),
        "+".join(passes) if one.is_studied else RATINGS,
        seconds,
        partial(fit_layer, number, layer, passes),
        stage,
        adds=adds,
        uses_torch=OTHERS in passes and bool(probes & TORCH_PROBES),
        reads=(number, layer),
    )


def pending_names(tasks: list[Task]) -> tuple[str, ...]:
    """Return what tasks will add to a run: controls, probes and baselines, as scores name them."""
    return tuple(dict.fromkeys(name for task in tasks for name in task.adds))


def fit_layer(number: int, layer: str, passes: tuple[str, ...], inputs: TaskInputs) -> ProbeResults:
    """Make some passes over one layer of one cache, for every part of the sweep."""
    x, keys = inputs.read_layer(number, layer), {**inputs.caches[number].keys, "layer": layer}
    results = NO_RESULTS
    for part in inputs.dataset.parts:
        fitted = layer_probes(
            part.take(x),
            part.data,
            part.plan,
            keys,
            covariates=rated_features(inputs, part),
            algebra=inputs.algebra,
            passes=passes,
        )
        results += part.in_whole(fitted)
    return results


def _mix_tasks(inputs: TaskInputs, sizes: list[PartSize]) -> list[Task]:
    """Return a task for each group of mixes of each encoder whose layers are a stack."""
    mixes = tuple(dict.fromkeys(name for part in inputs.dataset.parts for name in part.plan.mixes))
    tasks: list[Task] = []
    if not mixes:
        return tasks
    from layerprobe.probe.sweep.fits.mix_probes import mix_groups  # imports torch

    for number, one in enumerate(inputs.caches):
        if not one.cache.plan.is_stack:
            continue
        n_layers, all_bytes = len(one.cache.plan.layers), 4 * len(one.rows) * one.cache.values_per_utterance
        for group in mix_groups(mixes):
            seconds = sum(
                mix_seconds(
                    size, one.n_features, n_layers, n_mixes=len(group), n_seeds=len(part.plan.weighted_sum_seeds)
                )
                for size, part in zip(sizes, inputs.dataset.parts, strict=True)
            )
            tasks.append(
                Task(
                    f"{one.name}-mixes-{'+'.join(group)}",
                    f"{one.label} {', '.join(group).replace('_', ' ')}",
                    "mixes",
                    seconds,
                    partial(fit_mixes, number, group),
                    MIXED,
                    adds=group,
                    memory=min(MIX_LAYERS * all_bytes, MIX_BYTES) + WORKER,
                    uses_torch=True,
                )
            )
    return tasks


def fit_mixes(number: int, mixes: tuple[str, ...], inputs: TaskInputs) -> ProbeResults:
    """Fit some mixes of the layers of one cache."""
    from layerprobe.probe.sweep.fits.mix_probes import mix_probes  # imports torch

    one, results = inputs.caches[number], NO_RESULTS
    keys = {key: value for key, value in one.keys.items() if key != "seed"}
    for part in inputs.dataset.parts:
        wanted = tuple(name for name in part.plan.mixes if name in mixes)
        if wanted:
            read, layers, _ = one.layer_reader(part)
            plan = replace(part.plan, mixes=wanted)
            results += part.in_whole(mix_probes(read, layers, part.data, plan, keys, advance=lambda _: None))
    return results


def _fused_task(inputs: TaskInputs, sizes: list[PartSize]) -> Task:
    """Return the task that fits all encoders together; `with_choices` makes it one that can be done."""
    width = sum(one.n_features for one in inputs.studied)
    seconds = sum(
        5 * (ratings_seconds(size, width) + permutations_seconds(size, width, separate=False)) for size in sizes
    )
    return Task(
        "fused",
        "fused encoders",
        "fused",
        seconds,
        partial(fit_fused, {}),
        FUSED,
        (FUSED_RIDGE, FUSED_WEIGHTED_SUM),
        uses_torch=True,
    )


def with_choices(task: Task, inputs: TaskInputs, ratings: ProbeResults) -> Task:
    """Return the task of the encoders together with a layer of each encoder, and any other task as it is.

    Args:
        task: any
        inputs: of all tasks
        ratings: the results of all layers on the ratings, by which the layers are chosen
    """
    if task.stage != FUSED:
        return task
    choices: dict[str, dict[tuple[str, str], str]] = {one.keys["encoder"]: {} for one in inputs.studied}
    for encoder, target, fold, layer in chosen_layers(score_table(ratings.scores)).itertuples(index=False):
        if encoder in choices:
            choices[encoder][target, fold] = layer
    return replace(task, work=partial(fit_fused, choices))


def fit_fused(choices: dict[str, dict[tuple[str, str], str]], inputs: TaskInputs) -> ProbeResults:
    """Fit all encoders together; those whose layers are a stack also in one weighted sum."""
    from layerprobe.probe.sweep.fits.fusion import fused_ridge, fused_weighted_sum  # imports torch

    caches = {one.keys["encoder"]: one for one in inputs.studied}
    done, parts = NO_RESULTS, [part for part in inputs.dataset.parts if part.plan.fused]
    for part in parts:

        def read(encoder: str, layer: str, part=part) -> np.ndarray:  # type: ignore[no-untyped-def]
            return caches[encoder].cache.read_layer(layer, part.take(caches[encoder].rows))

        fused = fused_ridge(read, choices, part.data, part.plan, algebra=inputs.algebra, advance=lambda _: None)
        done += part.in_whole(fused)
    for part in parts:
        stacks = {name: one.layer_reader(part) for name, one in caches.items() if one.cache.plan.is_stack}
        if part.plan.mixes and len(stacks) > 1:
            done += part.in_whole(fused_weighted_sum(stacks, part.data, part.plan, advance=lambda _: None))
    return done


def _baseline_tasks(inputs: TaskInputs, sizes: list[PartSize]) -> list[Task]:
    """Return the tasks of the baselines, and of the covariates without a layer if there are any."""
    seconds = sum(2 * ratings_seconds(size, 512) for size in sizes)  # a bag of words
    tasks = [Task("baselines", "baselines", "baselines", seconds, fit_baselines, BASELINES, ("baselines",))]
    if inputs.covariates.features:
        width = sum(f.shape[1] for f in inputs.covariates.features)
        seconds = sum(5 * ratings_seconds(size, width) for size in sizes)
        tasks.append(
            Task("covariates", "covariates alone", "baselines", seconds, fit_covariates, BASELINES, (COVARIATES_ONLY,))
        )
    return tasks


def fit_baselines(inputs: TaskInputs) -> ProbeResults:
    """Fit and score the baselines, which need no layer."""
    dataset = inputs.dataset
    acoustic = next((one for one in inputs.studied if {"duration", "loudness"} <= set(one.cache.plan.layers)), None)
    features = None
    if acoustic is not None:
        indices = row_indices(acoustic.cache, dataset)
        parts = [acoustic.cache.read_layer(name, indices) for name in ("duration", "loudness")]
        features = np.concatenate(parts, axis=1)
    texts, results = transcripts(dataset), NO_RESULTS
    for part in dataset.parts:
        rows = dataset.rows.iloc[part.rows]
        results += baselines(
            part.data,
            part.plan,
            raters={t: rows[columns].to_numpy() for t in part.plan.targets if (columns := rater_columns(rows, t))},
            transcripts=None if texts is None else [texts[row] for row in part.rows],
            acoustic=None if features is None else part.take(features),
            algebra=inputs.algebra,
        )
    return results


def _erasure_tasks(inputs: TaskInputs, sizes: list[PartSize]) -> list[Task]:
    """Return the tasks of layers without concepts, and of concepts without a layer, if any are erased."""
    n_erasures = len(inputs.erasures.erased) * (1 + REPEATS)
    if not n_erasures:
        return []
    tasks = [
        Task(
            f"{one.name}-layer-{layer}-erased",
            f"{one.label} layer {layer}, erasures",
            "erasures",
            sum(erased_seconds(size, one.n_features, n_erasures=n_erasures) for size in sizes),
            partial(fit_erased, number, layer),
            ERASED_LAYERS,
            adds=("erased",),
            reads=(number, layer),
        )
        for number, one in enumerate(inputs.caches)
        if one.is_studied
        for layer in one.cache.plan.layers
    ]
    seconds = sum(n_erasures * ratings_seconds(size, MOST_DIRECTIONS) for size in sizes)
    return [*tasks, Task("concepts", "concepts alone", "baselines", seconds, fit_concepts, BASELINES, (CONCEPT_ONLY,))]


def fit_erased(number: int, layer: str, inputs: TaskInputs) -> ProbeResults:
    """Fit one layer of one cache without each concept, for every part of the sweep."""
    x, keys = inputs.read_layer(number, layer), {**inputs.caches[number].keys, "layer": layer}
    return erased_probes(x, inputs.dataset.data, inputs.dataset.parts, inputs.erasures, keys)


def fit_concepts(inputs: TaskInputs) -> ProbeResults:
    """Fit the concepts without any layer."""
    results = NO_RESULTS
    for part in inputs.dataset.parts:
        results += part.in_whole(concepts_alone(part, inputs.erasures, inputs.algebra))
    return results


def fit_covariates(inputs: TaskInputs) -> ProbeResults:
    """Fit the covariates without any layer."""
    keys = {"encoder": "", "probe": "ridge", "layer": "", "control": "none", "seed": 0}
    keys |= {"baseline": COVARIATES_ONLY, "covariates": inputs.covariates.name}
    results = NO_RESULTS
    for part in inputs.dataset.parts:
        features = rated_features(inputs, part).features
        results += part.in_whole(banded_probe(features, part.data, part.plan, keys, algebra=inputs.algebra))
    return results
