"""The verbs of the command line that make an encoder from nothing but sound: speak, pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Debug, Device, Quiet, reported, say, say_quarantined
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import watcher

app = typer.Typer()


@app.command(
    epilog="Example: layerprobe speak sentences.txt --out speech; then layerprobe pretrain speech/speech.csv …"
)
@reported
def speak(
    sentences: Annotated[Path, typer.Argument(help="A text file, a sentence a line.")],
    out: Annotated[Path, typer.Option(help="The folder for the sounds and their manifest, speech.csv.")],
    times: Annotated[int, typer.Option(min=1, help="How often each is said, in a voice drawn anew.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of voices, rates and pitches.")] = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Speak sentences in many synthetic voices, none of them the demo's: sound for a pre-training."""
    from layerprobe.probe.synthesis.spoken_corpus import write_speech

    try:
        lines = sentences.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{sentences} can't be read as text: {error}. Give a UTF-8 file, a sentence a line."
        ) from error
    manifest = write_speech(lines, out, times=times, seed=seed, watch=watcher(quiet=quiet))
    say(f"Next: layerprobe pretrain {manifest} --out models/first", quiet=quiet)


@app.command(
    epilog="Example: layerprobe pretrain my.csv --out models/first; then "
    "layerprobe pretrain my.csv --units-of models/first@3 --units 200 --out models/second"
)
@reported
def pretrain(
    manifest: Annotated[Path, typer.Argument(help="A .csv or .parquet with utterance_id and path; no ratings needed.")],
    out: Annotated[Path, typer.Option(help="The transformers folder to write; one that is begun is gone on with.")],
    units_of: Annotated[
        str, typer.Option(help="What is clustered: mfcc, or ENCODER@LAYER of an earlier round.")
    ] = "mfcc",
    units: Annotated[int, typer.Option(min=2, help="Clusters.")] = 100,
    config: Annotated[
        Path | None, typer.Option(help="A config.json of a HuBERT; the small one of this project if none.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = 5000,
    batch_size: Annotated[int, typer.Option(min=1, help="Sounds a step.")] = 16,
    crop_seconds: Annotated[float, typer.Option(min=0.5, help="Of each.")] = 4.0,
    learning_rate: Annotated[float, typer.Option()] = 1e-3,
    every: Annotated[int, typer.Option(min=1, help="Steps between two looks at held-out speakers.")] = 250,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Pre-train a small HuBERT on unlabelled sound by masked prediction of units."""
    import json

    import torch
    from transformers import AutoFeatureExtractor

    from layerprobe.probe.data.read import read_utterances
    from layerprobe.probe.encoders.loading import EMBEDDED, load_encoder
    from layerprobe.probe.pretraining.pretrain import FramesOf, PretrainPlan, layer_frames, pretrain as pretrain_stage
    from layerprobe.probe.pretraining.units import MfccFrames

    if precision not in ("float32", "bfloat16"):
        raise InputError(f"precision {precision!r} is unknown; choose float32 or bfloat16.")
    watch = watcher(quiet=quiet)
    table = read_utterances(manifest)
    try:
        given = json.loads((config or EMBEDDED / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{config} can't be read as JSON: {error}. Give the config.json of a HuBERT.") from error
    if not isinstance(given, dict) or given.get("model_type") != "hubert":
        raise InputError(f"{config} is no configuration of a HuBERT: its model_type is another. Name one that is.")
    given = {k: v for k, v in given.items() if k not in ("architectures", "model_type", "transformers_version")}
    weights = ""
    frames_of: FramesOf
    if units_of == "mfcc":
        frames_of = MfccFrames()
    else:
        name, _, layer = units_of.rpartition("@")
        if not name:
            raise InputError(f"{units_of!r} names no layer. Write ENCODER@LAYER, or mfcc.")
        watch.say(f"Loading {name} …")
        encoder = load_encoder(name, device=device, precision="float32", show_download=not quiet)
        frames_of, weights = layer_frames(encoder, layer), encoder.weights_hash()
    plan = PretrainPlan(
        config=json.dumps(given, sort_keys=True),
        units_of=units_of if units_of == "mfcc" else f"{Path(units_of).name}",
        units_weights=weights,
        n_units=units,
        steps=steps,
        batch_size=batch_size,
        crop_seconds=crop_seconds,
        learning_rate=learning_rate,
        warmup=0.08,
        clip=5.0,
        mask_share=0.08,
        mask_span=10,
        held_out=0.05,
        every=every,
        precision=precision,
        seed=seed,
    )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    extractor = AutoFeatureExtractor.from_pretrained(EMBEDDED)
    done = pretrain_stage(table, plan, frames_of, out=out, extractor=extractor, device=device, watch=watch)
    last = done.log.iloc[-1]
    say(
        f"{out}: {100 * last['accuracy']:.1f} % of held-out speakers' hidden frames told right (the most frequent "
        f"unit: {100 * last['chance']:.1f} %); {len(done.quarantine)} sounds could not be used.",
        quiet=quiet,
    )
    say_quarantined(done.quarantine, quiet=quiet, file=out / "quarantine.csv")
    say(f"Next: layerprobe extract MANIFEST --encoder {out} --out caches/own.zarr", quiet=quiet)
