"""Fonts, colours and text measurements of all figures, and how a figure is saved."""

from __future__ import annotations

import functools
import io
import itertools
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.style
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextToPath
from matplotlib.transforms import Bbox

from layerprobe.figures.layout.fonts import font_families, set_fonts, without_matplotlibs_glyph_warnings
from layerprobe.figures.layout.mark_ids import with_data_attributes
from layerprobe.figures.layout.presets import figure_font, settings
from layerprobe.figures.layout.width import font_size
from layerprobe.probe.filesystem import replacing, write_csv

SCORE_COLOURS = "cividis"  # even steps, and the same for colour-blind readers (Nuñez et al., 2018)
SIMILARITY_COLOURS = "magma"  # even steps; another map for another quantity
DIFFERENCE_COLOURS = "vlag"  # blue and red, equally light at equal distance from zero (seaborn)
MARKERS = "osD^vP*Xhp"
FORMATS = ("png", "pdf", "svg")
PNG_DPI, SCREEN_DPI = 200, 120
FORMAT_VERSION = 1  # of the tables that are saved next to figures
UNDATED: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
LINE = 1.25  # a line of text over its font's size


def encoder_colours(encoders: list[str]) -> dict[str, Any]:
    """Return a colour for each encoder: ten that colour-blind readers distinguish, then the same darker and lighter."""
    ten = seaborn.color_palette("colorblind", 10)
    darker, lighter = ([_blend(colour, end) for colour in ten] for end in (0.0, 1.0))
    return dict(zip(encoders, itertools.cycle([*ten, *darker, *lighter]), strict=False))


class Look(NamedTuple):
    """Colour and marker of an encoder."""

    colour: Any
    marker: str


