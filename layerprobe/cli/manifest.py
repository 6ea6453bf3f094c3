"""Commands on the table of utterances: init, import, spans, validate, describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.import_options import SourceOptions
from layerprobe.cli.options import ManifestPath, NoSpeakers, Output, SameSpeaker, Width, user_command
from layerprobe.cli.several_values import SeveralValues
from layerprobe.cli.trace_options import TraceOptions

if TYPE_CHECKING:
    from layerprobe.probe.data.importers.base import Imported
    from layerprobe.probe.data.traces.span_ratings import RatedSpans

WARNINGS_SHOWN = 10  # of one name

app = typer.Typer(no_args_is_help=True, help="Write, import, check and describe the table of utterances.")


@app.command("init", epilog="Example: layerprobe manifest init my.csv")
@user_command
def init(
    table: Annotated[Path, typer.Argument(help="Table of utterances (.csv or .parquet) without a header.")],
    *,
    output: Output,
) -> None:
    """Write a .toml header for a table, with scales guessed from its ratings; an existing header is kept."""
    from layerprobe.probe.data.manifest.draft_header import draft_header, write_draft

    draft = draft_header(table)
    write_draft(draft)
    n_targets = sum(t.scale is not None for t in draft.targets) + len(draft.classes)
    output.print(
        f"{draft.path} written: {n_targets} target{'' if n_targets == 1 else 's'}. Check, and edit where wrong:"
    )
    output.print(f"  corpus: named {draft.path.stem!r} after the file")
    for target in draft.targets:
        ratings = f"ratings from {target.low:g} to {target.high:g}"
        if target.scale is None:
            output.print(
                f"  {target.name}: {ratings}, no usual scale; left in a comment, state its scale if it is a target"
            )
        else:
            low, high = target.scale
            output.print(f"  {target.name}: scale {low:g} to {high:g}, guessed ({ratings})")
    for name, classes in draft.classes.items():
        output.print(f"  {name}: classes {', '.join(classes)}")
    if draft.other:
        output.print(f"  no targets: {', '.join(draft.other)}")
    if draft.missing:
        output.print(f"{table} lacks the column{'' if len(draft.missing) == 1 else 's'} {', '.join(draft.missing)}.")
    output.print(f"Next: layerprobe manifest validate {table}")


@app.command("validate", epilog="Example: layerprobe manifest validate my.csv --audio")
@user_command
def validate(
    manifest: ManifestPath,
    audio: Annotated[bool, typer.Option("--audio", help="Decode every audio file, too; this takes a while.")] = False,
    no_speakers: NoSpeakers = False,
    same_speaker: SameSpeaker = None,
    *,
    output: Output,
) -> None:
    """Check every row of a manifest; report all errors together, or warnings of doubtful entries."""
    from layerprobe.probe.data.manifest.read import read_numbered_manifest, unknown_text
    from layerprobe.probe.data.manifest.schema import ROW_COUNTING
    from layerprobe.probe.data.manifest_warnings import manifest_warnings
    from layerprobe.probe.splits import UNKNOWN_SPEAKER

    numbered = read_numbered_manifest(manifest, speakers=not no_speakers, same_speaker=same_speaker or ())
    warnings = manifest_warnings(numbered, audio=audio, progress=output.progress)
    checked = numbered.manifest
    for name, target in checked.header.targets.items():
        ratings = checked.table[name]
        output.print(
            f"  {name}: {ratings.notna().sum()} ratings, mean {ratings.mean():.2f}, standard deviation "
            f"{ratings.std(ddof=0):.2f} on {target.minimum:g} to {target.maximum:g}"
        )
    for name, nominal in checked.header.nominal.items():
        counts = checked.table[name].value_counts().reindex(list(nominal.classes), fill_value=0)
        output.print(f"  {name}: " + ", ".join(f"{c} {n}" for c, n in counts.items()))
    n_unknown = int((checked.table["speaker_id"] == UNKNOWN_SPEAKER).sum())
    if n_unknown:
        spelled = f" (written {unknown_text(numbered.unknown)})" if set(numbered.unknown) - {UNKNOWN_SPEAKER} else ""
        output.print(f"  unknown speakers: {n_unknown} utterances{spelled}, each counts as a speaker of its own")
    shown: dict[str, int] = {}
    for warning in warnings:
        shown[warning.name] = shown.get(warning.name, 0) + 1
        if shown[warning.name] <= WARNINGS_SHOWN:
            output.print(f"warning {warning}.")
    for name, n in shown.items():
        if n > WARNINGS_SHOWN:
            output.print(f"… and {n - WARNINGS_SHOWN} more warnings [{name}]")
    if warnings:
        output.print(ROW_COUNTING)
    counts_text = f"{len(checked.table)} utterances, {checked.n_speakers} speakers"
    n = len(warnings)
    output.print(f"{counts_text}, {n} warning{'' if n == 1 else 's'}." if n else f"{counts_text}: valid.")
    output.print(f"Next: layerprobe extract {manifest} --encoder facebook/hubert-base-ls960 --out caches/NAME.zarr")


@app.command(
    "import",
    cls=SeveralValues,
    epilog="Example: layerprobe manifest import hf my-dataset --map arousal=EmoAct --scale arousal=1:7 --out my.csv",
)
@user_command
def import_(
    corpus: Annotated[
        str,
        typer.Argument(
            help="Corpus: msp-podcast, iemocap, msp-improv, msp-conversation, recola, crema-d, ravdess, emo-db, emobox "
            "or audformat; or format of a dataset: hf, webdataset, lhotse or table."
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of the corpus as it is distributed; a Hugging Face dataset's folder or hub name, shards such "
            "as 'shard-{000..010}.tar', cuts.jsonl.gz, or a table."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Manifest to write (.csv); its .toml header is written next to it.")],
    probe_audio: Annotated[
        bool, typer.Option("--probe-audio", help="Read the duration and sampling rate of every audio file.")
    ] = False,
    *,
    options: SourceOptions,
    output: Output,
) -> None:
    """Import a corpus from its own folders and label files, or a dataset in a common format, as a manifest."""
    from layerprobe.probe.data.importers.base import write_imported
    from layerprobe.probe.data.importers.durations import with_durations
    from layerprobe.probe.data.importers.registry import import_corpus

    imported = import_corpus(corpus, source, options.settings())
    if probe_audio:
        imported = with_durations(imported, progress=output.progress)
    write_imported(imported, out)
    for line in _import_summary(imported, out):
        output.print(line)
    output.print(f"Next: layerprobe manifest describe {out}")


def _import_summary(imported: Imported, out: Path) -> list[str]:
    """Return lines on an imported corpus: splits, ratings, remarks, and what was written and skipped."""
    table = imported.table
    lines = [f"{out} ({imported.header.corpus}):"]
    if "split" in table:
        counts = table["split"].value_counts()
        lines.append("  " + ", ".join(f"{name!s} {n}" for name, n in counts.items()))
    rated = list(imported.header.targets)
    for name in rated:
        lines.append(f"  {name}: mean {table[name].mean():.2f}, standard deviation {table[name].std(ddof=0):.2f}")
    if len(rated) > 1:
        pairs = [(a, b) for k, a in enumerate(rated) for b in rated[k + 1 :]]
        lines.append("  r: " + ", ".join(f"{a} and {b} {float(table[a].corr(table[b])):.2f}" for a, b in pairs))
    for name in imported.header.nominal:
        counts = table[name][table[name] != ""].value_counts()
        lines.append(f"  {name}: " + ", ".join(f"{c!s} {n}" for c, n in counts.items()))
    return [*lines, *(f"  {warning}" for warning in imported.warnings), imported.summary()]


@app.command(
    "spans",
    cls=SeveralValues,
    epilog="Example: layerprobe manifest spans recola RECOLA recola.csv --every 1 --window 2 --lag 3 --out spans.csv",
)
@user_command
def spans(
    trace_format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="Format of the traces: msp-conversation, recola, or table (CSV with a column time, and one for each "
            "target).",
        ),
    ],
    traces: Annotated[
        Path,
        typer.Argument(
            metavar="TRACES",
            help="Folder of the corpus as it is distributed; a table, or a folder with one for each utterance.",
        ),
    ],
    manifest: ManifestPath,
    out: Annotated[
        Path, typer.Option(help="Table of spans to write (.csv); a .toml with scales is written next to it.")
    ],
    *,
    options: TraceOptions,
    output: Output,
) -> None:
    """Write a table of spans with their ratings, which are means of ratings in time (traces) of several raters."""
    from layerprobe.probe.data.importers.base import check_csv
    from layerprobe.probe.data.importers.durations import audio_lengths
    from layerprobe.probe.data.manifest.read import read_utterances
    from layerprobe.probe.data.traces.registry import read_trace_source
    from layerprobe.probe.data.traces.span_ratings import rate_spans
    from layerprobe.probe.data.traces.write import check_free, write_rated_spans

    chosen = options.of_spans()
    check_csv(out)
    check_free(out, manifest, inputs=[traces, *([] if options.spans is None else [options.spans])])
    source = read_trace_source(trace_format, traces, targets=options.targets, scales=options.of_scales())
    utterances = read_utterances(manifest, missing_files=True)
    lengths: dict[str, float] = {}
    if chosen.path is None:
        has_traces = [place is not None for place in source.places(utterances)]
        with_traces = utterances["path"][has_traces].tolist()
        lengths = {path: one[0] for path, one in audio_lengths(with_traces, progress=output.progress).items()}
    rated = rate_spans(
        utterances, chosen.read(utterances), source, lag=options.lag, lengths=lengths, progress=output.progress
    )
    write_rated_spans(rated, out, corpus=source.corpus, lag=options.lag, spans=chosen.in_plan.partition(";")[0])
    for line in _span_summary(rated, out, lag=options.lag):
        output.print(line)
    output.print(f"Next: layerprobe extract {manifest} --encoder acoustic --out caches/spans.zarr --spans {out}")
    output.print(f"      layerprobe sweep caches/spans.zarr {manifest} --spans {out} --out runs/spans")


def _span_summary(rated: RatedSpans, out: Path, *, lag: float) -> list[str]:
    """Return lines on rated spans: how many, the agreement on each target, remarks and what was left out."""
    from layerprobe.probe.data.importers.base import counted

    table = rated.table
    of = counted(table["utterance_id"].nunique(), "utterance")
    lines = [f"{out}: {counted(len(table), 'span')} of {of}, lag {lag:g} s"]
    for name, n_unrated in rated.n_unrated.items():
        ratings = table[name]
        lines.append(
            f"  {name}: mean {ratings.mean():.2f}, standard deviation {ratings.std(ddof=0):.2f}; "
            f"{rated.agreement[name]}"
        )
        if n_unrated:
            lines.append(f"  {name}: {counted(n_unrated, 'span')} without a rating, left empty")
    lines += [f"  {remark}" for remark in rated.remarks]
    listed = ", ".join(f"{reason} ({n:,})" for reason, n in rated.dropped.items())
    return [*lines, f"{counted(rated.dropped.total(), 'utterance')} left out{f': {listed}' if listed else ''}."]


@app.command("describe", epilog="Example: layerprobe manifest describe my.csv --out described")
@user_command
def describe(
    manifest: ManifestPath,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure; NAME-described by default.")] = None,
    width: Width = None,
    no_speakers: NoSpeakers = False,
    same_speaker: SameSpeaker = None,
    *,
    output: Output,
) -> None:
    """Describe a corpus in text and a figure: sizes, ratings, inter-rater agreement, speakers per split."""
    from layerprobe.analysis.corpus import describe as describe_corpus
    from layerprobe.figures.layout.style import save
    from layerprobe.figures.layout.width import parse_width
    from layerprobe.figures.plots.corpus import corpus_figure
    from layerprobe.probe.data.manifest.read import read_manifest

    inches = None if width is None else parse_width(width)
    checked = read_manifest(manifest, speakers=not no_speakers, same_speaker=same_speaker or ())
    description = describe_corpus(checked)
    output.print(description.summary())
    folder = out or manifest.with_name(f"{manifest.stem}-described")
    figure = corpus_figure(checked, description, width=inches)
    paths = save(figure, folder, "corpus", fingerprint=checked.content_hash(), table=description.ratings, width=inches)
    output.print("\n".join(map(str, paths)))
