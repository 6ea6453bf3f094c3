"""A sweep whose rows are spans with ratings of their own: the dataset of utterances, expanded to their spans.

Folds are those of the utterances, so that all spans of a speaker, and of an utterance, are on one side of each split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd

from layerprobe.probe.cache.spans import Spans
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.predictions import SweepData
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.splits import UNKNOWN_SPEAKER, Split
from layerprobe.probe.sweep.data.inputs import SweepDataset
from layerprobe.probe.sweep.data.rated_parts import rated_parts
from layerprobe.probe.time.span_ratings import SAME_TIME, SpanRatings


def span_dataset(
    dataset: SweepDataset, caches: Sequence[Cache], ratings: SpanRatings, plan: SweepPlan
) -> tuple[SweepDataset, dict[str, int]]:
    """Return the dataset of the rated spans that all caches hold, and counts for plan.toml.

    Args:
        dataset: of the utterances, with their splits
        caches: whose rows are spans
        ratings: of spans
        plan: of the sweep

    Raises:
        InputError: if the caches hold none of the rated spans, or one at another time
    """
    table = ratings.table.set_index("span_id")
    rated = table[list(plan.targets)].notna().any(axis=1)
    utterances = pd.Index(dataset.data.utterance_ids)
    in_all = rated & table["utterance_id"].isin(utterances)
    for cache in caches:
        in_all &= table.index.isin(cache.utterance_ids)
    if not in_all.any():
        raise InputError(
            "LP577",
            f"{caches[0].path} holds none of the rated spans of {ratings.path} (first: {table.index[0]}). Extract "
            f"these: layerprobe extract MANIFEST --encoder {caches[0].plan.upstream} --out SPANS.zarr --spans "
            f"{ratings.path}",
        )
    chosen = table[in_all].assign(row=utterances.get_indexer(table["utterance_id"][in_all]))
    chosen = chosen.sort_values(["row", "start", "end"], kind="stable")
    for cache in caches:
        _check_times(cache, chosen, ratings)
    data, of = dataset.data, chosen["row"].to_numpy()
    known = (data.speaker_ids != UNKNOWN_SPEAKER).all()
    units = data.groups if data.units is None and not known else data.units
    spans = SweepData(
        utterance_ids=chosen.index.to_numpy(dtype=object),
        speaker_ids=data.speaker_ids[of],
        groups=data.groups[of],
        ratings=chosen[list(plan.targets)].to_numpy(dtype=np.float64),
        codes=np.empty((len(chosen), 0), dtype=np.int64),
        splits=[_expanded(split, of, len(utterances)) for split in data.splits],
        labels={name: labels[of] for name, labels in data.labels.items()},
        units=None if units is None else units[of],
        blocks=of,
    )
    parts, left_out = rated_parts(spans, plan)
    rows = dataset.rows.iloc[of].assign(utterance_id=spans.utterance_ids).reset_index(drop=True)
    counts = {**dataset.counts, "n_utterances": len(chosen), "n_speakers": len(np.unique(spans.groups))}
    in_table = table["utterance_id"].isin(utterances)
    numbers = {
        "n_spans": len(chosen),
        "n_utterances": len(np.unique(of)),
        "n_not_rated": int((in_table & ~rated).sum()),
        "n_not_cached": int((in_table & rated & ~in_all).sum()),
    }
    return replace(dataset, data=spans, rows=rows, counts=counts, parts=parts, left_out=left_out), numbers


def _expanded(split: Split, of: np.ndarray, n_utterances: int) -> Split:
    """Return a split of utterances as one of their spans; ``of`` has the utterance of each span, ``(n_spans,)``."""
    side, inner = np.zeros(n_utterances, dtype=int), np.zeros(n_utterances, dtype=int)
    side[split.train], side[split.test] = 1, 2
    inner[split.train] = split.inner_folds
    train = np.flatnonzero(side[of] == 1)
    return Split(split.name, train, np.flatnonzero(side[of] == 2), inner[of[train]])


def _check_times(cache: Cache, chosen: pd.DataFrame, ratings: SpanRatings) -> None:
    """Check that spans of the same id are at the same time in the table and in a cache."""
    spans = cast(Spans, cache.spans)
    at = pd.Index(cache.utterance_ids).get_indexer(chosen.index)
    off = np.abs(spans.start[at] - chosen["start"]) > SAME_TIME
    off |= (np.abs(spans.end[at] - chosen["end"]) > SAME_TIME) & (chosen["end"] <= spans.duration[at] + SAME_TIME)
    if off.any():
        name = chosen.index[off.to_numpy()][0]
        place = int(at[off.to_numpy()][0])
        raise InputError(
            "LP577",
            f"Span {name} is {chosen['start'][name]:g} to {chosen['end'][name]:g} s in {ratings.path} and "
            f"{spans.start[place]:g} to {spans.end[place]:g} s in {cache.path}. Extract the spans of this table: "
            f"layerprobe extract MANIFEST --encoder {cache.plan.upstream} --out SPANS.zarr --spans {ratings.path}",
        )
