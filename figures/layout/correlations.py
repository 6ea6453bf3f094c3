"""How much the targets' ratings say the same: a grid of their correlations, drawn as cells."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from layerprobe.figures.layout.cells import fill_cell, value_text, writing
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, size_in_inches, text_width


def plot_correlations(
    correlations: pd.DataFrame,
    ax: Axes,
    *,
    targets: list[str],
    names: list[str],
    size: float,
    numbered: bool = False,
) -> Axes:
    """Pearson's r of each pair of targets, from −1 to 1 around a meaningful zero, written where a cell has room for it.

    Args:
        correlations: targets by targets
        ax: where to draw
        targets: in order, from the top and from the left
        names: of the targets, as they are written
        size: of the font in points
        numbered: whether rows have a number behind their name, and columns that number alone
    """
    colours, norm = matplotlib.colormaps[DIFFERENCE_COLOURS], Normalize(-1, 1)
    square = correlations.reindex(index=targets, columns=targets).to_numpy(dtype=float)
    texts = [value_text(value) for value in square.ravel()]
    n, (across, down) = len(targets), size_in_inches(ax)
    way = writing(texts, across / n)
    if way is not None and way.rotation and max(text_width(text, way.size) for text in texts) > down / n:
        way = None
    for k, (value, text) in enumerate(zip(square.ravel(), texts, strict=True)):
        if text:
            fill_cell(ax, k % n, k // n, 1, colour=colours(norm(value)), text=text, way=way, gid=None)
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    if numbered:
        ax.set_yticks(range(n), [f"{name} {k + 1}" for k, name in enumerate(names)])
        ax.set_xticks(range(n), [str(k + 1) for k in range(n)])
    else:
        ax.set_yticks(range(n), names)
        fits = max(text_width(name, size) for name in names) + 0.05 < across / n
        ax.set_xticks(range(n), names, rotation=0 if fits else 90)
    ax.tick_params(length=0, labelsize=size)
    ax.spines[:].set_visible(False)
    return ax
