"""What all figures share: fonts, colours, widths in print, and how they are saved."""

from __future__ import annotations

import functools
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

FONT = "DejaVu Sans"  # the one that matplotlib ships
STYLE: Any = {
    "font.family": FONT,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # names of users may hold a dollar
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "layerprobe",  # the same figure gives the same bytes
    "pdf.fonttype": 42,
}
WIDTHS = {"column": 3.5, "double": 7.2}  # inches: one and two columns of IEEE's journals and proceedings
SCORE_COLOURS = "cividis"  # even steps, and the same for colour-blind readers (Nuñez et al., 2018)
SIMILARITY_COLOURS = "magma"  # even steps; another map for another quantity
DIFFERENCE_COLOURS = "vlag"  # blue and red, equally light at equal distance from zero (seaborn)
FORMATS = ("png", "pdf", "svg")
UNDATED: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
LINE = 1.25  # a line of text over its font's size


def encoder_colours(encoders: list[str]) -> dict[str, Any]:
    """A colour for each encoder, told apart by colour-blind readers."""
    return dict(zip(encoders, seaborn.color_palette("colorblind", max(len(encoders), 1)), strict=False))


def font_size(width: str | None) -> float:
    """Points of labels in a figure of this width, a key of `WIDTHS` or None for its natural one."""
    return 7.0 if width == "column" else 8.0


def styled(width: str | None = None) -> AbstractContextManager[None]:
    """Draw in `STYLE` with the fonts of this width, whatever the user's own settings of matplotlib are."""
    size = font_size(width)
    sizes = {"font.size": size, "axes.titlesize": size + 1}
    return matplotlib.style.context(["default", {**STYLE, **sizes}])


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Inches that the longest line of a text takes at a font size in points."""
    return max(_line_width(line, bold) for line in text.split("\n")) * size / 72


@functools.lru_cache(maxsize=4096)
def _line_width(line: str, bold: bool) -> float:
    font = FontProperties(family=FONT, size=1, weight="bold" if bold else "normal")
    return float(TextToPath().get_text_width_height_descent(line, font, ismath=False)[0])


def line_height(size: float, n_lines: int = 1) -> float:
    """Inches that lines of text take."""
    return n_lines * LINE * size / 72


def wrapped(text: str, room: float, size: float, *, bold: bool = False) -> str:
    r"""A name broken into lines of at most ``room`` inches: at spaces, after slashes and hyphens, else anywhere.

    >>> wrapped("facebook/hubert-base-ls960", 1.0, 8.0)
    'facebook/hubert-\nbase-ls960'
    """
    lines = [""]
    for input_chunk in re.split(r"(?<=[ /-])", text):
        if lines[-1] and text_width((lines[-1] + input_chunk).rstrip(), size, bold=bold) > room:
            lines.append("")
        for character in input_chunk:
            if lines[-1] and text_width((lines[-1] + character).rstrip(), size, bold=bold) > room:
                lines.append("")
            lines[-1] += character
    return "\n".join(line.strip() for line in lines)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """New axes, in inches from the figure's left and upper edge."""
    ax = figure.add_axes((0, 0, 1, 1))
    move(ax, left, top, width, height)
    return ax


def move(ax: Axes, left: float, top: float, width: float, height: float) -> None:
    """Put axes where they shall be, in inches from the figure's left and upper edge."""
    all_width, all_height = sheet_size(ax)
    ax.set_position((left / all_width, 1 - (top + height) / all_height, width / all_width, height / all_height))


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Width and height of axes as they are placed."""
    box = ax.get_position()
    all_width, all_height = sheet_size(ax)
    return float(box.width * all_width), float(box.height * all_height)


def sheet_size(ax: Axes) -> tuple[float, float]:
    """Inches of the figure that axes are in."""
    assert isinstance(ax.figure, Figure)
    all_width, all_height = ax.figure.get_size_inches()
    return float(all_width), float(all_height)


def settled(figure: Figure) -> Figure:
    """The figure with its ticks and texts made under the style in force, which is not that of whoever saves it."""
    figure.draw_without_rendering()
    return figure


def save(figure: Figure, folder: Path, name: str, *, fingerprint: str, table: pd.DataFrame | None = None) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, each carrying the run's fingerprint; and beside them its table as CSV.

    A figure whose width is one of `WIDTHS` keeps it; any other is cropped to what is drawn.

    Args:
        figure: as the figure functions return it
        folder: made if it is not there
        name: of the files, without ending
        fingerprint: of the run, or of the runs together
        table: the tidy rows that were drawn, written as ``NAME.csv`` with a column ``fingerprint``

    Returns:
        the three pictures in this order, without the table
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in FORMATS]
    crop = None if figure.get_figwidth() in WIDTHS.values() else "tight"
    for path, ending in zip(paths, FORMATS, strict=True):
        key = "Subject" if ending == "pdf" else "Description"
        metadata: dict[str, Any] = {key: f"layerprobe run {fingerprint}", **UNDATED[ending]}
        with styled():
            figure.savefig(path, dpi=200, bbox_inches=crop, metadata=metadata)
    if table is not None:
        table.assign(fingerprint=fingerprint).to_csv(folder / f"{name}.csv", index=False)
    return paths
