"""Coloured cells with their values: how they are filled, written on, framed and marked."""

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
from layerprobe.figures.layout.style import size_in_inches, text_width

SIZES = (6.5, 6.0, 5.5)  # points
UPRIGHT_HEIGHT = 0.36  # inches of a row whose values stand upright, with a mark above them
AIR = 2.0  # points between a value and the edges of its cell


@dataclass(frozen=True)
class Writing:
    """How values are written into cells."""

    size: float  # points
    rotation: int  # degrees


def writing(texts: Iterable[str], width: float) -> Writing | None:
    """The largest way of writing these values into cells of ``width`` inches; None if they get no room.

    They lie if one of `SIZES` fits; they stand upright in cells that are half as wide again as the smallest font is
    high, which needs rows of `UPRIGHT_HEIGHT`; in narrower ones colour has to say it alone.
    """
    longest = max((text_width(text, 1.0) for text in texts), default=0.0)
    for size in SIZES:
        if longest * size + AIR / 72 <= width:
            return Writing(size, 0)
    return Writing(SIZES[-1], 90) if width * 72 >= 1.5 * SIZES[-1] else None


def value_text(value: float) -> str:
    """Two decimals without the zero before the point, as tables of correlations have it.

    >>> value_text(0.617), value_text(-0.034), value_text(-0.001), value_text(12.3)
    ('.62', '−.03', '.00', '12')
    """
    if not np.isfinite(value):
        return ""
    if abs(value) >= 0.995:
        return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".replace("-", "−")
    text = f"{abs(value):.2f}".removeprefix("0")
    return f"−{text}" if value < 0 and text != ".00" else text


def inches(ax: Axes) -> tuple[float, float]:
    """What an inch is on the two axes, as they are placed."""
    (left, right), (bottom, top), (across, down) = ax.get_xlim(), ax.get_ylim(), size_in_inches(ax)
    return (right - left) / across, abs(top - bottom) / down


def fill_cell(
    ax: Axes, x: float, y: float, width: float, *, colour: Any, text: str, way: Writing | None, gid: str | None
) -> None:
    """One cell of height 1 around ``(x, y)`` in its colour, its value in black or white, whichever is seen better."""
    cell = Rectangle((x - width / 2, y - 0.5), width, 1, color=colour, linewidth=0)
    cell.set_gid(gid)
    ax.add_patch(cell)
    if way is None or not text:
        return
    luminance = np.dot(colour[:3], (0.2126, 0.7152, 0.0722))
    ink = "white" if luminance < 0.45 else "black"
    middle = y + 0.08 if way.rotation else y  # room for a mark above
    ax.text(x, middle, text, ha="center", va="center", color=ink, fontsize=way.size, rotation=way.rotation)


def fill_cells(
    cells: pd.DataFrame, ax: Axes, *, layers: list[str], colours: str, limits: tuple[float, float], first_cell: int
) -> Writing | None:
    """Draw the cells at their ``y``, and say how their values were written."""
    inch = inches(ax)
    width = cell_width(layers)
    texts = [value_text(value) for value in cells["value"]]
    way = writing(texts, width / inch[0])
    if way is not None and way.rotation and 1 / inch[1] < UPRIGHT_HEIGHT - 0.01:
        way = None
    x = dict(zip(layers, centres(layers), strict=True))
    shades = matplotlib.colormaps[colours](Normalize(*limits)(cells["value"].to_numpy(dtype=float)))
    for k, (text, shade) in enumerate(zip(texts, shades, strict=True)):
        gid = f"cell-{k + first_cell}"
        place = x[cells["layer"].iloc[k]], cells["y"].iloc[k]
        fill_cell(ax, *place, width, colour=tuple(shade), text=text, way=way, gid=gid)
    return way


def frame(ax: Axes, left: float, right: float, y: float, *, cell: tuple[float, float], gid: str) -> None:
    """A white line in a black one, seen on every colour, inside the cells it runs around.

    Args:
        ax: where the cells are
        left: edge of the first cell
        right: edge of the last cell
        y: of their row
        cell: what an inch is on the two axes
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


def dot(ax: Axes, x: float, y: float, *, way: Writing | None, gid: str) -> None:
    """A white dot with a black edge: above the value, or in the middle of a cell without one."""
    up = {None: 0.0, 0: 0.3, 90: 0.31}[None if way is None else way.rotation]
    (mark,) = ax.plot(
        x, y - up, marker="o", markersize=2.2, color="white", markeredgecolor="black", markeredgewidth=0.5
    )
    mark.set(zorder=4, gid=gid, clip_on=False)
