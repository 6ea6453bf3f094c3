"""Commands on caches: info, verify, repair, diff, merge, compact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Jobs, Output, UpstreamOptions, path_or_url, user_command
from layerprobe.probe.exceptions import InputError

app = typer.Typer(no_args_is_help=True, help="Inspect, verify and repair caches of embeddings.")

CachePath = Annotated[
    Path, typer.Argument(parser=path_or_url, metavar="CACHE", help="Cache that extract made (NAME.zarr or s3://…).")
]


@app.command(epilog="Example: layerprobe cache info caches/hubert-base.zarr --manifest my.csv")
@user_command
def info(
    path: CachePath,
    manifest: Annotated[
        Path | None, typer.Option(parser=path_or_url, help="Manifest whose utterances are looked up in the cache.")
    ] = None,
    precision_loss: Annotated[
        bool, typer.Option("--precision-loss", help="Measure the cost of float16 storage on a sample of the manifest.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Show what a cache holds, how it was made, what was quarantined, and its size."""
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.cache.verify import coverage
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.extraction.remarks import AudioRemarks
    from layerprobe.probe.filesystem import size_of
    from layerprobe.probe.sweep.float16_cost import float16_loss

    if precision_loss and manifest is None:
        raise InputError("LP812", "--precision-loss sweeps a sample of the manifest: name a --manifest with ratings.")
    cache = open_cache(path)
    if precision_loss and cache.spans is not None:
        raise InputError(
            "LP831",
            f"--precision-loss sweeps whole utterances, and the rows of {path} are spans. Extract the manifest without "
            "spans into another --out, and measure the loss there.",
        )
    size = size_of(path)
    rows = "utterances" if cache.spans is None else f"spans of {cache.spans.n_parents} utterances"
    output.print(f"{path}: {cache.n_utterances} {rows}, {size / 1e6:.1f} MB, fingerprint {cache.plan.fingerprint()}")
    for line in cache.plan.lines():
        output.print(f"  {line}")
    if cache.n_removed:
        output.print(f"{cache.n_removed} rows were removed; layerprobe cache compact {path} frees their disk space.")
    for reason, count in cache.quarantine["reason"].value_counts().items():
        output.print(f"quarantined: {count} × {reason}")
    for sentence in AudioRemarks(path).sentences():
        output.print(sentence)
    if manifest is None:
        return
    checked = read_manifest(manifest, speakers=False, join_names=False)
    cached, refused, others = coverage(cache, checked.table["utterance_id"].tolist())
    of_cache = "rows of the cache are of utterances" if cache.spans is None else "utterances of the cache are"
    output.print(
        f"{manifest}: {cached} of {len(checked.table)} utterances are cached, {refused} quarantined; {others} "
        f"{of_cache} outside the manifest."
    )
    if precision_loss:
        if not cached:
            raise InputError(
                "LP812",
                f"--precision-loss sweeps a sample of the manifest, and {path} has no utterance of {manifest}. Name "
                "the manifest that it was extracted from.",
            )
        if cache.plan.storage_dtype != "float32":
            raise InputError(
                "LP831",
                f"{path} is stored as {cache.plan.storage_dtype}: the loss against float32 can't be measured any more. "
                "Extract the manifest with --storage-dtype float32 into another --out.",
            )
        table = float16_loss(cache, checked)
        output.print("float16 storage (error in standard deviations of a layer; score: largest change of ccc_matched):")
        output.print(table.to_string(index=False, float_format=lambda x: f"{x:.2g}"))


