"""Span caches and ratings in which a signal is planted at a known time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from helpers.planted import manifest_of
from helpers.span_rows import write_spans

from layerprobe.probe.cache.store import open_cache

N, N_SPANS, STEP, DIM = 120, 8, 0.5, 6
LABELS = ("the", "cat", "sat", "on", "a", "Happy", "mat", "today")


def timed_corpus(folder, rng, *, n=N, n_spans=N_SPANS, planted=5, strength=2.0, lengths=None):
    """Write a span cache and its manifest: layer 1 has the first target in one span of each utterance.

    Args:
        folder: of both
        rng: of embeddings and ratings
        n: number of utterances, of 24 speakers
        n_spans: of each utterance
        planted: number of the span that has the target; None for none
        strength: of the target in a feature, whose noise has a standard deviation of 1
        lengths: of each utterance its number of spans, in place of ``n_spans``

    Returns:
        the cache, opened, the manifest, and the embeddings ``(n_all_spans, n_layers, dim)``
    """
    lengths = np.full(n, n_spans) if lengths is None else np.asarray(lengths)
    of = np.repeat(np.arange(n), lengths)
    place = np.concatenate([np.arange(k) for k in lengths])
    ratings = rng.normal(size=(n, 2))
    embeddings = rng.normal(size=(len(of), 3, 1, DIM)).astype(np.float32)
    if planted is not None:
        embeddings[place == planted, 1, 0, 0] += strength * ratings[of[place == planted], 0]
    starts = place * STEP
    labels = [LABELS[k % len(LABELS)] for k in place]
    parents = [f"u{i}" for i in of]
    write_spans(folder / "spans.zarr", parents, starts, starts + STEP, labels, (lengths * STEP)[of], embeddings)
    return open_cache(folder / "spans.zarr"), manifest_of(ratings, folder / "m.csv"), embeddings[:, :, 0]


def ratings_table(cache, path, **targets):
    """Write a table of ratings of the spans of a cache, and return its path."""
    spans = cache.spans
    table = pd.DataFrame({"span_id": cache.utterance_ids, "utterance_id": spans.parent})
    table.assign(start=spans.start, end=spans.end, label=spans.label, **targets).to_csv(path, index=False)
    return path


def pooled(run, *, metric="pearson", control="none", target="arousal"):
    """Scores over all held-out rows by ridge, with layers as rows and bins as columns."""
    rows = run.scores
    rows = rows[(rows["control"] == control) & (rows["fold"] == "pooled") & (rows["metric"] == metric)]
    rows = rows[(rows["target"] == target) & (rows["probe"] == "ridge") & (rows["baseline"] == "")]
    return rows.pivot_table(index="layer", columns="bin", values="value")
