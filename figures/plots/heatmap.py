"""The heatmap of scores, layer by target with controls as further rows, and that of the gain over random weights."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.analysis.layers.scores import best_layer
from layerprobe.figures.layout.cells import TextStyle, dot, fill_cells, frame, inches, value_text
from layerprobe.figures.layout.heatmap_grid import Caption, Scale, cell_page, name_rows
from layerprobe.figures.layout.layer_axis import cell_width, centres, name_layers, span
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, SCORE_COLOURS, lay_out, styled
from layerprobe.probe.layer_names import FINAL, is_stack
from layerprobe.probe.metrics import METRIC_NAMES

CONTROL_NAMES = {
    "none": "ratings",
    "random_init": "random weights",
    "permuted": "permuted ratings",
    "permuted_by_speaker": "permuted by speaker",
    "permuted_within_speaker": "permuted within speaker",
    "random_per_speaker": "random per speaker",
}
GAIN = "gain over random initialisation"
HEADING = 0.75  # rows that a group's name takes, above the group
BEST_ONLY = "frame: best layer"
BEST_SET = "frame: not significantly worse than the best (95 % set); dot: best"


def cell_order(table: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str]) -> pd.DataFrame:
    """Return the cells of `heatmap_figure` or `gain_over_random_figure` in drawing order: row *k* has gid ``cell-k``.

    Args:
        table: rows of the figure
        layers: layers of each encoder, in order
        targets: in order, from the top

    Returns:
        the table's rows that have a value, numbered from 0 by encoder, control, target and layer
    """
    rows = table.reset_index(drop=True)
    places = {"encoder": list(layers), "control": list(CONTROL_NAMES), "target": targets}
    ranks = pd.DataFrame(
        {name: rows[name].map({value: k for k, value in enumerate(p)}) for name, p in places.items() if name in rows}
    )
    number = {(encoder, name): k for encoder, names in layers.items() for k, name in enumerate(names)}
    ranks["layer"] = [number.get(pair, np.nan) for pair in zip(rows["encoder"], rows["layer"], strict=True)]
    present = ranks[ranks.notna().all(axis=1) & np.isfinite(rows["value"].astype(float))]
    return rows.loc[present.sort_values(list(ranks.columns)).index].reset_index(drop=True)


def score_limits(cells: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the colours of scores: from 0, or the lowest below it, to the highest."""
    return min(0.0, float(cells["value"].min())), max(float(cells["value"].max()), 0.1)


