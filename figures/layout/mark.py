"""The label of a figure of a run whose controls or other work are pending."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.figures.layout.style import lay_out, styled

COLOUR = "#b3261e"


def mark_figure(figure: Figure, label: str, *, width: float | None) -> Figure:
    """Write a label over the right end of a figure, and return it.

    Args:
        figure: as a figure function returns it
        label: such as "controls pending"
        width: inches that the figure keeps, within which it is; None puts it above it
    """
    with styled(width):
        down = "bottom" if width is None else "top"
        figure.text(1.0, 1.0, label, ha="right", va=down, color=COLOUR, weight="bold", gid="pending")
        return lay_out(figure)


def mark_axes(ax: Axes, label: str) -> None:
    """Write a label above the right end of axes."""
    ax.text(1.0, 1.01, label, ha="right", va="bottom", color=COLOUR, weight="bold", transform=ax.transAxes)
