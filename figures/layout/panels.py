"""Panels of one size in rows, each with its target's name, and the legend below them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from layerprobe.analysis.findings.formatting import shown_name
from layerprobe.figures.layout.style import WIDTHS, line_height, text_width, wrapped

HANDLE, BETWEEN = 2.9, 1.5  # font sizes: a legend's handle with its air, and the room between two columns
EDGE = 0.06  # inches


@dataclass(frozen=True)
class Panels:
    """How many panels stand in a row, and what they take across, in inches."""

    n_columns: int
    panel: float
    left: float
    gap: float
    all_width: float

    def at(self, k: int) -> float:
        """The left edge of panel ``k`` of a row."""
        return self.left + k * (self.panel + self.gap)


def panels_across(
    n: int, *, width: str | None, left: float, natural: float, gap: float = 0.14, least: float = 1.0, most: int = 4
) -> Panels:
    """Share a figure's width among panels: at most ``most`` a row, rows as even as can be.

    Args:
        n: panels in all
        width: a key of `WIDTHS`, or None for panels of their natural width
        left: inches before the first
        natural: inches of a panel in a figure of natural width
        gap: inches between two
        least: inches that a panel needs
        most: panels in a row
    """
    if width is not None:
        most = max(1, min(most, int((WIDTHS[width] - left - EDGE + gap) / (least + gap))))
    n_columns = math.ceil(n / math.ceil(n / most))
    if width is None:
        return Panels(n_columns, natural, left, gap, left + n_columns * (natural + gap) - gap + 2 * EDGE)
    room = WIDTHS[width] - left - 2 * EDGE
    return Panels(n_columns, (room + gap) / n_columns - gap, left, gap, WIDTHS[width])


def titles(targets: Sequence[str], room: float, size: float) -> dict[str, str]:
    """Names of targets in bold, in lines that fit above a panel."""
    return {target: wrapped(shown_name(target), room, size, bold=True) for target in targets}


def titles_height(names: dict[str, str], size: float) -> float:
    """Inches that the highest of them takes."""
    return line_height(size, max(1 + name.count("\n") for name in names.values())) + 0.08


def share_limits(panels: Sequence[Axes]) -> None:
    """Give all panels the y axis that holds what any of them shows."""
    limits = [ax.get_ylim() for ax in panels]
    for ax in panels:
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


@dataclass(frozen=True)
class LegendPlan:
    """A legend that fits, before the figure is there."""

    labels: list[str]
    n_columns: int
    height: float  # inches
    size: float


def plan_legend(labels: Sequence[str], *, room: float, size: float) -> LegendPlan:
    """As many columns as fit into ``room`` inches; labels that are longer than that are broken."""
    if not labels:
        return LegendPlan([], 1, 0.0, size)
    em = size / 72
    broken = [wrapped(label, room - HANDLE * em, size) for label in labels]
    widest = max(text_width(label, size) for label in broken) + HANDLE * em
    n_columns = max(1, min(len(labels), int((room + BETWEEN * em) / (widest + BETWEEN * em))))
    n_rows = math.ceil(len(labels) / n_columns)
    column = [broken[k : k + n_rows] for k in range(0, len(broken), n_rows)]
    n_lines = max(sum(1 + label.count("\n") for label in part) for part in column)
    return LegendPlan(broken, n_columns, (1.25 * n_lines + 0.5 * n_rows) * em + EDGE, size)


def legend_below(figure: Figure, handles: Sequence[Any], plan: LegendPlan) -> Legend | None:
    """Put a planned legend at the figure's lower edge."""
    if not plan.labels:
        return None
    bottom = EDGE / float(figure.get_size_inches()[1])
    return figure.legend(
        handles, plan.labels, loc="lower center", bbox_to_anchor=(0.5, bottom), borderaxespad=0, borderpad=0,
        ncols=plan.n_columns, fontsize=plan.size, handlelength=2, columnspacing=BETWEEN,
    )  # fmt: skip
