"""The axis of time: where the bins lie, and which of their edges or names are labelled."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from layerprobe.analysis.formatting import shown_name
from layerprobe.analysis.time.bins import KINDS, TimeBins
from layerprobe.figures.layout.style import line_height, text_width, wrapped

PERCENT = 100.0
WIDEST = 9.0  # inches of a panel of labels in a figure of natural width
UPRIGHT = 0.9  # lines of text from one upright label to the next
TICK_SPACE = 2.2  # widths of a label from one labelled edge to the next


def bin_edges(bins: TimeBins) -> np.ndarray:
    """Return the left and the right edge of each bin, ``(n_bins, 2)``: percent, seconds, or numbers of labels."""
    if not bins.has_edges:
        middle = np.arange(len(bins.names), dtype=float)
        return np.column_stack([middle - 0.5, middle + 0.5])
    return np.array(bins.edges) * (PERCENT if bins.kind == "position" else 1.0)


def time_limits(bins: TimeBins) -> tuple[float, float]:
    """Return the limits of the axis."""
    edges = bin_edges(bins)
    return float(edges.min()), float(edges.max())


def axis_title(bins: TimeBins, panel: float, space: float, size: float) -> str:
    """Return the name of the axis of a panel in inches, broken into lines of at most ``space`` inches."""
    step = label_step(bins, panel, size)
    return wrapped(KINDS[bins.kind] + (f" (one of {step} is named)" if step > 1 else ""), space, size)


def natural_panel(bins: TimeBins, natural: float, size: float) -> float:
    """Return the natural width of a panel in inches, wider than ``natural`` where labels need it."""
    return natural if bins.has_edges else max(natural, min(WIDEST, len(bins.names) * line_height(size)))


def label_step(bins: TimeBins, panel: float, size: float) -> int:
    """Return 1 if all labels fit under a panel in inches, or 3 if every third does; edges of intervals fit always."""
    if bins.has_edges or not is_upright(bins, panel, size):
        return 1
    return max(1, math.ceil(UPRIGHT * line_height(size) * len(bins.names) / panel))


def is_upright(bins: TimeBins, panel: float, size: float) -> bool:
    """Return whether labels are rotated by 90 degrees, because they do not fit side by side into a panel in inches."""
    if bins.has_edges:
        return False
    widest = max(text_width(shown_name(name), size) for name in bins.names)
    return widest + 0.4 * size / 72 > panel / len(bins.names)


def ticks_height(bins: TimeBins, panel: float, size: float) -> float:
    """Return the height in inches of the labels below a panel."""
    if is_upright(bins, panel, size):
        return 0.06 + max(text_width(shown_name(name), size) for name in bins.names)
    return 0.06 + line_height(size)


def tick_overhang(bins: TimeBins, size: float) -> float:
    """Return the inches by which the first or the last label may extend beyond the panel."""
    return text_width("100", size) / 2 if bins.has_edges else 0.0


def label_bins(ax: Axes, bins: TimeBins, *, panel: float, size: float) -> Axes:
    """Label the edges of intervals at round numbers, or each label, and return the axes.

    Args:
        ax: axes whose x axis has the limits `time_limits`
        bins: in order
        panel: width of the axes in inches
        size: of the font in points
    """
    low, high = time_limits(bins)
    if bins.has_edges:
        n_fit = int(panel / (TICK_SPACE * text_width("100", size)))
        steps = [1, 2, 2.5, 5, 10] if bins.kind == "position" else [1, 2, 5, 10]
        ticks = np.asarray(MaxNLocator(nbins=max(1, n_fit), steps=steps).tick_values(low, high), dtype=float)
        ticks = ticks[(ticks >= low - 1e-9) & (ticks <= high + 1e-9)]
        ax.set_xticks(ticks, [f"{tick:.6g}" for tick in ticks])
    else:
        names = [shown_name(name) for name in bins.names]
        step = label_step(bins, panel, size)
        ax.set_xticks(range(0, len(names), step), names[::step], rotation=90 if is_upright(bins, panel, size) else 0)
    ax.tick_params(axis="x", labelsize=size)
    return ax
