"""The front door: one command, a verb per stage; parses, calls, says where the result lies."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.cache import app as cache_verbs
from layerprobe.cli.compare import app as regressor_judging
from layerprobe.cli.extract import app as extraction
from layerprobe.cli.manifest import app as manifest_verbs
from layerprobe.cli.options import (
    Debug,
    ManifestPath,
    Metric,
    NoSpeakers,
    Quiet,
    RunPath,
    RunPaths,
    Width,
    cache_place,
    reported,
    say,
)
from layerprobe.cli.pretrain import app as pretraining
from layerprobe.cli.train import app as training
from layerprobe.cli.transcripts import app as transcripts
from layerprobe.probe.progress import watcher

TRUSTING = ("--trust-pickle", "--trust-remote-code")
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.registered_commands += extraction.registered_commands  # the first that is done stands first
app.add_typer(manifest_verbs, name="manifest", help="Make, check and look at the table of utterances.")
app.add_typer(cache_verbs, name="cache")
app.add_typer(training)
app.add_typer(pretraining)
app.add_typer(transcripts)
app.add_typer(regressor_judging)


@app.command(epilog="Example: layerprobe sweep caches/hubert-base.zarr my.csv --out runs/first")
@reported
def sweep(
    caches: Annotated[
        list[Path],
        typer.Argument(parser=cache_place, metavar="CACHES...", help="Caches that extract made, one for each encoder."),
    ],
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    random_weights: Annotated[
        list[Path] | None,
        typer.Option(
            parser=cache_place, metavar="PATH", help="A cache of the same architecture extracted with --random-init."
        ),
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="A target to sweep; all of the header's if none.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Speaker-disjoint folds, 5 by default; the manifest's split if it has one.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="The split to hold out: test, test1, development, …")] = None,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            help="permuted, permuted_by_speaker, permuted_within_speaker, random_per_speaker; the first two if none, "
            "without speakers the first. all: these, random weights and acoustic features, which are extracted where "
            "their caches are missing, and --beyond-text where there are transcripts."
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option(min=1, help="Draws of each control; the least p-value is 1 / (draws + 1).")
    ] = 49,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            help="weighted_sum, uniform_mix, unstandardised_mix, gradient_descent_mix, cumulative_mix, or all; the "
            "first two if none."
        ),
    ] = None,
    mix_seeds: Annotated[int, typer.Option(min=0, help="Seeds of the weighted sum; 0 leaves all mixes out.")] = 3,
    probe: Annotated[
        list[str] | None, typer.Option(help="Beside ridge: mlp, description_length, logistic (of classes).")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="CACHE@LAYER, or transcript for its words, that each layer is fitted beside, for joint scores and "
            "what is unique to it."
        ),
    ] = None,
    beyond_text: Annotated[
        bool, typer.Option("--beyond-text", help="Score ratings also on what the transcript's words leave of them.")
    ] = False,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Train on each corpus of the manifest's column alone, too; test on all.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of folds and permutations.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Layers probed at once; changes no number.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dask: Annotated[str | None, typer.Option(help="A scheduler of Dask whose workers probe layers and mixes.")] = None,
    no_speakers: NoSpeakers = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score every layer and the weighted sum for every target on speakers never heard, with controls."""
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.extraction.control_caches import ControlCaches, control_caches
    from layerprobe.probe.sweep.inputs import band_named
    from layerprobe.probe.sweep.mix_probes import DEFAULT_MIXES, MIXES
    from layerprobe.probe.sweep.settings import plan_sweep
    from layerprobe.probe.sweep.sweep import sweep as sweep_stage
    from layerprobe.probe.tasks.controls import CONTROLS

    watch = watcher(quiet=quiet)
    watch.say("Reading the manifest and the caches …")
    checked = read_manifest(manifest, speakers=not no_speakers)
    plan = plan_sweep(
        checked,
        targets=tuple(target or ()),
        folds=folds,
        test=test,
        mix_seeds=mix_seeds,
        mixes=tuple(MIXES) if mix == ["all"] else tuple(mix or DEFAULT_MIXES),
        probes=tuple(probe or ()),
        seed=seed,
        controls=tuple(CONTROLS) if controls == ["all"] else tuple(controls) if controls else None,
        permutations=permutations,
        beyond_text=beyond_text or (None if controls == ["all"] else False),
        transfer=transfer,
        speakers=not no_speakers,
        device=device,
    )
    studied, other = [open_cache(c) for c in caches], ControlCaches([open_cache(c) for c in random_weights or []], [])
    if controls == ["all"]:
        other = control_caches(studied, checked, random_weights=other.random_weights, watch=watch)
    run = sweep_stage(
        [*studied, *other.acoustic],
        checked,
        plan,
        out=out,
        random_weights=other.random_weights,
        beside=[band_named(name) for name in beside or []],
        command=shlex.join(["layerprobe", *sys.argv[1:]]),
        jobs=jobs,
        dask=dask,
        watch=watch,
    )
    corpus = run.plan["corpus"]
    left_out = corpus["n_not_cached"] + corpus["n_not_rated"]
    say(
        f"{out}: {len(run.scores)} scores from {corpus['n_utterances']} utterances of {corpus['n_speakers']} speakers"
        + (f"; {left_out} utterances of the manifest left out (not cached, or not rated)." if left_out else "."),
        quiet=quiet,
    )
    say(f"Next: layerprobe heatmap {out}", quiet=quiet)


