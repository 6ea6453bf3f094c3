"""The command that probes the layers of caches."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import ManifestPath, NoSpeakers, Output, cache_path, reported
from layerprobe.probe.training.options import option

app = typer.Typer()


@dataclass(frozen=True)
class ProbingOptions:
    """What is probed, by what, against which controls."""

    target: tuple[str, ...] = option((), help="Target to probe (repeatable); all targets of the header by default.")
    folds: int | None = option(None, help="Number of speaker-disjoint folds; by default the manifest's split, else 5.")
    test_split: str | None = option(None, help="Split that is held out, such as test, test1 or development.")
    controls: tuple[str, ...] = option(
        (),
        help="Control task (repeatable): permuted, permuted_by_speaker, permuted_within_speaker, random_per_speaker, "
        "or all, which adds random weights, acoustic features and --residualize-text and extracts missing caches; by "
        "default the first two, without speakers the first.",
    )
    permutations: int = option(
        49, low=1, help="Number of permutations of each control task; the smallest p-value is 1 / (number + 1)."
    )
    layer_mixes: tuple[str, ...] = option(
        (),
        help="Mix of layers (repeatable): weighted_sum, uniform_mix, unstandardised_mix, gradient_descent_mix, "
        "cumulative_mix, or all; the first two by default.",
    )
    weighted_sum_seeds: int = option(3, low=0, help="Number of seeds of the weighted sum; 0 leaves all mixes out.")
    probe: tuple[str, ...] = option(
        (),
        help="Probe to fit in addition to ridge (repeatable): mlp, mdl (minimum description length), logistic (for classes).",
    )
    covariate: tuple[str, ...] = option(
        (),
        help="Covariate that each layer is fitted with, for joint scores and unique variance (repeatable): "
        "CACHE@LAYER, or transcript for its words.",
    )
    residualize_text: bool = option(
        False, help="Probe also the residuals of ratings after regressing out the transcript."
    )
    cross_corpus: bool = option(False, help="Train also on each corpus alone, and test on all (cross-corpus).")
    seed: int = option(0, low=0, help="Random seed of folds and permutations.")


@dataclass(frozen=True)
class ComputeOptions:
    """Where probes are fitted; no number depends on it but by rounding on a GPU."""

    jobs: int | None = option(None, low=1, help="Layers probed in parallel; results do not depend on it.")
    device: str = option("cpu", help="Device that probes are fitted on: cpu or cuda.")
    dask: str | None = option(None, help="Address of a Dask scheduler whose workers fit the probes.")


@app.command(epilog="Example: layerprobe sweep caches/hubert-base.zarr my.csv --out runs/first")
@reported
def sweep(
    caches: Annotated[
        list[Path],
        typer.Argument(parser=cache_path, metavar="CACHES...", help="Caches that extract made, one per encoder."),
    ],
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    probing: ProbingOptions,
    compute: ComputeOptions,
    random_weights: Annotated[
        list[Path] | None,
        typer.Option(
            parser=cache_path,
            metavar="PATH",
            help="Cache of the same architecture extracted with --random-init, as a control (repeatable).",
        ),
    ] = None,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Probe every layer for every target with speaker-independent cross-validation and control tasks."""
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.extraction.control_caches import ControlCaches, control_caches
    from layerprobe.probe.sweep.inputs import band_named
    from layerprobe.probe.sweep.mix_probes import DEFAULT_MIXES, MIXES
    from layerprobe.probe.sweep.settings import plan_sweep
    from layerprobe.probe.sweep.sweep import sweep as sweep_stage
    from layerprobe.probe.tasks.controls import CONTROLS

    progress = output.progress
    progress.log("Reading the manifest and the caches …")
    checked = read_manifest(manifest, speakers=not no_speakers)
    everything = probing.controls == ("all",)
    plan = plan_sweep(
        checked,
        targets=probing.target,
        folds=probing.folds,
        test_split=probing.test_split,
        weighted_sum_seeds=probing.weighted_sum_seeds,
        mixes=tuple(MIXES) if probing.layer_mixes == ("all",) else probing.layer_mixes or DEFAULT_MIXES,
        probes=probing.probe,
        seed=probing.seed,
        controls=tuple(CONTROLS) if everything else probing.controls or None,
        permutations=probing.permutations,
        residualize_text=probing.residualize_text or (None if everything else False),
        cross_corpus=probing.cross_corpus,
        speakers=not no_speakers,
        device=compute.device,
    )
    studied, other = [open_cache(c) for c in caches], ControlCaches([open_cache(c) for c in random_weights or []], [])
    if everything:
        other = control_caches(studied, checked, random_weights=other.random_weights, progress=progress)
    run = sweep_stage(
        [*studied, *other.acoustic],
        checked,
        plan,
        out=out,
        random_weights=other.random_weights,
        covariate=[band_named(name) for name in probing.covariate],
        command=shlex.join(["layerprobe", *sys.argv[1:]]),
        jobs=compute.jobs,
        dask=compute.dask,
        progress=progress,
    )
    corpus = run.plan["corpus"]
    left_out = corpus["n_not_cached"] + corpus["n_not_rated"]
    output.print(
        f"{out}: {len(run.scores)} scores from {corpus['n_utterances']} utterances of {corpus['n_speakers']} speakers"
        + (f"; {left_out} utterances of the manifest left out (not cached, or not rated)." if left_out else ".")
    )
    output.print(f"Next: layerprobe heatmap {out}")
