"""The same audio under several ids: equal audio hashes, or equal embeddings that the audio files confirm.

An audio hash is of a file's bytes, so that a FLAC and a WAV of one recording differ in it, and so does a copy at
another sampling rate. Their embeddings are close: with two encoders, 16-bit copies were at 0.0002 to 0.03 standard
deviations (root mean square over features), copies at 44.1 kHz or as OGG at 0.02 to 0.12, and other recordings at 0.4
or more. Pairs that close are compared by their waveforms; embeddings of the same bits need no comparison.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.fft import irfft, next_fast_len, rfft
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.audio import InvalidAudioError, read_audio_file
from layerprobe.probe.data.audio_hashes import Row, span_of
from layerprobe.probe.data.reading import DEFAULT_READING
from layerprobe.probe.splits import joined_units

CLOSE = 0.15  # root mean square difference over standardised features of pairs that are compared by their waveforms
INDISTINGUISHABLE = 1e-4  # … of pairs that are the same where an audio file can't be read
MIN_FEATURES = 4  # fewer can be equal by chance
MAX_CLOSE = 3  # close ones of an utterance that are compared
N_DIRECTIONS, N_SAMPLED = 64, 512  # directions in which the utterances differ most, and utterances that they are of
MAX_PAIRS = 500_000  # close pairs of all utterances that are held in memory, the closest ones
AT_ONCE = 256  # utterances that are compared with all others at once
RATE, MAX_LAG, MIN_CORRELATION = 8_000, 0.1, 0.99  # Hz, seconds and peak of the cross-correlation of two waveforms
ALMOST_THE_SAME_SPAN = 0.9  # overlap of two spans of a file, as a fraction of what both cover
SPAN = re.compile(r"^(?P<file>\S+)(?: start (?P<start>\S+))?(?: end (?P<end>\S+))?$")


def recordings_of(caches: Sequence[Cache], rows: pd.DataFrame) -> np.ndarray | None:
    """Return a number per recording for utterances that all caches hold; equal ones mean the same audio.

    Spans of one file are different recordings unless they are almost the same span.

    Args:
        caches: those of text encoders are not read
        rows: of the manifest, with ``utterance_id`` and ``path``, and ``start`` and ``end`` where it has them

    Returns:
        ``(n_utterances,)``, or None if no cache is of audio
    """
    of_audio = [cache for cache in caches if cache.plan.text_column is None]
    if not of_audio or not len(rows):
        return None
    n, ids = len(rows), pd.Index(rows["utterance_id"])
    indices = [np.asarray(pd.Index(c.utterance_ids).get_indexer(ids)) for c in of_audio]
    hashes = [c.audio_hashes[i].astype(str) for c, i in zip(of_audio, indices, strict=True)]
    labels = [np.unique(of_cache, return_inverse=True)[1] for of_cache in hashes]
    pairs: dict[tuple[int, int], float] | None = None
    for cache, index in zip(of_audio, indices, strict=True):
        if cache.plan.is_stack and cache.dim * len(cache.poolings) >= MIN_FEATURES:
            found = close_rows(cache.read_layer(cache.layers[len(cache.layers) // 2], index))
            # the same audio is the same to every encoder
            pairs = found if pairs is None else {p: min(d, pairs[p]) for p, d in found.items() if p in pairs}
    spans = _spans(hashes[0])
    files, bounded = spans["file"].to_numpy(), np.isfinite(spans["end"].to_numpy())
    same = _equal_spans(spans)
    for (a, b), distance in sorted((pairs or {}).items()):
        # two spans of a file are others, however alike: only of a whole file it is not known how long it is
        others = files[a] == files[b] and bounded[a] and bounded[b]
        if hashes[0][a] != hashes[0][b] and not others and (distance == 0 or _same_audio(rows, (a, b), distance)):
            same.append((a, b))
    _waveform.cache_clear()
    graph = coo_array((np.ones(len(same)), tuple(np.array(same, dtype=int).reshape(-1, 2).T)), shape=(n, n))
    return joined_units(*labels, connected_components(graph, directed=False)[1])


def close_rows(layer: np.ndarray) -> dict[tuple[int, int], float]:
    """Return the pairs of utterances whose embeddings are closer than `CLOSE`, with their distances.

    A distance is 0 for the same bits alone. Of several utterances with the same bits each is paired with the first.

    Args:
        layer: ``(n_utterances, n_features)`` float32
    """
    seen: dict[bytes, int] = {}
    first_of = [seen.setdefault(hashlib.sha256(row).digest(), k) for k, row in enumerate(layer)]
    found = {(first, k): 0.0 for k, first in enumerate(first_of) if first != k}
    z, deviation = layer[(rows := np.unique(first_of))], layer.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6 * np.abs(layer).max(axis=0)
    if varies.sum() < MIN_FEATURES or len(rows) < 2:
        return found if len(rows) > 1 else {}  # if all are the same, nothing is known of the audio
    z = ((z - layer.mean(axis=0))[:, varies] / deviation[varies]).astype(np.float32)
    sampled = z[np.linspace(0, len(z) - 1, min(N_SAMPLED, len(z))).astype(int)]
    directions = np.linalg.svd(sampled, full_matrices=False)[2][:N_DIRECTIONS]
    pairs, distances = _within(z, z @ directions.T)
    n_of = np.zeros(len(z), dtype=int)
    for k in np.argsort(distances, kind="stable"):
        a, b = np.sort(pairs[k])
        if max(n_of[a], n_of[b]) < MAX_CLOSE:
            n_of[[a, b]] += 1
            found[int(rows[a]), int(rows[b])] = max(float(distances[k]), np.finfo(float).tiny)
    return found


def _within(z: np.ndarray, projected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of rows closer than `CLOSE`, ``(n_pairs, 2)``, and their distances, ``(n_pairs,)``.

    A projection on orthogonal directions shortens a difference, so that comparing projections first misses no pair. Of
    more than `MAX_PAIRS` the closest are returned.

    Args:
        z: standardised features, ``(n_rows, n_features)``
        projected: the same on a few orthogonal directions, ``(n_rows, n_directions)``
    """
    reach, squares = 1.01 * CLOSE**2 * z.shape[1], np.square(projected).sum(axis=1)
    found, distances = [np.empty((0, 2), dtype=int)], [np.empty(0)]
    for begin in range(0, len(z), AT_ONCE):
        block = slice(begin, begin + AT_ONCE)
        near = squares[block, None] + squares[begin:] - 2 * (projected[block] @ projected[begin:].T) <= reach
        a, b = np.nonzero(near)
        a, b = a[b > a] + begin, b[b > a] + begin
        for part in np.array_split(np.arange(len(a)), len(a) // 4096 + 1):
            distance = np.sqrt(np.mean((z[a[part]] - z[b[part]]) ** 2, axis=1, dtype=np.float64))
            close = distance <= CLOSE
            found.append(np.column_stack([a[part], b[part]])[close])
            distances.append(distance[close])
        if sum(map(len, distances)) > MAX_PAIRS:  # as of a layer that hardly differs within a few kinds of audio
            pairs, every = np.concatenate(found), np.concatenate(distances)
            closest = np.sort(np.argsort(every, kind="stable")[:MAX_PAIRS])
            found, distances = [pairs[closest]], [every[closest]]
    return np.concatenate(found), np.concatenate(distances)


def _same_audio(rows: pd.DataFrame, pair: tuple[int, int], distance: float) -> bool:
    """Return whether the waveforms of two utterances are the same but for noise, gain, and a short shift."""
    spans: list[Row] = rows.iloc[list(pair)].to_dict("records")
    a, b = (_waveform(str(row["path"]), tuple(span_of(row).items())) for row in spans)
    if a is None or b is None:
        return distance <= INDISTINGUISHABLE
    lag = round(MAX_LAG * RATE)
    if abs(len(a) - len(b)) > lag:
        return False
    n = next_fast_len(max(len(a), len(b)) + lag)
    correlation = irfft(rfft(a, n) * np.conj(rfft(b, n)), n)
    peak = np.abs(np.concatenate([correlation[: lag + 1], correlation[-lag:]])).max()
    return bool(peak >= MIN_CORRELATION * np.linalg.norm(a) * np.linalg.norm(b))


@lru_cache(maxsize=64)
def _waveform(path: str, span: tuple[tuple[str, float], ...]) -> np.ndarray | None:
    """Return the waveform without its mean, ``(n_samples,)`` float64 at `RATE`; None if it can't be read."""
    try:
        samples = read_audio_file(path, sampling_rate=RATE, reading=DEFAULT_READING, **dict(span)).astype(np.float64)
    except InvalidAudioError:
        return None
    return np.asarray(samples - samples.mean())


def _spans(hashes: np.ndarray) -> pd.DataFrame:
    """Return ``file``, ``start`` and ``end`` (seconds; 0 and infinity where there is none) of each audio hash."""
    found = [m.groupdict() if (m := SPAN.match(h)) else {"file": h} for h in hashes.tolist()]
    table = pd.DataFrame(found, columns=["file", "start", "end"])
    return table.assign(start=table["start"].astype(float).fillna(0.0), end=table["end"].astype(float).fillna(np.inf))


def _equal_spans(spans: pd.DataFrame) -> list[tuple[int, int]]:
    """Return the pairs of almost the same span of one file."""
    pairs = []
    bounded = spans[np.isfinite(spans["end"]) & spans.duplicated("file", keep=False)].sort_values(["file", "start"])
    rows = list(bounded.itertuples())
    for k, (index, file, start, end) in enumerate(rows):
        for later, other, begins, ends in rows[k + 1 :]:
            if other != file or begins - start > (1 - ALMOST_THE_SAME_SPAN) * (end - start):
                break
            if min(end, ends) - begins >= ALMOST_THE_SAME_SPAN * (max(end, ends) - start):
                pairs.append((int(index), int(later)))
    return pairs
