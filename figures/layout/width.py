"""Widths of figures in print: presets, lengths with a unit, and what a width means for fonts and layout."""

from __future__ import annotations

import math
import re

from layerprobe.figures.layout.presets import DEFAULT_WIDTHS as WIDTHS, MM, active_style, preset_widths, settings
from layerprobe.probe.exceptions import InputError

UNITS = {"mm": MM, "cm": MM / 10, "in": 1.0}  # per inch
LIMITS = (25.0, 500.0)  # millimetres
TALLEST = 9.2  # inches of a page of text (IEEE); panels and rows get lower before a figure gets higher
NARROW = 5.5  # inches; a narrower figure is laid out as for one column: smaller font, colour bars below


def parse_width(width: str | float) -> float:
    """Return the width of a figure in inches.

    Args:
        width: ``"column"`` or ``"double"`` of the active style, a length with its unit (``"89mm"``, ``"9cm"``,
            ``"3.5in"``), or a number of inches

    Raises:
        InputError: if it is none of these, or not within `LIMITS`

    >>> parse_width("column"), parse_width("3.5in"), round(parse_width("89mm"), 3)
    (3.5, 3.5, 3.504)
    """
    if isinstance(width, str):
        if width in (widths := preset_widths()):
            return widths[width]
        length = re.fullmatch(rf"\s*(\d+(?:\.\d*)?|\.\d+)\s*({'|'.join(UNITS)})\s*", width)
        if length is None:
            raise InputError(
                "LP650",
                f"width {width!r} is unknown; choose one of {', '.join(WIDTHS)}, or give a length with its unit, "
                "such as 89mm, 9cm or 3.5in.",
            )
        inches = float(length[1]) / UNITS[length[2]]
    else:
        inches = float(width)
    if not LIMITS[0] - 1e-9 <= inches * MM <= LIMITS[1] + 1e-9:
        raise InputError(
            "LP650",
            f"width {width!r} is {inches * MM:.4g} mm; a figure is between {LIMITS[0]:g} mm and {LIMITS[1]:g} mm wide.",
        )
    return inches


def is_narrow(width: float | None) -> bool:
    """Return whether a figure of this width in inches is laid out as for one column; None is the natural width."""
    size = float(settings()["font.size"])  # of large letters fewer fit
    return width is not None and width < NARROW * size / 8


def font_size(width: float | None) -> float:
    """Return the font size of labels, in points, in a figure of this width in inches; None is the natural width.

    A preset has one size at all widths.
    """
    if active_style() is None and is_narrow(width):
        return 7.0
    return float(settings()["font.size"])


def default_width(width: str | float | None) -> float | None:
    """Return a width in inches; without one, both columns of the active preset, or the natural width without a preset.

    Raises:
        InputError: as `parse_width`
    """
    if width is None:
        return None if active_style() is None else preset_widths()["double"]
    return parse_width(width)


def panel_height(natural: float, *, least: float, n_rows: float, others: float) -> float:
    """Return the height of a panel in inches with which a figure is no taller than a page, but never below ``least``.

    Args:
        natural: inches of a panel where there is space
        least: inches that a panel needs
        n_rows: number of panels below each other
        others: inches of everything else below each other

    >>> [round(panel_height(0.9, least=0.4, n_rows=n, others=3.0), 2) for n in (2, 10)]
    [0.9, 0.62]
    """
    return max(least, min(natural, (TALLEST - others) / n_rows))


def check_panel(panel: float, *, least: float, width: float | None) -> None:
    """Check that a requested width leaves a panel what it needs; all in inches, and None is the natural width.

    Raises:
        InputError: if the panel would be narrower than ``least``
    """
    if width is not None and panel < least:
        needed = math.ceil((width + least - panel) * MM)
        raise InputError(
            "LP651",
            f"width {width * MM:.4g} mm leaves no space for the panels of this figure next to their labels; "
            f"choose {needed} mm or more.",
        )
