"""The command that probes the layers of caches."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from layerprobe.cli.options import Output, path_or_url, user_command
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.options import option

if TYPE_CHECKING:
    from layerprobe.probe.results.run_folder import Run

app = typer.Typer()
TABLES = (".csv", ".tsv", ".parquet")  # endings of manifests
FOLDS_SHOWN = 8
ARGUMENTS = {  # options whose argument of `probe.sweep.settings.plan_sweep` has another name
    "target": "targets",
    "layer_mixes": "mixes",
    "probe": "probes",
    "no_speakers": "speakers",
}


@dataclass(frozen=True)
class ProbingOptions:
    """Targets, probes, folds and control tasks."""

    target: tuple[str, ...] = option((), help="Target to probe (repeatable); all targets of the header by default.")
    folds: str | None = option(
        None,
        metavar="NUMBER|speakers",
        help="Number of speaker-disjoint folds, or speakers to leave one speaker out at a time; by default the "
        "manifest's split, else 5.",
    )
    test_split: str | None = option(
        None, help="Split of the manifest that is held out, such as test, test1 or development."
    )
    group_by: str | None = option(
        None,
        metavar="COLUMN",
        help="Column of the manifest whose values are held out as a whole, such as session, pair or sentence; no "
        "speaker is in two folds either.",
    )
    allow_shared_speakers: bool = option(
        False, help="With --group-by: let a speaker who is in several groups be in training and test data."
    )
    leave_one_out: bool = option(
        False, help="As many folds as there are groups (or speakers): leave one out at a time."
    )
    duplicates: str = option(
        "group",
        metavar="group|drop|error",
        help="Utterances with the same audio: group holds them out together, drop keeps the first, error stops.",
    )
    controls: tuple[str, ...] = option(
        (),
        help="Control task (repeatable): permuted, permuted_by_speaker, permuted_within_speaker, random_per_speaker, "
        "or all, which adds random weights, acoustic features and --residualize-text and extracts missing caches; by "
        "default the first two, without speakers the first.",
    )
    permutations: int = option(
        239,
        low=1,
        help="Number of permutations by which chance is estimated (other control tasks have at most 49); the smallest "
        "p-value is 1 / (number + 1), times the number of encoders and targets after correction.",
    )
    random_weights: tuple[str, ...] = option(
        (),
        metavar="PATH",
        help="Cache of the same architecture extracted with --random-init, as a control (repeatable).",
    )
    layer_mixes: tuple[str, ...] = option(
        (),
        help="Mix of layers (repeatable): weighted_sum, uniform_mix, softmax_mix, unstandardised_mix, "
        "gradient_descent_mix, cumulative_mix, or all; the first two by default.",
    )
    weighted_sum_seeds: int = option(3, low=0, help="Number of seeds of the weighted sum; 0 leaves all mixes out.")
    probe: tuple[str, ...] = option(
        (),
        help="Probe to fit in addition to ridge (repeatable): mlp, mdl (minimum description length), logistic (for "
        "classes).",
    )
    covariate: tuple[str, ...] = option(
        (),
        help="Covariate that each layer is fitted with, for joint scores and unique variance (repeatable): "
        "CACHE@LAYER, or transcript for its bag of words.",
    )
    without: tuple[str, ...] = option(
        (),
        metavar="CONCEPT[+CONCEPT]",
        help="Concept that is erased from every layer before it is probed: loudness, f0, duration, gender, "
        "speech_rate, text or speaker. A comma separates erasures, + joins concepts that are erased "
        "together (repeatable).",
    )
    concepts: tuple[str, ...] = option(
        (),
        metavar="PATH[@LAYER]",
        help="Cache that concepts of --without are read from: of acoustic features for loudness, f0, duration and "
        "speech_rate, of a text encoder for text (repeatable); CACHES are looked at as well.",
    )
    residualize_text: bool = option(
        False, help="Probe also the residuals of ratings after regressing out the transcript."
    )
    cross_corpus: bool = option(False, help="Train also on each corpus alone, and test on all (cross-corpus).")
    seed: int = option(0, low=0, help="Random seed of folds and permutations.")
    no_speakers: bool = option(False, help="Accept unknown speakers; scores may then be too optimistic.")
    same_speaker: tuple[str, ...] = option(
        (),
        metavar="A=B|all|none",
        help="Two names of one speaker (repeatable), or all or none for all names that differ only in case, blanks, "
        "Unicode form, a decimal .0 or leading zeros.",
    )


@dataclass(frozen=True)
class SpanOptions:
    """When in the utterance: for caches of spans, which layerprobe extract --spans or --every makes."""

    by: str | None = option(
        None,
        metavar="position|onset|label",
        help="Predict each utterance's rating from its spans in bins of time: by position in the utterance (0 to 1), "
        "by onset (seconds from its beginning), or by label; spans of an utterance in one bin are averaged.",
    )
    bins: int | None = option(None, low=1, help="With --by position: number of bins; 10 by default.")
    bin_width: float | None = option(None, help="With --by onset: seconds of a bin; 0.5 by default.")
    label_classes: Path | None = option(
        None, metavar="TABLE.CSV", help="With --by label: a table with columns label and class, whose classes are bins."
    )
    spans: Path | None = option(
        None,
        metavar="SPANS.CSV",
        help="Probe ratings of spans: a table with utterance_id, start, end, a column per target, and span_id if the "
        "spans have ids; manifest spans writes it from traces.",
    )
    lag: float | None = option(
        None,
        help="With --spans: seconds by which ratings come after what they are of (Mariooryad and Busso, 2015, found 1 "
        "to 6), for windows at regular times; 0 by default.",
    )


@dataclass(frozen=True)
class ComputeOptions:
    """Where probes are fitted; results depend on it only through rounding on a GPU."""

    jobs: int | None = option(
        None,
        low=1,
        help="Layers and mixes fitted in parallel, each by a process with one thread; by default as many as there are "
        "cores, in the memory of a layer and a GiB more, and one for work of seconds. Results do not depend on it.",
    )
    device: str = option("cpu", help="Device that probes are fitted on: cpu or cuda.")
    dask: str | None = option(None, help="Address of a Dask scheduler whose workers fit the probes.")


@app.command(epilog="Example: layerprobe sweep caches/hubert-base.zarr my.csv --out runs/first")
@user_command
def sweep(  # noqa: PLR0913 - groups of options
    context: typer.Context,
    probing: ProbingOptions,
    timing: SpanOptions,
    compute: ComputeOptions,
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    caches: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=path_or_url,
            metavar="CACHES",
            help="Caches that extract made, one per encoder; optional with --plan.",
            show_default=False,
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Argument(
            parser=path_or_url,
            metavar="MANIFEST",
            help="Manifest: a .csv or .parquet table with a .toml header; optional with --plan.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN.TOML",
            help="The plan.toml of a run, whose caches, manifest and settings are used again; other options replace "
            "its settings.",
        ),
    ] = None,
    *,
    output: Output,
) -> None:
    """Layer-wise probing: score every layer for every target by speaker-independent cross-validation, with controls."""
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.extraction.control_caches import control_caches
    from layerprobe.probe.sweep.data.covariates import parse_covariate
    from layerprobe.probe.sweep.data.in_time import TimeOptions
    from layerprobe.probe.sweep.prepared import ErasureOptions, prepare, prepare_recorded
    from layerprobe.probe.sweep.recorded import read_recorded
    from layerprobe.probe.sweep.sweep import sweep as sweep_stage

    progress = output.progress
    progress.log("Reading the manifest and the caches …")
    recorded = read_recorded(plan) if plan is not None else None
    paths, manifest = _split_paths(caches or [], manifest, complete=recorded is None)
    opened = [open_cache(path) for path in paths]
    controls = [open_cache(path) for path in probing.random_weights]
    covariates = [parse_covariate(name) for name in probing.covariate]
    choices, time = _plan_choices(probing, compute), TimeOptions(**vars(timing))
    erasure = ErasureOptions(probing.without, probing.concepts)
    if recorded is not None:
        given = _given_options(context)
        changed = {name: choice for name, choice in choices.items() if name in given}
        inputs = prepare_recorded(recorded, opened, manifest, controls, covariates, changed, time, erasure=erasure)
    else:
        table = cast(Path, manifest)  # of `_split_paths`, complete
        inputs = prepare(opened, table, controls, covariates, choices, time, erasure=erasure)
    for note in inputs.notes:
        output.print(note)
    studied, controls = inputs.caches, inputs.random_weights
    if probing.controls == ("all",):
        made = control_caches(studied, inputs.manifest, random_weights=controls, progress=progress)
        studied, controls = [*studied, *made.acoustic], made.random_weights
    run = sweep_stage(
        studied,
        inputs.manifest,
        inputs.plan,
        out=out,
        random_weights=controls,
        covariates=inputs.covariates,
        time=inputs.time,
        without=inputs.without,
        concepts=inputs.concepts,
        command=shlex.join(["layerprobe", *sys.argv[1:]]),
        jobs=compute.jobs,
        dask=compute.dask,
        progress=progress,
    )
    output.print("\n".join(_summary(run, inputs.manifest.path)))
    output.print(f"Next: layerprobe {_next_figure(run)} {out}")


def _next_figure(run: Run) -> str:
    """Return the command of the figure that shows what the sweep was made for."""
    if run.erasure:
        return "erasure"
    return "time-map" if run.plan.get("time", {}).get("bins") else "heatmap"


def _split_paths(caches: list[Path], manifest: Path | None, *, complete: bool) -> tuple[list[Path], Path | None]:
    """Return the caches and the manifest among the arguments; the last one is a cache if it is no table."""
    if manifest is not None and (complete or manifest.suffix.lower() in TABLES):
        if complete and not caches:
            raise InputError("LP812", "One argument is missing: give CACHES and a MANIFEST, or --plan.")
        return caches, manifest
    if complete:
        raise InputError("LP812", "CACHES and MANIFEST are missing: give both, or --plan.")
    return [*caches, manifest] if manifest is not None else caches, None


def _plan_choices(probing: ProbingOptions, compute: ComputeOptions) -> dict[str, Any]:
    """Return the arguments of `plan_sweep` that the options stand for."""
    from layerprobe.probe.sweep.fits.mix_probes import DEFAULT_MIXES, MIXES
    from layerprobe.probe.tasks.controls import CONTROLS

    every_control = probing.controls == ("all",)
    return {
        "targets": probing.target,
        "folds": _n_folds(probing.folds),
        "test_split": probing.test_split,
        "group_by": probing.group_by,
        "allow_shared_speakers": probing.allow_shared_speakers,
        "leave_one_out": probing.leave_one_out,
        "duplicates": probing.duplicates,
        "weighted_sum_seeds": probing.weighted_sum_seeds,
        "mixes": tuple(MIXES) if probing.layer_mixes == ("all",) else probing.layer_mixes or DEFAULT_MIXES,
        "probes": probing.probe,
        "seed": probing.seed,
        "controls": tuple(CONTROLS) if every_control else probing.controls or None,
        "permutations": probing.permutations,
        "residualize_text": probing.residualize_text or (None if every_control else False),
        "cross_corpus": probing.cross_corpus,
        "speakers": not probing.no_speakers,
        "same_speaker": probing.same_speaker,
        "device": compute.device,
    }


def _n_folds(folds: str | None) -> int | Literal["speakers"] | None:
    if folds is None or folds.isdecimal():
        return None if folds is None else int(folds)
    if folds != "speakers":
        raise InputError(
            "LP813", f"--folds {folds} is neither a number nor speakers. Use --folds 5 or --folds speakers."
        )
    return "speakers"


def _given_options(context: typer.Context) -> set[str]:
    """Return the arguments of `plan_sweep` whose options are on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    names = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if context.params.get("controls") == ["all"] and "controls" in names:
        names.append("residualize_text")
    return {ARGUMENTS.get(name, name) for name in names}


