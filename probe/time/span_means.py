"""A span cache read as one of utterances: the embedding of an utterance is the mean over some or all of its spans."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import cast

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from layerprobe.probe.cache.store import READ_AT_ONCE, Cache
from layerprobe.probe.fingerprints import combined_fingerprint

_MARK = " spans "  # before the number and hash of an utterance's spans, see `probe.cache.spans.spans_content`


@dataclass(frozen=True, eq=False)
class SpanMeans(Cache):
    """Mean embeddings over all spans of each utterance, read from a span cache.

    Every span counts alike, however long it is. Rows are utterances, in the order of their first spans.
    """

    of: Cache | None = None  # the span cache
    parent_of_span: np.ndarray | None = None  # (n_spans,) row of the utterance of each span

    @property
    def span_cache(self) -> Cache:
        """The cache whose rows are spans."""
        return cast(Cache, self.of)

    def rows_fingerprint(self, utterance_ids: Collection[str] | None = None) -> str:
        """Return the fingerprint of utterances, their inputs and their spans; argument as of `Cache`."""
        contents = pd.Series(self.span_cache.audio_hashes).groupby(np.asarray(self.parent_of_span)).first()
        hashes = dict(zip(map(str, self.utterance_ids), contents, strict=True))
        names = hashes if utterance_ids is None else map(str, utterance_ids)
        return combined_fingerprint(*sorted(f"{name} {hashes.get(name, '')}" for name in names))

    def read_layer(self, layer: str | int, rows: np.ndarray | None = None, *, pooling: str | None = None) -> np.ndarray:
        """Read one layer of all utterances, or of some; arguments, result and errors as of `Cache.read_layer`."""
        rows = np.arange(self.n_utterances) if rows is None else rows
        place = np.full(self.n_utterances, -1)
        place[rows] = np.arange(len(rows))
        return group_means(
            self.span_cache, layer, place[np.asarray(self.parent_of_span)], n_groups=len(rows), pooling=pooling
        )


def utterance_means(cache: Cache) -> Cache:
    """Return a span cache as one of utterances; any other cache as it is."""
    if cache.spans is None:
        return cache
    codes, names = pd.factorize(np.asarray(cache.spans.parent, dtype=object))
    first = np.unique(codes, return_index=True)[1]
    hashes = np.array([str(text).rpartition(_MARK)[0] or str(text) for text in cache.audio_hashes[first]], dtype=object)
    same = {field.name: getattr(cache, field.name) for field in fields(Cache)}
    changed = {"utterance_ids": np.asarray(names, dtype=object), "audio_hashes": hashes, "spans": None}
    return SpanMeans(**(same | changed), of=cache, parent_of_span=codes)


def group_means(
    cache: Cache, layer: str | int, group: np.ndarray, *, n_groups: int, pooling: str | None = None
) -> np.ndarray:
    """Return mean embeddings of groups of rows of a cache, summed in float64.

    Args:
        cache: whose rows are averaged
        layer: its name or number
        group: ``(n_rows,)`` number of each row's group, below 0 for rows that are not read
        n_groups: number of groups
        pooling: the one to read; None for all side by side

    Returns:
        ``(n_groups, n_features)`` float32, NaN for a group without rows
    """
    wanted = np.flatnonzero(group >= 0)
    counts = np.bincount(group[wanted], minlength=n_groups)
    sums: np.ndarray | None = None
    for begin in range(0, max(1, len(wanted)), READ_AT_ONCE):
        rows = wanted[begin : begin + READ_AT_ONCE]
        values = cache.read_layer(layer, rows, pooling=pooling).astype(np.float64)
        ones = csr_array((np.ones(len(rows)), (group[rows], np.arange(len(rows)))), shape=(n_groups, len(rows)))
        part = ones @ values
        sums = part if sums is None else sums + part
    total = cast(np.ndarray, sums)  # at least one part was read
    means = np.full(total.shape, np.nan, dtype=np.float32)
    filled = counts > 0
    means[filled] = total[filled] / counts[filled, None]
    return means
