"""Commands that train, apply and count the audio-textual regressor: train, predict, export, params."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from layerprobe.cli.options import Device, ManifestPath, NoSpeakers, Output, UtterancesPath, choose_device, reported
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions

app = typer.Typer()

TrainedPath = Annotated[Path, typer.Argument(help="Run folder that train made.")]


@app.command(
    epilog="Example: layerprobe train my.csv --audio-encoder ntu-spml/distilhubert --text-encoder distilbert-base-uncased "
    "--out runs/audio-text"
)
@reported
def train(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="Run folder to write; an interrupted training is resumed.")],
    encoders: EncoderOptions,
    head: HeadOptions,
    optimiser: OptimiserOptions,
    device: Device = None,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Fine-tune speech and text encoders jointly to predict all ratings, evaluated on unseen speakers."""
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.regressor.plan import plan_training
    from layerprobe.probe.regressor.train import train as train_stage
    from layerprobe.probe.results.run_folder import POOLED

    progress = output.progress
    checked = read_manifest(manifest, speakers=not no_speakers)
    device = choose_device(device)
    progress.log("Loading encoders …")
    parts, plan = plan_training(
        checked, encoders=encoders, head=head, optimiser=optimiser, device=device, show_download=not output.quiet
    )
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    run = train_stage(checked, parts, plan, out=out, device=device, command=command, progress=progress)
    corpus, counts = run.plan["corpus"], run.plan["parameters"]
    output.print(
        f"{out}: {counts['trainable']:,} of {counts['total']:,} parameters trained on {corpus['n_train']} utterances, "
        f"stopped by {corpus['n_development']}, judged on {corpus['n_held_out']}; {corpus['n_quarantined']} "
        "quarantined."
    )
    if corpus["n_without_text"]:
        output.print(f"  {corpus['n_without_text']} of them have no words; they were read as the empty text.")
    pooled = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == "ccc")]
    for name in plan.targets:
        values = pooled[pooled["target"] == name]["value"]
        output.print(f"  {name}: CCC " + ", ".join(f"{v:.3f}" for v in values))
    output.print(f"Next: layerprobe compare {out} OTHER, or layerprobe predict {out} new.csv --out predictions.csv")


@app.command(epilog="Example: layerprobe predict runs/audio-text new.csv --out predictions.csv")
@reported
def predict(
    run: TrainedPath,
    table: UtterancesPath,
    out: Annotated[Path, typer.Option(help="Table of ratings to write (.csv).")],
    device: Device = None,
    *,
    output: Output,
) -> None:
    """Rate audio files with a trained regressor, each rating with its prediction interval."""
    from layerprobe.probe.data.read import read_utterances
    from layerprobe.probe.regressor.predict import predict as predict_stage

    found = predict_stage(run, read_utterances(table), device=choose_device(device), progress=output.progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(out, index=False, lineterminator="\n")
    refused = found[found["reason"] != ""]
    output.print(f"{out}: {len(found) - len(refused)} utterances rated, {len(refused)} could not be.")
    for row in refused.head(10).to_dict("records"):
        output.print(f"  {row['utterance_id']}: {row['reason']}")


@app.command(epilog="Example: layerprobe export runs/audio-text --out exported")
@reported
def export(
    run: TrainedPath,
    out: Annotated[Path, typer.Option(help="Folder for the ONNX files.")],
    seed: Annotated[int | None, typer.Option(help="Seed of the regressor to export; the first by default.")] = None,
    *,
    output: Output,
) -> None:
    """Export a trained regressor as ONNX files, one per encoder and one for the head, and check their ratings."""
    from layerprobe.probe.regressor.onnx import export as export_stage

    output.progress.log("Tracing …")
    done = export_stage(run, out, seed=seed)
    for path in done.files:
        output.print(str(path))
    output.print(f"The largest difference of a rating is {done.largest_difference:.1e} standard deviations.")


@app.command(
    "count-params",
    epilog="Example: layerprobe count-params --audio-encoder ntu-spml/distilhubert --text-encoder distilbert-base-uncased "
    "--reference facebook/hubert-large-ll60k",
)
@reported
def count_params(
    audio_encoder: Annotated[
        str | None, typer.Option(help="Speech encoder: a hub name with an optional @revision, or a folder.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Text encoder: a hub name with an optional @revision, or a folder.")
    ] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Model whose parameters are the reference of percentages (repeatable).")
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

    from layerprobe.probe.regressor.parameter_count import (
        accounts_table,
        combined,
        count_parameters,
        count_tokens,
        describe,
        head_for,
        real_time_factors,
    )

    if audio_encoder is None and text_encoder is None:
        raise InputError("Name an encoder: --audio-encoder, --text-encoder or both.")
    heard, read = (None if name is None else describe(name) for name in (audio_encoder, text_encoder))
    others = [describe(name) for name in reference or []]
    n_tokens, n_seconds = count_tokens(seconds, tokens_per_second), max(1, math.ceil(seconds))
    amounts = [(m, n_tokens if m.is_text else n_seconds) for m in (heard, read, *others) if m is not None]
    accounts = {m.name: count_parameters(m, amount=n) for m, n in amounts}
    branches = [None if m is None else accounts[m.name] for m in (heard, read)]
    both = combined(branches[0], branches[1], head_for(heard, read))
    shown = [*(b for b in branches if b is not None), both, *(accounts[m.name] for m in others)]
    compared = [accounts[m.name] for m in others]
    for one in shown:
        output.print(f"{one.name}: {one.total:,} parameters")
        output.print("  " + ", ".join(f"{part.replace('_', ' ')} {n:,}" for part, n in one.parts.items() if n))
        output.print(f"  {one.multiply_adds / seconds / 1e9:.2f} G multiply-adds per second of sound")
    headless = combined(branches[0], branches[1], head=_nothing())
    for title, one in (("with its head", both), ("its encoders alone", headless)):
        output.print(f"{one.name}, {title}, trained:")
        for rule in ("everything", "front end frozen", "front end and embeddings frozen"):
            shares = "".join(f", {100 * one.share_of(o, rule):.1f} % of {o.name}" for o in compared)
            output.print(f"  {rule}: {one.trained(rule):,}{shares}")
    if compared:
        output.print("Shares are of the other model with its front end frozen.")
    if benchmark:
        output.progress.log("Measuring …")
        factors = real_time_factors(amounts, seconds=float(n_seconds))
        for (model, _), factor in zip(amounts, factors, strict=True):
            output.print(f"{model.name}: real-time factor {factor:.4f} (float32, {n_seconds} s)")
        own = sum(f for (m, _), f in zip(amounts, factors, strict=True) if m in (heard, read))
        output.print(f"{both.name}: real-time factor {own:.4f}, its branches one after the other")
    if csv is not None:
        accounts_table(shown, compared).to_csv(csv, index=False, lineterminator="\n")
        output.print(str(csv))


def _nothing() -> Any:
    import torch

    return torch.nn.Identity()
