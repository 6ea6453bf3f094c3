"""Commands on transcripts: transcribe, asr-impact."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.options import (
    AudioOptions,
    Device,
    ManifestPath,
    NoSpeakers,
    Output,
    user_command,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.options import option

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer()


@dataclass(frozen=True)
class TranscriptOptions:
    """Options of the source of transcripts and the column to fill."""

    asr: str | None = option(None, help="Speech recogniser: a hub name with an optional @revision, or a folder.")
    from_folder: Path | None = option(
        None, name="from", help="Folder of transcripts (MSP-Podcast's, IEMOCAP's) to read instead of recognising."
    )
    column: str | None = option(
        None, help="Column to fill: transcript by default, asr_transcript where there are human transcripts."
    )
    language: str | None = option(None, help="Language of the audio, for a multilingual recogniser.")


@app.command(epilog="Example: layerprobe transcribe my.csv --asr openai/whisper-small.en")
@user_command
def transcribe(
    context: typer.Context,
    manifest: ManifestPath,
    source: TranscriptOptions,
    audio: AudioOptions,
    out: Annotated[Path | None, typer.Option(help="Manifest to write; NAME-transcribed.csv by default.")] = None,
    device: Device = None,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Write a manifest with transcripts from a folder or a speech recogniser; existing transcripts are kept."""
    from layerprobe.probe.data.asr import load_recogniser, transcribe as transcribe_stage
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.data.manifest.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.data.manifest.table import unread_columns
    from layerprobe.probe.data.manifest.write import write_manifest
    from layerprobe.probe.data.stored.locations import relative_paths
    from layerprobe.probe.data.transcripts import add_transcripts, read_transcripts
    from layerprobe.probe.lease import leased_file
    from layerprobe.probe.system import choose_device

    if (source.asr is None) == (source.from_folder is None):
        raise InputError("LP816", "Name one source of transcripts: --asr RECOGNISER, or --from FOLDER.")
    progress, reading = output.progress, audio.reading()
    checked = read_manifest(
        manifest, speakers=not no_speakers, columns=(source.column,) if source.column else (), join_names=False
    )
    out = out or manifest.with_name(f"{manifest.stem}-transcribed.csv")
    if out.resolve() == manifest.resolve():
        raise InputError("LP833", "The new manifest would overwrite the old one. Name another --out.")
    context.with_resource(leased_file(out))
    has_text = TRANSCRIPT in checked.table and bool((checked.table[TRANSCRIPT].str.strip() != "").any())
    if source.from_folder is not None:
        found = read_transcripts(source.from_folder)
        column = source.column or TRANSCRIPT
        table = add_transcripts(checked.table, found, column=column)
        n = int((table[column] != "").sum())
        output.print(f"{found.kind}: {n} of {len(table)} utterances have a transcript.")
    else:
        column = source.column or (ASR_TRANSCRIPT if has_text else TRANSCRIPT)
        progress.log(f"Loading {source.asr} …")
        recogniser = load_recogniser(str(source.asr), device=choose_device(device), language=source.language)
        progress_file = out.with_suffix(".asr-progress.jsonl")
        done = transcribe_stage(
            checked.table, recogniser, column=column, progress_file=progress_file, reading=reading, progress=progress
        )
        table = done.table
        output.print(
            f"{recogniser.name}: {done.n_encoded} utterances transcribed, {done.n_without_text} empty transcripts, "
            f"{len(done.quarantine)} utterances could not be used."
        )
        output.print_quarantined(done.quarantine)
        if len(done.quarantine) == len(table):
            progress_file.unlink()
            raise InputError(
                "LP860", f"none of the {len(table)} utterances could be used. Correct the audio or the manifest."
            )
    if other := unread_columns(manifest, table):
        output.print(f"Not copied, for they hold neither texts nor numbers: {', '.join(other)}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.parent.resolve() == manifest.parent.resolve():  # paths of the manifest start at its folder
        folder = manifest.parent.resolve()
        table = table.assign(path=relative_paths(table["path"], folder))
    write_manifest(out, table, checked.header)
    if source.from_folder is None:
        progress_file.unlink()
    if TRANSCRIPT in table and ASR_TRANSCRIPT in table:
        output.print(_word_error_text(table))
    output.print(f"Next: layerprobe extract {out} --encoder distilbert-base-uncased --out caches/text.zarr")


@app.command(
    "asr-impact",
    epilog="Example: layerprobe asr-impact my-transcribed.csv --text-encoder distilbert-base-uncased "
    "--out runs/asr-impact",
)
@user_command
def asr_impact(
    manifest: ManifestPath,
    text_encoder: Annotated[str, typer.Option(help="Text encoder that reads both transcripts.")],
    out: Annotated[Path, typer.Option(help="Run folder to write, with both caches in it.")],
    folds: Annotated[
        int | None, typer.Option(help="Number of speaker-disjoint folds; by default the manifest's split, else 5.")
    ] = None,
    device: Device = None,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Compare scores on recognised and human transcripts on the same folds, with word error rates."""
    from layerprobe.analysis.model_comparison import compare
    from layerprobe.cli.compare import scores_text
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.data.manifest.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.encoders.text import load_text_encoder
    from layerprobe.probe.extraction.extract import extract
    from layerprobe.probe.sweep.settings import plan_sweep
    from layerprobe.probe.sweep.sweep import sweep

    progress = output.progress
    checked = read_manifest(manifest, speakers=not no_speakers)
    missing = [c for c in (TRANSCRIPT, ASR_TRANSCRIPT) if c not in checked.table]
    if missing:
        raise InputError("LP718", f"{manifest} has no column {missing[0]!r}. Add it with layerprobe transcribe.")
    progress.log(f"Loading {text_encoder} …")
    encoder = load_text_encoder(text_encoder, device=device, show_download=not output.quiet)
    caches = []
    for name, column in (("human", TRANSCRIPT), ("recogniser", ASR_TRANSCRIPT)):
        extract(checked, encoder, out / f"{name}.zarr", text_column=column, progress=progress)
        caches.append(open_cache(out / f"{name}.zarr"))
    plan = plan_sweep(checked, folds=folds, weighted_sum_seeds=0, permutations=1, speakers=not no_speakers)
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    sweep(caches, checked, plan, out=out, command=command, progress=progress)
    output.print(_word_error_text(checked.table))
    output.print(scores_text(compare([out])))
    output.print(f"{out}: differences are those of the recogniser's transcripts from the human ones.")


def _word_error_text(table: pd.DataFrame) -> str:
    """Return a sentence on the word error rate with its interval over speakers."""
    from layerprobe.analysis.formatting import ranged
    from layerprobe.analysis.statistics.word_error_rate import error_rates
    from layerprobe.probe.data.manifest.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.data.word_errors import word_error_table

    errors = word_error_table(table, reference=TRANSCRIPT, hypothesis=ASR_TRANSCRIPT)
    if errors.empty:
        return "No utterance has a human transcript, so there is no word error rate."
    rates = error_rates(errors)
    whole = rates.pop("word error rate")
    parts = ", ".join(f"{name} {rate.estimate:.3f}" for name, rate in rates.items())
    return (
        f"Word error rate {ranged(vars(whole), digits=3)} over {int(errors['n_words'].sum())} reference words: {parts}."
    )
