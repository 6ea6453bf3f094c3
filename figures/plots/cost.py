"""The figure of score against cost: each layer, mix and regressor, and the front of those that none beats in both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import EngFormatter, FixedLocator, LogLocator, NullLocator

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
    Look,
    StyledFigure,
    encoder_looks,
    lay_out,
    line_height,
    move,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import font_size
from layerprobe.probe.cost.settings import COSTS
from layerprobe.probe.metrics import METRIC_NAMES
from layerprobe.probe.results.run_folder import TRAINED

FRONT, RING = "0.25", "black"
MAX_TICKS = 5
MANY = 40  # candidates of a panel, above which the intervals of those that are not on the front are paler
MARGIN = 0.08  # fraction of the axis at each end without a tick
FEW_DECADES = 60.0  # ratio of both ends up to which 2 and 5 are ticks, too
RING_SIZE = 9.0  # points
KEYS = {  # entries of the legend that are of no encoder
    "mix": "mix of layers or fusion",
    "front": "Pareto front",
    "ring": "cheapest not significantly worse than the best, with its layer",
}
FREE = "On the left edge: no cost."
NOT_COUNTED = "The recogniser that makes transcripts is not counted."


def plot_cost(table: pd.DataFrame, ax: Axes, *, by: str, looks: dict[str, Look]) -> Axes:
    """Draw each candidate with its interval over its cost, and the Pareto front.

    Full markers are single layers, hollow ones mixes, fusions and regressors. An encoder of unknown cost is a dotted
    line at its highest score. What costs nothing, such as embeddings of tokens, is on the left edge.

    Args:
        table: rows of one target, as `analysis.cost.table.cost_table` returns them
        ax: axes to draw into, whose lower limit is above 0
        by: the cost, a key of `COSTS`
        looks: colour and marker of each encoder
    """
    table = table.assign(**{by: table[by].clip(lower=ax.get_xlim()[0])})
    for encoder, rows in table.groupby("encoder", sort=False):
        look, known = looks[str(encoder)], rows[rows[by].notna()]
        if known.empty:
            highest = float(rows.sort_values("behind_best")["value"].iloc[0])
            ax.axhline(highest, color=look.colour, lw=1, ls=":", zorder=1)
            continue
        layers = known[known["probe"] == "ridge"].sort_values(by)
        ax.plot(layers[by], layers["value"], color=look.colour, lw=0.7, alpha=0.5, zorder=2)
        pale = known[~known[f"on_front_{by}"]] if len(table) > MANY else known.iloc[:0]
        for part, alpha in ((pale, 0.15), (known.drop(pale.index), 0.45)):
            ax.vlines(part[by], part["ci_low"], part["ci_high"], color=look.colour, lw=0.7, alpha=alpha, zorder=1)
        style: Any = {"color": look.colour, "marker": look.marker, "ls": "", "zorder": 3, "clip_on": False}
        ax.plot(layers[by], layers["value"], markersize=2.6 if len(table) > MANY else 3.2, markeredgewidth=0.4, **style)
        others = known[known["probe"] != "ridge"]
        ax.plot(others[by], others["value"], markersize=4.6, markerfacecolor="white", markeredgewidth=1.0, **style)
    ax.set_xscale("log")
    front = table[table[f"on_front_{by}"]].sort_values(by)
    if len(front):
        right = ax.get_xlim()[1]
        x, y = [*front[by], right], [*front["value"], front["value"].iloc[-1]]
        ax.step(x, y, where="post", color=FRONT, lw=1.1, zorder=2.5)
        ax.set_xlim(right=right)
    ax.xaxis.set_major_locator(FixedLocator(cost_ticks(*ax.get_xlim())))
    if by != "real_time_factor":
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1M, 1G
    ax.xaxis.set_minor_locator(NullLocator())
    return ax


def cost_limits(costs: pd.Series[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis of costs, of which those of 0 are on its left edge."""
    known = costs[costs.gt(0)]
    margin = max(1.2, float(known.max() / known.min()) ** 0.08)
    return float(known.min() / margin), float(known.max() * margin)


def cost_ticks(low: float, high: float) -> list[float]:
    """Return the ticks of a logarithmic axis that are not at its ends, where labels of two panels would touch.

    >>> cost_ticks(7e8, 1.2e10)
    [1000000000.0, 2000000000.0, 5000000000.0]
    """
    subs = (1.0, 2.0, 5.0) if high / low < FEW_DECADES else (1.0,)
    ticks = np.asarray(LogLocator(subs=subs, numticks=MAX_TICKS).tick_values(low, high))
    at = np.log(ticks / low) / np.log(high / low)
    return [float(tick) for tick in ticks[(at > MARGIN) & (at < 1 - MARGIN)]]


