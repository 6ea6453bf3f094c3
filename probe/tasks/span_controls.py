"""Control tasks for ratings of spans: what is permuted are the series of whole utterances, not single spans.

Ratings of adjacent spans are alike, and so are their embeddings; spans that were permuted one by one would make chance
too low. Each utterance therefore receives the series of another one, rotated by a random number of spans, cut where it
is longer and repeated where it is shorter. Rotation keeps the order of a series (Theiler et al., 1992, on surrogate
data that keep autocorrelation), and is the only difference where a speaker has one utterance.
"""

from __future__ import annotations

import numpy as np

from layerprobe.probe.tasks.controls import permuted_within_speaker, random_per_speaker


def span_control(
    control: str, ratings: np.ndarray, blocks: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return one sample of a control task for ratings of spans.

    Args:
        control: a key of `probe.tasks.controls.CONTROLS`
        ratings: ``(n_spans, n_targets)``, those of an utterance adjacent and in the order of time
        blocks: ``(n_spans,)`` a number per utterance
        groups: ``(n_spans,)`` a number per speaker
        rng: of the permutation

    Returns:
        ``(n_spans, n_targets)``
    """
    if control == "random_per_speaker":
        return random_per_speaker(ratings, groups, rng)
    first = np.flatnonzero(np.r_[True, blocks[1:] != blocks[:-1]])
    speaker_of = groups[first]
    if control == "permuted":
        return np.asarray(ratings[_exchanged(rng.permutation(len(first)), first, len(ratings), rng)])
    utterances = np.arange(len(first))[:, None]
    within = permuted_within_speaker(utterances, speaker_of, rng)[:, 0]
    source = _exchanged(within, first, len(ratings), rng)
    if control == "permuted_within_speaker":
        return np.asarray(ratings[source])
    counts = np.bincount(groups)
    present = np.flatnonzero(counts)
    means = np.stack([np.bincount(groups, weights=column) / np.maximum(counts, 1) for column in ratings.T], axis=1)
    other = means.copy()
    other[present] = means[rng.permutation(present)]
    return np.asarray(other[groups] + (ratings - means[groups])[source])


def _exchanged(source: np.ndarray, first: np.ndarray, n_spans: int, rng: np.random.Generator) -> np.ndarray:
    """Return for each span the span whose rating it receives, ``(n_spans,)``.

    Args:
        source: ``(n_utterances,)`` the utterance whose series each receives
        first: ``(n_utterances,)`` rising numbers of their first spans
        n_spans: of all utterances
        rng: of the rotations
    """
    lengths = np.diff(np.r_[first, n_spans])
    utterance = np.repeat(np.arange(len(first)), lengths)
    place = np.arange(n_spans) - first[utterance]
    rotation = rng.integers(lengths[source])
    donor = source[utterance]
    return np.asarray(first[donor] + (place + rotation[utterance]) % lengths[donor])
