"""The verbs of the command line that hear: extract, and doctor, which examines what hears."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerprobe.cli.options import (
    Adapter,
    Debug,
    Device,
    EncoderName,
    ManifestPath,
    NoSpeakers,
    Precision,
    Quiet,
    RandomInit,
    cache_place,
    reported,
    say,
    say_quarantined,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import clock_text, watcher

app = typer.Typer()


@app.command(
    epilog="Example: layerprobe extract my.csv --encoder facebook/hubert-base-ls960 --out caches/hubert-base.zarr"
)
@reported
def extract(
    manifest: ManifestPath,
    encoder: EncoderName,
    out: Annotated[
        Path,
        typer.Option(
            parser=cache_place,
            metavar="PATH",
            help="The cache, NAME.zarr or s3://…; a begun one is gone on with.",
        ),
    ],
    random_init: RandomInit = None,
    adapter: Adapter = None,
    pooling: Annotated[
        list[str] | None,
        typer.Option(
            help="mean, std, max, min, first_third, last_third, first_token or normed_mean; of sound mean and std if "
            "none, of text mean and first_token."
        ),
    ] = None,
    words: Annotated[str, typer.Option(help="The manifest's column that a text encoder reads.")] = "transcript",
    device: Device = None,
    precision: Precision = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Utterances heard at once; one a core if none.")] = None,
    storage: Annotated[str, typer.Option(help="Of embeddings at rest: float32, or float16.")] = "float32",
    prune: Annotated[bool, typer.Option("--prune", help="Take out rows that the manifest no longer has.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="NUMBER/OF, such as 3/16: fill this share alone; cache merge joins them.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes, each with a GPU where there are some.")
    ] = None,
    dask: Annotated[str | None, typer.Option(help="A scheduler of Dask whose workers fill it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and needed, do nothing.")] = False,
    no_speakers: NoSpeakers = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Pool every layer of every utterance into a cache, once; of a text encoder the layers of its transcript."""
    from layerprobe.probe.cache.store import read_quarantine
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.encoders.loading import load_upstream
    from layerprobe.probe.extraction.dask import extract_on_dask
    from layerprobe.probe.extraction.extract import extract as extract_stage, rehearse
    from layerprobe.probe.extraction.multiprocess import Asked, extract_in_processes
    from layerprobe.probe.extraction.shards import Shard, extract_shard

    if sum(map(bool, (shard, processes, dask, prune or dry_run))) > 1:
        raise InputError("Name one of --shard, --processes and --dask, and none with --prune or --dry-run.")
    share = Shard.parse(shard) if shard else None
    watch = watcher(quiet=quiet)
    poolings = tuple(dict.fromkeys(pooling)) if pooling else None
    loading: dict[str, Any] = {"random_init": random_init, "device": device, "adapter": adapter, "precision": precision}
    choices: dict[str, Any] = {"poolings": poolings, "words": words, "storage": storage, "jobs": jobs}
    if processes or dask:
        asked = Asked(manifest, not no_speakers, encoder, loading | {"show_download": False}, out, choices)
        if dask:
            added, whence = extract_on_dask(asked, dask, watch=watch), "on Dask"
        else:
            added, whence = extract_in_processes(asked, processes or 1, watch=watch), f"by {processes} processes"
        refused = read_quarantine(out)
        say(f"{out}: {added} utterances extracted {whence}, {len(refused)} quarantined.", quiet=quiet)
        say_quarantined(refused, quiet=quiet, file=out / "quarantine.csv")
        say(f"Next: layerprobe sweep {out} {manifest} --out runs/first", quiet=quiet)
        return
    checked = read_manifest(manifest, speakers=not no_speakers)
    watch.say(f"Loading {encoder} …")
    upstream = load_upstream(encoder, **loading, show_download=not quiet)
    if dry_run:
        for line in rehearse(checked, upstream, out, **choices, watch=watch):
            say(line, quiet=quiet)
        return
    if share:
        done = extract_shard(checked, upstream, out, share, **choices, watch=watch)
    else:
        done = extract_stage(checked, upstream, out, prune=prune, **choices, watch=watch)
    rate = f" ({done.seconds_of_sound / done.seconds:.1f} s of sound per s)" if done.seconds_of_sound else ""
    say(
        f"{done.path}: {done.n_extracted} utterances extracted in {clock_text(done.seconds)}{rate}, "
        f"{done.n_cached_before} were there already, {len(done.quarantine)} quarantined.",
        quiet=quiet,
    )
    say_quarantined(done.quarantine, quiet=quiet, file=done.path / "quarantine.csv")
    if done.n_wordless:
        say(f"  {done.n_wordless} of them have no words; they are read as the empty text.", quiet=quiet)
    if share:
        say(f"Next: layerprobe cache merge {out} {manifest}, when every share is whole", quiet=quiet)
        return
    caches = str(done.path) if random_init is None else f"TRAINED.zarr --random-weights {done.path}"
    say(f"Next: layerprobe sweep {caches} {manifest} --out runs/first", quiet=quiet)


@app.command(epilog="Example: layerprobe doctor --encoder facebook/hubert-base-ls960")
@reported
def doctor(
    encoder: EncoderName,
    random_init: RandomInit = None,
    adapter: Adapter = None,
    device: Device = None,
    precision: Precision = "auto",
    sounds: Annotated[Path | None, typer.Option(help="A manifest, on whose sounds the precision is measured.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check that an encoder's layers are what they should be, and measure its speed and exactness."""
    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.encoders.diagnostics import examine, measure
    from layerprobe.probe.encoders.loading import load_encoder
    from layerprobe.probe.extraction.estimate import sample_sounds

    if encoder == "acoustic":
        raise InputError("acoustic features are measured, not heard by a network: extract them as they are.")
    watcher(quiet=quiet).say(f"Loading {encoder} …")
    upstream = load_encoder(
        encoder, random_init=random_init, device=device, adapter=adapter, precision=precision, show_download=not quiet
    )
    checks = examine(upstream)
    for check in checks:
        say(f"{'kept  ' if check.kept else 'BROKEN'}  {check.name}: {check.found}", quiet=quiet)
    table = None if sounds is None else read_manifest(sounds, speakers=False).table
    sample = None if table is None else sample_sounds(table, upstream)
    for figure in measure(upstream, sample):
        say(f"        {figure.name}: {figure.found}", quiet=quiet)
    broken = [check.name for check in checks if not check.kept]
    if broken:
        raise InputError(f"{encoder} breaks {len(broken)} promises: {'; '.join(broken)}. Correct its adapter.")
    say(f"{upstream.architecture}: every utterance will be heard alone, in {upstream.precision}.", quiet=quiet)
