"""Figure of a corpus: distributions of ratings, correlations of targets, utterances per speaker."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layerprobe.analysis.corpus import Description
from layerprobe.analysis.formatting import shown_name
from layerprobe.figures.layout.correlations import plot_correlations
from layerprobe.figures.layout.panels import EDGE, panels_across
from layerprobe.figures.layout.style import (
    lay_out,
    line_height,
    move,
    styled,
    text_width,
    wrapped,
)
from layerprobe.figures.layout.width import font_size
from layerprobe.probe.data.manifest.schema import Manifest

BINS = 24
MOST_RATERS = 24  # whose mean is recognised
TOLERANCE = 6e-3  # of a mean that was rounded to two decimals
NAME_WIDTH = 1.4  # inches for a name to the left of a panel
BAR = "0.35"


def plot_ratings(ratings: pd.Series[float], ax: Axes, *, scale: tuple[float, float]) -> Axes:
    """Plot the histogram of ratings over the whole scale."""
    edges = rating_bins(ratings.dropna().to_numpy(dtype=float), scale=scale)
    ax.hist(ratings.dropna(), bins=edges.tolist(), color=BAR)
    ax.set_xlim(edges[0], edges[-1])
    return ax


def rating_bins(ratings: np.ndarray, *, scale: tuple[float, float]) -> np.ndarray:
    """Return the edges of bins that hold equally many of the values that ratings can have.

    Means of k raters on a scale of whole numbers are multiples of 1 / k. Bins of another width would hold one or two
    such values by turns, or none, and the histogram would show gaps and peaks that the ratings do not have.

    Args:
        ratings: ``(n_utterances,)``, finite
        scale: its minimum and maximum

    Returns:
        ascending edges; `BINS` bins of equal width where ratings are not multiples of a fraction

    >>> rating_bins(np.array([1.0, 3.0, 2.0]), scale=(1.0, 3.0))
    array([0.5, 1.5, 2.5, 3.5])
    """
    low, high = scale
    for k in range(1, MOST_RATERS + 1):
        steps = (ratings - low) * k
        if np.abs(steps - np.round(steps)).max(initial=0.0) > TOLERANCE * k:
            continue
        n_values = round((high - low) * k) + 1
        if n_values < 2:
            break
        together = 1 if n_values <= 2 * BINS else -(-n_values // BINS)
        n_bins = -(-n_values // together)
        return np.asarray(low + (np.arange(n_bins + 1) * together - 0.5) / k)
    return np.linspace(low, high, BINS + 1)


def plot_classes(counts: pd.DataFrame, ax: Axes) -> Axes:
    """Plot the number of utterances per class as bars, the first class at the top."""
    ax.barh(range(len(counts)), counts["n"], color=BAR)
    ax.set_yticks(range(len(counts)), list(counts["class"]))
    ax.invert_yaxis()
    return ax


def plot_speakers(speakers: pd.DataFrame, ax: Axes) -> Axes:
    """Plot the number of utterances per speaker in descending order."""
    ax.plot(np.arange(1, len(speakers) + 1), speakers["n_utterances"], drawstyle="steps-mid", color=BAR)
    ax.set_ylim(0, 1.08 * speakers["n_utterances"].max())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return ax


def corpus_figure(manifest: Manifest, description: Description, *, width: float | None = None) -> Figure:
    """Plot a corpus: a panel per target, one for their correlations, one for speakers.

    Args:
        manifest: whose ratings are plotted
        description: of the same manifest, as `analysis.corpus.describe` returns it
        width: inches, or None for the width that the content needs
    """
    size = font_size(width)
    targets = manifest.header.targets
    kinds = [("rated", t) for t in targets] + [("classes", t) for t in manifest.header.nominal]
    kinds += [("correlations", "")] if len(targets) > 1 else []
    kinds += [("speakers", "")] if len(description.speakers) > 1 else []
    classes = [c for nominal in manifest.header.nominal.values() for c in nominal.classes]
    labels = [wrapped(label, NAME_WIDTH, size) for label in [*classes, *map(shown_name, targets)]]
    n_lines = max((1 + label.count("\n") for label in labels), default=1)
    margin = (
        max([text_width(label, size) for label in labels] + [text_width("00000", size)]) + text_width(" 8", size) + 0.16
    )
    left = EDGE + margin
    across = panels_across(len(kinds), width=width, left=left, natural=1.7, gap=margin + 0.16, least=0.9, most=4)
    height = max(1.3, (len(targets) if len(targets) > 1 else 0) * n_lines * line_height(size))
    names = {t: wrapped(shown_name(t), across.panel, size + 1, bold=True) for _, t in kinds}
    title = line_height(size + 1, max(1 + n.count("\n") for n in names.values())) + 0.06
    n_rows = -(-len(kinds) // across.n_columns)
    below = [2 * line_height(size) + 0.16] * n_rows  # for tick labels and axis labels
    tops = [EDGE + k * (title + height) + sum(below[:k]) for k in range(n_rows)]
    with styled(width):
        figure = Figure()
        figure.set_size_inches(across.all_width, tops[-1] + title + height + below[-1] + EDGE)
        for k, (kind, target) in enumerate(kinds):
            row, column = divmod(k, across.n_columns)
            ax = figure.add_axes((0, 0, 1, 1))
            move(ax, across.at(column), tops[row] + title, across.panel, height)
            if kind == "rated":
                plot_ratings(manifest.table[target], ax, scale=(targets[target].minimum, targets[target].maximum))
                ax.set_title(names[target])
                ax.set_xlabel("rating")
            elif kind == "classes":
                counts = description.classes[description.classes["target"] == target]
                plot_classes(counts.assign(**{"class": [wrapped(c, NAME_WIDTH, size) for c in counts["class"]]}), ax)
                ax.set_title(names[target])
                ax.set_xlabel("utterances")
            elif kind == "correlations":
                rows = [wrapped(shown_name(t), NAME_WIDTH, size) for t in targets]
                r = description.correlations
                plot_correlations(r, ax, targets=list(targets), names=rows, size=size)
                ax.set_title("Pearson r")
            else:
                plot_speakers(description.speakers, ax)
                ax.set_title("speakers")
                ax.set_xlabel("speaker, by utterances")
        return lay_out(figure)
