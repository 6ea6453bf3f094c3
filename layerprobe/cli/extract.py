"""Commands that run an encoder: extract and check-encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from layerprobe.cli.options import ManifestPath, NoSpeakers, Output, UpstreamOptions, cache_path, reported
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import clock_text
from layerprobe.probe.training.options import option

app = typer.Typer()


@dataclass(frozen=True)
class EmbeddingOptions:
    """What is pooled of each utterance, and how a cache holds it."""

    pooling: tuple[str, ...] = option(
        (),
        help="Pooling over frames (repeatable): mean, std, max, min, first_third, last_third, first_token or "
        "normed_mean; by default mean and std of speech, mean and first_token of text.",
    )
    text_column: str = option("transcript", help="Column of the manifest that a text encoder reads.")
    storage_dtype: str = option("float32", help="Data type of the stored embeddings: float32 or float16.")
    prune: bool = option(False, help="Remove rows of utterances that the manifest no longer has.")


@dataclass(frozen=True)
class ParallelOptions:
    """Who encodes: threads here, processes, several machines."""

    jobs: int | None = option(None, low=1, help="Utterances encoded in parallel; one per core by default.")
    shard: str | None = option(None, help="Shard to fill, NUMBER/OF such as 3/16; cache merge joins all shards.")
    processes: int | None = option(None, low=1, help="Number of processes, each with a GPU where there are some.")
    dask: str | None = option(None, help="Address of a Dask scheduler whose workers fill the cache.")


@app.command(
    epilog="Example: layerprobe extract my.csv --encoder facebook/hubert-base-ls960 --out caches/hubert-base.zarr"
)
@reported
def extract(
    manifest: ManifestPath,
    out: Annotated[
        Path,
        typer.Option(
            parser=cache_path, metavar="PATH", help="Cache to write (NAME.zarr or s3://…); an existing one is resumed."
        ),
    ],
    upstream: UpstreamOptions,
    embedding: EmbeddingOptions,
    parallel: ParallelOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be done and needed, and stop.")] = False,
    no_speakers: NoSpeakers = False,
    *,
    output: Output,
) -> None:
    """Encode every utterance of a manifest and cache the pooled embeddings of all layers."""
    from layerprobe.probe.cache.layout import CACHE_QUARANTINE, read_quarantine
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.encoders.loading import load_encoder
    from layerprobe.probe.extraction.dask import extract_on_dask
    from layerprobe.probe.extraction.extract import extract as extract_stage, rehearse
    from layerprobe.probe.extraction.multiprocess import ExtractionJob, extract_in_processes
    from layerprobe.probe.extraction.shards import Shard, extract_shard

    if sum(map(bool, (parallel.shard, parallel.processes, parallel.dask, embedding.prune or dry_run))) > 1:
        raise InputError("Name one of --shard, --processes and --dask, and none with --prune or --dry-run.")
    shard = Shard.parse(parallel.shard) if parallel.shard else None
    progress, encoder = output.progress, upstream.encoder
    loading: dict[str, Any] = {k: v for k, v in asdict(upstream).items() if k != "encoder"}
    poolings = tuple(dict.fromkeys(embedding.pooling)) or None
    choices: dict[str, Any] = {
        "poolings": poolings,
        "text_column": embedding.text_column,
        "storage_dtype": embedding.storage_dtype,
        "jobs": parallel.jobs,
    }
    if parallel.processes or parallel.dask:
        asked = ExtractionJob(manifest, not no_speakers, encoder, loading | {"show_download": False}, out, choices)
        if parallel.dask:
            added, whence = extract_on_dask(asked, parallel.dask, progress=progress), "on Dask"
        else:
            added = extract_in_processes(asked, parallel.processes or 1, progress=progress)
            whence = f"by {parallel.processes} processes"
        refused = read_quarantine(out)
        output.print(f"{out}: {added} utterances extracted {whence}, {len(refused)} quarantined.")
        output.print_quarantined(refused, file=out / CACHE_QUARANTINE)
        output.print(f"Next: layerprobe sweep {out} {manifest} --out runs/first")
        return
    checked = read_manifest(manifest, speakers=not no_speakers)
    progress.log(f"Loading {encoder} …")
    loaded = load_encoder(encoder, **loading, show_download=not output.quiet)
    if dry_run:
        for line in rehearse(checked, loaded, out, **choices, progress=progress):
            output.print(line)
        return
    if shard:
        done = extract_shard(checked, loaded, out, shard, **choices, progress=progress)
    else:
        done = extract_stage(checked, loaded, out, prune=embedding.prune, **choices, progress=progress)
    rate = f" ({done.audio_seconds / done.seconds:.1f} s of sound per s)" if done.audio_seconds else ""
    output.print(
        f"{done.path}: {done.n_extracted} utterances extracted in {clock_text(done.seconds)}{rate}, "
        f"{done.n_cached_before} were there already, {len(done.quarantine)} quarantined."
    )
    output.print_quarantined(done.quarantine, file=done.path / CACHE_QUARANTINE)
    if done.n_without_text:
        output.print(f"  {done.n_without_text} of them have no words; they are read as the empty text.")
    if shard:
        output.print(f"Next: layerprobe cache merge {out} {manifest}, when every share is whole")
        return
    caches = str(done.path) if upstream.random_init is None else f"TRAINED.zarr --random-weights {done.path}"
    output.print(f"Next: layerprobe sweep {caches} {manifest} --out runs/first")


@app.command("check-encoder", epilog="Example: layerprobe check-encoder --encoder facebook/hubert-base-ls960")
@reported
def check_encoder(
    upstream: UpstreamOptions,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest on whose audio the numerical precision is measured.")
    ] = None,
    *,
    output: Output,
) -> None:
    """Check that an encoder's layers are read correctly, and measure its speed and precision."""
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.encoders.diagnostics import examine, measure
    from layerprobe.probe.encoders.loading import load_audio_encoder
    from layerprobe.probe.extraction.estimate import sample_sounds

    encoder = upstream.encoder
    if encoder == "acoustic":
        raise InputError("acoustic features are measured, not heard by a network: extract them as they are.")
    output.progress.log(f"Loading {encoder} …")
    choices: dict[str, Any] = {k: v for k, v in asdict(upstream).items() if k != "encoder"}
    loaded = load_audio_encoder(encoder, **choices, show_download=not output.quiet)
    checks = examine(loaded)
    for check in checks:
        output.print(f"{'kept  ' if check.kept else 'BROKEN'}  {check.name}: {check.found}")
    table = None if manifest is None else read_manifest(manifest, speakers=False).table
    sample = None if table is None else sample_sounds(table, loaded)
    for figure in measure(loaded, sample):
        output.print(f"        {figure.name}: {figure.found}")
    broken = [check.name for check in checks if not check.kept]
    if broken:
        raise InputError(f"{encoder} breaks {len(broken)} promises: {'; '.join(broken)}. Correct its adapter.")
    output.print(f"{loaded.architecture}: every utterance will be heard alone, in {loaded.precision}.")
