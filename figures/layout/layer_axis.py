"""The axis of layers: where each stands, and which of them are named."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from layerprobe.analysis.findings.formatting import shown_name
from layerprobe.figures.layout.style import size_in_inches, text_width
from layerprobe.probe.layer_names import FINAL, is_stack, n_blocks, relative_depth

GAP = 0.35  # cells between the last block and ``final``, which is that block again, normalised
STEPS = (1, 2, 4, 6, 8, 12, 16, 24, 48, 96)


def centres(layers: list[str]) -> np.ndarray:
    """Relative depths, with ``final`` a little apart from the blocks."""
    return relative_depth(layers) + np.where([name == FINAL for name in layers], GAP / max(1, n_blocks(layers)), 0)


def cell_width(layers: list[str]) -> float:
    """What a layer takes on the axis of relative depth."""
    return 1 / max(1, n_blocks(layers))


def span(layers: list[str]) -> tuple[float, float]:
    """From the left edge of the first cell to the right edge of the last."""
    middle, half = centres(layers), cell_width(layers) / 2
    return float(middle[0] - half), float(middle[-1] + half)


def common_span(layers: list[list[str]]) -> tuple[float, float]:
    """The span that holds those of several encoders."""
    spans = [span(names) for names in layers]
    return min(low for low, _ in spans), max(high for _, high in spans)


def named_layers(layers: list[str], cell: float, size: float) -> list[int]:
    """Which layers have room for their name: each, or every 2nd, 4th, …; features have theirs always.

    Args:
        layers: in order
        cell: inches from one layer to the next
        size: of the font in points

    >>> named_layers([*map(str, range(13)), "final"], 0.1, 8.0)
    [0, 4, 8, 13]
    """
    if not is_stack(layers):
        return list(range(len(layers)))
    air = 0.7 * size / 72
    numbers = [k for k, name in enumerate(layers) if name != FINAL]
    widest = max(text_width(layers[k], size) for k in numbers) + air
    step = next((s for s in STEPS if s * cell >= widest), STEPS[-1])
    shown = [k for k in numbers if int(layers[k]) % step == 0]
    if layers[-1] != FINAL:
        return shown
    at, half = centres(layers) / cell_width(layers) * cell, text_width(FINAL, size) / 2
    return [k for k in shown if at[-1] - at[k] >= half + text_width(layers[k], size) / 2 + air] + [len(layers) - 1]


def stands_upright(layers: list[str], cell: float, size: float) -> bool:
    """Whether names of features are turned, because one beside the other they don't fit."""
    return not is_stack(layers) and max(text_width(shown_name(n), size) for n in layers) + 0.4 * size / 72 > cell


def name_layers(ax: Axes, layers: list[str], *, size: float, axis: Literal["x", "y"] = "x") -> Axes:
    """Put the names of layers on an axis whose limits and place are settled.

    Args:
        ax: where layers stand at their `centres`
        layers: in order
        size: of the font in points
        axis: ``x`` or ``y``
    """
    low, high = sorted(ax.get_xlim() if axis == "x" else ax.get_ylim())
    room = size_in_inches(ax)[0 if axis == "x" else 1]
    cell = room * cell_width(layers) / (high - low)
    if axis == "y" and is_stack(layers):
        cell *= 1.5  # lines of digits are less high than they are wide
    shown = named_layers(layers, cell, size)
    names = [shown_name(layers[k]) for k in shown]
    upright = axis == "x" and stands_upright(layers, cell, size)
    (ax.set_xticks if axis == "x" else ax.set_yticks)(centres(layers)[shown], names, rotation=90 if upright else 0)
    ax.tick_params(axis=axis, length=0, labelsize=size)
    return ax