@app.command(epilog="Example: layerprobe cache verify caches/hubert-base.zarr")
@user_command
def verify(path: CachePath, *, output: Output) -> None:
    """Check every file of a cache against its digest and name the utterances of damaged files."""
    from layerprobe.probe.cache.layout import open_group, read_plan
    from layerprobe.probe.cache.verify import verify as verify_stage
    from layerprobe.probe.data.spans import needs_file

    damages = verify_stage(path, progress=output.progress)
    for damage in damages:
        output.print(damage.summary())
    if damages:
        ids = {name for damage in damages for name in damage.utterance_ids}
        plan = read_plan(path, open_group(path, "r"))
        affected = f", of {len(ids)} {'spans' if plan.spans else 'utterances'}" if ids else ""
        of_file = " --spans SPANS" if needs_file(plan.spans) else ""
        raise InputError(
            "LP832",
            f"{path}: {len(damages)} files are damaged{affected}. Repair them: "
            f"layerprobe cache repair {path} MANIFEST --encoder ENCODER{of_file}",
        )
    output.print(f"{path} is intact.")


@app.command(epilog="Example: layerprobe cache repair caches/h.zarr my.csv --encoder facebook/hubert-base-ls960")
@user_command
def repair(
    path: CachePath,
    manifest: Annotated[
        Path,
        typer.Argument(parser=path_or_url, metavar="MANIFEST", help="Manifest that the cache was extracted from."),
    ],
    upstream: UpstreamOptions,
    spans: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Spans that a cache of given spans was extracted with.")
    ] = None,
    tier: Annotated[str, typer.Option(help="Tier of the TextGrids of --spans.")] = "",
    jobs: Jobs = None,
    *,
    output: Output,
) -> None:
    """Encode the utterances of damaged blocks again, and no others."""
    from layerprobe.probe.cache.layout import CACHE_QUARANTINE, open_group, read_plan
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.data.spans import SpanOptions
    from layerprobe.probe.extraction.repair import repair as repair_stage

    progress = output.progress
    checked = read_manifest(manifest, speakers=False, join_names=False)
    progress.log(f"Loading {upstream.encoder} …")
    settings = upstream.settings()
    if settings.forward == "auto":
        plan = read_plan(path, open_group(path, "r"))
        settings = replace(settings, forward=plan.forward_option)
    encoder = settings.load(show_download=not output.quiet)
    given = SpanOptions(spans, tier) if spans else None
    done = repair_stage(path, checked, encoder, jobs=jobs, spans=given, progress=progress)
    output.print(f"{path}: {len(done.damages)} damaged files, {done.n_encoded} utterances encoded again.")
    output.print_quarantined(done.lost, file=path / CACHE_QUARANTINE)


@app.command(epilog="Example: layerprobe cache diff caches/monday.zarr caches/tuesday.zarr")
@user_command
def diff(
    first: CachePath,
    second: Annotated[
        Path, typer.Argument(parser=path_or_url, metavar="SECOND", help="Cache to compare the first with.")
    ],
    *,
    output: Output,
) -> None:
    """Report how two caches differ: plans, utterances, audio files, embeddings."""
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.cache.verify import differences

    sentences = differences(open_cache(first), open_cache(second))
    for line in sentences or [f"{first} and {second} have the same content."]:
        output.print(line)


@app.command(epilog="Example: layerprobe cache merge caches/hubert-base.zarr my.csv")
@user_command
def merge(
    path: CachePath,
    manifest: Annotated[
        Path, typer.Argument(parser=path_or_url, metavar="MANIFEST", help="Manifest whose shards were extracted.")
    ],
    *,
    output: Output,
) -> None:
    """Merge the shards that extract --shard filled, once all are complete."""
    from layerprobe.probe.data.manifest.read import read_manifest
    from layerprobe.probe.extraction.distributed.shards import merge as merge_stage

    added = merge_stage(path, read_manifest(manifest, speakers=False, join_names=False), progress=output.progress)
    output.print(f"{path}: {added} rows merged.")


@app.command(epilog="Example: layerprobe cache compact caches/hubert-base.zarr")
@user_command
def compact(path: CachePath, *, output: Output) -> None:
    """Rewrite a cache without its removed rows to free their disk space."""
    from layerprobe.probe.cache.compact import compact as compact_stage

    output.print(f"{path}: {compact_stage(path) / 1e6:.1f} MB of disk space were freed.")
