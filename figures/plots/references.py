"""What the scores of layers are compared with: random initialisation, chance and baselines, a slim column each."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from layerprobe.analysis.layers.scores import best_layer
from layerprobe.figures.layout.cells import Cell, fill_cell, value_text
from layerprobe.figures.layout.heatmap_grid import SLIM_CELL, slim_style
from layerprobe.figures.layout.mark_ids import Mark, mark_id
from layerprobe.figures.layout.style import SCORE_COLOURS
from layerprobe.probe.metrics import LOWER_IS_BETTER

BASELINES = {  # name and heading of each baseline, in the order of the columns
    "noise_ceiling": ("noise ceiling, √ICC(1, k)", "ceiling"),
    "single_rater": ("one rater against the others", "one rater"),
    "text_only": ("text baseline (bag of words)", "text"),
    "duration_loudness": ("duration and loudness only", "duration, loudness"),
}
CEILINGS = ("noise_ceiling", "single_rater")  # baselines that state how well raters agree
REFERENCES = {  # heading of each column
    "random_init": "random init.",
    "chance": "chance",
    **{baseline: heading for baseline, (_, heading) in BASELINES.items()},
}
MEANINGS = {  # of the columns, in a caption
    "random_init": "random init., the highest-scoring layer of the same architecture with random initialisation",
    "chance": "chance, the 95th percentile of the highest-scoring layer on permuted ratings",
    "noise_ceiling": "ceiling, the square root of the reliability of the raters' mean, √ICC(1, k)",
    "single_rater": "one rater, each rater against the mean of the others",
    "text_only": "text, a bag of words",
    "duration_loudness": "duration and loudness only",
}


def reference_scores(
    table: pd.DataFrame, *, layers: dict[str, list[str]], targets: list[str], metric: str
) -> pd.DataFrame:
    """Return the scores that those of an encoder's layers are compared with.

    Args:
        table: rows ``encoder, control, target, layer, value``, with or without a column ``chance``, and with or without
            rows of baselines, whose encoder is empty and whose ``baseline`` is a key of `BASELINES`
        layers: layers of each encoder, in order
        targets: in order
        metric: a key of `METRIC_NAMES`, which decides which layer is best

    Returns:
        ``encoder, target, reference, layer, value``; ``reference`` is a key of `REFERENCES`, and ``layer`` the best
        layer with random initialisation, else empty. Baselines are repeated for each encoder
    """
    rows = []
    of_encoders = table[table["encoder"].isin(list(layers)) & table["target"].isin(targets)]
    for (encoder, target), part in of_encoders.groupby(["encoder", "target"], sort=False):
        same = {"encoder": encoder, "target": target}
        untrained = part[part["control"] == "random_init"].set_index("layer")["value"].dropna()
        if len(untrained):
            best = best_layer(untrained, metric=metric)
            rows.append({**same, "reference": "random_init", "layer": best, "value": float(untrained[best])})
        if "chance" in part and part["chance"].notna().any():
            chance = float(part["chance"].dropna().iloc[0])
            rows.append({**same, "reference": "chance", "layer": "", "value": chance})
        if "baseline" in table:
            levels = table[(table["target"] == target) & (table["encoder"] == "")].groupby("baseline")["value"].mean()
            rows += [
                {**same, "reference": name, "layer": "", "value": float(levels[name])}
                for name in BASELINES
                if name in levels and np.isfinite(levels[name])
            ]
    return pd.DataFrame(rows, columns=["encoder", "target", "reference", "layer", "value"])


def columns_of(references: pd.DataFrame) -> list[str]:
    """Return the references that a table has, in the order of the columns."""
    return [name for name in REFERENCES if name in set(references["reference"])]


def is_chance(cells: pd.DataFrame, *, metric: str) -> np.ndarray:
    """Return which scores of the real ratings are not above chance; none where the chance level is unknown."""
    if "chance" not in cells:
        return np.zeros(len(cells), dtype=bool)
    value, chance = (cells[name].to_numpy(dtype=float) for name in ("value", "chance"))
    not_above = value >= chance if metric in LOWER_IS_BETTER else value <= chance
    return not_above & (cells["control"] == "none").to_numpy()


def plot_references(
    references: pd.DataFrame, ax: Axes, *, targets: list[str], columns: list[str], limits: tuple[float, float],
    first_cell: int = 0,
) -> Axes:  # fmt: skip
    """Draw a row per target with a slim column per reference, in the colours of the heatmap.

    Args:
        references: rows of `reference_scores` of one encoder
        ax: axes with their final position, size and limits
        targets: in order, from the top
        columns: references in order
        limits: of the colours
        first_cell: number in the first cell's gid
    """
    colours, norm = matplotlib.colormaps[SCORE_COLOURS], Normalize(*limits)
    texts = [value_text(value) for value in references["value"]]
    style = slim_style(texts, ax)
    for k, (row, text) in enumerate(zip(references.to_dict("records"), texts, strict=True)):
        x, y = columns.index(row["reference"]), targets.index(row["target"])
        mark = Mark(row["encoder"], row["reference"], row["target"], row["layer"])
        cell = Cell(colours(norm(row["value"])), text, mark_id("reference", k + first_cell, mark))
        fill_cell(ax, x, y, SLIM_CELL, cell=cell, style=style)
    return ax
