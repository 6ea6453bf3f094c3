"""Coloured cells with their values: fill, text, hatches, frames and dots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from layerprobe.figures.layout.layer_axis import cell_width, centres
from layerprobe.figures.layout.mark_ids import Mark, mark_id
from layerprobe.figures.layout.style import size_in_inches, text_width

SMALLEST = 6.0  # points of a value
LEAST_UPRIGHT = 0.25  # inches of the lowest row of such values
MARGIN = 2.0  # points between a value and the edges of its cell
DIGIT_HEIGHT = 0.73  # of a digit, over the font's size
HATCH = "/////"  # of cells that are not above chance


@dataclass(frozen=True)
class TextStyle:
    """Size and rotation of the values in cells."""

    size: float  # points
    rotation: int  # degrees


@dataclass(frozen=True)
class Cell:
    """Colour, value as text, and gid of a cell."""

    colour: Any
    text: str
    gid: str | None = None
    is_hatched: bool = False


def text_style(texts: Iterable[str], width: float, size: float = 8.0) -> TextStyle | None:
    """Return the largest text style that fits values into cells of ``width`` inches; None if none fits.

    Values are horizontal if a size of at least `SMALLEST` fits, up to 1.5 points below that of the labels. They are
    rotated by 90 degrees in cells as wide as the smallest digits are high, which need rows of `LEAST_UPRIGHT`.
    Narrower cells show their colour only.

    Args:
        texts: all values
        width: of a cell in inches
        size: of the labels around the cells in points
    """
    longest = max((text_width(text, 1.0) for text in texts), default=0.0)
    sizes = np.arange(max(size - 1.5, SMALLEST), SMALLEST - 0.01, -0.5)
    for points in sizes:
        if longest * points + MARGIN / 72 <= width:
            return TextStyle(float(points), 0)
    return TextStyle(SMALLEST, 90) if width * 72 >= DIGIT_HEIGHT * SMALLEST + MARGIN else None


def value_text(value: float) -> str:
    """Return a value with two decimals and no leading zero, as in tables of correlations.

    >>> value_text(0.617), value_text(-0.034), value_text(-0.001), value_text(12.3)
    ('.62', '−.03', '.00', '12')
    """
    if not np.isfinite(value):
        return ""
    if abs(value) >= 0.995:
        return f"{value:.{0 if abs(value) >= 9.95 else 1}f}".replace("-", "−")
    text = f"{abs(value):.2f}".removeprefix("0")
    return f"−{text}" if value < 0 and text != ".00" else text


def inches(ax: Axes) -> tuple[float, float]:
    """Return the length of one inch in data units of the x and the y axis."""
    (left, right), (bottom, top), (across, down) = ax.get_xlim(), ax.get_ylim(), size_in_inches(ax)
    return (right - left) / across, abs(top - bottom) / down


def fill_cell(ax: Axes, x: float, y: float, width: float, *, cell: Cell, style: TextStyle | None) -> None:
    """Draw a cell of height 1 around ``(x, y)``; its value is black or white, whichever contrasts more.

    A value in a hatched cell stands on a plain field of the cell's colour.
    """
    luminance = np.dot(cell.colour[:3], (0.2126, 0.7152, 0.0722))
    ink = "white" if luminance < 0.45 else "black"
    box = Rectangle((x - width / 2, y - 0.5), width, 1, facecolor=cell.colour, edgecolor=cell.colour, linewidth=0)
    if cell.is_hatched:
        box.set(hatch=HATCH, edgecolor=blend(cell.colour, ink))
    box.set_gid(cell.gid)
    ax.add_patch(box)
    if style is None or not cell.text:
        return
    middle = y + 0.08 if style.rotation else y  # leaves space for a dot above
    plain = {"boxstyle": "square,pad=0.12", "facecolor": cell.colour, "linewidth": 0} if cell.is_hatched else None
    ax.text(
        x, middle, cell.text, ha="center", va="center", color=ink, fontsize=style.size, rotation=style.rotation,
        bbox=plain,
    )  # fmt: skip


def blend(colour: Any, ink: str) -> tuple[float, ...]:
    """Return a colour halfway to black or white."""
    return tuple(0.5 * float(part) + (0.5 if ink == "white" else 0.0) for part in colour[:3])


def fill_cells(
    cells: pd.DataFrame, ax: Axes, *, layers: list[str], colours: str, limits: tuple[float, float], first_cell: int
) -> TextStyle | None:
    """Draw the cells of a table and return the text style of their values.

    Args:
        cells: rows ``encoder, control, target, layer, y, value``; with a column ``is_chance``, cells where it is true
            are hatched
        ax: axes with their final position, size and limits
        layers: in order
        colours: name of a colour map
        limits: values of the first and the last colour; what lies beyond has the colour of the limit
        first_cell: number in the first cell's gid, which `mark_id` makes
    """
    inch = inches(ax)
    width = cell_width(layers)
    texts = [value_text(value) for value in cells["value"]]
    style = text_style(texts, width / inch[0], matplotlib.rcParams["font.size"])
    if style is not None and style.rotation and 1 / inch[1] < LEAST_UPRIGHT - 0.01:
        style = None
    x = dict(zip(layers, centres(layers), strict=True))
    shades = matplotlib.colormaps[colours](Normalize(*limits)(cells["value"].to_numpy(dtype=float)))
    hatched = cells["is_chance"] if "is_chance" in cells else np.zeros(len(cells), dtype=bool)
    rows = cells.to_dict("records")
    for k, (row, text, shade, chance) in enumerate(zip(rows, texts, shades, hatched, strict=True)):
        mark = Mark(row["encoder"], row.get("control", "none"), row["target"], row["layer"])
        cell = Cell(tuple(shade), text, mark_id("cell", k + first_cell, mark), bool(chance))
        fill_cell(ax, x[row["layer"]], row["y"], width, cell=cell, style=style)
    return style


def frame(ax: Axes, left: float, right: float, y: float, *, cell: tuple[float, float], gid: str) -> None:
    """Frame adjacent cells of a row, inside their edges, with a white line on a black one that shows on every colour.

    Args:
        ax: axes of the cells
        left: left edge of the first cell
        right: right edge of the last cell
        y: centre of their row
        cell: length of one inch in data units, as `inches` returns it
        gid: of the frame
    """
    narrow = (right - left) / cell[0] < 0.15
    thick, thin = (1.8, 0.8) if narrow else (2.2, 1.0)
    dx, dy = (0.5 * thick / 72 * inch for inch in cell)
    outline = Rectangle(
        (left + dx, y - 0.5 + dy), right - left - 2 * dx, 1 - 2 * dy, fill=False, edgecolor="white", lw=thin,
        joinstyle="miter", path_effects=[withStroke(linewidth=thick, foreground="black")], zorder=3,
    )  # fmt: skip
    outline.set_gid(gid)
    ax.add_patch(outline)


def dot(ax: Axes, x: float, y: float, *, style: TextStyle | None, gid: str) -> None:
    """Draw a white dot with a black edge: above the value, or in the middle of a cell without text."""
    up = {None: 0.0, 0: 0.3, 90: 0.31}[None if style is None else style.rotation]
    (mark,) = ax.plot(
        x, y - up, marker="o", markersize=2.2, color="white", markeredgecolor="black", markeredgewidth=0.5
    )
    mark.set(zorder=4, gid=gid, clip_on=False)
