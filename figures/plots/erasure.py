"""The figure of erasure: scores over layers, plain and with a concept erased, and with random directions erased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layerprobe.analysis.formatting import concept_text
from layerprobe.analysis.statistics.permutation import is_significant
from layerprobe.figures.layout.layer_axis import cell_width, centres, layer_labels_height, name_layers, overhang, span
from layerprobe.figures.layout.mark_ids import Mark, mark_id
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
    place,
    size_in_inches,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import font_size, panel_height
from layerprobe.probe.layer_names import FINAL
from layerprobe.probe.metrics import METRIC_NAMES

HEIGHT, LEAST = 0.9, 0.4  # inches of a panel, and of the lowest one
ROW_GAP = 0.06  # inches below a panel
PLAIN, RANDOM, ALONE = "0.2", "0.55", "0.2"  # greys of what the curve without the concept is compared with
ALONE_STYLE, RANDOM_STYLE = (0, (1, 1.2)), (0, (4, 2))
ADJUSTED = "removes more than random directions (p ≤ .05, adjusted)"


def plot_erasure(
    table: pd.DataFrame, ax: Axes, *, layers: list[str], look: Look, concept: str, first_mark: int = 0
) -> Axes:
    """Draw the scores of layers with and without a concept, with random directions erased, and of the concept alone.

    The plain scores are a dark line, those without the concept a line in the encoder's colour with its 95 % interval as
    a ribbon, whose markers are full where the concept removes significantly more than random directions do. A grey
    band holds the repeated erasures of random directions, with their mean as a dashed line; a dotted line is the score
    of the concept alone.

    Args:
        table: rows of `figures.tables.erasure_rows` of one encoder and target; of other concepts they are left out
        ax: axes to draw into
        layers: of the encoder, in order
        look: colour and marker of the encoder
        concept: name of the concept
        first_mark: number in the first marker's gid
    """
    rows = table[table["concept"] == concept].set_index("layer").reindex(layers)
    x = centres(layers)
    n_joined = len(layers) - (layers[-1] == FINAL)  # final is the last block again, after the final norm
    joined = slice(0, n_joined)
    numbers = {
        name: rows[name].to_numpy(dtype=float)
        for name in ("plain", "erased", "erased_ci_low", "erased_ci_high", "random", "random_min", "random_max")
    }
    ax.axhline(0, color="0.85", lw=0.6, zorder=0)
    ax.fill_between(
        x[joined], numbers["random_min"][joined], numbers["random_max"][joined], color=RANDOM, alpha=0.35, linewidth=0,
        gid="random-directions",
    )  # fmt: skip
    ax.plot(x[joined], numbers["random"][joined], color=RANDOM, lw=0.9, ls=RANDOM_STYLE)
    ax.plot(x[joined], numbers["plain"][joined], color=PLAIN, lw=0.9, zorder=2.5)  # over the curve without the concept
    low, high = numbers["erased_ci_low"], numbers["erased_ci_high"]
    ax.fill_between(x[joined], low[joined], high[joined], color=look.colour, alpha=0.18, linewidth=0)
    ax.plot(x[joined], numbers["erased"][joined], color=look.colour, lw=1.2)
    for name, colour in (("random", RANDOM), ("plain", PLAIN)):
        ax.plot(x[n_joined:], numbers[name][n_joined:], color=colour, marker="_", markersize=4, ls="")
    is_sure = _removes_more(rows)
    encoder, target = (
        str(table[name].iloc[0]) if name in table and len(table) else "" for name in ("encoder", "target")
    )
    low_x, high_x = span(layers)
    marker_size = float(np.clip(0.5 * 72 * size_in_inches(ax)[0] * cell_width(layers) / (high_x - low_x), 1.6, 3.2))
    for k, name in enumerate(layers):
        (point,) = ax.plot(
            x[k], numbers["erased"][k], color=look.colour, marker=look.marker, markersize=marker_size,
            markeredgewidth=0.8, ls="", zorder=3,
            markerfacecolor=look.colour if is_sure[k] else "white",
        )  # fmt: skip
        point.set_gid(mark_id("erased", k + first_mark, Mark(encoder, concept, target, name)))
    alone = rows["concept_alone"].astype(float).dropna() if "concept_alone" in rows else pd.Series(dtype=float)
    if len(alone):
        ax.axhline(float(alone.iloc[0]), color=ALONE, lw=1.0, ls=ALONE_STYLE)
    ax.set_xlim(span(layers))
    return ax


def erasure_figure(
    table: pd.DataFrame,
    *,
    layers: dict[str, list[str]],
    targets: Sequence[str],
    metric: str,
    looks: dict[str, Look] | None = None,
    width: float | None = None,
) -> Figure:
    """Return a figure with a panel per target and concept, concepts below each other, all on one scale.

    Args:
        table: rows of `figures.tables.erasure_rows`
        layers: layers of each encoder, in order; encoders without rows are left out
        targets: in order
        metric: a key of `METRIC_NAMES`
        looks: colour and marker of each encoder; those of `encoder_looks` if None
        width: inches, or None for the natural width
    """
    looks, size = looks or encoder_looks(list(layers)), font_size(width)
    layers = {e: names for e, names in layers.items() if e in set(table["encoder"])}
    small = size - 1
    concepts = list(dict.fromkeys(table["concept"]))
    least_rows = len(concepts) * (LEAST + line_height(small) + ROW_GAP)
    n_lines = 1 + wrapped(METRIC_NAMES[metric], least_rows, size).count("\n")
    left = EDGE + line_height(size, n_lines) + text_width("−0.25", small) + 0.14
    across = panels_across(
        len(targets), width=width, left=left, right=overhang(layers.values(), small), natural=1.9, gap=0.18
    )
    space = across.all_width - left - EDGE
    names = titles(targets, across.panel, size)
    heads = {e: wrapped(e, space, size + 1, bold=True) for e in layers}
    rows_of = {c: wrapped(f"without {concept_text(c)}", space, small) for c in concepts}
    entries = _entries(table, looks[next(iter(layers))])
    legend = plan_legend(list(entries), space=across.all_width - 2 * EDGE, size=small)
    axis_label = wrapped("layer (0 enters the first block)", space, size)
    groups = [list(targets[k : k + across.n_columns]) for k in range(0, len(targets), across.n_columns)]
    title = titles_height(names, size)
    row_head = {c: line_height(small, 1 + text.count("\n")) + 0.02 for c, text in rows_of.items()}
    ticks = {e: layer_labels_height(layers[e], across.panel, small) for e in layers}
    head = {e: line_height(size + 1, 1 + text.count("\n")) + 0.04 for e, text in heads.items()}
    of_group = {e: title + sum(row_head.values()) + ticks[e] + ROW_GAP * len(concepts) for e in layers}
    foot = line_height(size, 1 + axis_label.count("\n")) + 0.06 + legend.height + 2 * EDGE
    others = sum(head[e] + len(groups) * of_group[e] for e in layers) + foot
    n_rows = len(concepts) * len(groups) * len(layers)
    panel = panel_height(HEIGHT * size / 8, least=LEAST, n_rows=n_rows, others=others)
    height = others + n_rows * panel
    with styled(width):
        figure = StyledFigure(figsize=(across.all_width, height))
        panels: list[Axes] = []
        top = EDGE
        for encoder, layer_names in layers.items():
            figure.text(
                left / across.all_width, 1 - top / height, heads[encoder], va="top", fontsize=size + 1, weight="bold"
            )
            top += head[encoder]
            for group in groups:
                first = top + title
                top = first
                for concept in concepts:
                    figure.text(
                        left / across.all_width, 1 - top / height, rows_of[concept], va="top", fontsize=small,
                        style="italic",
                    )  # fmt: skip
                    top += row_head[concept]
                    is_last = concept == concepts[-1]
                    for column, target in enumerate(group):
                        ax = place(figure, across.at(column), top, across.panel, panel)
                        rows = table[(table["encoder"] == encoder) & (table["target"] == target)]
                        plot_erasure(
                            rows, ax, layers=layer_names, look=looks[encoder], concept=concept,
                            first_mark=len(panels) * len(layer_names),
                        )  # fmt: skip
                        name_layers(ax, layer_names, size=small)
                        ax.tick_params(axis="x", length=2, labelbottom=is_last)
                        ax.tick_params(axis="y", labelsize=small, labelleft=column == 0)
                        panels.append(ax)
                    top += panel + ROW_GAP
                for column, target in enumerate(group):
                    figure.text(
                        (across.at(column) + across.panel / 2) / across.all_width, 1 - (first - 0.03) / height,
                        names[target], ha="center", va="bottom", fontsize=size, weight="bold",
                    )  # fmt: skip
                label = wrapped(METRIC_NAMES[metric], top - ROW_GAP - first, size)
                figure.text(
                    EDGE / across.all_width,
                    1 - (first + top - ROW_GAP) / 2 / height,
                    label,
                    rotation=90,
                    ha="left",
                    va="center",
                )
                top += ticks[encoder]
        unify_limits(panels)
        middle = (across.left + across.all_width) / 2 / across.all_width
        bottom = EDGE + legend.height + 0.02
        figure.text(middle, bottom / height, axis_label, ha="center", va="bottom")
        legend_below(figure, list(entries.values()), legend)
        return lay_out(figure)


def _entries(table: pd.DataFrame, look: Look) -> dict[str, Any]:
    """Return the legend's labels and handles, of what the table has."""
    marker: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": 3, "markeredgewidth": 0.8}
    found: dict[str, Any] = {
        "nothing erased": Line2D([], [], color=PLAIN, lw=1.0),
        "without the concept (ribbon: 95 % CI)": Line2D([], [], lw=1.2, markerfacecolor="white", **marker),
        ADJUSTED: Line2D([], [], ls="", **marker),
        "random directions of the same rank (all repeats)": Patch(color=RANDOM, alpha=0.35, linewidth=0),
    }
    if not _removes_more(table).any():
        del found[ADJUSTED]
    if "concept_alone" in table and table["concept_alone"].notna().any():
        found["the concept alone"] = Line2D([], [], color=ALONE, lw=1.0, ls=ALONE_STYLE)
    return found


def _removes_more(rows: pd.DataFrame) -> np.ndarray:
    """Return in which rows the concept removes significantly more than random directions, ``(n_rows,)`` bool."""
    is_sure = np.array([is_significant(p) for p in rows["p_adjusted"].astype(float)], dtype=bool)
    return np.asarray(is_sure & (rows["beyond_random"].astype(float) > 0).to_numpy())
