"""Mean and standard deviation of ranges of frames that may overlap, by sums of segments in float64."""

from __future__ import annotations

import numpy as np

TOGETHER = 256  # ranges whose frames are held in float64 at a time


def range_moments(frames: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (divided by the count) of each range, both ``(n_ranges, dim)`` float64.

    Frames are centred before they are squared, so that the difference of the two sums keeps what float32 has.

    Args:
        frames: ``(n_frames, dim)``
        begins: ``(n_ranges,)`` first frame of each range
        counts: ``(n_ranges,)`` frames of each, at least 1

    >>> mean, std = range_moments(np.array([[1.0], [3.0], [8.0]]), np.array([0, 1, 2]), np.array([2, 2, 1]))
    >>> mean.ravel(), std.ravel()
    (array([2. , 5.5, 8. ]), array([1. , 2.5, 0. ]))
    """
    mean = np.empty((len(begins), frames.shape[1]))
    std = np.empty_like(mean)
    for first in range(0, len(begins), TOGETHER):
        part = slice(first, first + TOGETHER)
        begin, end = begins[part], begins[part] + counts[part]
        low, high = int(begin.min()), int(end.max())
        n, dim = high - low, frames.shape[1]
        moments = np.zeros((n + 1, 2 * dim))  # a row more: a segment of reduceat ends before the end of the array
        centred, squares = moments[:n, :dim], moments[:n, dim:]
        centre = frames[low:high].mean(axis=0, dtype=np.float64)
        np.subtract(frames[low:high], centre, out=centred)
        np.square(centred, out=squares)
        edges = np.stack([begin - low, end - low], axis=1).ravel()
        means = np.add.reduceat(moments, edges, axis=0)[::2] / counts[part, None]
        mean[part] = means[:, :dim] + centre
        std[part] = np.sqrt(np.maximum(means[:, dim:] - np.square(means[:, :dim]), 0.0))
    return mean, std
