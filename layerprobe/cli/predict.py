"""Command that rates recordings: predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.options import Device, Output, all_quarantined, user_command
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.prediction.settings import PredictionOptions

if TYPE_CHECKING:
    from layerprobe.probe.prediction.predict import Prediction

app = typer.Typer()
EXAMPLE = "Example: layerprobe predict models/avd talk.wav more --window 5 --hop 1 --out ratings.csv"
TOO_LONG = "[LP221]"


@app.command(epilog=EXAMPLE)
@user_command
def predict(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(help="Predictor that deploy made, or run folder that train made.", metavar="MODEL")
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Audio files, folders with audio files, tables (.csv or .parquet with utterance_id and path), or "
            "addresses.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table of ratings to write (.csv, .parquet or .json).")],
    options: PredictionOptions,
    figure: Annotated[
        Path | None,
        typer.Option(
            help="Figure of the trace over time (.png, .pdf or .svg); of several recordings one each, as NAME-ID.png."
        ),
    ] = None,
    device: Device = None,
    *,
    output: Output,
) -> None:
    """Rate recordings with a predictor or a trained regressor, each rating with its prediction interval.

    Recordings that can't be used have a reason instead, and the others are rated. An interrupted command is resumed.
    """
    from layerprobe.probe.lease import leased_file
    from layerprobe.probe.prediction.predict import run_prediction, transcripts_file
    from layerprobe.probe.prediction.tables import check_ending, check_same_unit, write_ratings
    from layerprobe.probe.system import choose_device

    check_ending(out)
    if any(Path(one).resolve() == out.resolve() for one in inputs):
        raise InputError(
            "LP948", f"--out {out} is the table of recordings, which the ratings would overwrite. Name another --out."
        )
    check_same_unit(out, windows=options.window is not None)
    if figure is not None:
        _check_figure(figure, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    context.with_resource(leased_file(out))
    resume_file = out.with_suffix(".predict-progress.jsonl")
    output.progress.log(f"Loading {model} …")
    found = run_prediction(
        model,
        inputs,
        options,
        device=choose_device(device),
        resume_file=resume_file,
        progress=output.progress,
    )
    write_ratings(out, found.table)
    for file in (resume_file, transcripts_file(resume_file)):
        file.unlink(missing_ok=True)
    _print_counts(out, found, output, windows=options.window is not None)
    refused = found.table[found.table["reason"] != ""]
    if len(refused) == len(found.table):
        raise all_quarantined(out, len(refused))
    if figure is not None:
        from layerprobe.figures.traces import write_traces

        for path in write_traces(found, figure):
            output.print(str(path))


def _check_figure(figure: Path, options: PredictionOptions) -> None:
    """Check the options of a figure before anything is rated.

    Raises:
        InputError: if there are no windows to draw over time, or the figure's ending is unknown
    """
    from layerprobe.figures.layout.style import FORMATS

    if options.window is None:
        raise InputError(
            "LP944", "--figure shows ratings over time. Give the length of a window, too, such as --window 5."
        )
    if figure.suffix.removeprefix(".") not in FORMATS:
        raise InputError(
            "LP947",
            f"--figure {figure} ends in none of .{', .'.join(FORMATS)}, which choose the format. Name one of these.",
        )


def _print_counts(out: Path, found: Prediction, output: Output, *, windows: bool) -> None:
    """Print how many were rated, and the first reasons of those that were not."""
    table = found.table
    refused = table[table["reason"] != ""]
    n_rated = len(table) - len(refused)
    unit = f"{'window' if windows else 'recording'}{'s' * (n_rated != 1)}"
    of = f" of {found.n_recordings} recording{'s' * (found.n_recordings != 1)}" if windows else ""
    resumed = f"; {found.n_resumed} had been rated before" if found.n_resumed else ""
    output.print(f"{out}: {n_rated} {unit}{of} rated, {len(refused)} without a rating{resumed}.")
    for row in refused.head(10).to_dict("records"):
        begin = f" at {row['start']:g} s" if windows and row["start"] == row["start"] else ""
        output.print(f"  {row['utterance_id']}{begin}: {row['reason']}")
    if refused["reason"].str.endswith(TOO_LONG).any():
        output.print("  --window 5 rates long recordings in windows of 5 s.")
    for target, (lowest, highest) in found.scales.items():
        if n := int(((table[target] < lowest) | (table[target] > highest)).sum()):
            output.print(
                f"  {target}: {n} of {n_rated} {unit} outside the scale, {lowest:g} to {highest:g}, and not clipped; "
                "these may be unlike the recordings that the predictor was fitted on."
            )
