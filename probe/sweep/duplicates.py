"""The same audio under several ids, by the cache: equal audio hashes, or equal embeddings of files in other formats.

A hash is of a file's bytes, so that a FLAC and a WAV of one recording differ in it. Their samples are the same, and so
are their embeddings, within rounding. Copies that were compressed with loss or resampled are not recognised.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.splits import joined_units

# Differences of embeddings of the same samples relative to their norm, in float32 and where anything has 16 bits. They
# come from the order of sums in batches of other sizes.
ROUNDING, ROUNDING_16_BITS = 1e-5, 4e-3
# … and at most this fraction of the standard deviation over utterances, where a layer hardly distinguishes them.
MAX_OF_DEVIATION = 0.01
MIN_FEATURES = 4  # fewer can be equal by chance
N_DIRECTIONS, N_SAMPLED = 8, 512  # directions in which the utterances differ most, and utterances that they are of
ALMOST_THE_SAME_SPAN = 0.9  # overlap of two spans of a file, as a fraction of what both cover
SPAN = re.compile(r"^(?P<file>\S+)(?: start (?P<start>\S+))?(?: end (?P<end>\S+))?$")


def recordings_of(caches: Sequence[Cache], utterance_ids: np.ndarray) -> np.ndarray | None:
    """Return a number per recording for utterances that all caches hold; equal ones mean the same audio.

    Spans of one file are different recordings unless they are almost the same span.

    Args:
        caches: those of text encoders are not read
        utterance_ids: ``(n_utterances,)`` strings

    Returns:
        ``(n_utterances,)``, or None if no cache is of audio
    """
    of_audio = [cache for cache in caches if cache.plan.text_column is None]
    if not of_audio:
        return None
    rows = [np.asarray(pd.Index(c.utterance_ids).get_indexer(pd.Index(utterance_ids))) for c in of_audio]
    hashes = [c.audio_hashes[r].astype(str) for c, r in zip(of_audio, rows, strict=True)]
    labels = [np.unique(of_cache, return_inverse=True)[1] for of_cache in hashes]
    pairs, n = None, len(utterance_ids)
    for cache, wanted in zip(of_audio, rows, strict=True):
        if cache.plan.is_stack and cache.dim * len(cache.poolings) >= MIN_FEATURES:
            layer = cache.read_layer(cache.layers[len(cache.layers) // 2], wanted)
            low = cache.plan.storage_dtype != "float32" or "float32" not in cache.plan.precision
            found = equal_rows(layer, rounding=ROUNDING_16_BITS if low else ROUNDING)
            # the same audio is the same to every encoder
            pairs = found if pairs is None else pairs[np.isin(pairs @ [n, 1], found @ [n, 1])]
    if pairs is not None:
        kept = np.array([not _other_spans(hashes[0][a], hashes[0][b]) for a, b in pairs], dtype=bool)
        graph = coo_array((np.ones(kept.sum()), tuple(pairs[kept].T)), shape=(n, n))
        labels.append(connected_components(graph, directed=False)[1])
    return joined_units(*labels)


def equal_rows(layer: np.ndarray, *, rounding: float) -> np.ndarray:
    """Return the pairs of utterances whose embeddings are the same within rounding, ``(n_pairs, 2)``, the lower first.

    Of three or more equal utterances each is paired with the first.

    Args:
        layer: ``(n_utterances, n_features)`` float32
        rounding: norm of a difference that is none, relative to the median norm of the embeddings
    """
    centred = layer - layer.mean(axis=0)
    deviation = float(np.sqrt(np.mean(np.square(centred, dtype=np.float64).sum(axis=1))))
    norm = float(np.median(np.linalg.norm(layer, axis=1)))
    radius = min(rounding * norm, MAX_OF_DEVIATION * deviation)
    if deviation <= np.finfo(np.float32).eps * norm:  # nothing distinguishes the utterances
        return np.empty((0, 2), dtype=int)
    seen: dict[bytes, int] = {}
    first_of = np.array([seen.setdefault(hashlib.sha256(row).digest(), k) for k, row in enumerate(layer)])
    is_copy = first_of != np.arange(len(layer))
    exact, first = np.column_stack([first_of, np.arange(len(layer))])[is_copy], np.flatnonzero(~is_copy)
    sampled = centred[np.linspace(0, len(layer) - 1, min(N_SAMPLED, len(layer))).astype(int)]
    directions = np.linalg.svd(sampled, full_matrices=False)[2][:N_DIRECTIONS]
    # a projection on orthogonal directions shortens a difference, so that no pair is missed
    near = cKDTree(centred[first] @ directions.T).query_pairs(2 * radius, output_type="ndarray")
    near = first[near]
    distances = np.linalg.norm(layer[near[:, 0]].astype(np.float64) - layer[near[:, 1]], axis=1)
    return np.concatenate([exact, np.sort(near[distances <= radius], axis=1)])


def _other_spans(one: str, other: str) -> bool:
    """Return whether two hashes name clearly different spans of the same file."""
    a, b = SPAN.match(one), SPAN.match(other)
    if a is None or b is None or a["file"] != b["file"] or one == other:
        return False
    starts, ends = (
        [default if m[name] is None else float(m[name]) for m in (a, b)]
        for name, default in (("start", 0.0), ("end", np.inf))
    )
    if np.isinf(ends).any():  # how long the file is is not known here: only the embeddings show it
        return False
    overlap = max(0.0, min(ends) - max(starts))
    return overlap < ALMOST_THE_SAME_SPAN * (max(ends) - min(starts))
