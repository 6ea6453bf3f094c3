"""The figure of depth: by how much one target lies deeper than another, and the depth of each, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprobe.analysis.formatting import NONE, p_text, shown_name
from layerprobe.analysis.layers.depth import SHIFT
from layerprobe.figures.layout.panels import EDGE, NARROWEST, legend_below, plan_legend
from layerprobe.figures.layout.style import (
    StyledFigure,
    encoder_colours,
    lay_out,
    line_height,
    move,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import check_panel, font_size, is_narrow

MARKERS = {  # from the top: the label and the marker of each measure
    SHIFT: ("shift of the profile", "o"),
    "score_centre": ("centre of scores", "o"),
    "weight_centre": ("centre of weights", "s"),
    "expected_layer": ("expected layer", "D"),
}
CONTROLS = {  # from the top: the label of each control and the fill of its marker
    "none": ("trained weights", "full"),
    "random_init": ("random weights", "none"),
    "difference": ("trained minus random weights", "left"),
}
UNTRAINED = "0.45"
HEADING, BETWEEN = 0.2, 0.06  # inches: of a group's name, and below a group
LANE = {"depth": 0.1, "compact": 0.075, "contrast": 0.13}  # inches of an estimate; a contrast has a text next to it
DEPTH_AXIS = "relative depth (0: input, 1: last block)"
DIFFERENCE_AXIS = "shift on relative depth (above 0: deeper)"
TALLEST = 6.5  # inches of the panel of depths, so that the figure fits on a page


def plot_depth(
    table: pd.DataFrame,
    ax: Axes,
    *,
    encoders: Sequence[str],
    targets: Sequence[str],
    colours: dict[str, Any],
    space: float = math.inf,
    lines: int = 3,
    lane: float = LANE["depth"],
) -> Axes:
    """Draw a group per target with a row per encoder and measure: the estimate with its interval on relative depth.

    Filled markers show trained weights, grey hollow ones random weights. An interval that reaches beyond 0 or 1 is cut
    there and ends in an arrow; an estimate beyond 0 or 1 is an arrow alone.

    Args:
        table: rows ``encoder, control, target, measure, estimate, ci_low, ci_high``; the interval may be NaN
        ax: axes to draw into
        encoders: in order, from the top
        targets: in order, from the top
        colours: of the encoders
        space: inches for a group's name; a longer one is broken into lines
        lines: of text that an encoder's name takes at most
        lane: inches of an estimate
    """
    groups = {shown_name(target): table[table["target"] == target] for target in targets}
    limits, lane = (0.0, 1.0), _lane(lane, [table], len(encoders), lines)
    _forest(groups, ax, encoders=encoders, colours=colours, limits=limits, lane=lane, space=space)
    for x in (0, 0.5, 1):
        ax.axvline(x, color="0.85", lw=0.6, zorder=0)
    ax.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
    return ax


def plot_depth_difference(
    table: pd.DataFrame,
    ax: Axes,
    *,
    encoders: Sequence[str],
    colours: dict[str, Any],
    space: float = math.inf,
    lines: int = 3,
) -> Axes:
    """Draw the shift between the profiles of two targets around zero, a row per encoder with its adjusted p-value.

    Filled markers show trained weights, grey hollow ones random weights, half-filled ones the difference of both. An
    interval that reaches beyond the axis is cut there and ends in an arrow.

    Args:
        table: rows ``encoder, control, measure, name, estimate, ci_low, ci_high, p_adjusted``, of which those of the
            measure ``shift`` are plotted; a group for each ``name``
        ax: axes to draw into
        encoders: in order, from the top
        colours: of the encoders
        space: inches for a group's name; a longer one is broken into lines
        lines: of text that an encoder's name takes at most
    """
    table = table[table["measure"] == SHIFT]
    reach = pd.concat([table[c].abs() for c in ("estimate", "ci_low", "ci_high")]).max()
    limit = float(np.clip(1.05 * reach, 0.1, 0.55)) if np.isfinite(reach) else 0.1
    groups = {name: table[table["name"] == name] for name in dict.fromkeys(table["name"])}
    limits, lane = (-limit, limit), _lane(LANE["contrast"], [table], len(encoders), lines)
    places = _forest(groups, ax, encoders=encoders, colours=colours, limits=limits, lane=lane, space=space)
    ax.axvline(0, color="0.5", lw=0.8, zorder=0)
    size = matplotlib.rcParams["font.size"] - 1.5
    for row, y in places:
        known = np.isfinite(row["p_adjusted"])
        if known or row["control"] == "none":
            at, text = ax.get_yaxis_transform(), p_text(row["p_adjusted"]) if known else NONE
            ax.text(1.03, y, text, transform=at, va="center", fontsize=size, color="0.3", clip_on=False)
    return ax


def depth_figure(
    table: pd.DataFrame,
    contrast: pd.DataFrame | None = None,
    *,
    encoders: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    colours: dict[str, Any] | None = None,
    width: float | None = None,
) -> Figure:
    """Return a figure with the difference of depths of two targets above, and the depths of all targets below.

    Where the depths of many encoders and targets would be taller than a page, those of random weights are left out.

    Args:
        table: as `plot_depth` takes it
        contrast: as `plot_depth_difference` takes it; without shifts the first panel is left out
        encoders: in order, from the top; those of the table if None
        targets: in order, from the top; targets without rows are left out; those of the table if None
        colours: of the encoders; those of `encoder_colours` if None
        width: inches, or None for the natural width
    """
    encoders = list(dict.fromkeys(table["encoder"])) if encoders is None else encoders
    known = list(dict.fromkeys(table["target"]))
    targets = known if targets is None else [t for t in targets if t in known]
    colours, size = colours or encoder_colours(list(encoders)), font_size(width)
    shifts = table[:0] if contrast is None else contrast[contrast["measure"] == SHIFT]
    one = len(encoders) == 1
    space = 1.4 if one or not is_narrow(width) else 0.95
    lines = max(wrapped(name, space, size).count("\n") + 1 for name in encoders)
    labels = [MARKERS[m][0] for m in _measures([table, shifts])] if one else list(encoders)
    left = EDGE + max(text_width(wrapped(label, space, size), size) for label in labels) + 0.1
    after = text_width("p < .001", size) + 0.1
    panel = 2.8 if width is None else width - left - after
    all_width = left + panel + after if width is None else width
    check_panel(panel, least=NARROWEST, width=width)
    with styled(width):
        figure = StyledFigure()
        axes = []
        if not shifts.empty:
            axes.append(figure.add_axes((0, 0, 1, 1)))
            plot_depth_difference(shifts, axes[0], encoders=encoders, colours=colours, space=panel, lines=lines)
            axes[0].set_xlabel(wrapped(DIFFERENCE_AXIS, panel + 0.2, size))
        axes.append(figure.add_axes((0, 0, 1, 1)))
        of_each: dict[str, Any] = {"encoders": encoders, "targets": targets, "colours": colours, "lines": lines}
        if plot_depth(table, axes[-1], **of_each, space=panel).get_ylim()[0] > TALLEST:
            axes[-1].clear()
            table = table[table["control"] == "none"]
            plot_depth(table, axes[-1], **of_each, space=panel, lane=LANE["compact"])
        axes[-1].set_xlabel(wrapped(DEPTH_AXIS, panel + 0.2, size))
        for ax in axes:
            ax.set_yticks(ax.get_yticks(), [wrapped(t.get_text(), space, size) for t in ax.get_yticklabels()])
        heights = [float(ax.get_ylim()[0]) for ax in axes]  # y is in inches
        below = line_height(size) + 0.08 + line_height(size, 2) + 0.06
        handles = _legend([table, shifts], one=one)
        legend = plan_legend(list(handles), space=all_width - 2 * EDGE, size=size - 1)
        top = EDGE + 0.05
        figure.set_size_inches(all_width, top + sum(heights) + len(axes) * below + legend.height + EDGE)
        for ax, height in zip(axes, heights, strict=True):
            move(ax, left, top, panel, height)
            top += height + below
        legend_below(figure, list(handles.values()), legend)
        return lay_out(figure)


def _measures(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Return the measures of any of the tables, in the order of `MARKERS`."""
    found = {measure for table in tables for measure in table["measure"]}
    return [m for m in MARKERS if m in found]


