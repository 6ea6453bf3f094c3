"""Figures by one call each: a matplotlib figure of a run, or one panel of it in axes of the user.

All functions take the same arguments:

* ``runs``: a `Run`, the path of a run folder, or a list of these, whose encoders are plotted side by side
* ``metric``: a key of `probe.metrics.METRIC_NAMES`; moment-matched CCC if None, or unweighted average recall where no
  target has ratings
* ``width``: ``"column"``, ``"double"``, a length such as ``"89mm"``, or inches; None for the natural width, or for both
  columns of the style
* ``style``: ``"interspeech"``, ``"ieee"``, ``"nature"`` or ``"slides"``; None for the default style
* ``target``, ``encoder``: one of each to plot; None is all of them in a figure, and the first of them in ``ax``
* ``ax``: axes to plot one target of one encoder into; they keep their fonts, and their figure is not saved
* ``out``: a file that ends in png, pdf or svg, or a folder for all three; the table is saved next to it as CSV

Without ``ax`` they return the figure, which a notebook shows, and write nothing unless ``out`` is given; with ``ax``
they return the axes. They raise `InputError` where an argument or a run is wrong, and its subclass
`NothingToPlotError` where the runs lack what the figure shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, overload

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layerprobe.analysis.encoder_pairs import chosen_pairs
from layerprobe.analysis.similarity.compare_layers import compare_layers
from layerprobe.analysis.study import SIMILARITY, study
from layerprobe.figures.axes import draw_panel
from layerprobe.figures.draw import FigureWithData, file_name, plot, select
from layerprobe.figures.layout.presets import preset
from layerprobe.figures.layout.style import FORMATS, save, write_figure, write_table
from layerprobe.figures.layout.width import default_width
from layerprobe.figures.plots.heatmap import CONDENSED, check_controls
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import Run

Runs = Run | Path | str | Sequence[Run | Path | str]


class FigureFunction(Protocol):
    """Type of a function that returns axes where it is given axes, and else a figure."""

    @overload
    def __call__(
        self, runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
        ax: None = None,
        target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
    ) -> Figure: ...  # fmt: skip
    @overload
    def __call__(
        self, runs: Runs, *, ax: Axes, metric: str | None = None, target: str | None = None, encoder: str | None = None
    ) -> Axes: ...  # fmt: skip


def _figure_or_axes(function: Callable[..., Figure | Axes]) -> FigureFunction:
    """Return the function unchanged, typed by whether it is given axes."""
    return cast(FigureFunction, function)


@overload
def heatmap(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    controls: str = CONDENSED, ax: None = None, target: str | None = None, encoder: str | None = None,
    out: Path | str | None = None,
) -> Figure: ...  # fmt: skip
@overload
def heatmap(
    runs: Runs, *, ax: Axes, metric: str | None = None, controls: str = CONDENSED, target: str | None = None,
    encoder: str | None = None,
) -> Axes: ...  # fmt: skip
def heatmap(  # noqa: PLR0913 - the arguments of all figures and one of its own
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    controls: str = CONDENSED, ax: Axes | None = None, target: str | None = None, encoder: str | None = None,
    out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the scores of all layers and targets, the 95 % set of best layers, chance, controls and baselines.

    ``controls="condensed"`` shows random initialisation, chance and baselines as slim columns; ``"full"`` adds a row
    per control and target. Other arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, controls, out)
    return _show("heatmap", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def curves(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the score of each layer with its confidence interval over speakers, and the controls.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("curves", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def layer_weights(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the layer weights of the weighted sum with each layer's contribution and score.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("layer-weights", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def depth(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot at what relative depth each target is predicted, and how the depths of two targets differ.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("depth", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def best_layer(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot how often each layer scores best in bootstrap resamples of the speakers.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("best-layer", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def gain_over_random(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the gain of each layer over the same architecture with random weights.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("gain-over-random", runs, made, ax=ax, target=target, encoder=encoder)


@overload
def gain(
    runs: Runs, *, against: Path | str | None = None, encoder: Path | str | None = None, metric: str | None = None,
    width: str | float | None = None, style: str | None = None, ax: None = None, target: str | None = None,
    out: Path | str | None = None,
) -> Figure: ...  # fmt: skip
@overload
def gain(
    runs: Runs, *, ax: Axes, against: Path | str | None = None, encoder: Path | str | None = None,
    metric: str | None = None, target: str | None = None,
) -> Axes: ...  # fmt: skip
def gain(  # noqa: PLR0913 - the arguments of all figures and one of its own
    runs: Runs, *, against: Path | str | None = None, encoder: Path | str | None = None, metric: str | None = None,
    width: str | float | None = None, style: str | None = None, ax: Axes | None = None, target: str | None = None,
    out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the gain of an encoder over another one with the same layers, layer by layer, and the shift of its depth.

    Such are a frozen and a tuned encoder, a base model and an adapter, or one encoder of clean and of noisy audio.
    ``against`` is the reference, and ``encoder`` what is compared with it: the name of an encoder of the runs, or the
    path of its cache. Without ``against`` it is the first encoder of the same architecture and layers, without
    ``encoder`` all others of these are compared. Other arguments, results and errors are those of all functions in
    `figures.public`; the sentences and records of a gain are among `collect_findings`.
    """
    made = Made(metric, width, style, out=out, against=against)
    return _show("gain", runs, made, ax=ax, target=target, encoder=encoder)


