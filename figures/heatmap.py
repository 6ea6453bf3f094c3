"""The relevance heatmap: layer by target, with the controls as rows of their own."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.relevance import FINAL, METRIC_NAMES, best_layer, is_stack, n_blocks, relative_depth
from figures.style import SCORE_COLOURS, STYLE

CONTROL_NAMES = {
    "none": "ratings",
    "random_init": "random weights",
    "permuted": "permuted ratings",
    "permuted_within_speaker": "permuted within speaker",
    "random_per_speaker": "random per speaker",
}
GAP = 0.35  # rows between two groups of rows
CELL_HEIGHT = 0.27  # inches
CELL_WIDTH = (0.29, 0.62)  # inches: the least that "−.03" needs, and that of a few layers
LABELS_WIDTH = 2.1  # inches for the names of rows and the colour bar


def plot_layer_heatmap(
    table: pd.DataFrame,
    ax: Axes,
    *,
    layers: list[str],
    targets: list[str],
    metric: str,
    limits: tuple[float, float],
) -> Axes:
    """One row per target, again for each control; one column per layer at its relative depth.

    Args:
        table: tidy rows ``control, target, layer, value`` of one encoder
        ax: where to draw
        layers: in order
        targets: in order, from the top
        metric: a key of `METRIC_NAMES`; says which layer is best, and that one is outlined
        limits: of the colours, so that panels can be compared
    """
    colours, norm = matplotlib.colormaps[SCORE_COLOURS], Normalize(*limits)
    x, width = _centres(layers), 1 / n_blocks(layers)
    y, ticks, names = 0.0, [], []
    for control in (c for c in CONTROL_NAMES if c in set(table["control"])):
        for target in targets:
            values = table[(table["control"] == control) & (table["target"] == target)].set_index("layer")["value"]
            values = values.reindex(layers)
            _row(ax, x, y, width, values.to_numpy(dtype=float), colours, norm)
            if control == "none" and values.notna().any():
                _outline(ax, x[layers.index(best_layer(values, metric=metric))], y, width)
            ticks.append(y)
            name = target.replace("_", " ")
            names.append(name if control == "none" else f"{name}, {CONTROL_NAMES[control]}")
            y += 1
        y += GAP
    ax.set(xlim=_span(layers), ylim=(y - GAP - 0.5, -0.5))
    ax.set_yticks(ticks, names)
    every = 1 if len(layers) <= 30 else 2
    shown = [k for k, name in enumerate(layers) if not name.isdecimal() or int(name) % every == 0]
    ax.set_xticks(x[shown], [layers[k].replace("_", " ") for k in shown])
    ax.tick_params(length=0)
    if not is_stack(layers):
        ax.tick_params(axis="x", labelsize=6.5)
    for tick in ax.get_yticklabels()[len(targets) :]:
        tick.set_color("0.4")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def heatmap_figure(table: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str], metric: str) -> Figure:
    """The heatmap of one encoder, or of several one above the other, aligned on relative depth.

    Args:
        table: rows of `analysis.relevance.layer_scores` for the ridge
        layers: for each encoder its layers in order
        targets: in order, from the top
        metric: a key of `METRIC_NAMES`
    """
    n_rows = {e: len(targets) * table.loc[table["encoder"] == e, "control"].nunique() for e in layers}
    spans = {e: _span(names) for e, names in layers.items()}
    left, right = min(low for low, _ in spans.values()), max(high for _, high in spans.values())
    n_columns = (right - left) * max(n_blocks(names) for names in layers.values())  # of the narrowest cells
    cell = float(np.interp(n_columns, (3, 16), CELL_WIDTH[::-1]))
    finite = table["value"].dropna()
    limits = (min(0.0, float(finite.min())), max(float(finite.max()), 0.1))
    heights = [n * CELL_HEIGHT for n in n_rows.values()]
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(LABELS_WIDTH + n_columns * cell, sum(heights) + 0.75 * len(layers)), layout="constrained"
        )
        panels = figure.subplots(len(layers), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, (encoder, names) in zip(panels, layers.items(), strict=True):
            rows = table[table["encoder"] == encoder]
            plot_layer_heatmap(rows, ax, layers=names, targets=targets, metric=metric, limits=limits)
            ax.set_title(encoder)
            ax.set_xlim(left, right)
        panels[-1].set_xlabel(_columns_text(list(layers.values())))
        bar = figure.colorbar(
            ScalarMappable(Normalize(*limits), SCORE_COLOURS), ax=list(panels), shrink=0.9, aspect=15, pad=0.02
        )
        bar.set_label(METRIC_NAMES[metric])
        bar.outline.set_visible(False)
    return figure


def value_text(value: float) -> str:
    """Two decimals without the zero before the point, as tables of correlations have it.

    >>> value_text(0.617), value_text(-0.034), value_text(-0.001), value_text(12.3)
    ('.62', '−.03', '.00', '12')
    """
    if not np.isfinite(value):
        return ""
    if abs(value) >= 1:
        return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".replace("-", "−")
    text = f"{abs(value):.2f}".removeprefix("0")
    return f"−{text}" if value < 0 and text != ".00" else text


def _columns_text(layers: list[list[str]]) -> str:
    """What the columns are."""
    if not any(is_stack(names) for names in layers):
        return "feature (the best is outlined)"
    aligned = ", placed at its relative depth" if len(layers) > 1 else ""
    return f"layer{aligned} (0 enters the first block; the best is outlined)"


def _centres(layers: list[str]) -> np.ndarray:
    """Relative depths, with ``final`` a little apart from the blocks."""
    return relative_depth(layers) + np.where([name == FINAL for name in layers], GAP / n_blocks(layers), 0)


def _span(layers: list[str]) -> tuple[float, float]:
    """From the left edge of the first cell to the right edge of the last."""
    centres, half = _centres(layers), 0.5 / n_blocks(layers)
    return float(centres[0] - half), float(centres[-1] + half)


def _row(
    ax: Axes, x: np.ndarray, y: float, width: float, values: np.ndarray, colours: Colormap, norm: Normalize
) -> None:
    for centre, value in zip(x, values, strict=True):
        if np.isfinite(value):
            colour = colours(norm(value))
            ax.add_patch(Rectangle((centre - width / 2, y - 0.5), width, 1, color=colour, linewidth=0))
            luminance = np.dot(colour[:3], (0.2126, 0.7152, 0.0722))
            ink = "white" if luminance < 0.45 else "black"
            ax.text(centre, y, value_text(value), ha="center", va="center", color=ink, fontsize=6.5)


def _outline(ax: Axes, centre: float, y: float, width: float) -> None:
    """A white line in a black one, seen on every colour, inside its cell."""
    for colour, line_width in (("black", 2.6), ("white", 1.2)):
        corner = (centre - 0.45 * width, y - 0.42)
        frame = Rectangle(corner, 0.9 * width, 0.84, fill=False, edgecolor=colour, lw=line_width, joinstyle="miter")
        frame.set(zorder=3, gid="best-layer")
        ax.add_patch(frame)
