"""Verbs of the command line about the table of utterances: check, from, describe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Debug, ManifestPath, NoSpeakers, Quiet, Width, reported, say
from layerprobe.probe.progress import watcher

app = typer.Typer(no_args_is_help=True)


@app.command("check", epilog="Example: layerprobe manifest check my.csv")
@reported
def check(manifest: ManifestPath, no_speakers: NoSpeakers = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Check every row of a manifest and name all problems together."""
    from layerprobe.probe.data.read import read_manifest

    checked = read_manifest(manifest, speakers=not no_speakers)
    n_speakers = checked.table["speaker_id"].nunique()
    say(f"{manifest} is in order: {len(checked.table)} utterances, {n_speakers} speakers.", quiet=quiet)
    for name, target in checked.header.targets.items():
        ratings = checked.table[name]
        say(
            f"  {name}: {ratings.notna().sum()} ratings, mean {ratings.mean():.2f}, standard deviation "
            f"{ratings.std(ddof=0):.2f} on {target.minimum:g} to {target.maximum:g}",
            quiet=quiet,
        )
    for name, nominal in checked.header.nominal.items():
        counts = checked.table[name].value_counts().reindex(list(nominal.classes), fill_value=0)
        say(f"  {name}: " + ", ".join(f"{c} {n}" for c, n in counts.items()), quiet=quiet)
    say(f"Next: layerprobe extract {manifest} --encoder facebook/hubert-base-ls960 --out caches/NAME.zarr", quiet=quiet)


@app.command("from", epilog="Example: layerprobe manifest from msp-podcast MSP-PODCAST-1.11 --out msp.csv")
@reported
def from_corpus(
    corpus: Annotated[
        str,
        typer.Argument(help="msp-podcast, iemocap, msp-improv, crema-d, ravdess, emo-db, emobox or audformat."),
    ],
    folder: Annotated[Path, typer.Argument(help="The corpus' folder, as it ships.")],
    out: Annotated[Path, typer.Option(help="The manifest to write, .csv; its header lies beside it.")],
    fold: Annotated[int | None, typer.Option(min=1, help="Of EmoBox; its first if none.")] = None,
    probe_audio: Annotated[
        bool, typer.Option("--probe-audio", help="Open every sound for its duration and sampling rate.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a manifest from a corpus' own folders and label files."""
    from layerprobe.probe.data.importers.base import write_imported
    from layerprobe.probe.data.importers.durations import with_durations
    from layerprobe.probe.data.importers.registry import import_corpus

    imported = import_corpus(corpus, folder, fold=fold)
    if probe_audio:
        imported = with_durations(imported, watch=watcher(quiet=quiet))
    write_imported(imported, out)
    table = imported.table
    known = table["speaker_id"][table["speaker_id"] != "Unknown"].nunique()
    say(f"{out}: {len(table)} utterances of {known} known speakers ({imported.header.corpus}).", quiet=quiet)
    if "split" in table:
        counts = table["split"].value_counts()
        say("  " + ", ".join(f"{name!s} {n}" for name, n in counts.items()), quiet=quiet)
    rated = list(imported.header.targets)
    for name in rated:
        say(f"  {name}: mean {table[name].mean():.2f}, standard deviation {table[name].std(ddof=0):.2f}", quiet=quiet)
    if len(rated) > 1:
        pairs = [(a, b) for k, a in enumerate(rated) for b in rated[k + 1 :]]
        say("  r: " + ", ".join(f"{a} and {b} {float(table[a].corr(table[b])):.2f}" for a, b in pairs), quiet=quiet)
    for name in imported.header.nominal:
        counts = table[name][table[name] != ""].value_counts()
        say(f"  {name}: " + ", ".join(f"{c!s} {n}" for c, n in counts.items()), quiet=quiet)
    for reason, n in imported.dropped.items():
        say(f"  left out: {n} ({reason})", quiet=quiet)
    for remark in imported.remarks:
        say(f"  {remark}", quiet=quiet)
    say(f"Next: layerprobe manifest describe {out}", quiet=quiet)


@app.command("describe", epilog="Example: layerprobe manifest describe my.csv --out described")
@reported
def describe(
    manifest: ManifestPath,
    out: Annotated[Path | None, typer.Option(help="A folder for the picture; NAME-described if none.")] = None,
    width: Width = None,
    no_speakers: NoSpeakers = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print and draw what is checked of a corpus first: sizes, ratings, raters' agreement, speakers of splits."""
    from layerprobe.analysis.corpus import describe as describe_corpus
    from layerprobe.figures.layout.style import WIDTHS, save
    from layerprobe.figures.plots.corpus import corpus_figure
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.exceptions import InputError

    if width is not None and width not in WIDTHS:
        raise InputError(f"width {width!r} is unknown; choose one of {', '.join(WIDTHS)}.")
    checked = read_manifest(manifest, speakers=not no_speakers)
    found = describe_corpus(checked)
    for row in found.sizes.to_dict("records"):
        hours = "" if row["hours"] != row["hours"] else f", {row['hours']:.1f} h"
        unknown = f" and {row['n_unknown']} utterances of unknown ones" if row["n_unknown"] else ""
        say(
            f"{row['split']}: {row['n_utterances']} utterances{hours}, {row['n_speakers']} speakers{unknown}",
            quiet=quiet,
        )
    for row in found.ratings.to_dict("records"):
        say(
            f"{row['target']}: {row['n']} ratings, mean {row['mean']:.2f}, standard deviation {row['std']:.2f}, "
            f"skewness {row['skewness']:.2f}, {row['lowest']:g} to {row['highest']:g}, "
            f"{100 * row['at_ends']:.1f} % at the ends",
            quiet=quiet,
        )
    names = [str(name) for name in found.correlations]
    for k, a in enumerate(names):
        for b in names[k + 1 :]:
            say(f"{a} and {b}: r = {float(found.correlations[b][a]):.2f}", quiet=quiet)
    for one in found.agreement:
        say(
            f"{one.target}, {one.raters:.1f} raters an utterance: ICC(1) {one.icc_single:.2f}, of their mean "
            f"{one.icc_mean:.2f}; a rater against the others: CCC {one.leave_one_out:.2f}",
            quiet=quiet,
        )
    for target, rows in found.classes.groupby("target", sort=False):
        counts = ", ".join(f"{r['class']} {r['n']}" for r in rows.to_dict("records"))
        say(f"{target}: {counts}", quiet=quiet)
    if len(found.on_both_sides):
        first = found.on_both_sides.iloc[0]
        say(
            f"{len(found.on_both_sides)} speakers are on several sides of the split, {first['speaker_id']} first "
            f"({first['splits']})",
            quiet=quiet,
        )
    elif "split" in checked.table:
        say("no known speaker is on two sides of the split", quiet=quiet)
    folder = out or manifest.with_name(f"{manifest.stem}-described")
    figure = corpus_figure(checked, found, width=width)
    paths = save(figure, folder, "corpus", fingerprint=checked.content_hash(), table=found.ratings)
    say("\n".join(map(str, paths)), quiet=quiet)
