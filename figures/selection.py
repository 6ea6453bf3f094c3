"""What a figure shows of a study, its targets and encoders, and what plotting it returns."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from layerprobe.analysis.study import Study
from layerprobe.figures.tables import NothingToPlotError
from layerprobe.probe.exceptions import InputError


@dataclass(frozen=True)
class FigureWithData:
    """A figure, the tidy rows that it shows, and its caption."""

    figure: Figure
    table: pd.DataFrame
    caption: str = ""


@dataclass(frozen=True)
class Selection:
    """Targets and encoders of a study that a figure shows."""

    targets: list[str]
    layers: dict[str, list[str]]  # layers of each encoder, in order

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of these targets and encoders, and of baselines, which have no encoder."""
        chosen = table["target"].isin(self.targets) & table["encoder"].isin([*self.layers, ""])
        return table[chosen].reset_index(drop=True)

    def present(self, table: pd.DataFrame) -> Selection:
        """Return the targets and encoders that have rows in a table."""
        targets, encoders = set(table["target"]), set(table["encoder"])
        layers = {e: names for e, names in self.layers.items() if e in encoders}
        return Selection([t for t in self.targets if t in targets], layers)


def select(study: Study, *, target: str | None = None, encoder: str | None = None) -> Selection:
    """Return one target or all, and one encoder or all.

    Raises:
        InputError: if the study has no such target or encoder
    """
    for kind, name, known in (("target", target, study.targets), ("encoder", encoder, list(study.layers))):
        if name is not None and name not in known:
            raise InputError(
                "LP655", f"{kind} {name!r} is not in {study.folders[0]}; choose one of {', '.join(known)}."
            )
    layers = study.layers if encoder is None else {encoder: study.layers[encoder]}
    return Selection(study.targets if target is None else [target], layers)


def filled(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that has rows.

    Raises:
        NothingToPlotError: if it has none
    """
    if table.empty:
        raise NothingToPlotError(
            "LP656",
            "The run has no results of this target and encoder for this figure. Choose another target or encoder.",
        )
    return table
