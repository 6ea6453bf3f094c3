"""Verbs of the command line about transcripts: transcribe, asr-cost."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Debug, Device, ManifestPath, NoSpeakers, Quiet, reported, say, say_quarantined
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import watcher

app = typer.Typer()


@app.command(epilog="Example: layerprobe transcribe my.csv --asr openai/whisper-small.en")
@reported
def transcribe(
    manifest: ManifestPath,
    asr: Annotated[str | None, typer.Option(help="A recogniser: a hub name with @revision, or a folder.")] = None,
    from_folder: Annotated[
        Path | None, typer.Option("--from", help="A folder of transcripts (MSP-Podcast's, IEMOCAP's) instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The manifest to write; NAME-transcribed.csv if none.")] = None,
    column: Annotated[
        str | None, typer.Option(help="To be filled; asr_transcript if there are people's transcripts.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Of a recogniser that knows several.")] = None,
    device: Device = None,
    no_speakers: NoSpeakers = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a manifest with transcripts, from a folder or by a speech recogniser; words that are there are kept."""
    import torch

    from layerprobe.probe.data.asr import load_recogniser, transcribe as transcribe_stage
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.data.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.data.transcripts import read_transcripts, with_transcripts
    from layerprobe.probe.data.write import write_manifest

    if (asr is None) == (from_folder is None):
        raise InputError("Say where the words shall come from: --asr RECOGNISER, or --from FOLDER.")
    watch = watcher(quiet=quiet)
    checked = read_manifest(manifest, speakers=not no_speakers)
    out = out or manifest.with_name(f"{manifest.stem}-transcribed.csv")
    if out.resolve() == manifest.resolve():
        raise InputError("The new manifest would overwrite the old one. Name another --out.")
    has_words = TRANSCRIPT in checked.table and bool((checked.table[TRANSCRIPT].str.strip() != "").any())
    if from_folder is not None:
        found = read_transcripts(from_folder)
        table = with_transcripts(checked.table, found, column=column or TRANSCRIPT)
        n = int((table[column or TRANSCRIPT] != "").sum())
        say(f"{found.kind}: {n} of {len(table)} utterances have words.", quiet=quiet)
    else:
        column = column or (ASR_TRANSCRIPT if has_words else TRANSCRIPT)
        watch.say(f"Loading {asr} …")
        recogniser = load_recogniser(
            str(asr), device=device or ("cuda" if torch.cuda.is_available() else "cpu"), language=language
        )
        notes = out.with_suffix(".heard.jsonl")
        done = transcribe_stage(checked.table, recogniser, column=column, notes=notes, watch=watch)
        table = done.table
        say(
            f"{recogniser.name}: {done.n_heard} utterances transcribed, {done.n_wordless} without a word, "
            f"{len(done.quarantine)} could not be heard.",
            quiet=quiet,
        )
        say_quarantined(done.quarantine, quiet=quiet)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.parent.resolve() == manifest.parent.resolve():  # paths of the manifest begin at its folder
        folder = manifest.parent.resolve()
        table = table.assign(path=[_shown(Path(str(p)), folder) for p in table["path"]])
    write_manifest(out, table, checked.header)
    if from_folder is None:
        notes.unlink()
    if TRANSCRIPT in table and ASR_TRANSCRIPT in table:
        say(_error_text(table), quiet=quiet)
    say(f"Next: layerprobe extract {out} --encoder distilbert-base-uncased --out caches/text.zarr", quiet=quiet)


@app.command(
    "asr-cost",
    epilog="Example: layerprobe asr-cost my-transcribed.csv --text distilbert-base-uncased --out runs/asr-cost",
)
@reported
def asr_cost(
    manifest: ManifestPath,
    text: Annotated[str, typer.Option(help="The text encoder that reads both.")],
    out: Annotated[Path, typer.Option(help="The run folder, with both caches in it.")],
    folds: Annotated[
        int | None, typer.Option(help="Speaker-disjoint folds; the manifest's split if it has one.")
    ] = None,
    device: Device = None,
    no_speakers: NoSpeakers = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a recogniser's words cost against people's: word errors, and scores of each rating on the same folds."""
    from layerprobe.analysis.model_comparison import compare
    from layerprobe.cli.compare import scores_text
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.data.schema import ASR_TRANSCRIPT, TRANSCRIPT
    from layerprobe.probe.encoders.text import load_text_encoder
    from layerprobe.probe.extraction.extract import extract
    from layerprobe.probe.sweep.settings import plan_sweep
    from layerprobe.probe.sweep.sweep import sweep

    watch = watcher(quiet=quiet)
    checked = read_manifest(manifest, speakers=not no_speakers)
    missing = [c for c in (TRANSCRIPT, ASR_TRANSCRIPT) if c not in checked.table]
    if missing:
        raise InputError(f"{manifest} has no column {missing[0]!r}. layerprobe transcribe makes it.")
    watch.say(f"Loading {text} …")
    encoder = load_text_encoder(text, device=device, show_download=not quiet)
    caches = []
    for name, words in (("people", TRANSCRIPT), ("recogniser", ASR_TRANSCRIPT)):
        extract(checked, encoder, out / f"{name}.zarr", words=words, watch=watch)
        caches.append(open_cache(out / f"{name}.zarr"))
    plan = plan_sweep(checked, folds=folds, mix_seeds=0, permutations=1, speakers=not no_speakers)
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    sweep(caches, checked, plan, out=out, command=command, watch=watch)
    say(_error_text(checked.table), quiet=quiet)
    say(scores_text(compare([out])), quiet=quiet)
    say(f"{out}: what stands beside the second is its difference from the first.", quiet=quiet)


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