def _controls(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Return the controls of any of the tables, in the order of `CONTROLS`."""
    found = {control for table in tables for control in table["control"]}
    return [c for c in CONTROLS if c in found]


def _forest(
    groups: dict[str, pd.DataFrame],
    ax: Axes,
    *,
    encoders: Sequence[str],
    colours: dict[str, Any],
    limits: tuple[float, float],
    lane: float,
    space: float,
) -> list[tuple[Any, float]]:
    """Draw groups of rows below each other, y in inches from the top, and return each row with its y."""
    tables = list(groups.values())
    measures, controls = _measures(tables), _controls(tables)
    size = matplotlib.rcParams["font.size"]
    y, rows = 0.0, []
    ticks: list[tuple[float, str]] = []
    for group, table in groups.items():
        name = wrapped(group, space, size, bold=True)
        height = HEADING + line_height(size, name.count("\n"))
        ax.text(
            0.0, y + height / 2, name, transform=ax.get_yaxis_transform(), va="center", ha="left", weight="bold",
            fontsize=size, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
        y += height
        for encoder in encoders:
            top = y
            for measure in measures:
                if len(encoders) == 1:
                    ticks.append((y + len(controls) * lane / 2, MARKERS[measure][0]))
                for control in controls:
                    chosen = table[
                        (table["encoder"] == encoder) & (table["measure"] == measure) & (table["control"] == control)
                    ]
                    for row in chosen.to_dict("records"):
                        _estimate(ax, row, y + lane / 2, colour=colours[encoder], limits=limits)
                        rows.append((row, y + lane / 2))
                    y += lane
            if len(encoders) > 1:
                ticks.append(((top + y) / 2, encoder))
        y += BETWEEN
        ax.axhline(y - BETWEEN / 2, color="0.9", lw=0.6, zorder=0)
    margin = 0.02 * (limits[1] - limits[0])
    ax.set(ylim=(y, 0.0), xlim=(limits[0] - margin, limits[1] + margin))
    ax.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
    ax.tick_params(axis="y", length=0, labelsize=size)
    ax.spines["left"].set_visible(False)
    return rows


def _lane(lane: float, tables: Sequence[pd.DataFrame], n_encoders: int, lines: int) -> float:
    """Return inches of an estimate so that the names of measures or encoders fit next to their rows."""
    n_measures, n_controls = len(_measures(tables)), len(_controls(tables))
    size = matplotlib.rcParams["font.size"]
    if n_encoders == 1:
        return max(lane, 0.15 / max(1, n_controls))
    return max(lane, line_height(size, lines) / max(1, n_measures * n_controls))


def _estimate(ax: Axes, row: Any, y: float, *, colour: Any, limits: tuple[float, float]) -> None:
    """Draw a marker, its whisker inside the limits, and an arrow where either reaches beyond a limit."""
    trained = row["control"] != "random_init"
    ink = colour if trained else UNTRAINED
    estimate, low, high = float(row["estimate"]), float(row["ci_low"]), float(row["ci_high"])
    if not math.isfinite(estimate):
        return
    if math.isfinite(low) and math.isfinite(high):
        ends = np.clip([low, high], *limits)
        if ends[0] < ends[1]:
            ax.plot(ends, [y, y], color=ink, lw=0.9, solid_capstyle="butt", zorder=2, gid="whisker")
    beyond = {limits[0]: "<", limits[1]: ">"}
    reaches = {limits[0]: min(x for x in (estimate, low) if not math.isnan(x)) < limits[0]}
    reaches[limits[1]] = max(x for x in (estimate, high) if not math.isnan(x)) > limits[1]
    for limit, arrow in beyond.items():
        if reaches[limit]:
            ax.plot(limit, y, color=ink, marker=arrow, markersize=3.5, ls="", clip_on=False, zorder=3, gid="arrow")
    if limits[0] <= estimate <= limits[1]:
        fill = _filling(row["control"])
        (mark,) = ax.plot(estimate, y, color=ink, marker=MARKERS[row["measure"]][1], markersize=4, fillstyle=fill)
        mark.set(zorder=4, clip_on=False, gid="estimate")
        mark.set_markerfacecoloralt("white")
        if fill == "none":
            mark.set(fillstyle="full", markerfacecolor="white")


def _filling(control: str) -> Any:
    """Return matplotlib's fill style of a control's marker."""
    return CONTROLS[control][1]


def _legend(tables: Sequence[pd.DataFrame], *, one: bool) -> dict[str, Any]:
    """Return legend entries of markers and fills, of each where there is more than one."""
    handles: dict[str, Any] = {}
    measures = [m for m in _measures(tables) if m != SHIFT]  # it has an axis of its own
    controls = _controls(tables)
    if not one and len(measures) > 1:
        for measure in measures:
            name, marker = MARKERS[measure]
            handles[name] = Line2D([], [], color="0.3", marker=marker, markersize=4, ls="")
    for control in controls if len(controls) > 1 else []:
        name, fill = CONTROLS[control][0], _filling(control)
        ink = UNTRAINED if control == "random_init" else "0.3"
        handles[name] = Line2D(
            [],
            [],
            color=ink,
            marker="o" if one else "^",
            markersize=4,
            ls="",
            fillstyle=fill,
            markerfacecoloralt="white",
        )
    return handles
