"""Commands that draw figures of a run, and its report: heatmap, curves, layer-weights, …."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Controls, Metric, Output, RunPath, RunPaths, Style, Width, user_command

app = typer.Typer()

FIGURES = {
    "curves": "Plot the score of each layer with its confidence interval over speakers, and the controls.",
    "layer-weights": "Plot the layer weights of the weighted sum with each layer's contribution and score.",
    "depth": "Plot the relative depth at which each target is predicted, and valence minus arousal.",
    "best-layer": "Plot how often each layer scores best in bootstrap resamples of the speakers.",
    "gain-over-random": "Plot the gain of each layer over the same architecture with random weights.",
    "erasure": "Plot the score of each layer without each concept that a sweep erased, and without random directions.",
    "time-map": "Plot the score of each layer in each bin of time, of a run swept by position, onset or label.",
    "time-curve": "Plot the scores of the first, the highest-scoring and the last layer over time.",
}


def figure_command(figure: str) -> Callable[..., None]:
    """Return the command of one figure."""

    @user_command
    def command(
        runs: RunPaths, metric: Metric = None, width: Width = None, style: Style = None, *, output: Output
    ) -> None:
        from layerprobe.figures.draw import draw

        output.progress.log("Plotting …")
        output.print("\n".join(map(str, draw(figure, runs, metric=metric, width=width, style=style))))

    return command


@app.command(epilog="Example: layerprobe heatmap runs/first --width column")
@user_command
def heatmap(
    runs: RunPaths,
    metric: Metric = None,
    width: Width = None,
    style: Style = None,
    controls: Controls = "condensed",
    *,
    output: Output,
) -> None:
    """Plot the scores of all layers and targets, with the 95 % set of best layers framed, chance and baselines."""
    from layerprobe.figures.draw import draw

    output.progress.log("Plotting …")
    paths = draw("heatmap", runs, metric=metric, width=width, style=style, controls=controls)
    output.print("\n".join(map(str, paths)))


for _figure, _help in FIGURES.items():
    app.command(_figure, help=_help, epilog=f"Example: layerprobe {_figure} runs/first")(figure_command(_figure))


@app.command(epilog="Example: layerprobe gain runs/both --encoder tuned --against frozen")
@user_command
def gain(
    runs: RunPaths,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER|CACHE",
            help="Reference: an encoder of the runs by its name or its cache; by default the first one of the same "
            "architecture and layers.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER|CACHE",
            help="Encoder whose gain is shown; by default all others of the same architecture and layers.",
        ),
    ] = None,
    metric: Metric = None,
    width: Width = None,
    style: Style = None,
    *,
    output: Output,
) -> None:
    """Compare two encoders with the same layers: the gain of each layer, and how far each target moved in depth.

    Such are a frozen and a tuned encoder, a base model and an adapter, or one encoder of clean and of noisy audio.
    """
    from layerprobe.analysis.encoder_pairs import chosen_pairs
    from layerprobe.analysis.findings.collect import pair_headlines
    from layerprobe.analysis.study import study
    from layerprobe.figures.draw import save_plot
    from layerprobe.figures.layout.presets import preset
    from layerprobe.figures.layout.width import default_width

    with preset(style):
        inches = default_width(width)
        read = study(runs, metric=metric)
        pairs = chosen_pairs(read, against=against, encoder=encoder)
        output.progress.log("Plotting …")
        paths = save_plot("gain", read, inches, pairs=pairs)
    output.print("\n".join([*pair_headlines(read, pairs), *map(str, paths)]))


@app.command(epilog="Example: layerprobe similarity runs/first")
@user_command
def similarity(run: RunPath, width: Width = None, style: Style = None, *, output: Output) -> None:
    """Compare all layers of a run with each other and with the ratings (CKA, CCA, RSA), and plot their similarity."""
    from layerprobe.analysis.similarity.compare_layers import compare_layers
    from layerprobe.figures.draw import draw

    progress = output.progress
    progress.log("Comparing layers …")
    table = compare_layers(run)
    progress.log("Plotting …")
    output.print("\n".join(map(str, [table, *draw("similarity", [run], width=width, style=style)])))


@app.command(epilog="Example: layerprobe report runs/first")
@user_command
def report(run: RunPath, metric: Metric = None, *, output: Output) -> None:
    """Write the findings of a run and one HTML page with all figures."""
    from layerprobe.figures.report.report import write_report

    output.print(f"{write_report(run, metric=metric, progress=output.progress)}")


@app.command(epilog="Example: layerprobe table runs/first --format latex > table.tex")
@user_command
def table(
    runs: RunPaths,
    metric: Metric = None,
    format: Annotated[str, typer.Option(help="Format: latex (booktabs), markdown, or csv (all fields).")] = "markdown",
    out: Annotated[Path | None, typer.Option(help="File to write; printed by default.")] = None,
    *,
    output: Output,
) -> None:
    """Print the table of a paper: score, interval, best layers and controls of each encoder and target."""
    from layerprobe.analysis.answer_formats import FORMATS
    from layerprobe.analysis.study import study
    from layerprobe.probe.exceptions import InputError
    from layerprobe.probe.filesystem import replace_file

    if format not in FORMATS:
        raise InputError("LP813", f"--format {format} is unknown; choose one of {', '.join(FORMATS)}.")
    text = FORMATS[format](study(runs, metric=metric).answers)
    if out is None:
        typer.echo(text, nl=False)
        return
    replace_file(out, text)
    output.print(str(out))
