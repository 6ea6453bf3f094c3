"""Commands that compare several encoders or regressors: fuse, compare."""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.options import ManifestPath, NoSpeakers, Output, Width, path_or_url, user_command
from layerprobe.probe.training.options import option

if TYPE_CHECKING:
    import pandas as pd  # which takes its time to load, and `--help` needs none

app = typer.Typer()


@dataclass(frozen=True)
class FusionOptions:
    """Options of fuse: which targets are probed, and on which speakers."""

    target: tuple[str, ...] = option((), help="Target to probe (repeatable); all targets of the header by default.")
    folds: int | None = option(None, help="Number of speaker-disjoint folds; by default the manifest's split, else 5.")
    test_split: str | None = option(None, help="Split that is held out, such as test, test1 or development.")
    permutations: int = option(19, low=1, help="Number of permutations of each control task.")
    weighted_sum_seeds: int = option(3, low=0, help="Number of seeds of the weighted sums; 0 leaves them out.")
    seed: int = option(0, low=0, help="Random seed of folds and permutations.")
    jobs: int | None = option(None, low=1, help="Layers probed in parallel; results do not depend on it.")


@app.command(epilog="Example: layerprobe fuse caches/distilhubert.zarr caches/distilbert.zarr my.csv --out runs/fused")
@user_command
def fuse(
    caches: Annotated[
        list[Path],
        typer.Argument(
            parser=path_or_url, metavar="CACHES...", help="Caches that extract made, of speech and text encoders."
        ),
    ],
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    options: FusionOptions,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Probe frozen encoders alone and fused, and report the gain of fusion on unseen speakers."""
    from layerprobe.analysis.formatting import shown_name
    from layerprobe.analysis.model_comparison import compare as compare_runs
    from layerprobe.analysis.study import study
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.sweep.settings import plan_sweep
    from layerprobe.probe.sweep.sweep import sweep

    progress = output.progress
    checked = read_manifest(manifest, speakers=not no_speakers)
    plan = plan_sweep(
        checked,
        targets=options.target,
        folds=options.folds,
        test_split=options.test_split,
        weighted_sum_seeds=options.weighted_sum_seeds,
        seed=options.seed,
        permutations=options.permutations,
        fused=True,
        speakers=not no_speakers,
    )
    opened = [open_cache(c) for c in caches]
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    run = sweep(opened, checked, plan, out=out, command=command, jobs=options.jobs, progress=progress)
    progress.log("Bootstrapping over speakers …")
    output.print(scores_text(compare_runs([out])))
    for row in study(out).fusion_gains.to_dict("records"):
        gain = f"{_with_interval(row['estimate'], row['ci_low'], row['ci_high'], sign=True)} ({_p(row['p_value'])})"
        probe = shown_name(row["probe"])
        output.print(f"  {row['target']}, {probe}: adding {row['added']} to {row['alone']} {gain}")
    corpus = run.plan["corpus"]
    output.print(f"{out}: {corpus['n_held_out']} utterances held out. Next: layerprobe report {out}")


@app.command(epilog="Example: layerprobe compare runs/audio-text runs/hubert-large runs/audio-only runs/text-only")
@user_command
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that fuse, train or sweep made.")],
    metric: Annotated[
        str, typer.Option(help="Metric to compare by: ccc_matched, ccc, pearson, rmse or r2.")
    ] = "ccc_matched",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table (CSV) and the figure of scores against parameters.")
    ] = None,
    width: Width = None,
    *,
    output: Output,
) -> None:
    """Compare regressors on the utterances that all runs held out, with paired differences from a reference.

    A run of sweep has two regressors for each encoder: ridge on the layer selected by cross-validation (printed as
    "cross-validated layer", with the layers that were selected in the folds), and the weighted sum of all layers. Fused
    and trained regressors come first. The first regressor of a target is the reference of all differences. The
    highest-scoring layer of a heatmap or a report is a maximum over layers, and therefore no regressor here.
    """
    from layerprobe.analysis.model_comparison import compare as compare_runs
    from layerprobe.analysis.statistics.bootstrap import METRICS
    from layerprobe.figures.layout.width import parse_width
    from layerprobe.probe.exceptions import InputError
    from layerprobe.probe.results.run_folder import read_run

    if metric not in METRICS:
        raise InputError("LP813", f"metric {metric!r} is unknown; choose one of {', '.join(METRICS)}.")
    inches = None if width is None else parse_width(width)
    table = compare_runs(runs, metric=metric)
    output.print(scores_text(table))
    for run in runs:
        if pending := read_run(run).pending:
            output.progress.log(f"{run} has no {', '.join(pending)} yet: its sweep is unfinished.")
    if out is not None:
        from layerprobe.figures.layout.style import save
        from layerprobe.figures.plots.efficiency import efficiency_figure
        from layerprobe.probe.fingerprints import combined_fingerprint

        fingerprint = combined_fingerprint(*(read_run(run).fingerprint for run in runs))
        figure = efficiency_figure(table, metric=metric, width=inches)
        paths = save(figure, out, "efficiency", fingerprint=fingerprint, table=table, width=inches)
        output.print("\n".join(map(str, paths)))


def scores_text(table: pd.DataFrame) -> str:
    """Return a block of lines per target: each regressor's score, interval, and difference from the reference.

    Args:
        table: of `layerprobe.analysis.model_comparison.compare`
    """
    lines = []
    width = max(len(name) for name in table["regressor"])
    for target, rows in table.groupby("target", sort=False):
        lines.append(f"{target} ({rows['n_utterances'].iloc[0]} utterances, {rows['n_speakers'].iloc[0]} speakers):")
        for row in rows.to_dict("records"):
            text = f"  {row['regressor']:<{width}}  {_with_interval(row['estimate'], row['ci_low'], row['ci_high'])}"
            if row["regressor"] == row["reference"]:
                text += "   (reference)"
            elif math.isfinite(row["difference"]):
                ends = row["difference"], row["difference_ci_low"], row["difference_ci_high"]
                text += f"   {_with_interval(*ends, sign=True)} ({_p(row['p_value'])})"
            if layers := row["selected_layers"]:
                text += f"   layer{'s' * (', ' in layers)} {layers}"
            lines.append(text)
    return "\n".join(lines)


def _with_interval(estimate: float, low: float, high: float, *, sign: bool = False) -> str:
    if not math.isfinite(estimate):
        return "–"
    number = f"{estimate:+.3f}" if sign else f"{estimate:.3f}"
    return number if math.isnan(low) else f"{number} [{low:.3f}, {high:.3f}]"


def _p(p: float) -> str:
    from layerprobe.analysis.formatting import p_text

    return p_text(p) if math.isfinite(p) else "p unknown"
