"""The figure of efficiency: scores of regressors against their numbers of trained parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from layerprobe.figures.layout.panels import (
    EDGE,
    legend_below,
    panels_across,
    plan_legend,
    titles,
    titles_height,
    unify_limits,
)
from layerprobe.figures.layout.style import (
    MARKERS,
    StyledFigure,
    encoder_colours,
    lay_out,
    line_height,
    move,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import font_size
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import METRIC_NAMES

MAX_TICKS = 5


def plot_efficiency(table: pd.DataFrame, ax: Axes, *, looks: dict[str, tuple[Any, str]]) -> Axes:
    """Draw a marker with its interval per regressor, over its trained parameters on a logarithmic axis.

    Args:
        table: rows ``regressor, trainable_parameters, estimate, ci_low, ci_high`` of one target
        ax: axes to draw into
        looks: colour and marker of each regressor
    """
    for row in table.to_dict("records"):
        colour, marker = looks[row["regressor"]]
        x = row["trainable_parameters"]
        if np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"]):
            ax.plot([x, x], [row["ci_low"], row["ci_high"]], color=colour, lw=1.2)
        ax.plot([x], [row["estimate"]], color=colour, marker=marker, ls="", markersize=5, label=row["regressor"])
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=MAX_TICKS))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1k, 1M
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("trained parameters")
    return ax


def efficiency_figure(table: pd.DataFrame, *, metric: str, width: float | None = None) -> Figure:
    """Return a figure with a panel per target, all on one scale.

    Args:
        table: of `analysis.model_comparison.compare`; regressors without a number of parameters are left out
        metric: a key of `METRIC_NAMES`
        width: inches, or None for the natural width

    Raises:
        InputError: if no regressor has a number of parameters
    """
    known = table[table["trainable_parameters"].notna()]
    if known.empty:
        raise InputError(
            "LP643", "No run records its number of trained parameters. Run layerprobe train, fuse or sweep again."
        )
    regressors, targets = list(dict.fromkeys(known["regressor"])), list(dict.fromkeys(known["target"]))
    colours = encoder_colours(regressors)
    looks = {name: (colours[name], MARKERS[k % len(MARKERS)]) for k, name in enumerate(regressors)}
    size = font_size(width)
    left = EDGE + line_height(size) + text_width("−0.25", size) + 0.12
    across = panels_across(len(targets), width=width, left=left, natural=2.1)
    names = titles(targets, across.panel, size + 1)
    height = float(np.clip(0.9 * across.panel, 1.3, 2.2))
    ends = known["trainable_parameters"].min() / 2, known["trainable_parameters"].max() * 2
    with styled(width):
        figure = StyledFigure()
        panels = [figure.add_axes((0, 0, 1, 1)) for _ in targets]
        entries: dict[str, Any] = {}
        for k, (ax, target) in enumerate(zip(panels, targets, strict=True)):
            plot_efficiency(known[known["target"] == target], ax, looks=looks)
            ax.set_title(names[target])
            ax.set_xlim(*ends)
            ax.tick_params(labelleft=k % across.n_columns == 0)
            handles, labels = ax.get_legend_handles_labels()
            entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in entries}
        unify_limits(panels)
        legend = plan_legend(list(entries), space=across.all_width - 2 * EDGE, size=size - 1)
        title, below = titles_height(names, size + 1), 2 * line_height(size) + 0.2
        n_rows = -(-len(targets) // across.n_columns)
        figure.set_size_inches(across.all_width, EDGE + n_rows * (title + height + below) + legend.height + EDGE)
        for k, ax in enumerate(panels):
            row, column = divmod(k, across.n_columns)
            move(ax, across.at(column), EDGE + row * (title + height + below) + title, across.panel, height)
            if column == 0:
                ax.set_ylabel(wrapped(METRIC_NAMES[metric], height, size))
        legend_below(figure, list(entries.values()), legend)
        return lay_out(figure)
