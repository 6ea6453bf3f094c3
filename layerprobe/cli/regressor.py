"""Commands of the audio-textual regressor: train, export, count-params; export takes a predictor, too."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import (
    ExecutionOptions,
    ManifestPath,
    NoSpeakers,
    Output,
    user_command,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import write_csv
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions

app = typer.Typer()

TrainedPath = Annotated[Path, typer.Argument(help="Run folder that train made.")]


@app.command(
    epilog="Example: layerprobe train my.csv --audio-encoder ntu-spml/distilhubert "
    "--text-encoder distilbert-base-uncased --out runs/audio-text"
)
@user_command
def train(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="Run folder to write; an interrupted training is resumed.")],
    encoders: EncoderOptions,
    head: HeadOptions,
    optimiser: OptimiserOptions,
    execution: ExecutionOptions,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Fine-tune speech and text encoders jointly to predict all ratings, evaluated on unseen speakers."""
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.regressor.plan import plan_training
    from layerprobe.probe.regressor.train import run_training
    from layerprobe.probe.results.run_folder import POOLED
    from layerprobe.probe.splits import check_speakers_known
    from layerprobe.probe.system import choose_device
    from layerprobe.probe.training.trackers import check_tracker

    check_tracker(execution.log_to)
    progress = output.progress
    checked = read_manifest(manifest, speakers=not no_speakers, columns=(encoders.text_column,))
    if not no_speakers:
        check_speakers_known(checked.table["speaker_id"].to_numpy())
    device, log_to = choose_device(execution.device), execution.log_to
    progress.log("Loading encoders …")
    loaded, plan = plan_training(
        checked, encoders=encoders, head=head, optimiser=optimiser, device=device, show_download=not output.quiet
    )
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    run = run_training(checked, loaded, plan, out=out, device=device, command=command, progress=progress, log_to=log_to)
    corpus, counts = run.plan["corpus"], run.plan["parameters"]
    output.print(
        f"{out}: {counts['trainable']:,} of {counts['total']:,} parameters are trainable; "
        f"{corpus['n_train']} training, {corpus['n_development']} development and {corpus['n_held_out']} test "
        f"utterances; {corpus['n_quarantined']} quarantined."
    )
    if corpus["n_without_text"]:
        output.print(f"  {corpus['n_without_text']} utterances have no transcript; the empty text was used.")
    pooled = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == "ccc")]
    for name in plan.targets:
        values = pooled[pooled["target"] == name]["value"]
        output.print(f"  {name}: test CCC " + ", ".join(f"{v:.3f}" for v in values))
    output.print(f"Next: layerprobe compare {out} OTHER, or layerprobe predict {out} new.csv --out predictions.csv")


@app.command(epilog="Example: layerprobe export models/avd --out avd.onnx --int8 --run runs/first")
@user_command
def export(
    model: Annotated[Path, typer.Argument(help="Predictor that deploy made, or run folder that train made.")],
    out: Annotated[Path, typer.Option(help="File for a predictor (.onnx); folder for a trained regressor's files.")],
    seed: Annotated[
        int | None, typer.Option(help="Seed of the trained regressor to export; the first by default.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write a second file of a predictor, with matrix products in 8 bits.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run that the predictor was deployed from, on whose recordings the loss by 8 bits is measured."
        ),
    ] = None,
    *,
    output: Output,
) -> None:
    """Export a predictor as one ONNX file, or a trained regressor as several, and check their ratings."""
    from layerprobe.probe.predictors.folder import is_predictor

    of_predictor = is_predictor(model)
    _check_export_options(model, of_predictor=of_predictor, seed=seed, int8=int8, run=run)
    if of_predictor:
        _export_predictor(model, out, int8=int8, run=run, output=output)
        return
    from layerprobe.probe.regressor.onnx import export_onnx

    output.progress.log("Exporting …")
    exported = export_onnx(model, out, seed=seed)
    for path in exported.files:
        output.print(str(path))
    output.print(
        f"The largest difference of a rating from the regressor's is {exported.largest_difference:.1e} standard "
        "deviations of the training ratings."
    )


def _check_export_options(model: Path, *, of_predictor: bool, seed: int | None, int8: bool, run: Path | None) -> None:
    """Raise InputError where an option does not apply to what is exported."""
    if of_predictor and seed is not None:
        raise InputError("LP935", f"{model} is a predictor, and --seed is of trained regressors alone. Leave it out.")
    given = " and ".join(name for name, is_given in {"--int8": int8, "--run": run is not None}.items() if is_given)
    if given and not of_predictor:
        raise InputError(
            "LP935",
            f"{model} holds no predictor, and only a predictor takes {given}. Name a folder that layerprobe deploy "
            "made, or leave that out.",
        )
    if run is not None and not int8:
        raise InputError("LP935", "--run measures what 8 bits change, so without --int8 it does not apply. Add --int8.")


