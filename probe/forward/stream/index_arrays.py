"""Index arrays of sequences that follow each other: computed on the host, copied to the device."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def starts(counts: np.ndarray) -> np.ndarray:
    """Return the index of the first item of each sequence, where sequences of ``counts`` items follow each other.

    >>> starts(np.array([2, 3, 1]))
    array([0, 2, 5])
    """
    first: np.ndarray = np.cumsum(counts) - counts
    return first


def within(counts: np.ndarray) -> np.ndarray:
    """Return the index of each item within its sequence, where sequences of ``counts`` items follow each other.

    >>> within(np.array([2, 3]))
    array([0, 1, 0, 1, 2])
    """
    numbers: np.ndarray = np.arange(counts.sum()) - np.repeat(starts(counts), counts)
    return numbers


def uploaded(values: np.ndarray, *, device: str) -> Tensor:
    """Copy an array to a device; the host does not wait for a GPU."""
    host = torch.from_numpy(values)
    return host.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else host.to(device)


def parts(counts: np.ndarray, at_once: int) -> list[slice]:
    """Return consecutive ranges that together have so many rows at most, unless a single one has more.

    >>> parts(np.array([3, 3, 3, 9, 1]), 6)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None), slice(4, 5, None)]
    """
    cuts, n_rows = [0], 0
    for k, count in enumerate(counts.tolist()):
        if n_rows and n_rows + count > at_once:
            cuts.append(k)
            n_rows = 0
        n_rows += count
    return [slice(a, b) for a, b in itertools.pairwise([*cuts, len(counts)])]
