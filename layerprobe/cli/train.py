"""The command that trains a regressor."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Device, ManifestPath, NoSpeakers, Output, best_device, reported
from layerprobe.probe.regressor.settings import EncoderOptions, HeadOptions, OptimiserOptions

app = typer.Typer()


@app.command(
    epilog="Example: layerprobe train my.csv --audio ntu-spml/distilhubert --text distilbert-base-uncased "
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

    progress = output.progress
    checked = read_manifest(manifest, speakers=not no_speakers)
    device = best_device(device)
    progress.say("Loading encoders …")
    parts, plan = plan_training(
        checked, encoders=encoders, head=head, optimiser=optimiser, device=device, show_download=not output.quiet
    )
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    run = train_stage(checked, parts, plan, out=out, device=device, command=command, watch=progress)
    corpus, counts = run.plan["corpus"], run.plan["parameters"]
    output.say(
        f"{out}: {counts['trainable']:,} of {counts['total']:,} parameters trained on {corpus['n_train']} utterances, "
        f"stopped by {corpus['n_development']}, judged on {corpus['n_held_out']}; {corpus['n_quarantined']} "
        "quarantined."
    )
    if corpus["n_wordless"]:
        output.say(f"  {corpus['n_wordless']} of them have no words; they were read as the empty text.")
    pooled = run.scores[(run.scores["fold"] == "pooled") & (run.scores["metric"] == "ccc")]
    for name in plan.targets:
        values = pooled[pooled["target"] == name]["value"]
        output.say(f"  {name}: CCC " + ", ".join(f"{v:.3f}" for v in values))
    output.say(f"Next: layerprobe compare {out} OTHER, or layerprobe predict {out} new.csv --out predictions.csv")
