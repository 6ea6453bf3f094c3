"""The command that compares score and cost of every layer, mix, fusion and regressor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Metric, Output, Style, Width, user_command
from layerprobe.probe.cost.settings import LONGEST, SECONDS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.options import option

app = typer.Typer()


@dataclass(frozen=True)
class CostOptions:
    """Options of cost: how costs are counted and measured, and by which the cheapest is chosen."""

    by: str = option(
        "multiply_adds", help="Cost that decides which is the cheapest: multiply_adds, parameters or real_time_factor."
    )
    seconds: int = option(SECONDS, low=1, high=LONGEST, help="Duration of the audio that costs are counted for.")
    threads: int = option(1, low=1, help="Threads of the encoder while it is timed.")
    no_benchmark: bool = option(False, help="Do not measure real-time factors.")
    encoder_folder: tuple[str, ...] = option(
        (),
        name="encoder",
        metavar="NAME=FOLDER",
        help="Folder of an encoder that is no longer where it was (repeatable).",
    )

    def folders(self) -> dict[str, str]:
        """Return the folders by the names of the encoders.

        Raises:
            InputError: if one has no =
        """
        pairs = [text.partition("=") for text in self.encoder_folder]
        for name, _, folder in pairs:
            if not name or not folder:
                raise InputError("LP913", f"--encoder {name} names no folder. Give NAME=FOLDER.")
        return {name: folder for name, _, folder in pairs}


@app.command(epilog="Example: layerprobe cost runs/first")
@user_command
def cost(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that sweep, fuse or train made.")],
    options: CostOptions,
    target: Annotated[list[str] | None, typer.Option(help="Target to show (repeatable); all by default.")] = None,
    metric: Metric = None,
    width: Width = None,
    style: Style = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table (CSV) and the figure; the first run's by default.")
    ] = None,
    *,
    output: Output,
) -> None:
    """Compare score and cost of all layers, mixes, fusions and regressors: which is the cheapest that is enough.

    Multiply-adds and parameters are counted from configurations, real-time factors measured on this machine. A layer
    needs the blocks up to it, a mix all blocks. The recogniser that makes transcripts is not counted.
    """
    from layerprobe.analysis.cost.candidates import read_candidates
    from layerprobe.analysis.cost.compare import compare_costs
    from layerprobe.analysis.cost.file import cost_name, cost_path, write_cost
    from layerprobe.analysis.cost.sentences import cost_sentences, measured_sentence
    from layerprobe.figures.layout.presets import preset
    from layerprobe.figures.layout.style import save
    from layerprobe.figures.layout.width import default_width
    from layerprobe.figures.plots.cost import cost_figure
    from layerprobe.figures.tables import NothingToPlotError, check_known_cost
    from layerprobe.probe.cost.settings import Measuring, check_cost

    check_cost(options.by)
    measuring = Measuring(
        options.seconds, options.threads, is_timed=not options.no_benchmark, folders=options.folders()
    )
    with preset(style):
        inches = default_width(width)
        candidates = read_candidates(runs, metric)
        wanted = candidates.chosen(target or [])
        for note in candidates.notes:
            output.progress.log(note)
        table = compare_costs(candidates, by=options.by, measuring=measuring, progress=output.progress)
        table = table[table["target"].isin(wanted)].reset_index(drop=True)
        path, fingerprint = cost_path(out or runs[0], candidates.folders), candidates.fingerprint
        write_cost(table, path, fingerprint=fingerprint)
        output.print("\n".join([*cost_sentences(table), *measured_sentence(table), str(path)]))
        try:
            check_known_cost(table)
        except NothingToPlotError as error:
            output.progress.log(f"No figure: {error}")
            return
        folder, rows = (runs[0] / "figures", table) if out is None else (out, None)  # in out, the table is there
        figure = cost_figure(table, width=inches)
        name = cost_name(candidates.folders)
        paths = save(figure, folder, name, fingerprint=fingerprint, table=rows, width=inches)
        output.print("\n".join(map(str, paths)))
