"""Ids of spans: the utterance's id and a number in the order of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def span_ids(parents: Sequence[str], starts: Sequence[float], ends: Sequence[float]) -> list[str]:
    """Return ids of spans, numbered from 0 within each utterance in the order of start and end.

    Args:
        parents: id of the utterance of each span
        starts: of each span, seconds
        ends: of each span, seconds

    >>> span_ids(["a", "b", "a"], [0.5, 0.0, 0.0], [1.0, 1.0, 0.5])
    ['a#0001', 'b#0000', 'a#0000']
    """
    ids = [""] * len(parents)
    n_before: dict[str, int] = {}
    for k in np.lexsort((np.asarray(ends, dtype=float), np.asarray(starts, dtype=float))):
        parent = parents[k]
        number = n_before.get(parent, 0)
        ids[k], n_before[parent] = f"{parent}#{number:04d}", number + 1
    return ids
