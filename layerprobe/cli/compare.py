"""Verbs of the command line that judge regressors: fuse, compare."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.options import Debug, ManifestPath, NoSpeakers, Quiet, Width, cache_place, reported, say
from layerprobe.probe.progress import watcher

if TYPE_CHECKING:
    import pandas as pd  # which takes its time to load, and `--help` needs none

app = typer.Typer()


@app.command(epilog="Example: layerprobe fuse caches/distilhubert.zarr caches/distilbert.zarr my.csv --out runs/fused")
@reported
def fuse(
    caches: Annotated[
        list[Path],
        typer.Argument(
            parser=cache_place, metavar="CACHES...", help="Caches that extract made: of sound, and of text."
        ),
    ],
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    target: Annotated[list[str] | None, typer.Option(help="A target; all of the header's if none.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Speaker-disjoint folds, 5 by default; the manifest's split if it has one.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="The split to hold out: test, test1, development, …")] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Draws of each control.")] = 19,
    mix_seeds: Annotated[int, typer.Option(min=0, help="Seeds of the weighted sums; 0 leaves them out.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of folds and permutations.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Layers probed at once; changes no number.")] = None,
    no_speakers: NoSpeakers = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fit frozen encoders alone and together, and say what each adds to the other on speakers never heard."""
    from layerprobe.analysis.model_comparison import compare as compare_runs
    from layerprobe.analysis.study import study
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.sweep.settings import plan_sweep
    from layerprobe.probe.sweep.sweep import sweep

    watch = watcher(quiet=quiet)
    checked = read_manifest(manifest, speakers=not no_speakers)
    plan = plan_sweep(
        checked,
        targets=tuple(target or ()),
        folds=folds,
        test=test,
        mix_seeds=mix_seeds,
        seed=seed,
        permutations=permutations,
        fused=True,
        speakers=not no_speakers,
    )
    opened = [open_cache(c) for c in caches]
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    run = sweep(opened, checked, plan, out=out, command=command, jobs=jobs, watch=watch)
    watch.say("Drawing speakers …")
    say(scores_text(compare_runs([out])), quiet=quiet)
    for row in study([out]).gains.to_dict("records"):
        adds = f"{row['added']} adds {_ranged(row['estimate'], row['low'], row['high'])} over {row['alone']}"
        say(f"  {row['target']}, {row['probe'].replace('_', ' ')}: {adds} ({_p(row['p'])})", quiet=quiet)
    corpus = run.plan["corpus"]
    say(f"{out}: {corpus['n_held_out']} utterances held out. Next: layerprobe report {out}", quiet=quiet)


@app.command(epilog="Example: layerprobe compare runs/audio-text runs/hubert-large runs/audio-only runs/text-only")
@reported
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of fuse, train or sweep.")],
    metric: Annotated[str, typer.Option(help="ccc_matched, ccc, pearson, rmse or r2.")] = "ccc_matched",
    out: Annotated[Path | None, typer.Option(help="A folder for the table and the picture.")] = None,
    width: Width = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score every regressor of some runs on the utterances that all held out, with paired differences."""
    from layerprobe.analysis.model_comparison import compare as compare_runs
    from layerprobe.analysis.statistics.bootstrap import METRICS
    from layerprobe.figures.layout.style import WIDTHS
    from layerprobe.probe.exceptions import InputError

    if metric not in METRICS:
        raise InputError(f"metric {metric!r} is unknown; choose one of {', '.join(METRICS)}.")
    if width is not None and width not in WIDTHS:
        raise InputError(f"width {width!r} is unknown; choose one of {', '.join(WIDTHS)}.")
    table = compare_runs(runs, metric=metric)
    say(scores_text(table), quiet=quiet)
    if out is not None:
        from layerprobe.figures.layout.style import save
        from layerprobe.figures.plots.efficiency import efficiency_figure
        from layerprobe.probe.fingerprints import combined_fingerprint
        from layerprobe.probe.results.run_folder import read_run

        fingerprint = combined_fingerprint(*(read_run(run).fingerprint for run in runs))
        figure = efficiency_figure(table, metric=metric, width=width)
        say("\n".join(map(str, save(figure, out, "efficiency", fingerprint=fingerprint, table=table))), quiet=quiet)


def scores_text(table: pd.DataFrame) -> str:
    """A block for each target: score, interval, and the difference from the first."""
    lines = []
    width = max(len(name) for name in table["regressor"])
    for target, rows in table.groupby("target", sort=False):
        lines.append(f"{target} ({rows['n_utterances'].iloc[0]} utterances, {rows['n_speakers'].iloc[0]} speakers):")
        for row in rows.to_dict("records"):
            text = f"  {row['regressor']:<{width}}  {_ranged(row['estimate'], row['low'], row['high'])}"
            if math.isfinite(row["difference"]):
                ends = row["difference"], row["difference_low"], row["difference_high"]
                text += f"   {_ranged(*ends, sign=True)} ({_p(row['p'])})"
            lines.append(text)
    return "\n".join(lines)


def _ranged(estimate: float, low: float, high: float, *, sign: bool = False) -> str:
    number = f"{estimate:+.3f}" if sign else f"{estimate:.3f}"
    return number if math.isnan(low) else f"{number} [{low:.3f}, {high:.3f}]"


def _p(p: float) -> str:
    from layerprobe.analysis.findings.formatting import p_text

    return p_text(p) if math.isfinite(p) else "p unknown"
