"""A corpus at a glance: distributions of ratings, how targets go together, how many utterances speakers have."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.corpus import Description
from figures.panels import EDGE, panels_across
from figures.style import (
    DIFFERENCE_COLOURS,
    font_size,
    line_height,
    move,
    settled,
    shown_name,
    style_of,
    text_width,
    wrapped,
)
from probe.manifest import Manifest

BINS = 24
BAR = "0.35"


def plot_ratings(ratings: pd.Series[float], ax: Axes, *, scale: tuple[float, float]) -> Axes:
    """How often each rating was given, over the whole scale."""
    ax.hist(ratings.dropna(), bins=np.linspace(*scale, BINS + 1).tolist(), color=BAR)
    ax.set_xlim(*scale)
    return ax


def plot_classes(counts: pd.DataFrame, ax: Axes) -> Axes:
    """How often each class was chosen, the first at the top."""
    ax.barh(range(len(counts)), counts["n"], color=BAR)
    ax.set_yticks(range(len(counts)), list(counts["class"]))
    ax.invert_yaxis()
    return ax


def plot_correlations(correlations: pd.DataFrame, ax: Axes) -> Axes:
    """Pearson r of each pair of targets, blue below 0 and red above, with its value."""
    names = [shown_name(str(name)) for name in correlations]
    ax.imshow(correlations, cmap=DIFFERENCE_COLOURS, vmin=-1, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(correlations.to_numpy()):
        if i != j and np.isfinite(value):
            ax.text(j, i, f"{value:.2f}".replace("0.", ".").replace("-", "−"), ha="center", va="center", fontsize=6)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    return ax


def plot_speakers(speakers: pd.DataFrame, ax: Axes) -> Axes:
    """Utterances of each speaker, from the one with the most."""
    ax.plot(np.arange(1, len(speakers) + 1), speakers["n_utterances"], drawstyle="steps-mid", color=BAR)
    ax.set_ylim(bottom=0)
    return ax


def corpus_figure(manifest: Manifest, description: Description, *, width: str | None = None) -> Figure:
    """A panel for each target, one for how they go together, one for speakers.

    Args:
        manifest: whose ratings are drawn
        description: of it
        width: a key of `figures.style.WIDTHS`, or None for the natural one
    """
    size = font_size(width)
    targets = manifest.header.targets
    kinds = [("rated", t) for t in targets] + [("classes", t) for t in manifest.header.nominal]
    kinds += [("correlations", "")] if len(targets) > 1 else []
    kinds += [("speakers", "")] if len(description.speakers) > 1 else []
    longest = [*manifest.header.nominal.values()]
    labels = [c for nominal in longest for c in nominal.classes] + [shown_name(t) for t in targets]
    beside = max([text_width(label, size) for label in labels] + [text_width("00000", size)]) + 0.16
    left = EDGE + line_height(size) + beside
    across = panels_across(len(kinds), width=width, left=left, natural=1.7, gap=beside + 0.3, least=0.9, most=4)
    height, below = 1.3, beside + line_height(size) + 0.1
    names = {t: wrapped(shown_name(t), across.panel + beside, size + 1, bold=True) for _, t in kinds}
    title = line_height(size + 1, max(1 + n.count("\n") for n in names.values())) + 0.06
    with matplotlib.rc_context(style_of(width)):
        figure = Figure()
        n_rows = -(-len(kinds) // across.n_columns)
        figure.set_size_inches(across.all_width, EDGE + n_rows * (title + height + below))
        for k, (kind, target) in enumerate(kinds):
            row, column = divmod(k, across.n_columns)
            ax = figure.add_axes((0, 0, 1, 1))
            move(ax, across.at(column), EDGE + row * (title + height + below) + title, across.panel, height)
            if kind == "rated":
                plot_ratings(manifest.table[target], ax, scale=(targets[target].minimum, targets[target].maximum))
                ax.set_title(names[target])
                ax.set_xlabel("rating")
            elif kind == "classes":
                plot_classes(description.classes[description.classes["target"] == target], ax)
                ax.set_title(names[target])
                ax.set_xlabel("utterances")
            elif kind == "correlations":
                plot_correlations(description.correlations, ax)
                ax.set_title("Pearson r")
            else:
                plot_speakers(description.speakers, ax)
                ax.set_title("speakers")
                ax.set_xlabel("speaker, by utterances")
        return settled(figure)
