"""The figure of a trace: ratings of one recording over time, each with its prediction interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from layerprobe.analysis.formatting import shown_name
from layerprobe.figures.layout.panels import EDGE, legend_below, plan_legend
from layerprobe.figures.layout.style import (
    StyledFigure,
    encoder_colours,
    lay_out,
    line_height,
    place,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import check_panel, font_size, panel_height

NATURAL, LEAST = 1.15, 0.6  # inches of a panel's height
NATURAL_WIDTH = 7.2  # inches of a figure
NARROWEST = 1.5  # inches of a panel
MINUTES_FROM, HOURS_FROM = 120.0, 7200.0  # seconds from which the axis counts in them
STEPS = [1, 2, 5, 10]
MANY = 60  # windows, beyond which their markers would cover the line


def plot_trace(rows: pd.DataFrame, ax: Axes, *, target: str, colour: Any) -> Axes:
    """Draw the ratings of a target as a line at the middle of each window, over the band of their intervals.

    Windows without a rating leave a gap.

    Args:
        rows: of one recording, ``start, end, TARGET, TARGET_low, TARGET_high``
        ax: axes to draw into
        target: a rating
        colour: of line and band
    """
    middle = ((rows["start"] + rows["end"]) / 2).to_numpy(dtype=float)
    value, low, high = (rows[f"{target}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    bounded = np.isfinite(low) & np.isfinite(high)
    ax.fill_between(
        middle, np.where(bounded, low, np.nan), np.where(bounded, high, np.nan), color=colour, alpha=0.2, lw=0
    )
    rated = np.isfinite(value)
    is_joined = np.r_[False, rated[:-1]] | np.r_[rated[1:], False]
    alone = rated & ~is_joined  # no line reaches these
    ax.plot(middle, value, color=colour, lw=1.2, marker="o" if len(rows) <= MANY else "", markersize=2.5)
    if alone.any():
        ax.vlines(middle[alone & bounded], low[alone & bounded], high[alone & bounded], color=colour, alpha=0.5)
        ax.plot(middle[alone], value[alone], color=colour, ls="", marker="o", markersize=2.5)
    return ax


def trace_figure(
    rows: pd.DataFrame, targets: Sequence[str], *, level: float, title: str = "", width: float | None = None
) -> Figure:
    """Return a figure with a panel per target below each other, over one axis of time.

    Args:
        rows: of one recording, as of `probe.prediction.predict.predict` with windows; times in seconds
        targets: in the order of the panels
        level: of the prediction intervals, in (0, 1)
        title: above the first panel, such as the recording's name
        width: inches, or None for the natural width
    """
    size = font_size(width)
    all_width = NATURAL_WIDTH if width is None else width
    left = EDGE + line_height(size) + text_width("−0.25", size) + 0.14
    across = all_width - left - 2 * EDGE - 0.12
    check_panel(across, least=NARROWEST, width=width)
    heading = wrapped(title, across, size + 1, bold=True) if title else ""
    above = line_height(size + 1, 1 + heading.count("\n")) + 0.08 if heading else 0.08
    label = f"{100 * level:g} % prediction interval"
    legend = plan_legend([label], space=all_width - 2 * EDGE, size=size - 1)
    below, gap = 2 * line_height(size) + 0.2, 0.12
    others = EDGE + above + below + legend.height + (len(targets) - 1) * gap
    height = panel_height(NATURAL, least=LEAST, n_rows=len(targets), others=others)
    times = rows.dropna(subset=["start", "end"])
    ends = float(times["start"].min()), float(times["end"].max())
    colours = list(encoder_colours(list(targets)).values())
    with styled(width):
        figure = StyledFigure(figsize=(all_width, others + len(targets) * height))
        for k, (target, colour) in enumerate(zip(targets, colours, strict=True)):
            ax = place(figure, left, EDGE + above + k * (height + gap), across, height)
            plot_trace(times, ax, target=target, colour=colour)
            ax.set_ylabel(wrapped(shown_name(target), height, size))
            ax.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
            ax.set_xlim(*ends)
            is_last = k == len(targets) - 1
            _time_axis(ax, ends, labelled=is_last)
            if k == 0 and heading:
                ax.set_title(heading, fontsize=size + 1)
        band = figure.axes[0].fill_between([ends[0]], [np.nan], [np.nan], color="0.5", alpha=0.3, lw=0)
        legend_below(figure, [band], legend)
        return lay_out(figure)


def _time_axis(ax: Axes, ends: tuple[float, float], *, labelled: bool) -> None:
    """Count in seconds, in minutes and seconds, or in hours and minutes, by the length."""
    length = ends[1] - ends[0]
    if length < MINUTES_FROM:
        ax.set_xlabel("time (s)" if labelled else "")
        ax.xaxis.set_major_locator(MaxNLocator(8, steps=STEPS))
    else:
        by_hours = length >= HOURS_FROM
        unit = 60 if by_hours else 1
        ax.set_xlabel(("time (h:min)" if by_hours else "time (min:s)") if labelled else "")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{int(t / unit) // 60}:{int(t / unit) % 60:02d}"))
        ax.set_xticks(_round_times(*ends))
    ax.tick_params(labelbottom=labelled)


def _round_times(first: float, last: float, most: int = 8) -> list[float]:
    """Return times at round steps of seconds, minutes or hours.

    >>> _round_times(0.0, 300.0)
    [0.0, 60.0, 120.0, 180.0, 240.0, 300.0]
    """
    steps = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0)
    step = next((s for s in steps if (last - first) / s <= most), 86400.0)
    begin = int(np.ceil(first / step - 1e-9))
    return [k * step for k in range(begin, int(last / step + 1e-9) + 1)]
