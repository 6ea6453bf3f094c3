"""Commands of the audio-textual regressor: train, export, count-params."""

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


@app.command(epilog="Example: layerprobe export runs/audio-text --out exported")
@user_command
def export(
    run: TrainedPath,
    out: Annotated[Path, typer.Option(help="Folder for the ONNX files.")],
    seed: Annotated[int | None, typer.Option(help="Seed of the regressor to export; the first by default.")] = None,
    *,
    output: Output,
) -> None:
    """Export a trained regressor as ONNX files, one per encoder and one for the head, and check their ratings."""
    from layerprobe.probe.regressor.onnx import export_onnx

    output.progress.log("Exporting …")
    exported = export_onnx(run, out, seed=seed)
    for path in exported.files:
        output.print(str(path))
    output.print(
        f"The largest difference of a rating from the regressor's is {exported.largest_difference:.1e} standard "
        "deviations of the training ratings."
    )


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

    from layerprobe.probe.regressor import parameter_count

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
    both = parameter_count.combined(branches[0], branches[1], parameter_count.make_head(audio, text))
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
