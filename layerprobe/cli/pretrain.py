"""Commands that make an encoder from unlabelled audio: pretrain, distil, and speak, which synthesises the audio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Device, Output, UtterancesPath, choose_device, reported
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE
from layerprobe.probe.pretraining.settings import DistilOptions, PretrainOptions

app = typer.Typer()


@app.command("synthesize", hidden=True)
@app.command(
    epilog="Example: layerprobe synthesise sentences.txt --out speech; then layerprobe pretrain speech/speech.csv …"
)
@reported
def synthesise(
    sentences: Annotated[Path, typer.Argument(help="Text file with one sentence per line.")],
    out: Annotated[Path, typer.Option(help="Folder for the audio files and their manifest, speech.csv.")],
    times: Annotated[
        int, typer.Option(min=1, help="Number of times each sentence is spoken, in a new voice each time.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of voices, rates and pitches.")] = 0,
    *,
    output: Output,
) -> None:
    """Synthesise sentences in many voices, none of them the demo's, as audio for pre-training."""
    from layerprobe.probe.synthesis.spoken_corpus import write_speech_corpus

    try:
        lines = sentences.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{sentences} can't be read as text: {error}. Give a UTF-8 file, a sentence a line."
        ) from error
    manifest = write_speech_corpus(lines, out, times=times, seed=seed, progress=output.progress)
    output.print(f"Next: layerprobe pretrain {manifest} --out models/first")


@app.command(
    epilog="Example: layerprobe pretrain my.csv --out models/first; then "
    "layerprobe pretrain my.csv --label-source models/first@3 --units 200 --out models/second"
)
@reported
def pretrain(
    manifest: UtterancesPath,
    out: Annotated[Path, typer.Option(help="Transformers folder to write; an interrupted pre-training is resumed.")],
    options: PretrainOptions,
    device: Device = None,
    *,
    output: Output,
) -> None:
    """Pre-train a small HuBERT on unlabelled audio by masked prediction of cluster units."""
    from transformers import AutoFeatureExtractor

    from layerprobe.probe.data.read import read_utterances
    from layerprobe.probe.encoders.loading import EMBEDDED, load_audio_encoder
    from layerprobe.probe.pretraining.plans import MFCC, plan_pretraining
    from layerprobe.probe.pretraining.pretrain import FramesOf, layer_frames, pretrain as pretrain_stage
    from layerprobe.probe.pretraining.units import MfccFrames

    progress = output.progress
    table = read_utterances(manifest)
    plan_pretraining(options)  # what is wrong with it is said before an encoder is loaded
    frames_of: FramesOf = MfccFrames()
    weights = ""
    if options.label_source != MFCC:
        name, _, layer = options.label_source.rpartition("@")
        if not name:
            raise InputError(f"{options.label_source!r} names no layer. Write ENCODER@LAYER, or mfcc.")
        progress.log(f"Loading {name} …")
        encoder = load_audio_encoder(name, device=device, precision="float32", show_download=not output.quiet)
        frames_of, weights = layer_frames(encoder, layer), encoder.weights_hash()
    plan = plan_pretraining(options, weights=weights)
    extractor = AutoFeatureExtractor.from_pretrained(EMBEDDED)
    device = choose_device(device)
    done = pretrain_stage(table, plan, frames_of, out=out, extractor=extractor, device=device, progress=progress)
    last = done.log.iloc[-1]
    output.print(
        f"{out}: {100 * last['accuracy']:.1f} % of held-out speakers' hidden frames told right (the most frequent "
        f"unit: {100 * last['chance']:.1f} %); {len(done.quarantine)} sounds could not be used."
    )
    output.print_quarantined(done.quarantine, file=out / QUARANTINE)
    output.print(f"Next: layerprobe extract MANIFEST --encoder {out} --out caches/own.zarr")


@app.command("distill", hidden=True)
@app.command(
    epilog="Example: layerprobe distil my.csv --teacher facebook/hubert-base-ls960 --blocks 2 --out models/student"
)
@reported
def distil(
    manifest: UtterancesPath,
    teacher: Annotated[
        str, typer.Option(help="Speech encoder to distil: a hub name with an optional @revision, or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="Transformers folder to write; an interrupted distillation is resumed.")],
    options: DistilOptions,
    device: Device = None,
    *,
    output: Output,
) -> None:
    """Distil a small student encoder from a larger one, which it learns to predict on unlabelled audio."""
    from layerprobe.probe.data.read import read_utterances
    from layerprobe.probe.encoders.loading import load_model
    from layerprobe.probe.pretraining.distil import distil as distil_stage
    from layerprobe.probe.pretraining.plans import plan_distillation

    progress = output.progress
    table = read_utterances(manifest)
    progress.log(f"Loading {teacher} …")
    loaded = load_model(teacher, show_download=not output.quiet)
    plan = plan_distillation(loaded, options)
    device = choose_device(device)
    done = distil_stage(table, loaded, plan, out=out, device=device, progress=progress)
    first, last = done.log["held_out"].iloc[0], done.log["held_out"].iloc[-1]
    output.print(
        f"{out}: {options.blocks} blocks; the loss on held-out speakers fell from {first:.3f} to {last:.3f}; "
        f"{len(done.quarantine)} sounds could not be heard."
    )
    output.print_quarantined(done.quarantine, file=out / QUARANTINE)
    output.print(f"Next: layerprobe extract MANIFEST --encoder {out} --out caches/student.zarr")
