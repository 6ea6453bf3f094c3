"""The heatmap of the gain of trained layers over the same layers with random initialisation."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.figures.layout.cells import dot, fill_cells, value_text
from layerprobe.figures.layout.heatmap_grid import Scale, cell_page, name_rows
from layerprobe.figures.layout.layer_axis import centres, name_layers, span
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, lay_out, styled
from layerprobe.figures.plots.heatmap import cell_order, columns_text, one_encoder

GAIN = "gain over random initialisation"


def gain_limits(cells: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the colours of gains, the same on both sides of zero."""
    furthest = max(float(cells["value"].abs().max()), 0.05)
    return -furthest, furthest


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
    cells = one_encoder(table, layers=layers, targets=targets)
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
    columns = columns_text(list(layers.values()))
    with styled(width):
        figure, panels = cell_page(
            dict.fromkeys(layers, float(len(targets))),
            layers=layers,
            targets=targets,
            texts=[value_text(value) for value in cells["value"]],
            columns=[],
            caption=[columns, "dot: 95 % CI excludes zero"],
            scale=Scale(label, DIFFERENCE_COLOURS, limits),
            width=width,
        )
        n_cells = 0
        for encoder, panel in panels.items():
            plot_gain_over_random(
                table[table["encoder"] == encoder],
                panel.cells,
                layers=layers[encoder],
                targets=targets,
                limits=limits,
                first_cell=n_cells,
                across=panel.cells.get_xlim(),
            )
            n_cells += int((cells["encoder"] == encoder).sum())
        return lay_out(figure)
