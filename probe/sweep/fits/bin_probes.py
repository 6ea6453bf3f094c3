"""Tasks that probe the bins of time of a sweep, one for each layer of each cache."""

from __future__ import annotations

from functools import partial
from typing import cast

from layerprobe.probe.results.predictions import NO_RESULTS, ProbeResults
from layerprobe.probe.sweep.data.bin_parts import BinnedSweep
from layerprobe.probe.sweep.fits.expected_work import PartSize, permutations_seconds, ratings_seconds
from layerprobe.probe.sweep.fits.layer_probes import PERMUTATIONS, RATINGS, CovariateFeatures, layer_probes
from layerprobe.probe.sweep.fits.task_inputs import TaskInputs
from layerprobe.probe.sweep.fits.workers import WORKER, Task

BINS = "bins"  # what tasks add to the scores while a sweep runs
NO_COVARIATES = CovariateFeatures("", [])


def bin_tasks(inputs: TaskInputs, stage: int) -> list[Task]:
    """Return a task for each layer of each cache; none of a sweep without bins.

    Args:
        inputs: of all tasks
        stage: of these tasks
    """
    if inputs.binned is None:
        return []
    sizes = [[PartSize.from_part(part) for part in one.parts] for one in inputs.binned.bins]
    tasks = []
    for number, one in enumerate(inputs.caches):
        d = one.n_features
        batches = inputs.binned.batches(d)
        seconds = sum(
            ratings_seconds(size, d) + (permutations_seconds(size, d, separate=False) if one.is_studied else 0.0)
            for of_bin in sizes
            for size in of_bin
        )
        memory = 12 * len(one.rows) * d * max(map(len, batches))  # sums in float64, means in float32
        tasks += [
            Task(
                f"{one.name}-bins-{layer}",
                f"{one.label} layer {layer}, bins of time",
                BINS,
                seconds,
                partial(fit_bins, number, layer),
                stage,
                adds=(BINS,),
                memory=memory + WORKER,
            )
            for layer in one.cache.plan.layers
        ]
    return tasks


def fit_bins(number: int, layer: str, inputs: TaskInputs) -> ProbeResults:
    """Fit ridge on the ratings, and on the plan's control tasks, in every bin of one layer of one cache."""
    one, binned, results = inputs.caches[number], cast(BinnedSweep, inputs.binned), NO_RESULTS
    for batch in binned.batches(one.n_features):
        means = binned.spans[number].means(layer, [of_bin.number for of_bin in batch], binned.n_utterances)
        for x, of_bin in zip(means, batch, strict=True):
            keys = {**one.keys, "layer": layer, "bin": of_bin.bin.name}
            for part in of_bin.parts:
                fitted = layer_probes(
                    part.take(x),
                    part.data,
                    part.plan,
                    keys,
                    covariates=NO_COVARIATES,
                    algebra=inputs.algebra,
                    passes=(RATINGS, PERMUTATIONS),
                )
                results += part.in_whole(fitted)
    return results
