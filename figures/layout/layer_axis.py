"""The axis of layers: their positions, and which of them get a tick label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from layerprobe.analysis.formatting import shown_name
from layerprobe.figures.layout.style import line_height, size_in_inches, text_width
from layerprobe.probe.layer_names import FINAL, is_stack, n_blocks, relative_depth

GAP = 0.35  # cells between the last block and ``final``, the same block after the final norm
STEPS = (1, 2, 4, 6, 8, 12, 16, 24, 48, 96)


def centres(layers: list[str]) -> np.ndarray:
    """Return the positions of layers on the axis of relative depth, with a small gap before ``final``."""
    return relative_depth(layers) + np.where([name == FINAL for name in layers], GAP / max(1, n_blocks(layers)), 0)


def cell_width(layers: list[str]) -> float:
    """Return the width of a layer's cell on the axis of relative depth."""
    return 1 / max(1, n_blocks(layers))


def span(layers: list[str]) -> tuple[float, float]:
    """Return the left edge of the first layer's cell and the right edge of the last one's."""
    middle, half = centres(layers), cell_width(layers) / 2
    return float(middle[0] - half), float(middle[-1] + half)


def common_span(layers: list[list[str]]) -> tuple[float, float]:
    """Return the smallest span that holds the layers of every encoder."""
    spans = [span(names) for names in layers]
    return min(low for low, _ in spans), max(high for _, high in spans)


def named_layers(layers: list[str], cell: float, size: float) -> list[int]:
    """Return the positions in ``layers`` of those with a tick label: all, or every 2nd, 4th and so on.

    Features without depth always have one.

    Args:
        layers: in order
        cell: inches between adjacent layers
        size: of the font in points

    >>> named_layers([*map(str, range(13)), "final"], 0.1, 8.0)
    [0, 4, 8, 13]
    """
    if not is_stack(layers):
        return list(range(len(layers)))
    margin = 0.7 * size / 72
    numbers = [k for k, name in enumerate(layers) if name != FINAL]
    widest = max(text_width(layers[k], size) for k in numbers) + margin
    step = next((s for s in STEPS if s * cell >= widest), STEPS[-1])
    shown = [k for k in numbers if int(layers[k]) % step == 0]
    if layers[-1] != FINAL:
        return shown
    at, half = centres(layers) / cell_width(layers) * cell, text_width(FINAL, size) / 2
    return [k for k in shown if at[-1] - at[k] >= half + text_width(layers[k], size) / 2 + margin] + [len(layers) - 1]


def overhang(layers: Iterable[list[str]], size: float) -> float:
    """Return the inches by which the label of ``final`` may extend beyond the right end of its panel."""
    return text_width(FINAL, size) / 2 if any(names[-1] == FINAL for names in layers) else 0.0


def is_rotated(layers: list[str], cell: float, size: float) -> bool:
    """Return whether tick labels are rotated by 90 degrees, because names of features do not fit side by side."""
    return not is_stack(layers) and max(text_width(shown_name(n), size) for n in layers) + 0.4 * size / 72 > cell


def layer_labels_height(layers: list[str], panel: float, size: float) -> float:
    """Return the height in inches of the tick labels below a panel whose limits are the `span` of its layers.

    Args:
        layers: in order
        panel: inches of the panel's width
        size: of the font in points
    """
    low, high = span(layers)
    rotated = is_rotated(layers, panel * cell_width(layers) / (high - low), size)
    return 0.1 + (max(text_width(shown_name(n), size) for n in layers) if rotated else line_height(size))


def name_layers(ax: Axes, layers: list[str], *, size: float, axis: Literal["x", "y"] = "x") -> Axes:
    """Label the layers on an axis whose limits and position are final, and return the axes.

    Args:
        ax: axes with layers at their `centres`
        layers: in order
        size: of the font in points
        axis: ``x`` or ``y``
    """
    low, high = sorted(ax.get_xlim() if axis == "x" else ax.get_ylim())
    space = size_in_inches(ax)[0 if axis == "x" else 1]
    cell = space * cell_width(layers) / (high - low)
    if axis == "y" and is_stack(layers):
        cell *= 1.5  # a line of digits is lower than it is wide
    shown = named_layers(layers, cell, size)
    names = [shown_name(layers[k]) for k in shown]
    rotated = axis == "x" and is_rotated(layers, cell, size)
    (ax.set_xticks if axis == "x" else ax.set_yticks)(centres(layers)[shown], names, rotation=90 if rotated else 0)
    ax.tick_params(axis=axis, length=0, labelsize=size)
    return ax
