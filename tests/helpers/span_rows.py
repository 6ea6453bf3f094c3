"""Span caches written from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers.cache_rows import PLAN

from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.spans import Spans, spans_content
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.span_ids import span_ids

SPAN_PLAN = replace(PLAN, spans="given intervals; frames with their centre inside")


def write_spans(
    path: Path,
    parents: Sequence[str],
    starts: Sequence[float],
    ends: Sequence[float],
    labels: Sequence[str],
    durations: Sequence[float],
    embeddings: np.ndarray,
    *,
    plan: ExtractionPlan = SPAN_PLAN,
) -> list[str]:
    """Write a span cache, one utterance after another, and return the ids of the spans in the order given.

    Args:
        path: of the cache, new or partial
        parents: id of the utterance of each span
        starts: of each span, seconds; ends are alike
        ends: see above
        labels: of each span
        durations: of the utterance of each span, seconds
        embeddings: ``(n_spans, n_layers, n_poolings, dim)``; layers and poolings of the plan are named anew
        plan: of the cache
    """
    n_layers, n_poolings, dim = embeddings.shape[1:]
    plan = replace(plan, layers=tuple(map(str, range(n_layers))), poolings=("mean", "std", "max", "min")[:n_poolings])
    ids = span_ids(parents, starts, ends)
    columns = [np.array(c, dtype=object) for c in (parents, labels)]
    numbers = [np.array(c, dtype=float) for c in (starts, ends, durations)]
    spans = Spans(columns[0], numbers[0], numbers[1], columns[1], numbers[2])
    with CacheWriter(path, plan, dim=dim) as writer:
        for parent in dict.fromkeys(parents):
            rows = np.flatnonzero(columns[0] == parent)
            names = [ids[k] for k in rows]
            own = [(ids[k], starts[k], ends[k], labels[k]) for k in rows]
            content = spans_content(f"hash of {parent}", own)
            writer.append_spans(content, names, embeddings[rows].astype(np.float32), spans.take(rows))
    return ids
