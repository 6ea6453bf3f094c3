"""Direct labels of lines, at the right of their panel and none over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from layerprobe.figures.layout.style import line_height, size_in_inches

FROM, TO = 0.04, 0.16  # inches right of the axes: ends of the leader from a line to its label


@dataclass(frozen=True)
class Label:
    """A label, the end of its line in data units, and the colour of both."""

    text: str
    x: float
    y: float
    colour: Any


def labels_height(labels: Sequence[Label], size: float) -> float:
    """Return the height in inches of all labels below each other at a font size in points."""
    return sum(line_height(size, 1 + label.text.count("\n")) for label in labels)


def spaced(middles: np.ndarray, heights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return positions as close as possible to the wanted ones that overlap nowhere and lie within limits.

    Args:
        middles: wanted positions, ``(n,)``
        heights: of the labels, ``(n,)``; together at most ``high - low``
        low: lower limit of everything
        high: upper limit of everything

    >>> spaced(np.array([0.5, 0.5]), np.array([0.2, 0.2]), 0.0, 1.0)
    array([0.4, 0.6])
    """
    order = np.argsort(middles, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(heights[order])])[:-1] + heights[order] / 2  # if stacked from 0
    wanted = middles[order] - before
    # Without overlaps these offsets never fall: the closest such sequence is isotonic regression (pooling of adjacent
    # violators; Barlow et al., 1972).
    blocks: list[list[float]] = []
    for offset in wanted:
        blocks.append([float(offset), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    offsets = np.concatenate([np.full(int(n), value) for value, n in blocks]) if blocks else np.zeros(0)
    offsets = np.clip(offsets, low, high - heights.sum())
    placed = np.empty(len(middles))
    placed[order] = offsets + before
    return placed


def label_lines(ax: Axes, labels: Sequence[Label], *, size: float) -> None:
    """Write each label right of the axes, with a thin leader from the end of its line.

    Args:
        ax: axes with their final position, size and limits
        labels: all of these axes
        size: of the font in points
    """
    (low, high), (across, down) = ax.get_ylim(), size_in_inches(ax)
    heights = np.array([line_height(size, 1 + label.text.count("\n")) for label in labels])
    wanted = np.array([(label.y - low) / (high - low) * down for label in labels])
    extra = max(0.0, float(heights.sum()) - down) / 2
    places = spaced(wanted, heights, -extra, down + extra)
    for label, start, place in zip(labels, wanted, places, strict=True):
        x = np.array([FROM, TO]) / across
        y = np.array([start, place]) / down
        ax.plot(1 + x, y, color=label.colour, lw=0.5, transform=ax.transAxes, clip_on=False, gid="leader")
        ax.text(
            1 + (TO + 0.03) / across, place / down, label.text, color=label.colour, fontsize=size, va="center",
            ha="left", transform=ax.transAxes, linespacing=1.0,
        )  # fmt: skip
