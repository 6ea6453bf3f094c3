"""The heatmap of gains by layer: over random initialisation, or of one encoder over another with the same layers."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.analysis.statistics.permutation import is_significant
from layerprobe.figures.layout.cells import dot, fill_cells, value_text
from layerprobe.figures.layout.heatmap_grid import Scale, cell_page, name_rows, slim_style
from layerprobe.figures.layout.layer_axis import centres, name_layers, span
from layerprobe.figures.layout.mark_ids import Mark, mark_id
from layerprobe.figures.layout.style import DIFFERENCE_COLOURS, lay_out, styled
from layerprobe.figures.plots.heatmap import cell_order, columns_text, one_encoder

GAIN = "gain over random initialisation"
SHIFT_HEADING = "shift (blocks)"
EXCLUDES_ZERO = "dot: 95 % CI excludes zero"
ADJUSTED = "dot: p ≤ .05, adjusted for all cells"
BOLD = "shift: how much deeper the profile over layers lies, bold: p ≤ .05"


def gain_limits(cells: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the colours of gains, the same on both sides of zero."""
    furthest = max(float(cells["value"].abs().max()), 0.05)
    return -furthest, furthest


def plot_gain(
    table: pd.DataFrame,
    ax: Axes,
    *,
    layers: list[str],
    targets: list[str],
    limits: tuple[float, float],
    first_cell: int = 0,
    across: tuple[float, float] | None = None,
) -> Axes:
    """Draw a row of cells per target with a column per layer, and a dot where the gain differs significantly from 0.

    Args:
        table: tidy rows ``target, layer, value, ci_low, ci_high`` of one encoder; ``ci_low`` and ``ci_high`` may be
            NaN. With a column ``p_adjusted`` cells have a dot where it is at most .05, else where the interval
            excludes zero
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
    for k, cell in cells[is_sure(cells)].iterrows():
        dot(ax, x[cell["layer"]], cell["y"], style=style, gid=f"sure-{int(str(k)) + first_cell}")
    name_rows(ax, [*range(len(targets))], targets, layers=layers, n_real=len(targets))
    name_layers(ax, layers, size=matplotlib.rcParams["font.size"])
    return ax


def is_sure(cells: pd.DataFrame) -> np.ndarray:
    """Return which gains differ significantly from 0: by their adjusted p-value, or by their interval without one."""
    if "p_adjusted" in cells:
        return np.array([is_significant(p) for p in cells["p_adjusted"].astype(float)], dtype=bool)
    return ((cells["ci_low"] > 0) | (cells["ci_high"] < 0)).to_numpy(dtype=bool)


def gain_figure(
    table: pd.DataFrame,
    *,
    layers: dict[str, list[str]],
    targets: list[str],
    label: str = GAIN,
    shifts: pd.DataFrame | None = None,
    notes: tuple[str, ...] = (),
    width: float | None = None,
) -> Figure:
    """Return the heatmap of the gain of each layer over the same layer of a reference, around zero.

    Args:
        table: tidy rows ``encoder, target, layer, value, ci_low, ci_high``, and perhaps ``p_adjusted``
        layers: layers of each encoder, in order
        targets: in order, from the top
        label: of the colour bar
        shifts: rows ``encoder, target, blocks, p_adjusted``, shown in a column at the right; None for no such column
        notes: lines of the caption
        width: inches, or None for the natural width
    """
    cells = cell_order(table, layers=layers, targets=targets)
    limits = gain_limits(cells)
    dots = ADJUSTED if "p_adjusted" in table else EXCLUDES_ZERO
    has_shifts = shifts is not None and bool(np.isfinite(shifts["blocks"].astype(float)).any())
    with styled(width):
        figure, panels = cell_page(
            dict.fromkeys(layers, float(len(targets))),
            layers=layers,
            targets=targets,
            texts=[value_text(value) for value in cells["value"]],
            columns=[SHIFT_HEADING] if has_shifts else [],
            caption=[columns_text(list(layers.values())), dots, *([BOLD] if has_shifts else []), *notes],
            scale=Scale(label, DIFFERENCE_COLOURS, limits),
            width=width,
        )
        n_cells = 0
        for encoder, panel in panels.items():
            plot_gain(
                table[table["encoder"] == encoder],
                panel.cells,
                layers=layers[encoder],
                targets=targets,
                limits=limits,
                first_cell=n_cells,
                across=panel.cells.get_xlim(),
            )
            n_cells += int((cells["encoder"] == encoder).sum())
            if panel.slim is not None and shifts is not None:
                panel.slim.set_ylim(panel.cells.get_ylim())
                _write_shifts(shifts[shifts["encoder"] == encoder], panel.slim, targets=targets)
        return lay_out(figure)


def shift_text(blocks: float) -> str:
    """Return a shift in blocks in as few characters as a value of a cell has.

    >>> shift_text(2.25), shift_text(-0.5), shift_text(-10.5), shift_text(0.0), shift_text(float("nan"))
    ('2.3', '−.5', '−11', '0', '')
    """
    if not np.isfinite(blocks):
        return ""
    size = abs(blocks)
    text = f"{size + 1e-9:.{0 if size >= 9.95 else 1}f}"
    text = "0" if text == "0.0" else text.removeprefix("0") if size < 0.95 else text
    return f"−{text}" if blocks < 0 and text != "0" else text


def _write_shifts(shifts: pd.DataFrame, ax: Axes, *, targets: list[str]) -> None:
    """Write the shift of each target at its row, those that are significant in bold."""
    texts = [shift_text(float(blocks)) for blocks in shifts["blocks"]]
    style = slim_style(texts, ax)
    for k, (row, text) in enumerate(zip(shifts.to_dict("records"), texts, strict=True)):
        if style is None or not text or row["target"] not in targets:
            continue
        written = ax.text(
            0, targets.index(row["target"]), text, ha="center", va="center", fontsize=style.size,
            rotation=style.rotation, weight="bold" if is_significant(row["p_adjusted"]) else "normal",
        )  # fmt: skip
        written.set_gid(mark_id("shift", k, Mark(row["encoder"], "none", row["target"], "all")))
