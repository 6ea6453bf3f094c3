"""Stage: ratings over time become a figure for each recording."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from layerprobe.figures.layout.style import write_figure
from layerprobe.figures.plots.trace import trace_figure

if TYPE_CHECKING:
    from layerprobe.probe.prediction.predict import Prediction

LONGEST_NAME = 150  # bytes of a recording's name in that of its figure; file systems hold 255 in all


def write_traces(prediction: Prediction, path: Path) -> list[Path]:
    """Write the figure of each recording that has a rating.

    Args:
        prediction: with windows
        path: of the figure, ending in .png, .pdf or .svg; of several recordings each has its own, ``NAME-ID.png``,
            in whose ID every character but letters, digits, ``.``, ``_`` and ``-`` becomes ``-``, and whose end is cut
            where it is long

    Returns:
        the files, in the order of the recordings
    """
    table = prediction.table
    names = list(dict.fromkeys(table["utterance_id"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    files = dict(zip(names, _paths(path, names), strict=True))
    written = []
    for name, rows in table.groupby("utterance_id", sort=False):
        if (rows["reason"] == "").any():
            figure = trace_figure(pd.DataFrame(rows), prediction.targets, level=prediction.level, title=str(name))
            write_figure(figure, files[str(name)], fingerprint=prediction.fingerprint)
            written.append(files[str(name)])
    return written


def _paths(path: Path, names: list[str]) -> list[Path]:
    if len(names) == 1:
        return [path]
    found: list[Path] = []
    for name in names:
        safe = re.sub(r"[^\w.-]+", "-", name).strip("-").encode()[:LONGEST_NAME].decode(errors="ignore")
        file, k = path.with_name(f"{path.stem}-{safe}{path.suffix}"), 2
        while file in found:
            file, k = path.with_name(f"{path.stem}-{safe}-{k}{path.suffix}"), k + 1
        found.append(file)
    return found
