"""Stage: a run that was swept by bins of time becomes its heatmap and its curves over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from layerprobe.analysis.study import Study
from layerprobe.analysis.time.bins import TimeBins
from layerprobe.figures.plots.time_curve import time_curve_figure
from layerprobe.figures.plots.time_map import time_map_figure
from layerprobe.figures.selection import FigureWithData, Selection, filled, select
from layerprobe.figures.time_tables import time_bins, time_table


class FigureOverTime(Protocol):
    """Type of the functions that lay out a figure over time."""

    def __call__(  # noqa: D102
        self,
        table: pd.DataFrame,
        *,
        bins: TimeBins,
        layers: dict[str, list[str]],
        targets: Sequence[str],
        metric: str,
        width: float | None = None,
    ) -> Figure: ...


def time_map(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    """Return the heatmap of layers and bins of time."""
    return _over_time(time_map_figure, study, width, selection)


def time_curve(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    """Return the scores of the first, the highest-scoring and the last layer over time."""
    return _over_time(time_curve_figure, study, width, selection)


def _over_time(
    figure: FigureOverTime, study: Study, width: float | None, selection: Selection | None
) -> FigureWithData:
    selection = selection or select(study)
    table = filled(selection.rows(time_table(study)))
    present = selection.present(table)
    plotted = figure(
        table,
        bins=time_bins(study),
        layers=present.layers,
        targets=present.targets,
        metric=study.metric,
        width=width,
    )
    return FigureWithData(plotted, table)
