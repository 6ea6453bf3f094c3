"""The peaks of a sweep over spans: for each utterance the span with the highest held-out prediction of each target."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd

from layerprobe.probe.cache.spans import Spans
from layerprobe.probe.results.predictions import NO_RESULTS, ProbeResults
from layerprobe.probe.results.run_folder import CHOSEN
from layerprobe.probe.solvers.permuted_ridge import PermutedRidge
from layerprobe.probe.splits import Split
from layerprobe.probe.sweep.data.rated_parts import RatedPart
from layerprobe.probe.sweep.fits.expected_work import PartSize, permutations_seconds
from layerprobe.probe.sweep.fits.layer_probes import make_targets, permuted_targets
from layerprobe.probe.sweep.fits.task_inputs import TaskInputs
from layerprobe.probe.sweep.fits.workers import Task
from layerprobe.probe.tasks.controls import CHANCE
from layerprobe.probe.time.peak_span import peak_span

PEAKS = "peaks"
MOST_PERMUTATIONS = 99  # whose predictions are held in memory
PEAK_COLUMNS = (
    "encoder", "layer", "target", "utterance_id", "speaker_id", "fold", "span_id", "start", "end", "label", "n_spans",
    "value", "deviation", "p_value",
)  # fmt: skip


def peak_tasks(inputs: TaskInputs, stage: int) -> list[Task]:
    """Return a task for each encoder under study; none of a sweep over utterances.

    Args:
        inputs: of all tasks
        stage: of these tasks
    """
    if all(part.data.blocks is None for part in inputs.dataset.parts):
        return []
    sizes = [PartSize.from_part(part) for part in inputs.dataset.parts]
    tasks = []
    for number, one in enumerate(inputs.caches):
        if one.is_studied:
            seconds = sum(permutations_seconds(size, one.n_features, separate=True) for size in sizes)
            work = partial(find_peaks, number)
            seconds *= len(one.cache.plan.layers)
            tasks.append(
                Task(f"{one.name}-{PEAKS}", f"{one.label} {PEAKS}", PEAKS, seconds, work, stage, adds=(PEAKS,))
            )
    return tasks


def find_peaks(number: int, inputs: TaskInputs) -> ProbeResults:
    """Return the rows of the table of peaks of one encoder, by its number, and all rated targets."""
    rows: list[dict[str, Any]] = []
    for part in inputs.dataset.parts:
        for target in part.plan.targets:
            rows += _of_target(inputs, number, part, target)
    return replace(NO_RESULTS, peaks=rows)


def _of_target(inputs: TaskInputs, number: int, part: RatedPart, target: str) -> list[dict[str, Any]]:
    """Return the peaks of one target by one encoder.

    In each fold the layer is the one that has the least error inside the training speakers. It is selected in the same
    way for each permutation: a layer that was selected for the observed ratings fits these better than others.
    """
    data, one = part.data, inputs.caches[number]
    column = part.plan.targets.index(target)
    control = next((name for name in CHANCE if name in part.plan.controls), None)
    plan = replace(
        part.plan,
        targets=(target,),
        nominal=(),
        classes=(),
        residuals=(),
        text_residuals=(),
        controls=() if control is None else (control,),
        n_permutations=min(part.plan.n_permutations, MOST_PERMUTATIONS),
    )
    own = replace(
        data, ratings=np.ascontiguousarray(data.ratings[:, [column]]), text_residuals=None, other_targets=(),
        other_ratings=None, codes=np.empty((len(data.ratings), 0), dtype=np.int64),
    )  # fmt: skip
    observed, permuted = make_targets(own, plan), list(permuted_targets(own, plan)) if control else []
    n_columns = 1 + sum(batch.y.shape[1] for batch in permuted)
    prediction = np.full((len(own.ratings), n_columns), np.nan)
    least = np.full((len(own.splits), n_columns), np.inf)
    for layer in one.cache.plan.layers:
        x = part.take(inputs.read_layer(number, layer))
        ridge = PermutedRidge(
            x,
            splits=own.splits,
            alphas=plan.alphas,
            algebra=inputs.algebra,
            inner_selection=plan.inner_selection,
        )
        fits = [ridge.fit(observed.y, shared=observed.shared)]
        fits += [ridge.fit_permuted(batch.y, shared=batch.shared, of_split=batch.of_split) for batch in permuted]
        for k, split in enumerate(own.splits):
            error = np.concatenate([fit[k].inner_error for fit in fits])
            better = error < least[k]
            least[k, better] = error[better]
            found = np.column_stack([fit[k].prediction for fit in fits])
            prediction[np.ix_(split.test, np.flatnonzero(better))] = found[:, better]
    return _rows(inputs, number, part, prediction, own.splits, {"encoder": one.keys["encoder"], "target": target})


def _rows(
    inputs: TaskInputs, number: int, part: RatedPart, prediction: np.ndarray, splits: list[Split], keys: dict[str, str]
) -> list[dict[str, Any]]:
    data, cache = part.data, inputs.caches[number].cache
    spans, blocks = cast(Spans, cache.spans), cast(np.ndarray, data.blocks)
    fold = {int(row): split.name for split in splits for row in split.test}
    at = pd.Index(cache.utterance_ids).get_indexer(pd.Index(data.utterance_ids))
    peaks = peak_span(prediction[:, 0], prediction[:, 1:], blocks)
    rows = []
    for k, span in enumerate(peaks.span.tolist()):
        of = spans[int(at[span])]
        rows.append(
            {
                **keys,
                "layer": CHOSEN,
                "utterance_id": of.parent,
                "speaker_id": str(data.speaker_ids[span]),
                "fold": fold[span],
                "span_id": str(data.utterance_ids[span]),
                "start": of.start,
                "end": of.end,
                "label": of.label,
                "n_spans": int(peaks.n_spans[k]),
                "value": float(peaks.value[k]),
                "deviation": float(peaks.deviation[k]),
                "p_value": float(peaks.p_value[k]),
            }
        )
    return rows


def peak_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows of all encoders and targets as a table of `PEAK_COLUMNS`."""
    return pd.DataFrame(rows, columns=list(PEAK_COLUMNS))