PICTURE_VERBS = {
    "heatmap": "Draw layer by target, with the layers framed that can't be told from the best, and the controls.",
    "curves": "Draw scores over layers with their intervals over speakers and the controls.",
    "weights": "Draw the weighted sum's weights beside contributions and the layers' own scores.",
    "depth": "Draw how deep each target lies, and how much deeper valence than arousal.",
    "wins": "Draw how often each layer is the best under draws of speakers.",
    "difference": "Draw what training adds to each layer over random weights.",
}


def picture_verb(picture: str) -> Callable[..., None]:
    """The verb that draws one picture."""

    @reported
    def verb(
        runs: RunPaths, metric: Metric = None, width: Width = None, quiet: Quiet = False, debug: Debug = False
    ) -> None:
        from layerprobe.figures.draw import draw

        watcher(quiet=quiet).say("Drawing …")
        say("\n".join(map(str, draw(picture, runs, metric=metric, width=width))), quiet=quiet)

    return verb


for _picture, _help in PICTURE_VERBS.items():
    app.command(_picture, help=_help, epilog=f"Example: layerprobe {_picture} runs/first")(picture_verb(_picture))


@app.command(epilog="Example: layerprobe similarity runs/first")
@reported
def similarity(run: RunPath, width: Width = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """Compare every layer of a run's caches with every other and with the ratings, and draw how alike they are."""
    from layerprobe.analysis.similarity.compare_layers import compare_layers
    from layerprobe.figures.draw import draw

    watch = watcher(quiet=quiet)
    watch.say("Comparing layers …")
    table = compare_layers(run)
    watch.say("Drawing …")
    say("\n".join(map(str, [table, *draw("similarity", [run], width=width)])), quiet=quiet)


@app.command(epilog="Example: layerprobe report runs/first")
@reported
def report(run: RunPath, metric: Metric = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """Write findings and one HTML page with the figures in it."""
    from layerprobe.figures.report.report import write_report

    say(f"{write_report(run, metric=metric, watch=watcher(quiet=quiet))}", quiet=quiet)


@app.command(epilog="Example: layerprobe demo --out demo")
@reported
def demo(
    out: Annotated[Path, typer.Option(help="A folder for the corpus, the caches and the run.")] = Path("demo"),
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run every stage on a small spoken corpus whose truth is known: sound, cache, scores, heatmap, report."""
    from layerprobe.demo import run_demo

    run_demo(out, say=functools.partial(say, quiet=quiet), watch=watcher(quiet=quiet))


@app.callback()
def trusting(
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Read checkpoints that are pickles, which can run code.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that a model's folder asks to run.")
    ] = False,
) -> None:
    """Which layer of a speech encoder knows what."""
    from layerprobe.probe.hub import trust

    for what, said in (("pickle", trust_pickle), ("remote_code", trust_remote_code)):
        if said:
            trust(what)


def main() -> None:
    """Run the command line; what is trusted may stand anywhere in it."""
    words = sys.argv[1:]
    app([w for w in words if w in TRUSTING] + [w for w in words if w not in TRUSTING])
