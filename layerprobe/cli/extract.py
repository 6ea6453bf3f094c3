"""Commands that run an encoder: extract and check-encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.extract_options import (
    ChosenOptions,
    EmbeddingOptions,
    EncoderOptions,
    ParallelOptions,
    SpanChoice,
)
from layerprobe.cli.options import (
    AudioOptions,
    ManifestPath,
    NoSpeakers,
    Output,
    UpstreamOptions,
    all_quarantined,
    path_or_url,
    user_command,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import clock_text

if TYPE_CHECKING:
    from layerprobe.probe.cache.plan import ExtractionPlan
    from layerprobe.probe.encoders.loading import EncoderSettings
    from layerprobe.probe.extraction.distributed.multiprocess import ExtractionJob
    from layerprobe.probe.extraction.extract import Extraction
    from layerprobe.probe.extraction.settings import ExtractionSettings

app = typer.Typer()


@app.command(
    epilog="Example: layerprobe extract my.csv --encoder facebook/hubert-base-ls960 --out caches/hubert-base.zarr"
)
@user_command
def extract(  # noqa: PLR0913 - each is an option, or a group of them
    context: typer.Context,
    manifest: ManifestPath,
    out: Annotated[
        Path,
        typer.Option(
            parser=path_or_url, metavar="PATH", help="Cache to write (NAME.zarr or s3://…); an existing one is resumed."
        ),
    ],
    upstream: EncoderOptions,
    audio: AudioOptions,
    embedding: EmbeddingOptions,
    span_choice: SpanChoice,
    parallel: ParallelOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be done and needed, and stop.")] = False,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Encode every utterance of a manifest and cache the pooled embeddings of all layers."""
    from layerprobe.probe.cache.layout import CACHE_QUARANTINE
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.extraction.distributed.multiprocess import ExtractionJob
    from layerprobe.probe.extraction.distributed.shards import Shard, extract_shard
    from layerprobe.probe.extraction.extract import plan_extraction, run_extraction
    from layerprobe.probe.extraction.settings import extraction_plan

    if sum(map(bool, (parallel.shard, parallel.processes, parallel.dask, embedding.prune or dry_run))) > 1:
        raise InputError("LP816", "Name one of --shard, --processes and --dask, and none with --prune or --dry-run.")
    shard = Shard.parse(parallel.shard) if parallel.shard else None
    chosen = ChosenOptions(upstream, audio, embedding, span_choice, parallel)
    encoder_settings, settings, given = _chosen_settings(context, chosen, output)
    if parallel.processes or parallel.dask:
        job = ExtractionJob(manifest, not no_speakers, encoder_settings, out, settings)
        _extract_in_parallel(job, parallel, given, output)
        return
    text = (settings.text_column,)
    checked = read_manifest(manifest, speakers=not no_speakers, columns=text, join_names=False)
    progress = output.progress
    progress.log(f"Loading {encoder_settings.name} …")
    encoder = encoder_settings.load(show_download=not output.quiet)
    if given is not None:
        _print_differences(given, extraction_plan(encoder, settings), output)
    if dry_run:
        for line in plan_extraction(checked, encoder, out, settings, progress=progress):
            output.print(line)
        return
    if shard:
        done = extract_shard(checked, encoder, out, shard, settings, progress=progress)
    else:
        done = run_extraction(checked, encoder, out, settings, prune=embedding.prune, progress=progress)
    _print_done(done, output)
    if len(done.quarantine) == len(checked.table) and not shard:
        raise all_quarantined(done.path / CACHE_QUARANTINE, len(done.quarantine))
    if shard:
        output.print(f"Next: layerprobe cache merge {out} {manifest}, when every shard is complete")
        return
    if settings.spans is not None:
        output.print(f"Next: layerprobe sweep {done.path} {manifest} --by position --out runs/first")
        return
    trained = encoder_settings.random_init is None
    caches = str(done.path) if trained else f"TRAINED.zarr --random-weights {done.path}"
    output.print(f"Next: layerprobe sweep {caches} {manifest} --out runs/first")