def gain_limits(cells: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the colours of gains, the same on both sides of zero."""
    furthest = max(float(cells["value"].abs().max()), 0.05)
    return -furthest, furthest


def plot_layer_heatmap(
    table: pd.DataFrame,
    ax: Axes,
    *,
    layers: list[str],
    targets: list[str],
    metric: str,
    limits: tuple[float, float],
    first_cell: int = 0,
    across: tuple[float, float] | None = None,
) -> Axes:
    """Draw a row of cells per target, again for each control, with a column per layer at its relative depth.

    Args:
        table: tidy rows ``control, target, layer, value`` of one encoder. With a column ``in_best_set``, layers of the
            95 % set for the real ratings are framed and the best has a dot; without it, the best is framed
        ax: axes to draw into, with their final position and size, which decide the size of the values
        layers: in order
        targets: in order, from the top
        metric: a key of `METRIC_NAMES`, which decides which layer is best
        limits: of the colours, the same for panels that are to be compared
        first_cell: number in the first cell's gid, ``cell-0``, ``cell-1``, …
        across: limits of the x axis; the span of the layers if None
    """
    controls = [c for c in CONTROL_NAMES if c in set(table["control"])]
    row_of: dict[tuple[str, str], float] = {}
    y = 0.0
    for control in controls:
        y += HEADING if control != "none" else 0.0
        row_of |= {(control, target): y + k for k, target in enumerate(targets)}
        y += len(targets)
    ax.set(xlim=across or span(layers), ylim=(y - 0.5, -0.5))
    cells = cell_order(table.assign(encoder=""), layers={"": layers}, targets=targets)
    cells["y"] = [row_of[key] for key in zip(cells["control"], cells["target"], strict=True)]
    style = fill_cells(cells, ax, layers=layers, colours=SCORE_COLOURS, limits=limits, first_cell=first_cell)
    for target in targets:
        real = cells[(cells["control"] == "none") & (cells["target"] == target)]
        if not real.empty:
            _mark_best(real, ax, layers=layers, metric=metric, style=style, first_cell=first_cell)
    n_real = len(targets) if "none" in controls else 0
    name_rows(ax, list(row_of.values()), targets * len(controls), layers=layers, n_real=n_real)
    size = matplotlib.rcParams["font.size"]
    for control in controls:
        if control != "none":
            x, top = span(layers)[0], row_of[control, targets[0]] - 0.58
            ax.text(x, top, CONTROL_NAMES[control], va="bottom", ha="left", color="0.4", fontsize=size)
    name_layers(ax, layers, size=size)
    return ax


def heatmap_figure(
    table: pd.DataFrame,
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    metric: str,
    correlations: pd.DataFrame | None = None,
    width: float | None = None,
) -> Figure:
    """Return the heatmap of one encoder, or of several below each other, aligned on relative depth.

    Args:
        table: rows as `plot_layer_heatmap` takes them, with a column ``encoder``
        layers: layers of each encoder, in order
        targets: in order, from the top
        metric: a key of `METRIC_NAMES`
        correlations: Pearson's r between the targets' ratings, targets by targets, plotted next to the first encoder
        width: inches, or None for the natural width
    """
    cells = cell_order(table, layers=layers, targets=targets)
    limits = score_limits(cells)
    n_controls = {e: table.loc[table["encoder"] == e, "control"] for e in layers}
    n_rows = {e: _n_rows(controls, len(targets)) for e, controls in n_controls.items()}
    columns = _columns_text(list(layers.values()))
    with styled(width):
        figure, panels = cell_page(
            n_rows,
            layers=layers,
            targets=targets,
            texts=[value_text(value) for value in cells["value"]],
            caption=Caption(columns, BEST_SET if _best_set(cells).any() else BEST_ONLY),
            scale=Scale(METRIC_NAMES[metric], SCORE_COLOURS, limits),
            correlations=correlations if len(targets) > 1 else None,
            width=width,
        )
        n_cells = 0
        for encoder, ax in panels.items():
            plot_layer_heatmap(
                table[table["encoder"] == encoder],
                ax,
                layers=layers[encoder],
                targets=targets,
                metric=metric,
                limits=limits,
                first_cell=n_cells,
                across=ax.get_xlim(),
            )
            n_cells += int((cells["encoder"] == encoder).sum())
        return lay_out(figure)


def plot_gain_over_random(
    table: pd.DataFrame,
    ax: Axes,
    *,
    layers: list[str],
    targets: list[str],
    limits: tuple[float, float],
    first_cell: int = 0,
    across: tuple[float, float] | None = None,
) -> Axes:
    """Draw a row of cells per target with a column per layer, and a dot where the interval of the gain excludes zero.

    Args:
        table: tidy rows ``target, layer, value, ci_low, ci_high`` of one encoder; ``ci_low`` and ``ci_high`` may be NaN
        ax: axes to draw into, with their final position and size
        layers: in order
        targets: in order, from the top
        limits: of the colours, the same on both sides of zero
        first_cell: number in the first cell's gid
        across: limits of the x axis; the span of the layers if None
    """
    ax.set(xlim=across or span(layers), ylim=(len(targets) - 0.5, -0.5))
    cells = cell_order(table.assign(encoder=""), layers={"": layers}, targets=targets)
    cells["y"] = cells["target"].map({target: k for k, target in enumerate(targets)}).astype(float)
    style = fill_cells(cells, ax, layers=layers, colours=DIFFERENCE_COLOURS, limits=limits, first_cell=first_cell)
    x = dict(zip(layers, centres(layers), strict=True))
    for k, cell in cells[(cells["ci_low"] > 0) | (cells["ci_high"] < 0)].iterrows():
        dot(ax, x[cell["layer"]], cell["y"], style=style, gid=f"sure-{int(str(k)) + first_cell}")
    name_rows(ax, [*range(len(targets))], targets, layers=layers, n_real=len(targets))
    name_layers(ax, layers, size=matplotlib.rcParams["font.size"])
    return ax


def gain_over_random_figure(
    table: pd.DataFrame,
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    label: str = GAIN,
    width: float | None = None,
) -> Figure:
    """Return the heatmap of the gain of each layer over the same layer with random weights, around zero.

    Args:
        table: tidy rows ``encoder, target, layer, value, ci_low, ci_high``
        layers: layers of each encoder, in order
        targets: in order, from the top
        label: of the colour bar
        width: inches, or None for the natural width
    """
    cells = cell_order(table, layers=layers, targets=targets)
    limits = gain_limits(cells)
    columns = _columns_text(list(layers.values()))
    with styled(width):
        figure, panels = cell_page(
            dict.fromkeys(layers, float(len(targets))),
            layers=layers,
            targets=targets,
            texts=[value_text(value) for value in cells["value"]],
            caption=Caption(columns, "dot: 95 % CI excludes zero"),
            scale=Scale(label, DIFFERENCE_COLOURS, limits),
            correlations=None,
            width=width,
        )
        n_cells = 0
        for encoder, ax in panels.items():
            plot_gain_over_random(
                table[table["encoder"] == encoder],
                ax,
                layers=layers[encoder],
                targets=targets,
                limits=limits,
                first_cell=n_cells,
                across=ax.get_xlim(),
            )
            n_cells += int((cells["encoder"] == encoder).sum())
        return lay_out(figure)


def _n_rows(controls: pd.Series[str], n_targets: int) -> float:
    """Return the height of a panel in rows, with the headings of its controls."""
    groups = set(controls) & set(CONTROL_NAMES)
    return len(groups) * n_targets + HEADING * len(groups - {"none"})


def _columns_text(layers: list[list[str]]) -> str:
    """Return the caption of the columns."""
    if not any(is_stack(names) for names in layers):
        return "feature"
    aligned = ", placed at its relative depth" if len(layers) > 1 else ""
    return f"layer{aligned} (0 enters the first block)"


def _best_set(cells: pd.DataFrame) -> np.ndarray:
    """Return which cells are in the 95 % set of best layers for the real ratings; none without that column."""
    if "in_best_set" not in cells:
        return np.zeros(len(cells), dtype=bool)
    is_best = cells["in_best_set"].eq(True).fillna(False).to_numpy(dtype=bool)
    return is_best & (cells["control"] == "none").to_numpy()


def _mark_best(
    real: pd.DataFrame, ax: Axes, *, layers: list[str], metric: str, style: TextStyle | None, first_cell: int
) -> None:
    """Frame the best layers of one target, with one frame around adjacent layers."""
    number = {name: k for k, name in enumerate(layers)}
    places = np.array([number[name] for name in real["layer"]])
    best = number[best_layer(real.set_index("layer")["value"], metric=metric)]
    y, x, half = float(real["y"].iloc[0]), centres(layers), cell_width(layers) / 2
    chosen = _best_set(real)
    framed = places[chosen] if chosen.any() else np.array([best])
    separate = [k for k, name in enumerate(layers) if name == FINAL]
    cuts = [i for i in range(1, len(framed)) if framed[i] != framed[i - 1] + 1 or framed[i] in separate]
    cell_of = dict(zip(places, real.index, strict=True))
    for run in np.split(framed, cuts):
        gid = f"best-{cell_of[run[0]] + first_cell}"
        frame(ax, x[run[0]] - half, x[run[-1]] + half, y, cell=inches(ax), gid=gid)
    if chosen.any():
        dot(ax, x[best], y, style=style, gid=f"dot-{cell_of[best] + first_cell}")
