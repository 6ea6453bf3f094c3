"""The words by which a figure of a run is marked whose controls or other work are pending."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.figures.layout.style import lay_out, styled

COLOUR = "#b3261e"


def mark_figure(figure: Figure, words: str, *, width: float | None) -> Figure:
    """Write words over the right end of a figure, and return it.

    Args:
        figure: as a figure function returns it
        words: such as "controls pending"
        width: inches that the figure keeps, within which the words are; None puts them above it
    """
    with styled(width):
        down = "bottom" if width is None else "top"
        figure.text(1.0, 1.0, words, ha="right", va=down, color=COLOUR, weight="bold", gid="pending")
        return lay_out(figure)


def mark_axes(ax: Axes, words: str) -> None:
    """Write words above the right end of axes."""
    ax.text(1.0, 1.01, words, ha="right", va="bottom", color=COLOUR, weight="bold", transform=ax.transAxes)
