"""Commands on the table of utterances: import, validate, describe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import ManifestPath, NoSpeakers, Output, Width, reported

app = typer.Typer(no_args_is_help=True, help="Import, check and describe the table of utterances.")


@app.command("validate", epilog="Example: layerprobe manifest validate my.csv")
@reported
def validate(manifest: ManifestPath, no_speakers: NoSpeakers = False, *, output: Output) -> None:
    """Check every row of a manifest and report all problems together."""
    from layerprobe.probe.data.read import read_manifest

    checked = read_manifest(manifest, speakers=not no_speakers)
    n_speakers = checked.table["speaker_id"].nunique()
    output.print(f"{manifest} is in order: {len(checked.table)} utterances, {n_speakers} speakers.")
    for name, target in checked.header.targets.items():
        ratings = checked.table[name]
        output.print(
            f"  {name}: {ratings.notna().sum()} ratings, mean {ratings.mean():.2f}, standard deviation "
            f"{ratings.std(ddof=0):.2f} on {target.minimum:g} to {target.maximum:g}"
        )
    for name, nominal in checked.header.nominal.items():
        counts = checked.table[name].value_counts().reindex(list(nominal.classes), fill_value=0)
        output.print(f"  {name}: " + ", ".join(f"{c} {n}" for c, n in counts.items()))
    output.print(f"Next: layerprobe extract {manifest} --encoder facebook/hubert-base-ls960 --out caches/NAME.zarr")


@app.command("import", epilog="Example: layerprobe manifest import msp-podcast MSP-PODCAST-1.11 --out msp.csv")
@reported
def from_corpus(
    corpus: Annotated[
        str,
        typer.Argument(help="Corpus: msp-podcast, iemocap, msp-improv, crema-d, ravdess, emo-db, emobox or audformat."),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder of the corpus as it is distributed.")],
    out: Annotated[Path, typer.Option(help="Manifest to write (.csv); its .toml header is written next to it.")],
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of EmoBox; the first by default.")] = None,
    probe_audio: Annotated[
        bool, typer.Option("--probe-audio", help="Read the duration and sampling rate of every audio file.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Import a corpus from its own folders and label files as a manifest."""
    from layerprobe.probe.data.importers.base import write_imported
    from layerprobe.probe.data.importers.durations import with_durations
    from layerprobe.probe.data.importers.registry import import_corpus

    imported = import_corpus(corpus, folder, fold=fold)
    if probe_audio:
        imported = with_durations(imported, progress=output.progress)
    write_imported(imported, out)
    table = imported.table
    known = table["speaker_id"][table["speaker_id"] != "Unknown"].nunique()
    output.print(f"{out}: {len(table)} utterances of {known} known speakers ({imported.header.corpus}).")
    if "split" in table:
        counts = table["split"].value_counts()
        output.print("  " + ", ".join(f"{name!s} {n}" for name, n in counts.items()))
    rated = list(imported.header.targets)
    for name in rated:
        output.print(f"  {name}: mean {table[name].mean():.2f}, standard deviation {table[name].std(ddof=0):.2f}")
    if len(rated) > 1:
        pairs = [(a, b) for k, a in enumerate(rated) for b in rated[k + 1 :]]
        output.print("  r: " + ", ".join(f"{a} and {b} {float(table[a].corr(table[b])):.2f}" for a, b in pairs))
    for name in imported.header.nominal:
        counts = table[name][table[name] != ""].value_counts()
        output.print(f"  {name}: " + ", ".join(f"{c!s} {n}" for c, n in counts.items()))
    for reason, n in imported.dropped.items():
        output.print(f"  left out: {n} ({reason})")
    for remark in imported.warnings:
        output.print(f"  {remark}")
    output.print(f"Next: layerprobe manifest describe {out}")


@app.command("describe", epilog="Example: layerprobe manifest describe my.csv --out described")
@reported
def describe(
    manifest: ManifestPath,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure; NAME-described by default.")] = None,
    width: Width = None,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Describe a corpus in text and a figure: sizes, ratings, inter-rater agreement, speakers per split."""
    from layerprobe.analysis.corpus import describe as describe_corpus
    from layerprobe.figures.layout.style import save
    from layerprobe.figures.layout.width import parse_width
    from layerprobe.figures.plots.corpus import corpus_figure
    from layerprobe.probe.data.read import read_manifest

    inches = None if width is None else parse_width(width)
    checked = read_manifest(manifest, speakers=not no_speakers)
    found = describe_corpus(checked)
    for row in found.sizes.to_dict("records"):
        hours = "" if row["hours"] != row["hours"] else f", {row['hours']:.1f} h"
        unknown = f" and {row['n_unknown']} utterances of unknown ones" if row["n_unknown"] else ""
        output.print(f"{row['split']}: {row['n_utterances']} utterances{hours}, {row['n_speakers']} speakers{unknown}")
    for row in found.ratings.to_dict("records"):
        output.print(
            f"{row['target']}: {row['n']} ratings, mean {row['mean']:.2f}, standard deviation {row['std']:.2f}, "
            f"skewness {row['skewness']:.2f}, {row['lowest']:g} to {row['highest']:g}, "
            f"{100 * row['at_ends']:.1f} % at the ends"
        )
    names = [str(name) for name in found.correlations]
    for k, a in enumerate(names):
        for b in names[k + 1 :]:
            output.print(f"{a} and {b}: r = {float(found.correlations[b][a]):.2f}")
    for one in found.agreement:
        output.print(
            f"{one.target}, {one.raters:.1f} raters an utterance: ICC(1) {one.icc_single:.2f}, of their mean "
            f"{one.icc_mean:.2f}; a rater against the others: CCC {one.leave_one_out:.2f}"
        )
    for target, rows in found.classes.groupby("target", sort=False):
        counts = ", ".join(f"{r['class']} {r['n']}" for r in rows.to_dict("records"))
        output.print(f"{target}: {counts}")
    if len(found.on_both_sides):
        first = found.on_both_sides.iloc[0]
        output.print(
            f"{len(found.on_both_sides)} speakers are on several sides of the split, {first['speaker_id']} first "
            f"({first['splits']})"
        )
    elif "split" in checked.table:
        output.print("no known speaker is on two sides of the split")
    folder = out or manifest.with_name(f"{manifest.stem}-described")
    figure = corpus_figure(checked, found, width=inches)
    paths = save(figure, folder, "corpus", fingerprint=checked.content_hash(), table=found.ratings, width=inches)
    output.print("\n".join(map(str, paths)))