def _summary(run: Run, manifest: Path) -> list[str]:
    """Return lines about how many utterances were scored, how they were held out, and which were left out."""
    corpus, folds = run.plan["corpus"], run.plan["folds"]
    time = run.plan.get("time", {})
    unit = "spans" if time.get("kind") == "targets" else "utterances"
    total = f"{corpus['n_utterances']} {unit} of {corpus['n_speakers']} speakers"
    if run.sweep_plan.n_folds is None:
        fold = folds[0]
        held_out = (
            f"{fold['n_train_utterances']} {unit} of {fold['n_train_speakers']} speakers train, "
            f"{fold['n_test_utterances']} of {fold['n_test_speakers']} speakers (split {fold['name']}) are held out"
        )
    else:
        kinds = {"utterances": unit, "speakers": "speakers"}
        sizes = (_sizes([f[f"n_test_{kind}"] for f in folds]) + f" {name}" for kind, name in kinds.items())
        held_out = f"held out in {len(folds)} folds ({'; '.join(sizes)})"
    lines = [f"{run.path}: {len(run.scores)} scores of {total}, {held_out}."]
    if corpus["n_not_cached"] + corpus["n_not_rated"]:
        lines.append(
            f"Utterances of {manifest} that were left out: {corpus['n_not_cached']} not cached, "
            f"{corpus['n_not_rated']} not rated."
        )
    lines += [
        f"{encoder['name']}: {encoder['n_not_in_manifest']} of {encoder['n_utterances']} cached utterances are not in "
        f"{manifest}, and were not used."
        for encoder in run.plan["encoders"]
        if encoder["n_not_in_manifest"]
    ]
    return lines


def _sizes(values: list[int]) -> str:
    return ", ".join(map(str, values)) if len(values) <= FOLDS_SHOWN else f"{min(values)} to {max(values)}"