def _print_done(done: Extraction, output: Output) -> None:
    """Print what an extraction did, what bound it, and what was refused."""
    from layerprobe.probe.cache.layout import CACHE_QUARANTINE

    of_spans = f", {done.n_spans} spans" if done.n_spans else ""
    rate = f" ({done.audio_seconds / done.seconds:.1f} s of audio per s)" if done.audio_seconds else ""
    output.print(
        f"{done.path}: {done.n_extracted} utterances extracted in {clock_text(done.seconds)}{rate}{of_spans}, "
        f"{done.n_cached_before} were cached before, {len(done.quarantine)} quarantined."
    )
    output.print_quarantined(done.quarantine, file=done.path / CACHE_QUARANTINE)
    for sentence in done.remarks:
        output.print(f"  {sentence}")
    if done.n_without_text:
        output.print(
            f"  {done.n_without_text} cached utterances have no transcript; they are encoded as the empty text."
        )
    if done.stages is not None:
        output.print(f"  {done.stages.sentence()}")


def _chosen_settings(
    context: typer.Context, options_given: ChosenOptions, output: Output
) -> tuple[EncoderSettings, ExtractionSettings, ExtractionPlan | None]:
    """Return the settings of the command line, completed from the plan of ``--plan`` where there is one, and that plan.

    Raises:
        InputError: if no encoder is named, a channel is unknown, or the plan does not suffice to find its encoder
    """
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.data.reading import ReadingOptions
    from layerprobe.probe.encoders.loading import EncoderSettings
    from layerprobe.probe.encoders.shipped import is_shipped
    from layerprobe.probe.extraction.settings import ExtractionSettings, encoder_name_in, gone_text, settings_in

    upstream, audio, embedding = options_given.upstream, options_given.audio, options_given.embedding
    poolings = tuple(dict.fromkeys(embedding.pooling)) or None
    if embedding.plan is None:
        if not upstream.encoder:
            raise InputError("LP812", "Name an --encoder, or a --plan whose encoder is used again.")
        settings = ExtractionSettings(poolings, embedding.text_column, embedding.storage_dtype, reading=audio.reading())
        return upstream.settings(), options_given.of(settings), None
    cache = open_cache(embedding.plan)
    plan = cache.plan
    names = (
        *("encoder", "random_init", "adapter", "precision", "forward"),
        *("channel", "trim_silence", "pooling", "text_column", "storage_dtype"),
    )
    sources = {name: context.get_parameter_source(name) for name in names}
    chosen = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    name = upstream.encoder or encoder_name_in(plan, cache.encoder_folder)
    if not name:
        raise InputError("LP826", f"{embedding.plan} {gone_text(plan, cache.encoder_folder)}. Name it with --encoder.")
    if plan.adapter and upstream.adapter is None and not upstream.encoder and not is_shipped(plan.adapter):
        raise InputError("LP827", f"{embedding.plan} was extracted with an adapter. Name its file with --adapter.")
    known = _encoder_settings_in(plan, name, upstream)
    encoder = EncoderSettings(
        name,
        upstream.random_init if "random_init" in chosen else known.random_init,
        upstream.device,
        upstream.adapter,
        upstream.precision if "precision" in chosen else known.precision,
        upstream.forward if "forward" in chosen else known.forward,
    )
    before = settings_in(plan, options_given.spans.of(ExtractionSettings()).spans)
    reading = ReadingOptions(
        audio.channel if "channel" in chosen else before.reading.channel,
        audio.trim_silence if "trim_silence" in chosen else before.reading.trim_silence,
    )
    settings = ExtractionSettings(
        poolings if "pooling" in chosen else before.poolings,
        embedding.text_column if "text_column" in chosen or plan.text_column is None else before.text_column,
        embedding.storage_dtype if "storage_dtype" in chosen else before.storage_dtype,
        reading=reading,
        spans=before.spans,
    )
    options = ", ".join(f"--{name.replace('_', '-')}" for name in names if name in chosen)
    output.print(
        f"Plan of {embedding.plan}" + (f"; {options} of the command line instead of its own." if options else ".")
    )
    return encoder, options_given.of(settings), plan


