"""A grid of correlations between the ratings of targets."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from layerprobe.figures.layout.cells import Cell, fill_cell, text_style, value_text
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, size_in_inches, text_width


def plot_correlations(
    correlations: pd.DataFrame,
    ax: Axes,
    *,
    targets: list[str],
    names: list[str],
    size: float,
) -> Axes:
    """Draw Pearson's r of each pair of targets as a grid of cells, on a diverging scale from −1 to 1.

    Values are written into the cells where they fit. Rows carry a number after their name, and columns that number.

    Args:
        correlations: r, targets by targets
        ax: axes to draw into
        targets: in order, from the top and from the left
        names: labels of the targets
        size: of the font in points
    """
    colours, norm = matplotlib.colormaps[DIFFERENCE_COLOURS], Normalize(-1, 1)
    square = correlations.reindex(index=targets, columns=targets).to_numpy(dtype=float)
    texts = [value_text(value) for value in square.ravel()]
    n, (across, down) = len(targets), size_in_inches(ax)
    style = text_style(texts, across / n, size)
    if style is not None and style.rotation and max(text_width(text, style.size) for text in texts) > down / n:
        style = None
    for k, (value, text) in enumerate(zip(square.ravel(), texts, strict=True)):
        if text:
            fill_cell(ax, k % n, k // n, 1, cell=Cell(colours(norm(value)), text), style=style)
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    ax.set_yticks(range(n), [f"{name} {k + 1}" for k, name in enumerate(names)])
    ax.set_xticks(range(n), [str(k + 1) for k in range(n)])
    ax.tick_params(length=0, labelsize=size)
    ax.spines[:].set_visible(False)
    return ax
