"""Stage: a run that was swept without concepts becomes the figure of erasure."""

from __future__ import annotations

from layerprobe.analysis.study import Study
from layerprobe.figures.erasure_tables import erasure_rows
from layerprobe.figures.layout.style import encoder_looks
from layerprobe.figures.plots.erasure import erasure_figure
from layerprobe.figures.selection import FigureWithData, Selection, filled, select


def erasure(study: Study, width: float | None, selection: Selection | None = None) -> FigureWithData:
    """Return the figure of scores over layers with and without each concept."""
    selection = selection or select(study)
    table = filled(selection.rows(erasure_rows(study)))
    present = selection.present(table)
    figure = erasure_figure(
        table,
        layers=present.layers,
        targets=present.targets,
        metric=study.metric,
        looks=encoder_looks(list(study.layers)),
        width=width,
    )
    return FigureWithData(figure, table)
