"""Commands on transcripts: transcribe, asr-impact."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Device, ManifestPath, NoSpeakers, Output, choose_device, reported
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.options import option

app = typer.Typer()


@dataclass(frozen=True)
class TranscriptOptions:
    """Where transcripts come from, and which column they fill."""

    asr: str | None = option(None, help="Speech recogniser: a hub name with an optional @revision, or a folder.")
    from_folder: Path | None = option(
        None, name="from", help="Folder of transcripts (MSP-Podcast's, IEMOCAP's) to read instead of recognising."
    )
    column: str | None = option(
        None, help="Column to fill: transcript by default, asr_transcript where there are human transcripts."
    )
    language: str | None = option(None, help="Language of the audio, for a recogniser that knows several.")


@app.command(epilog="Example: layerprobe transcribe my.csv --asr openai/whisper-small.en")
@reported
def transcribe(
    manifest: ManifestPath,
    source: TranscriptOptions,
    out: Annotated[Path | None, typer.Option(help="Manifest to write; NAME-transcribed.csv by default.")] = None,
    device: Device = None,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Write a manifest with transcripts from a folder or a speech recogniser; existing transcripts are kept."""
    from layerprobe.probe.data.asr import load_recogniser, transcribe as transcribe_stage
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.data.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.data.transcripts import read_transcripts, with_transcripts
    from layerprobe.probe.data.write import write_manifest

    if (source.asr is None) == (source.from_folder is None):
        raise InputError("Say where the words shall come from: --asr RECOGNISER, or --from FOLDER.")
    progress = output.progress
    checked = read_manifest(manifest, speakers=not no_speakers)
    out = out or manifest.with_name(f"{manifest.stem}-transcribed.csv")
    if out.resolve() == manifest.resolve():
        raise InputError("The new manifest would overwrite the old one. Name another --out.")
    has_words = TRANSCRIPT in checked.table and bool((checked.table[TRANSCRIPT].str.strip() != "").any())
    if source.from_folder is not None:
        found = read_transcripts(source.from_folder)
        column = source.column or TRANSCRIPT
        table = with_transcripts(checked.table, found, column=column)
        n = int((table[column] != "").sum())
        output.print(f"{found.kind}: {n} of {len(table)} utterances have words.")
    else:
        column = source.column or (ASR_TRANSCRIPT if has_words else TRANSCRIPT)
        progress.log(f"Loading {source.asr} …")
        recogniser = load_recogniser(str(source.asr), device=choose_device(device), language=source.language)
        notes = out.with_suffix(".asr-progress.jsonl")
        done = transcribe_stage(checked.table, recogniser, column=column, notes=notes, progress=progress)
        table = done.table
        output.print(
            f"{recogniser.name}: {done.n_encoded} utterances transcribed, {done.n_without_text} without a word, "
            f"{len(done.quarantine)} could not be heard."
        )
        output.print_quarantined(done.quarantine)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.parent.resolve() == manifest.parent.resolve():  # paths of the manifest begin at its folder
        folder = manifest.parent.resolve()
        table = table.assign(path=[_shown(Path(str(p)), folder) for p in table["path"]])
    write_manifest(out, table, checked.header)
    if source.from_folder is None:
        notes.unlink()
    if TRANSCRIPT in table and ASR_TRANSCRIPT in table:
        output.print(_error_text(table))
    output.print(f"Next: layerprobe extract {out} --encoder distilbert-base-uncased --out caches/text.zarr")


@app.command(
    "asr-impact",
    epilog="Example: layerprobe asr-impact my-transcribed.csv --text-encoder distilbert-base-uncased --out runs/asr-impact",
)
@reported
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
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.data.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.encoders.text import load_text_encoder
    from layerprobe.probe.extraction.extract import extract
    from layerprobe.probe.sweep.settings import plan_sweep
    from layerprobe.probe.sweep.sweep import sweep

    progress = output.progress
    checked = read_manifest(manifest, speakers=not no_speakers)
    missing = [c for c in (TRANSCRIPT, ASR_TRANSCRIPT) if c not in checked.table]
    if missing:
        raise InputError(f"{manifest} has no column {missing[0]!r}. layerprobe transcribe makes it.")
    progress.log(f"Loading {text_encoder} …")
    encoder = load_text_encoder(text_encoder, device=device, show_download=not output.quiet)
    caches = []
    for name, words in (("people", TRANSCRIPT), ("recogniser", ASR_TRANSCRIPT)):
        extract(checked, encoder, out / f"{name}.zarr", text_column=words, progress=progress)
        caches.append(open_cache(out / f"{name}.zarr"))
    plan = plan_sweep(checked, folds=folds, weighted_sum_seeds=0, permutations=1, speakers=not no_speakers)
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    sweep(caches, checked, plan, out=out, command=command, progress=progress)
    output.print(_error_text(checked.table))
    output.print(scores_text(compare([out])))
    output.print(f"{out}: what stands beside the second is its difference from the first.")


def _error_text(table: object) -> str:
    import pandas as pd

    from layerprobe.analysis.findings.formatting import ranged
    from layerprobe.analysis.statistics.word_error_rate import error_rates
    from layerprobe.probe.data.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.data.word_errors import word_error_table

    assert isinstance(table, pd.DataFrame)
    errors = word_error_table(table, reference=TRANSCRIPT, heard=ASR_TRANSCRIPT)
    if errors.empty:
        return "No utterance has people's words, so there is no word error rate."
    rates = error_rates(errors)
    whole = rates.pop("word error rate")
    parts = ", ".join(f"{name} {rate.estimate:.3f}" for name, rate in rates.items())
    return f"Word error rate {ranged(vars(whole), digits=3)} over {int(errors['n_words'].sum())} words: {parts}."


def _shown(path: Path, folder: Path) -> str:
    """Relative to the manifest where it lies below it."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