@overload
def similarity(
    runs: Runs, *, width: str | float | None = None, style: str | None = None, ax: None = None,
    encoder: str | None = None, out: Path | str | None = None,
) -> Figure: ...  # fmt: skip
@overload
def similarity(runs: Runs, *, ax: Axes, encoder: str | None = None) -> Axes: ...
def similarity(
    runs: Runs, *, width: str | float | None = None, style: str | None = None, ax: Axes | None = None,
    encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the similarity (CKA) of all layers with each other and with the ratings.

    The first run's layers are compared if they were not, which writes ``similarity.csv`` into its folder and needs its
    caches. In ``ax`` an encoder is compared with itself. Arguments are those of `figures.public`.
    """
    folder = _folders(runs)[0]
    if not (folder / SIMILARITY).exists():
        compare_layers(folder)
    return _show("similarity", runs, Made(None, width, style, out=out), ax=ax, target=None, encoder=encoder)


@_figure_or_axes
def cost(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot score against cost, of runs whose costs ``layerprobe cost`` compared; axes show all encoders.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("cost", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def time_map(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the scores of all layers in each bin of time, of a run that was swept by position, onset or label of spans.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("time-map", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def time_curve(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the scores of the first, the highest-scoring and the last layer over time, with their confidence intervals.

    Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("time-curve", runs, made, ax=ax, target=target, encoder=encoder)


@_figure_or_axes
def erasure(
    runs: Runs, *, metric: str | None = None, width: str | float | None = None, style: str | None = None,
    ax: Axes | None = None, target: str | None = None, encoder: str | None = None, out: Path | str | None = None,
) -> Figure | Axes:  # fmt: skip
    """Plot the scores of layers without each concept that a sweep erased, compared with random directions.

    Axes show the first concept. Arguments, results and errors are those of all functions in `figures.public`.
    """
    made = Made(metric, width, style, out=out)
    return _show("erasure", runs, made, ax=ax, target=target, encoder=encoder)


@dataclass(frozen=True)
class Made:
    """How a figure is made and where it is saved, as the functions of this module take it."""

    metric: str | None
    width: str | float | None
    style: str | None
    controls: str = CONDENSED
    out: Path | str | None = None
    against: Path | str | None = None  # of a gain


def _show(
    name: str, runs: Runs, made: Made, *, ax: Axes | None, target: str | None, encoder: Path | str | None
) -> Figure | Axes:
    """Plot a figure, save it if requested, and return it, or plot into given axes and return them."""
    if ax is not None and (made.width is not None or made.style is not None or made.out is not None):
        raise InputError(
            "LP653",
            "width, style and out need a figure of their own. Set the size and the style of your figure and save it "
            "yourself.",
        )
    check_controls(made.controls)
    with preset(made.style):
        inches = default_width(made.width)
        file = None if made.out is None else _output(Path(made.out))
        read = study(_folders(runs), metric=made.metric)
        pairs = chosen_pairs(read, against=made.against, encoder=encoder) if name == "gain" else None
        shown = None if encoder is None or pairs is not None else str(encoder)
        if ax is not None:
            return draw_panel(name, read, ax, target=target, encoder=shown, controls=made.controls, pairs=pairs)
        chosen = None if target is None and shown is None else select(read, target=target, encoder=shown)
        plotted = plot(name, read, inches, chosen, controls=made.controls, pairs=pairs)
        if file is not None:
            _save(plotted, file, file_name(name, read), fingerprint=read.fingerprint, width=inches)
        return plotted.figure


def _folders(runs: Runs) -> list[Path]:
    """Return the folders of runs.

    Raises:
        InputError: if there is none
    """
    several = [runs] if isinstance(runs, Run | Path | str) else list(runs)
    if not several:
        raise InputError("LP614", "No run is given. Name at least one run folder.")
    return [run.path if isinstance(run, Run) else Path(run) for run in several]


def _output(out: Path) -> Path:
    """Return the path of a figure's file, or of a folder for its files.

    Raises:
        InputError: if it ends in another format
    """
    ending = out.suffix.removeprefix(".")
    if ending.isalpha() and ending not in FORMATS and not out.is_dir():
        raise InputError(
            "LP654", f"out {out} ends in .{ending}; a figure is saved as {', '.join(FORMATS)}, or into a folder."
        )
    return out


def _save(plotted: FigureWithData, out: Path, name: str, *, fingerprint: str, width: float | None) -> None:
    """Save a figure with its table: as one file, or as all formats in a folder."""
    if out.suffix.removeprefix(".") not in FORMATS or out.is_dir():
        save(plotted.figure, out, name, fingerprint=fingerprint, table=plotted.table, width=width)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_figure(plotted.figure, out, fingerprint=fingerprint, width=width)
    write_table(plotted.table, out.with_suffix(".csv"), fingerprint=fingerprint)
