"""Commands that train encoders on unlabelled audio: synthesise, pretrain, distil."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Device, Output, UtterancesPath, user_command
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import QUARANTINE
from layerprobe.probe.pretraining.settings import DistilOptions, PretrainOptions

app = typer.Typer()
SYNTHESISE_EXAMPLE = (
    "Example: layerprobe synthesise sentences.txt --out speech; then layerprobe pretrain speech/speech.csv …"
)
DISTIL_EXAMPLE = (
    "Example: layerprobe distil my.csv --teacher facebook/hubert-base-ls960 --blocks 2 --out models/student"
)


@app.command("synthesize", hidden=True, epilog=SYNTHESISE_EXAMPLE)
@app.command(epilog=SYNTHESISE_EXAMPLE)
@user_command
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
            "LP763", f"{sentences} can't be read as text: {error}. Give a UTF-8 file with one sentence per line."
        ) from error
    manifest = write_speech_corpus(lines, out, times=times, seed=seed, progress=output.progress)
    output.print(f"Next: layerprobe pretrain {manifest} --out models/first")


@app.command(
    epilog="Example: layerprobe pretrain my.csv --out models/first; then "
    "layerprobe pretrain my.csv --label-source models/first@3 --units 200 --out models/second"
)
@user_command
def pretrain(
    manifest: UtterancesPath,
    out: Annotated[Path, typer.Option(help="Transformers folder to write; an interrupted pre-training is resumed.")],
    options: PretrainOptions,
    device: Device = None,
    *,
    output: Output,
) -> None:
    """Pre-train a small HuBERT on unlabelled audio by masked prediction of cluster units."""
    from layerprobe.probe.data.manifest.read import read_utterances
    from layerprobe.probe.pretraining.pretrain import pretrain as pretrain_stage
    from layerprobe.probe.system import choose_device

    progress = None if output.quiet else output.progress
    trained = pretrain_stage(
        read_utterances(manifest), options, out=out, device=choose_device(device), progress=progress
    )
    last = trained.log.iloc[-1]
    output.print(
        f"{out}: accuracy {100 * last['accuracy']:.1f} % on masked frames of held-out speakers (always predicting the "
        f"most frequent unit: {100 * last['majority_accuracy']:.1f} %); {len(trained.quarantine)} quarantined."
    )
    output.print_quarantined(trained.quarantine, file=out / QUARANTINE)
    output.print(f"Next: layerprobe extract MANIFEST --encoder {out} --out caches/pretrained.zarr")


@app.command("distill", hidden=True, epilog=DISTIL_EXAMPLE)
@app.command(epilog=DISTIL_EXAMPLE)
@user_command
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
    from layerprobe.probe.data.manifest.read import read_utterances
    from layerprobe.probe.pretraining.distil import distil as distil_stage
    from layerprobe.probe.system import choose_device

    progress = None if output.quiet else output.progress
    trained = distil_stage(
        read_utterances(manifest), teacher, options, out=out, device=choose_device(device), progress=progress
    )
    first, last = trained.log["validation_loss"].iloc[0], trained.log["validation_loss"].iloc[-1]
    output.print(
        f"{out}: {options.blocks} blocks; loss on held-out speakers {first:.3f} before and {last:.3f} after training; "
        f"{len(trained.quarantine)} quarantined."
    )
    output.print_quarantined(trained.quarantine, file=out / QUARANTINE)
    output.print(f"Next: layerprobe extract MANIFEST --encoder {out} --out caches/student.zarr")