def ring_cheapest(table: pd.DataFrame, ax: Axes, *, by: str, size: float) -> None:
    """Draw a ring around the cheapest candidate that is not significantly worse than the best, with its layer.

    Args:
        table: rows of one target
        ax: axes with the candidates, of their final size and limits
        by: the cost
        size: of the text in points
    """
    for row in table[table["is_cheapest"] & table[by].notna()].to_dict("records"):
        x, y = max(row[by], ax.get_xlim()[0]), row["value"]
        ring: Any = {"marker": "o", "markersize": RING_SIZE, "markerfacecolor": "none", "markeredgecolor": RING}
        ax.plot([x], [y], ls="", zorder=4, clip_on=False, **ring)
        across, up = ax.transAxes.inverted().transform(ax.transData.transform((x, y)))
        below, reach = up > 0.8, RING_SIZE / 2 + 2
        side = "left" if across < 0.15 else "right" if across > 0.85 else "center"
        ax.annotate(
            _label(row), (x, y), (0, -reach if below else reach), textcoords="offset points", fontsize=size, zorder=5,
            ha=side, va="top" if below else "bottom", fontweight="bold",
            path_effects=[Stroke(linewidth=2, foreground="white"), Normal()],
        )  # fmt: skip


def cost_figure(table: pd.DataFrame, *, width: float | None = None, looks: dict[str, Look] | None = None) -> Figure:
    """Return a figure with a panel per target, all on one scale.

    Args:
        table: of `analysis.cost.table.cost_table`, with a known cost of at least one candidate
        width: inches, or None for the natural width
        looks: colour and marker of each encoder; in their order if None
    """
    by, metric = str(table["cheapest_by"].iloc[0]), str(table["metric"].iloc[0])
    targets, encoders = list(dict.fromkeys(table["target"])), list(dict.fromkeys(table["encoder"]))
    looks = looks or encoder_looks(encoders)
    size = font_size(width)
    left = EDGE + line_height(size) + text_width("−0.25", size) + 0.12
    across = panels_across(len(targets), width=width, left=left, natural=2.5, least=1.2)
    names = titles(targets, across.panel, size + 1)
    height = float(np.clip(0.85 * across.panel, 1.4, 2.4))
    with styled(width):
        figure = StyledFigure()
        panels = [figure.add_axes((0, 0, 1, 1)) for _ in targets]
        for k, (ax, target) in enumerate(zip(panels, targets, strict=True)):
            ax.set_xscale("log")
            ax.set_xlim(*cost_limits(table[by]))
            plot_cost(table[table["target"] == target], ax, by=by, looks=looks)
            ax.set_title(names[target])
            ax.set_xlabel(wrapped(COSTS[by], across.panel, size))
            ax.tick_params(labelleft=k % across.n_columns == 0)
        unify_limits(panels)
        handles = _handles(table, by, looks)
        legend = plan_legend(list(handles), space=across.all_width - 2 * EDGE, size=size - 1)
        note = wrapped(_note(table, by), across.all_width - 2 * EDGE, size - 1)
        note_height = line_height(size - 1, 1 + note.count("\n")) + EDGE if note else 0.0
        label_lines = 1 + wrapped(COSTS[by], across.panel, size).count("\n")
        title, below = titles_height(names, size + 1), line_height(size, 1 + label_lines) + 0.2
        n_rows = -(-len(targets) // across.n_columns)
        all_height = EDGE + n_rows * (title + height + below) + note_height + legend.height + EDGE
        figure.set_size_inches(across.all_width, all_height)
        for k, (ax, target) in enumerate(zip(panels, targets, strict=True)):
            row, column = divmod(k, across.n_columns)
            move(ax, across.at(column), EDGE + row * (title + height + below) + title, across.panel, height)
            ring_cheapest(table[table["target"] == target], ax, by=by, size=size - 1)
            if column == 0:
                ax.set_ylabel(wrapped(METRIC_NAMES[metric], height, size))
        legend_below(figure, list(handles.values()), legend)
        if note:
            figure.text(0.5, (EDGE + legend.height) / all_height, note, fontsize=size - 1, ha="center", va="bottom")
        return lay_out(figure)


def _note(table: pd.DataFrame, by: str) -> str:
    texts = [NOT_COUNTED] if table["reads"].str.contains("text").any() else []
    return " ".join([*texts, *([FREE] if table[by].eq(0).any() else [])])


def _handles(table: pd.DataFrame, by: str, looks: dict[str, Look]) -> dict[str, Any]:
    """Return the entries of the legend by their labels."""
    found: dict[str, Any] = {}
    for encoder, rows in table.groupby("encoder", sort=False):
        look = looks[str(encoder)]
        if rows[by].notna().any():
            found[str(encoder)] = Line2D([], [], color=look.colour, marker=look.marker, ls="", markersize=4)
        else:
            label = f"{encoder}: highest score, cost not known"
            found[label] = Line2D([], [], color=look.colour, lw=1, ls=":")
    known = table[table[by].notna()]
    if (known["probe"] != "ridge").any():
        found[KEYS["mix"]] = Line2D([], [], color="0.4", marker="o", markerfacecolor="white", ls="", markersize=4.6)
    found[KEYS["front"]] = Line2D([], [], color=FRONT, lw=1.1)
    if (known["is_cheapest"]).any():
        ring: Any = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": RING, "ls": "", "markersize": 7}
        found[KEYS["ring"]] = Line2D([], [], **ring)
    return found


def _label(row: dict[Any, Any]) -> str:
    if row["probe"] == "ridge":
        return str(row["layer"]).replace("_", " ")
    return (
        "trained" if row["probe"] == TRAINED else "mix" if "mix" in row["probe"] or "sum" in row["probe"] else "fused"
    )
