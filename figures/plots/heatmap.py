"""The heatmap of scores: a block per encoder, a row per target, slim columns for chance, controls and baselines."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.analysis.layers.scores import best_layer
from layerprobe.figures.layout.cells import TextStyle, dot, fill_cells, frame, inches, value_text
from layerprobe.figures.layout.heatmap_grid import HEADING, Scale, cell_page, name_rows
from layerprobe.figures.layout.layer_axis import cell_width, centres, name_layers, span
from layerprobe.figures.layout.style import SCORE_COLOURS, lay_out, styled
from layerprobe.figures.plots.references import (
    REFERENCES,
    columns_of,
    is_chance,
    plot_references,
    reference_scores,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.layer_names import FINAL, is_stack
from layerprobe.probe.metrics import LOWER_IS_BETTER, METRIC_NAMES

CONTROL_NAMES = {
    "none": "ratings",
    "random_init": "random initialisation",
    "permuted": "permuted ratings",
    "permuted_by_speaker": "permuted by speaker",
    "permuted_within_speaker": "permuted within speaker",
    "random_per_speaker": "random per speaker",
}
CONDENSED = "condensed"
CONTROLS = {CONDENSED: ["none"], "full": list(CONTROL_NAMES)}  # rows of a heatmap
BEST_ONLY = "frame: highest-scoring layer"
BEST_SET = "frame: not significantly worse than the best (95 % set); dot: best"
HATCHED = "hatched: not above chance"


def cell_order(
    table: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str], controls: str = CONDENSED
) -> pd.DataFrame:
    """Return the cells of `heatmap_figure` or `gain_figure` in drawing order.

    Row *k* has the gid ``cell-k:ENCODER:CONTROL:TARGET:LAYER`` (`mark_id`).

    Args:
        table: rows of the figure
        layers: layers of each encoder, in order
        targets: in order, from the top
        controls: a key of `CONTROLS`, which decides whether cells of controls are among them

    Returns:
        the table's rows that have a value, numbered from 0 by encoder, control, target and layer
    """
    rows = table.reset_index(drop=True)
    places = {"encoder": list(layers), "control": CONTROLS[controls], "target": targets}
    ranks = pd.DataFrame(
        {name: rows[name].map({value: k for k, value in enumerate(p)}) for name, p in places.items() if name in rows}
    )
    number = {(encoder, name): k for encoder, names in layers.items() for k, name in enumerate(names)}
    ranks["layer"] = [number.get(pair, np.nan) for pair in zip(rows["encoder"], rows["layer"], strict=True)]
    present = ranks[ranks.notna().all(axis=1) & np.isfinite(rows["value"].astype(float))]
    return rows.loc[present.sort_values(list(ranks.columns)).index].reset_index(drop=True)


def one_encoder(
    table: pd.DataFrame, *, layers: list[str], targets: list[str], controls: str = CONDENSED
) -> pd.DataFrame:
    """Return the cells of the one encoder of a table in drawing order; its name is empty without that column."""
    rows = table if "encoder" in table else table.assign(encoder="")
    names = list(rows["encoder"].unique())
    return cell_order(rows, layers=dict.fromkeys(names, layers), targets=targets, controls=controls)


def check_controls(controls: str) -> None:
    """Check the rows that a heatmap is to have.

    Raises:
        InputError: if they are no key of `CONTROLS`
    """
    if controls not in CONTROLS:
        raise InputError("LP652", f"controls {controls!r} is unknown; choose one of {', '.join(CONTROLS)}.")


def score_limits(values: pd.Series[float], *, metric: str) -> tuple[float, float]:
    """Return the limits of the colours of scores: from 0 (of an error, from the lowest) to the highest."""
    low = float(values.min()) if metric in LOWER_IS_BETTER else 0.0
    return low, max(float(values.max()), low + 0.1)


def score_scale(values: pd.Series[float], *, metric: str) -> Scale:
    """Return the scale of scores, whose label states the limits of the colours and what lies beyond them."""
    low, high = score_limits(values, metric=metric)
    is_clipped = float(values.min()) < low
    lowest = value_text(low) if low else "0"
    beyond = f" (lower: as {lowest})" if is_clipped else ""
    label = f"{METRIC_NAMES[metric]}, colours from {lowest} to {value_text(high)}{beyond}"
    return Scale(label, SCORE_COLOURS, (low, high), is_clipped)


def plot_layer_heatmap(
    table: pd.DataFrame,
    ax: Axes,
    *,
    layers: list[str],
    targets: list[str],
    metric: str,
    limits: tuple[float, float],
    controls: str = CONDENSED,
    first_cell: int = 0,
) -> Axes:
    """Draw a row of cells per target with a column per layer at its relative depth, and such rows for each control.

    Cells that are not above chance are hatched.

    Args:
        table: tidy rows ``control, target, layer, value`` of one encoder. With a column ``in_best_set``, layers of the
            95 % set for the real ratings are framed and the best has a dot; without it, the best is framed. With a
            column ``chance``, cells that are not above it are hatched, and rows of such cells have no frame
        ax: axes to draw into, with their final position and size, which decide the size of the values
        layers: in order
        targets: in order, from the top
        metric: a key of `METRIC_NAMES`, which decides which layer is best
        limits: of the colours, the same for panels that are to be compared
        controls: a key of `CONTROLS`: rows of the ratings, or of these and of all controls
        first_cell: number in the first cell's gid (`mark_id`)
    """
    shown = [c for c in CONTROLS[controls] if c in set(table["control"])]
    row_of: dict[tuple[str, str], float] = {}
    y = 0.0
    for control in shown:
        y += HEADING if control != "none" else 0.0
        row_of |= {(control, target): y + k for k, target in enumerate(targets)}
        y += len(targets)
    if ax.get_autoscalex_on():
        ax.set_xlim(span(layers))
    ax.set_ylim(y - 0.5, -0.5)
    cells = one_encoder(table, layers=layers, targets=targets, controls=controls)
    cells["is_chance"] = is_chance(cells, metric=metric)
    cells["y"] = [row_of[key] for key in zip(cells["control"], cells["target"], strict=True)]
    style = fill_cells(cells, ax, layers=layers, colours=SCORE_COLOURS, limits=limits, first_cell=first_cell)
    for target in targets:
        real = cells[(cells["control"] == "none") & (cells["target"] == target)]
        if not real.empty and not real["is_chance"].all():
            _mark_best(real, ax, layers=layers, metric=metric, style=style, first_cell=first_cell)
    n_real = len(targets) if "none" in shown else 0
    name_rows(ax, list(row_of.values()), targets * len(shown), layers=layers, n_real=n_real)
    size = matplotlib.rcParams["font.size"]
    for control in shown:
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
    controls: str = CONDENSED,
    width: float | None = None,
) -> Figure:
    """Return the heatmap of one encoder, or of several below each other, aligned on relative depth.

    Random initialisation, chance and baselines are slim columns at the right; features without depth have a block of
    their own, whose columns have no position on the axis of depth.

    Args:
        table: rows as `plot_layer_heatmap` and `reference_scores` take them, with a column ``encoder``
        layers: layers of each encoder, in order
        targets: in order, from the top
        metric: a key of `METRIC_NAMES`
        controls: a key of `CONTROLS`; ``full`` adds a group of rows for each control
        width: inches, or None for the natural width
    """
    cells = cell_order(table, layers=layers, targets=targets, controls=controls)
    references = reference_scores(table, layers=layers, targets=targets, metric=metric)
    columns = columns_of(references)
    scale = score_scale(pd.concat([cells["value"], references["value"]]).dropna(), metric=metric)
    shown = {e: set(cells.loc[cells["encoder"] == e, "control"]) for e in layers}
    marks = [BEST_SET if _best_set(cells).any() else BEST_ONLY]
    marks += [HATCHED] if is_chance(cells, metric=metric).any() else []
    with styled(width):
        figure, panels = cell_page(
            {e: len(groups) * len(targets) + HEADING * len(groups - {"none"}) for e, groups in shown.items()},
            layers=layers,
            targets=targets,
            texts=[value_text(value) for value in cells["value"]],
            columns=[REFERENCES[c] for c in columns],
            caption=[columns_text(list(layers.values())), "; ".join(marks)],
            scale=scale,
            width=width,
        )
        n_cells = n_references = 0
        for encoder, panel in panels.items():
            rows = table[table["encoder"] == encoder]
            plot_layer_heatmap(
                rows, panel.cells, layers=layers[encoder], targets=targets, metric=metric, limits=scale.limits,
                controls=controls, first_cell=n_cells,
            )  # fmt: skip
            n_cells += int((cells["encoder"] == encoder).sum())
            if panel.slim is not None:
                own = references[references["encoder"] == encoder]
                panel.slim.set_ylim(panel.cells.get_ylim())
                plot_references(
                    own, panel.slim, targets=targets, columns=columns, limits=scale.limits, first_cell=n_references
                )
                n_references += len(own)
        return lay_out(figure)


def columns_text(layers: list[list[str]]) -> str:
    """Return the caption of the columns."""
    if not any(is_stack(names) for names in layers):
        return "feature"
    aligned = ", placed at its relative depth" if sum(map(is_stack, layers)) > 1 else ""
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
