"""Widths of figures in print: presets, lengths with a unit, and what a width means for fonts and layout."""

from __future__ import annotations

import math
import re

from layerprobe.probe.exceptions import InputError

WIDTHS = {"column": 3.5, "double": 7.2}  # inches: one and two columns of IEEE's journals and proceedings
MM = 25.4  # per inch
UNITS = {"mm": MM, "cm": MM / 10, "in": 1.0}  # per inch
LIMITS = (25.0, 500.0)  # millimetres
NARROW = 5.5  # inches; a narrower figure is laid out as for one column: smaller font, colour bars below


def parse_width(width: str | float) -> float:
    """Return the width of a figure in inches.

    Args:
        width: a key of `WIDTHS`, a length with its unit (``"89mm"``, ``"9cm"``, ``"3.5in"``), or a number of inches

    Raises:
        InputError: if it is none of these, or not within `LIMITS`

    >>> parse_width("column"), parse_width("3.5in"), round(parse_width("89mm"), 3)
    (3.5, 3.5, 3.504)
    """
    if isinstance(width, str):
        if width in WIDTHS:
            return WIDTHS[width]
        length = re.fullmatch(rf"\s*(\d+(?:\.\d*)?|\.\d+)\s*({'|'.join(UNITS)})\s*", width)
        if length is None:
            raise InputError(
                f"width {width!r} is unknown; choose one of {', '.join(WIDTHS)}, or give a length with its unit, "
                "such as 89mm, 9cm or 3.5in."
            )
        inches = float(length[1]) / UNITS[length[2]]
    else:
        inches = float(width)
    if not LIMITS[0] - 1e-9 <= inches * MM <= LIMITS[1] + 1e-9:
        raise InputError(
            f"width {width!r} is {inches * MM:.4g} mm; a figure is between {LIMITS[0]:g} mm and {LIMITS[1]:g} mm wide."
        )
    return inches


def is_narrow(width: float | None) -> bool:
    """Return whether a figure of this width in inches is laid out as for one column; None is the natural width."""
    return width is not None and width < NARROW


def font_size(width: float | None) -> float:
    """Return the font size of labels, in points, in a figure of this width in inches; None is the natural width."""
    return 7.0 if is_narrow(width) else 8.0


def check_panel(panel: float, *, least: float, width: float | None) -> None:
    """Check that a requested width leaves a panel what it needs; all in inches, and None is the natural width.

    Raises:
        InputError: if the panel would be narrower than ``least``
    """
    if width is not None and panel < least:
        needed = math.ceil((width + least - panel) * MM)
        raise InputError(
            f"width {width * MM:.4g} mm leaves no space for the panels of this figure next to their labels; "
            f"choose {needed} mm or more."
        )