def _export_predictor(folder: Path, out: Path, *, int8: bool, run: Path | None, output: Output) -> None:
    from layerprobe.analysis.int8_loss import int8_sentences, measure_int8_loss
    from layerprobe.probe.predictors.fitting import read_swept
    from layerprobe.probe.predictors.folder import read_predictor
    from layerprobe.probe.predictors.onnx import export_predictor
    from layerprobe.probe.predictors.unseen import encoder_of
    from layerprobe.probe.results.run_folder import read_run

    swept = None if run is None else read_swept(read_run(run))
    if swept is not None:
        encoder_of(read_predictor(folder), swept)  # before the minutes that an export takes
    output.progress.log("Exporting …")
    exported = export_predictor(folder, out, int8=int8)
    for file in exported.files:
        output.print(
            f"{file.path}: {file.n_bytes / 1e6:.1f} MB, real-time factor {file.real_time_factor:.3f} on one thread; "
            f"ratings within {file.largest_difference:.1e} of the width of their scale of the predictor's"
        )
    output.print(str(exported.description))
    if int8:
        for sentence in int8_sentences(measure_int8_loss(exported, swept, progress=output.progress)):
            output.print(f"  {sentence}")


@app.command(
    "count-params",
    epilog="Example: layerprobe count-params --audio-encoder ntu-spml/distilhubert "
    "--text-encoder distilbert-base-uncased --reference facebook/hubert-large-ll60k",
)
@user_command
def count_params(
    audio_encoder: Annotated[
        str | None, typer.Option(help="Speech encoder: a hub name with an optional @revision, or a folder.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Text encoder: a hub name with an optional @revision, or a folder.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Reference model, of whose trainable parameters percentages are printed (repeatable)."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Duration of the audio for which multiply-adds are counted.")
    ] = 10.0,
    tokens_per_second: Annotated[float, typer.Option(min=0.1, help="Text tokens per second of audio.")] = 3.5,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Measure real-time factors on this machine as well.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="File for the table (.csv).")] = None,
    *,
    output: Output,
) -> None:
    """Count total and trainable parameters and multiply-adds of encoders from their configurations."""
    import math

    from layerprobe.probe.cost import parameter_count
    from layerprobe.probe.regressor.default_head import make_head

    if audio_encoder is None and text_encoder is None:
        raise InputError("LP730", "Name an encoder: --audio-encoder, --text-encoder or both.")
    audio, text = (
        None if name is None else parameter_count.load_model_spec(name) for name in (audio_encoder, text_encoder)
    )
    references = [parameter_count.load_model_spec(name) for name in reference or []]
    n_tokens, n_seconds = parameter_count.count_tokens(seconds, tokens_per_second), max(1, math.ceil(seconds))
    amounts = [(m, n_tokens if m.is_text else n_seconds) for m in (audio, text, *references) if m is not None]
    counts = {m.name: parameter_count.count_parameters(m, amount=n) for m, n in amounts}
    branches = [None if m is None else counts[m.name] for m in (audio, text)]
    both = parameter_count.combined(branches[0], branches[1], make_head(audio, text))
    shown = [*(b for b in branches if b is not None), both, *(counts[m.name] for m in references)]
    compared = [counts[m.name] for m in references]
    for one in shown:
        output.print(f"{one.name}: {one.total:,} parameters")
        output.print("  " + ", ".join(f"{part.replace('_', ' ')} {n:,}" for part, n in one.parts.items() if n))
        output.print(f"  {one.multiply_adds / seconds / 1e9:.2f} G multiply-adds per second of audio")
    headless = parameter_count.combined(branches[0], branches[1], head=None)
    for title, one in (("with its head", both), ("encoders alone", headless)):
        output.print(f"{one.name}, {title}, trainable parameters:")
        for rule in ("everything", "front end frozen", "front end and embeddings frozen"):
            percentages = "".join(f", {100 * one.fraction_of(o, rule):.1f} % of {o.name}" for o in compared)
            output.print(f"  {rule}: {one.trainable(rule):,}{percentages}")
    if compared:
        output.print("Percentages refer to the trainable parameters of the reference model with its front end frozen.")
    if benchmark:
        output.progress.log("Measuring …")
        factors = parameter_count.real_time_factors(amounts, seconds=float(n_seconds))
        for (model, _), factor in zip(amounts, factors, strict=True):
            output.print(f"{model.name}: real-time factor {factor:.4f} (float32, {n_seconds} s)")
        total = sum(f for (m, _), f in zip(amounts, factors, strict=True) if m in (audio, text))
        output.print(f"{both.name}: real-time factor {total:.4f}, the sum of its branches")
    if csv is not None:
        write_csv(csv, parameter_count.parameter_table(shown, compared))
        output.print(str(csv))
