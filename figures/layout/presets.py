"""Style presets of figures: one matplotlib style file each, with the widths of that medium."""

from __future__ import annotations

import contextvars
import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.font_manager import fontManager

from layerprobe.probe.exceptions import InputError

FOLDER = Path(__file__).parent.parent / "styles"
BASE = "layerprobe"
MM = 25.4  # per inch
WIDTHS = {  # inches of one column and of the whole text; a slide has its whole width
    "interspeech": {"column": 80 / MM, "double": 170 / MM},
    "ieee": {"column": 3.5, "double": 7.16},
    "nature": {"column": 89 / MM, "double": 183 / MM},
    "slides": {"column": 6.0, "double": 12.3},
}
DEFAULT_WIDTHS = {"column": 3.5, "double": 7.2}  # inches: one and two columns of IEEE's journals and proceedings
_active: contextvars.ContextVar[str | None] = contextvars.ContextVar("style", default=None)


def check_style(style: str | None) -> None:
    """Check the name of a preset; None is the default style.

    Raises:
        InputError: if there is no such preset
    """
    if style is not None and style not in WIDTHS:
        raise InputError("LP652", f"style {style!r} is unknown; choose one of {', '.join(WIDTHS)}.")


@contextmanager
def preset(style: str | None) -> Iterator[None]:
    """Make a preset the style of all figures that are made inside; None is the default style.

    Raises:
        InputError: if there is no such preset
    """
    check_style(style)
    token = _active.set(style)
    try:
        yield
    finally:
        _active.reset(token)


def active_style() -> str | None:
    """Return the name of the preset that is active; None is the default style."""
    return _active.get()


def preset_widths() -> dict[str, float]:
    """Return the widths ``column`` and ``double`` of the active style in inches."""
    return WIDTHS.get(active_style() or "", DEFAULT_WIDTHS)


def settings() -> dict[str, Any]:
    """Return the matplotlib settings of the active style, on top of matplotlib's own defaults."""
    return _read(active_style())


def figure_font() -> str:
    """Return the font family of the active style: the first one of its style file that is installed."""
    return str(settings()["font.family"][0])


@functools.lru_cache
def _read(style: str | None) -> dict[str, Any]:
    """Return the settings of the style files of a preset, with the one font family that is installed."""
    found: dict[str, Any] = {}
    for name in (BASE, style):
        if name is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a misspelt setting is an error
                read = matplotlib.rc_params_from_file(FOLDER / f"{name}.mplstyle", use_default_template=False)
                found |= cast(dict[str, Any], read)
    installed = set(fontManager.get_font_names())
    family = next((name for name in found["font.family"] if name in installed), "DejaVu Sans")
    return {**found, "font.family": [family]}
