"""The verbs of the command line that look after caches: info, verify, repair, diff, compact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import (
    Adapter,
    Debug,
    Device,
    EncoderName,
    Precision,
    Quiet,
    RandomInit,
    cache_place,
    reported,
    say,
    say_quarantined,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import watcher

app = typer.Typer(no_args_is_help=True, help="Look after a cache: what it holds, whether it is whole.")

CachePath = Annotated[
    Path, typer.Argument(parser=cache_place, metavar="CACHE", help="A cache, NAME.zarr or s3://…, that extract made.")
]


@app.command(epilog="Example: layerprobe cache info caches/hubert-base.zarr --manifest my.csv")
@reported
def info(
    path: CachePath,
    manifest: Annotated[Path | None, typer.Option(help="Says how much of this manifest the cache holds.")] = None,
    precision_loss: Annotated[
        bool, typer.Option("--precision-loss", help="Measure what float16 would cost, on a sample of the manifest.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a cache holds, how it was made, whom it refused, and its size."""
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.cache.verify import coverage
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.filesystem import size_of
    from layerprobe.probe.sweep.float16_cost import float16_loss

    if precision_loss and manifest is None:
        raise InputError("--precision-loss sweeps a sample: name a --manifest with ratings.")
    cache = open_cache(path)
    n, size = len(cache.utterance_ids), size_of(path)
    say(f"{path}: {n} utterances, {size / 1e6:.1f} MB, fingerprint {cache.plan.fingerprint()}", quiet=quiet)
    for line in cache.plan.lines():
        say(f"  {line}", quiet=quiet)
    taken_out = cache.n_rows - n
    if taken_out:
        say(f"{taken_out} rows were taken out; layerprobe cache compact {path} gives their room back.", quiet=quiet)
    for reason, count in cache.quarantine["reason"].value_counts().items():
        say(f"quarantined: {count} × {reason}", quiet=quiet)
    if manifest is None:
        return
    checked = read_manifest(manifest, speakers=False)
    held, refused, others = coverage(cache, checked.table["utterance_id"].tolist())
    say(
        f"{manifest}: {held} of {len(checked.table)} utterances are cached, {refused} refused; {others} rows of the "
        "cache are of no utterance of it.",
        quiet=quiet,
    )
    if precision_loss:
        if cache.plan.storage != "float32":
            raise InputError(f"{path} holds {cache.plan.storage} already: what that cost can't be measured any more.")
        table = float16_loss(cache, checked)
        say("float16 at rest (error in standard deviations of a layer; score: CCC, matched, at most):", quiet=quiet)
        say(table.to_string(index=False, float_format=lambda x: f"{x:.2g}"), quiet=quiet)


@app.command(epilog="Example: layerprobe cache verify caches/hubert-base.zarr")
@reported
def verify(path: CachePath, quiet: Quiet = False, debug: Debug = False) -> None:
    """Hold every file against the digest that was written with it; name the utterances behind what is damaged."""
    from layerprobe.probe.cache.verify import verify as verify_stage

    damages = verify_stage(path, watch=watcher(quiet=quiet))
    for damage in damages:
        say(damage.words(), quiet=quiet)
    if damages:
        ids = {name for damage in damages for name in damage.utterance_ids}
        raise InputError(
            f"{path}: {len(damages)} files are damaged, of {len(ids)} utterances. Mend them: "
            f"layerprobe cache repair {path} MANIFEST --encoder ENCODER"
        )
    say(f"{path} is whole.", quiet=quiet)


@app.command(epilog="Example: layerprobe cache repair caches/h.zarr my.csv --encoder facebook/hubert-base-ls960")
@reported
def repair(
    path: CachePath,
    manifest: Annotated[Path, typer.Argument(help="The manifest that it was extracted from.")],
    encoder: EncoderName,
    random_init: RandomInit = None,
    adapter: Adapter = None,
    device: Device = None,
    precision: Precision = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Utterances heard at once; one a core if none.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Hear the utterances of damaged blocks again, and no others."""
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.encoders.loading import load_upstream
    from layerprobe.probe.extraction.repair import repair as repair_stage

    watch = watcher(quiet=quiet)
    checked = read_manifest(manifest, speakers=False)
    watch.say(f"Loading {encoder} …")
    upstream = load_upstream(
        encoder, random_init=random_init, device=device, adapter=adapter, precision=precision, show_download=not quiet
    )
    done = repair_stage(path, checked, upstream, jobs=jobs, watch=watch)
    say(f"{path}: {len(done.damages)} damaged files, {done.n_heard} utterances heard again.", quiet=quiet)
    say_quarantined(done.lost, quiet=quiet, file=path / "quarantine.csv")


@app.command(epilog="Example: layerprobe cache diff caches/monday.zarr caches/tuesday.zarr")
@reported
def diff(
    first: CachePath,
    second: Annotated[Path, typer.Argument(parser=cache_place, metavar="SECOND", help="The other.")],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say in words how two caches differ: plans, utterances, sounds, numbers."""
    from layerprobe.probe.cache.store import open_cache
    from layerprobe.probe.cache.verify import differences

    told = differences(open_cache(first), open_cache(second))
    for line in told or [f"{first} and {second} hold the same."]:
        say(line, quiet=quiet)


@app.command(epilog="Example: layerprobe cache merge caches/hubert-base.zarr my.csv")
@reported
def merge(
    path: CachePath,
    manifest: Annotated[Path, typer.Argument(help="The manifest whose shares were extracted.")],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Join the shares that extract --shard filled, once every one is whole."""
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.extraction.shards import merge as merge_stage

    added = merge_stage(path, read_manifest(manifest, speakers=False), watch=watcher(quiet=quiet))
    say(f"{path}: {added} rows merged.", quiet=quiet)


@app.command(epilog="Example: layerprobe cache compact caches/hubert-base.zarr")
@reported
def compact(path: CachePath, quiet: Quiet = False, debug: Debug = False) -> None:
    """Write a cache anew without the rows that were taken out."""
    from layerprobe.probe.cache.compact import compact as compact_stage

    say(f"{path}: {compact_stage(path) / 1e6:.1f} MB became free.", quiet=quiet)
