"""Which utterances are heard together: batches by chance, parts of a batch by length under a budget of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def batches(n: int, *, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All of ``n`` utterances in a random order, cut into batches of about ``size``, none of them smaller than half.

    A batch is drawn at random, not by length, so that its CCC is one of the corpus.

    >>> [len(b) for b in batches(10, size=4, rng=np.random.default_rng(0))]
    [5, 5]
    """
    order = rng.permutation(n)
    return np.array_split(order, max(1, round(n / size)))


def parts(n_frames: Sequence[int], *, budget: int) -> list[np.ndarray]:
    """Places in a batch, sorted by length and cut so that no part pads to more than ``budget`` frames; one always fits.

    Args:
        n_frames: of each utterance of the batch
        budget: the longest of a part times its utterances is at most this

    >>> [p.tolist() for p in parts([5, 1, 4, 1], budget=8)]
    [[0], [2, 1], [3]]
    """
    order = sorted(range(len(n_frames)), key=lambda k: (-n_frames[k], k))
    cut: list[list[int]] = []
    for place in order:
        if cut and n_frames[cut[-1][0]] * (len(cut[-1]) + 1) <= budget:
            cut[-1].append(place)
        else:
            cut.append([place])
    return [np.array(part) for part in cut]