def encoder_looks(encoders: list[str]) -> dict[str, Look]:
    """Return colour and marker of each encoder; those of ten encoders differ in both, so that grey prints suffice."""
    colours, n = encoder_colours(encoders), len(MARKERS)
    return {name: Look(colours[name], MARKERS[(k + k // n) % n]) for k, name in enumerate(encoders)}


def _blend(colour: tuple[float, float, float], end: float) -> tuple[float, ...]:
    """Return a colour halfway to black (0) or white (1)."""
    return tuple(0.5 * part + 0.5 * end for part in colour)


class StyledFigure(Figure):
    """A matplotlib figure that a notebook shows without pyplot, whatever the user's matplotlibrc."""

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        with styled(), without_matplotlibs_glyph_warnings():
            self.savefig(page, format="png", dpi=SCREEN_DPI, bbox_inches="tight")
        return page.getvalue()


def styled(width: float | None = None) -> AbstractContextManager[None]:
    """Apply the active style with the font sizes of a width in inches, independently of the user's matplotlibrc."""
    size = font_size(width)
    sizes: Any = {**settings(), "font.size": size, "axes.titlesize": size + 1}
    return matplotlib.style.context(["default", sizes])


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width in inches of the longest line of a text at a font size in points."""
    return max(_line_width(line, bold, figure_font()) for line in text.split("\n")) * size / 72


@functools.lru_cache(maxsize=4096)
def _line_width(line: str, bold: bool, _font: str) -> float:
    font = FontProperties(family=font_families(line), size=1, weight="bold" if bold else "normal")
    with without_matplotlibs_glyph_warnings():
        return float(TextToPath().get_text_width_height_descent(line, font, ismath=False)[0])


def line_height(size: float, n_lines: int = 1) -> float:
    """Return the height in inches of ``n_lines`` lines of text at a font size in points."""
    return n_lines * LINE * size / 72


def wrapped(text: str, space: float, size: float, *, bold: bool = False) -> str:
    r"""Break a name into lines of at most ``space`` inches: at spaces, after slashes and hyphens, else anywhere.

    >>> wrapped("facebook/hubert-base-ls960", 1.0, 8.0)
    'facebook/hubert-\nbase-ls960'
    """
    lines = [""]
    for chunk in re.split(r"(?<=[ /-])", text):
        if lines[-1] and text_width((lines[-1] + chunk).rstrip(), size, bold=bold) > space:
            lines.append("")
        for character in chunk:
            if lines[-1] and text_width((lines[-1] + character).rstrip(), size, bold=bold) > space:
                lines.append("")
            lines[-1] += character
    return "\n".join(line.strip() for line in lines)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a position and with a size in inches; positions count from the figure's left and upper edge."""
    ax = figure.add_axes((0, 0, 1, 1))
    move(ax, left, top, width, height)
    return ax


def move(ax: Axes, left: float, top: float, width: float, height: float) -> None:
    """Move axes to a position and size in inches; positions count from the figure's left and upper edge."""
    all_width, all_height = sheet_size(ax)
    ax.set_position((left / all_width, 1 - (top + height) / all_height, width / all_width, height / all_height))


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of axes in inches."""
    box = ax.get_position()
    all_width, all_height = sheet_size(ax)
    return float(box.width * all_width), float(box.height * all_height)


def sheet_size(ax: Axes) -> tuple[float, float]:
    """Return width and height in inches of the figure or subfigure that holds the axes."""
    figure = ax.figure
    if isinstance(figure, Figure):
        across, down = figure.get_size_inches()
    else:  # a subfigure
        across, down = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi
    return float(across), float(down)


def lay_out(figure: Figure) -> Figure:
    """Return the figure after its ticks and texts were made, so that they keep the style that is active now.

    Warns:
        MissingGlyphWarning: naming the characters that no installed font has
    """
    with without_matplotlibs_glyph_warnings():
        figure.draw_without_rendering()
    set_fonts(figure)
    spacing = _line_spacing(figure_font())
    for text in figure.findobj(Text):
        if isinstance(text, Text) and "\n" in text.get_text():
            text.set_linespacing(spacing)
    return figure


@functools.lru_cache
def _line_spacing(font: str) -> float:
    """Return matplotlib's line spacing with which a line of a font is `LINE` times its size; it differs by font."""
    page = Figure(dpi=720)
    two, three = (
        page.text(0, 0, "\n".join(["x"] * n), fontsize=10, family=font, linespacing=1.0).get_window_extent().height
        for n in (2, 3)
    )
    return LINE * 100 / (three - two)


def save(
    figure: Figure,
    folder: Path,
    name: str,
    *,
    fingerprint: str,
    table: pd.DataFrame | None = None,
    width: float | None = None,
) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, each carrying the run's fingerprint; and next to them its table as CSV.

    Args:
        figure: as the figure functions return it
        folder: created if it does not exist
        name: of the files, without ending
        fingerprint: of the run, or of the runs together
        table: tidy rows behind the figure, written as ``NAME.csv`` between the columns ``format_version`` and
            ``fingerprint``
        width: inches that the figure was made for and that its files keep; None crops the files to their content

    Returns:
        the paths of PNG, PDF and SVG in this order, then of the table if there is one
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in FORMATS]
    area = content_area(figure) if width is None else None
    for path in paths:
        _write(figure, path, area, fingerprint=fingerprint)
    if table is not None:
        paths.append(folder / f"{name}.csv")
        write_table(table, paths[-1], fingerprint=fingerprint)
    return paths


def write_figure(figure: Figure, path: Path, *, fingerprint: str, width: float | None = None) -> None:
    """Write a figure to one file, whose ending is one of `FORMATS`; arguments as in `save`."""
    _write(figure, path, content_area(figure) if width is None else None, fingerprint=fingerprint)


def content_area(figure: Figure) -> Bbox:
    """Return the area in inches that a figure's content takes with a margin, as ``bbox_inches="tight"`` of a PNG.

    Measured once, it serves all formats; each measures for itself otherwise, which costs a third of the time of saving.
    """
    with styled(), without_matplotlibs_glyph_warnings():
        before, figure.dpi = figure.dpi, PNG_DPI
        try:
            figure.draw_without_rendering()
            return figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
        finally:
            figure.dpi = before


def _write(figure: Figure, path: Path, area: Bbox | None, *, fingerprint: str) -> None:
    """Write an area of a figure, or all of it, to one file."""
    ending = path.suffix.removeprefix(".")
    key = "Subject" if ending == "pdf" else "Description"
    metadata: dict[str, Any] = {key: f"layerprobe run {fingerprint}", **UNDATED[ending]}
    with styled(), without_matplotlibs_glyph_warnings(), replacing(path) as file:
        if ending != "svg":
            figure.savefig(file, format=ending, dpi=PNG_DPI, bbox_inches=area, metadata=metadata)
            return
        page = io.StringIO()
        figure.savefig(page, format=ending, dpi=PNG_DPI, bbox_inches=area, metadata=metadata)
        file.write(with_data_attributes(page.getvalue()).encode())


def write_table(table: pd.DataFrame, path: Path, *, fingerprint: str) -> None:
    """Write the tidy rows behind a figure as CSV, with the columns ``format_version`` and ``fingerprint`` added."""
    rows = table.assign(fingerprint=fingerprint)
    rows.insert(0, "format_version", FORMAT_VERSION)
    write_csv(path, rows)