def _encoder_settings_in(plan: ExtractionPlan, name: str, upstream: EncoderOptions) -> EncoderSettings:
    """Return what a plan states of its encoder, as far as an encoder of another kind has it, too."""
    from layerprobe.probe.encoders.embedded import OWN
    from layerprobe.probe.encoders.loading import ACOUSTIC, EncoderSettings
    from layerprobe.probe.encoders.text import reads_text

    if name == ACOUSTIC:  # no network
        return EncoderSettings(name)
    settings = EncoderSettings(name, plan.random_init, precision=plan.precision, forward=plan.forward_option)
    is_other = upstream.encoder and upstream.encoder != OWN and upstream.adapter is None
    if plan.precision != "float32" and is_other and reads_text(name):
        return replace(settings, precision="float32")  # the only one of text encoders
    return settings


def _extract_in_parallel(
    job: ExtractionJob, parallel: ParallelOptions, given: ExtractionPlan | None, output: Output
) -> None:
    """Fill a cache by several processes or on Dask, and print what was done."""
    from layerprobe.probe.cache.layout import CACHE_QUARANTINE, read_quarantine
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.extraction.distributed.dask import extract_on_dask
    from layerprobe.probe.extraction.distributed.multiprocess import extract_in_processes
    from layerprobe.probe.extraction.remarks import AudioRemarks

    if parallel.dask:
        added, where = extract_on_dask(job, parallel.dask, progress=output.progress), "on Dask"
    else:
        added = extract_in_processes(job, parallel.processes or 1, progress=output.progress)
        where = f"by {parallel.processes} processes"
    refused = read_quarantine(job.out)
    rows = "utterances" if job.settings.spans is None else "spans"
    output.print(f"{job.out}: {added} {rows} extracted {where}, {len(refused)} quarantined.")
    output.print_quarantined(refused, file=job.out / CACHE_QUARANTINE)
    for sentence in AudioRemarks(job.out).sentences():
        output.print(f"  {sentence}")
    cache = open_cache(job.out)
    if given is not None:
        _print_differences(given, cache.plan, output)
    if not cache.n_utterances:
        raise all_quarantined(job.out / CACHE_QUARANTINE, len(refused))
    by = "" if cache.spans is None else "--by position "
    output.print(f"Next: layerprobe sweep {job.out} {job.manifest} {by}--out runs/first")


def _print_differences(given: ExtractionPlan, plan: ExtractionPlan, output: Output) -> None:
    """Print one line if a plan differs from the one of ``--plan``, with the fields that do."""
    if differences := plan.differences(given):
        output.print(f"The plan differs from that of --plan: {'; '.join(differences)}.")


@app.command("check-encoder", epilog="Example: layerprobe check-encoder --encoder facebook/hubert-base-ls960")
@user_command
def check_encoder(
    upstream: UpstreamOptions,
    audio: AudioOptions,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest on whose audio the numerical precision is measured.")
    ] = None,
    *,
    output: Output,
) -> None:
    """Check that an encoder's layers are read correctly, and measure its speed and precision."""
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.encoders.diagnostics import how_encoded, measure, run_checks
    from layerprobe.probe.encoders.loading import load_audio_encoder
    from layerprobe.probe.extraction.estimate import sample_waveforms

    encoder, reading = upstream.encoder, audio.reading()
    if encoder == "acoustic":
        raise InputError(
            "LP828", "acoustic features have no network to check. They need no check: run layerprobe extract."
        )
    output.progress.log(f"Loading {encoder} …")
    loaded = load_audio_encoder(
        encoder,
        random_init=upstream.random_init,
        device=upstream.device,
        adapter=upstream.adapter,
        precision=upstream.precision,
        forward=upstream.forward,
        show_download=not output.quiet,
    )
    checks = run_checks(loaded)
    for check in checks:
        output.print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.found}")
    table = None if manifest is None else read_manifest(manifest, speakers=False, join_names=False).table
    waveforms = None if table is None else sample_waveforms(table, loaded, reading=reading)
    for measurement in measure(loaded, waveforms):
        output.print(f"        {measurement.name}: {measurement.found}")
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise InputError(
            "LP829", f"{encoder} fails {len(failed)} of {len(checks)} checks: {'; '.join(failed)}. Correct its adapter."
        )
    output.print(f"{loaded.architecture}: {how_encoded(loaded)}, {loaded.precision}.")
