"""Stage: a manifest and an encoder become a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from layerprobe.probe.cache.journal import FILES, JOURNAL
from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.store import CacheMismatchError, open_cache
from layerprobe.probe.cache.writer import CacheWriter, StorageOverflowError
from layerprobe.probe.data.audio import CHANNELS, RESAMPLER
from layerprobe.probe.data.audio_hashes import AudioHashes, records
from layerprobe.probe.data.inputs import MAX_DURATION, NO_TEXT, InputReader
from layerprobe.probe.data.schema import TRANSCRIPT, Manifest
from layerprobe.probe.encoders.base import Upstream
from layerprobe.probe.encoders.diagnostics import precision_loss, precision_words
from layerprobe.probe.encoders.linear_kernels import products_used
from layerprobe.probe.encoders.pooling import pooling_named
from layerprobe.probe.encoders.speech import LAYER_CONVENTION, SpeechEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.estimate import ResourceEstimate, check_disk_space, estimate_resources, sample_sounds
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.workers import embed_in_order, utterances_at_once
from layerprobe.probe.filesystem import QUARANTINE_COLUMNS, connect, replace_file
from layerprobe.probe.progress import NullProgress

PRECISION = f"{FILES}/precision_error.csv"  # in the cache: what 16-bit products did to a sample of its sounds
STORAGE_DTYPES = ("float32", "float16")  # of embeddings at rest
LIBRARIES = ("torch", "transformers", "soxr", "soundfile")


@dataclass(frozen=True)
class Extraction:
    """What a run of `extract` did."""

    path: Path
    n_cached_before: int
    n_extracted: int
    quarantine: pd.DataFrame  # utterance_id, path, reason
    n_without_text: int  # of the manifest's utterances those whose transcript is empty, if words are read
    audio_seconds: float  # that were extracted; 0 of words
    seconds: float  # that it took
    encoder_share: float  # of the time that its threads had, in which the encoder heard and pooled


def extraction_plan(
    encoder: Upstream,
    *,
    poolings: tuple[str, ...] | None = None,
    text_column: str = TRANSCRIPT,
    storage_dtype: str = STORAGE_DTYPES[0],
) -> ExtractionPlan:
    """The plan under which ``encoder`` fills a cache; a text encoder's from the column ``text_column``.

    Raises:
        InputError: if a pooling or the storage is unknown
    """
    if storage_dtype not in STORAGE_DTYPES:
        raise InputError(f"storage dtype {storage_dtype!r} is unknown; choose {' or '.join(STORAGE_DTYPES)}.")
    poolings = poolings or encoder.default_poolings
    for name in poolings:
        pooling_named(name)
    return ExtractionPlan(
        upstream=encoder.upstream,
        revision=encoder.revision,
        architecture=encoder.architecture,
        weights=encoder.weights_hash(),
        random_init=encoder.random_init,
        layers=encoder.layers,
        layer_convention=LAYER_CONVENTION,
        adapter=encoder.adapter,
        preprocessing=encoder.preprocessing,
        sampling_rate=encoder.sampling_rate if encoder.reads == "audio" else 0,
        resampler=RESAMPLER if encoder.reads == "audio" else "",
        audio_channels=CHANNELS if encoder.reads == "audio" else "",
        text_column=None if encoder.reads == "audio" else text_column,
        chunking=encoder.chunking if encoder.reads == "audio" else encoder.windows,
        poolings=poolings,
        forward=encoder.forward,
        precision=encoder.precision,
        storage_dtype=storage_dtype,
        libraries=", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in LIBRARIES),
    )


def extract(  # noqa: PLR0913 - each is a choice that a user can make
    manifest: Manifest,
    encoder: Upstream,
    out: Path | str,
    *,
    poolings: tuple[str, ...] | None = None,
    text_column: str = TRANSCRIPT,
    storage_dtype: str = STORAGE_DTYPES[0],
    prune: bool = False,
    elsewhere: dict[str, str] | None = None,
    shares: int = 1,
    max_duration: float = MAX_DURATION,
    jobs: int | None = None,
    loaders: int = 2,
    progress: NullProgress | None = None,
) -> Extraction:
    """Pool every layer of every utterance into the cache at ``out``; what is there already is kept.

    Each utterance is heard, or its transcript read, alone. A sound that can't be used is quarantined with its reason
    and the rest goes on; the refused ones are tried again by the next run, and those that have changed since they were
    cached are heard again. How many are heard at once changes no bit.

    Args:
        manifest: what is to be heard
        encoder: what hears, or reads
        out: the cache, new or begun
        poolings: keys of `probe.encoders.pooling.POOLINGS`; the encoder's own if None
        text_column: the manifest's column that a text encoder reads
        storage_dtype: float32, or float16 for half of the disk
        prune: whether rows of utterances that the manifest no longer has are taken out
        elsewhere: utterances that another cache holds, with what they were made from; they need no row here
        shares: of which this is one, which the disk must hold together, and while they are merged one more
        max_duration: a longer sound is quarantined
        jobs: utterances heard at once; None for one a core, or one on a GPU
        loaders: threads that decode
        progress: receives the progress

    Raises:
        CacheMismatchError: if ``out`` was extracted under another plan
        InputError: if the disk can't hold it, or there are no words to read
        OSError: if the disk is full or can't be written; rows named in the journal stay
    """
    progress = progress or NullProgress()
    jobs = jobs or utterances_at_once(encoder)
    began = time.monotonic()
    plan = extraction_plan(encoder, poolings=poolings, text_column=text_column, storage_dtype=storage_dtype)
    with CacheWriter(out, plan, dim=encoder.dim) as writer:
        cached = writer.cached
        hashes = AudioHashes(writer.path / FILES if encoder.reads == "audio" else None)
        try:
            source = make_input_reader(
                encoder, manifest.table, hashes, text_column=text_column, max_duration=max_duration
            )
            if prune:
                gone = set(cached) - set(manifest.table["utterance_id"])
                writer.drop(gone)
                progress.log(f"{len(gone)} rows taken out that the manifest no longer has.")
            pending = _pending(manifest.table, (elsewhere or {}) | cached, source, progress)
            if pending.empty:
                progress.log(f"All {len(writer.cached)} utterances are cached already; nothing is to be done.")
                seconds = time.monotonic() - began
                return Extraction(writer.path, len(cached), 0, _quarantine([]), _wordless(cached), 0.0, seconds, 1.0)
            estimate = _estimate(
                writer.path, pending, _Held(cached, writer.n_rows), encoder, source, plan, jobs, shares
            )
            progress.log(estimate.words() + ".")
            if isinstance(encoder, SpeechEncoder) and encoder.precision != "float32":
                if encoder.precision == "bfloat16" and encoder.device == "cpu":
                    progress.log(products_used())
                _note_precision(encoder, pending, writer.path, progress)
            began_hearing = time.monotonic()
            refused: list[tuple[str, str, str]] = []
            audio_seconds = at_work = 0.0
            progress.begin("extract", len(pending), "utterances")
            try:
                embedded_in_order = embed_in_order(
                    pending, encoder, source, poolings=plan.poolings, jobs=jobs, loaders=loaders
                )
                for heard in embedded_in_order:
                    reason = heard.reason
                    if heard.embeddings is not None:
                        try:
                            writer.append(heard.row["utterance_id"], heard.content, heard.embeddings)
                            audio_seconds += heard.audio_seconds
                        except StorageOverflowError as error:
                            reason = str(error)
                    if reason:
                        refused.append((heard.row["utterance_id"], heard.row["path"], reason))
                        writer.refuse(*refused[-1])
                    at_work += heard.seconds_at_work
                    rate = audio_seconds / max(time.monotonic() - began_hearing, 1e-9)
                    speed = f"{rate:.1f} s of sound per s, " if encoder.reads == "audio" else ""
                    progress.advance(1, f"{speed}{len(refused)} quarantined")
            finally:
                progress.end()
            n_without_text = _wordless(writer.cached)
        finally:
            hashes.save()
    hearing = max(time.monotonic() - began_hearing, 1e-9)
    return Extraction(
        path=writer.path,
        n_cached_before=len(cached),
        n_extracted=len(pending) - len(refused),
        quarantine=_quarantine(refused),
        n_without_text=n_without_text,
        audio_seconds=audio_seconds,
        seconds=time.monotonic() - began,
        encoder_share=min(1.0, at_work / (jobs * hearing)),
    )


def rehearse(
    manifest: Manifest, encoder: Upstream, out: Path | str, *, poolings: tuple[str, ...] | None = None,
    text_column: str = TRANSCRIPT, storage_dtype: str = STORAGE_DTYPES[0], jobs: int | None = None, progress: NullProgress | None = None,
) -> list[str]:  # fmt: skip
    """What `extract` would do, in lines: its plan, and what it needs; arguments and errors as there.

    Nothing is written.
    """
    progress, out = progress or NullProgress(), connect(out)
    plan = extraction_plan(encoder, poolings=poolings, text_column=text_column, storage_dtype=storage_dtype)
    cached: dict[str, str] = {}
    n_rows = 0
    if (out / JOURNAL).exists():
        cache = open_cache(out)
        if cache.plan != plan:
            raise CacheMismatchError(out, cache.plan, plan)
        cached, n_rows = dict(zip(cache.utterance_ids, cache.audio_hashes, strict=True)), cache.n_rows
    source = make_input_reader(
        encoder, manifest.table, AudioHashes(), text_column=text_column, max_duration=MAX_DURATION
    )
    pending = _pending(manifest.table, cached, source, progress)
    lines = plan.lines()
    if pending.empty:
        return [*lines, f"All {len(cached)} utterances are cached already; nothing is to be done."]
    jobs = jobs or utterances_at_once(encoder)
    estimate = _estimate(out, pending, _Held(cached, n_rows), encoder, source, plan, jobs)
    return [*lines, f"{len(cached)} utterances are cached already; {estimate.words()}."]


@dataclass(frozen=True)
class _Held:
    """What a cache holds already."""

    contents: dict[str, str]  # by utterance what it was made from
    n_rows: int  # with those that were taken out


def _estimate(
    out: Path,
    pending: pd.DataFrame,
    held: _Held,
    encoder: Upstream,
    source: InputReader,
    plan: ExtractionPlan,
    jobs: int,
    shares: int = 1,
) -> ResourceEstimate:
    n_replaced = int(pending["utterance_id"].isin(list(held.contents)).sum())
    estimate = estimate_resources(
        pending, encoder, source, poolings=plan.poolings, storage_dtype=plan.storage_dtype, jobs=jobs, n_rows=held.n_rows,
        n_replaced=n_replaced,
    )  # fmt: skip
    check_disk_space(out, estimate, shares=shares)
    return estimate


def _wordless(cached: dict[str, str]) -> int:
    return sum(content == NO_TEXT for content in cached.values())


def _quarantine(refused: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(refused, columns=list(QUARANTINE_COLUMNS))


def _note_precision(encoder: SpeechEncoder, pending: pd.DataFrame, folder: Path, progress: NullProgress) -> None:
    """Measure 16-bit products on the corpus' own sound, say it, and leave it in the cache, where it is new."""
    samples = sample_sounds(pending, encoder)
    if not samples or (folder / PRECISION).exists():
        return
    table = precision_loss(encoder, samples)
    replace_file(folder / PRECISION, table.to_csv(index=False, lineterminator="\n"))
    words = precision_words(table, precision=encoder.precision, n_audio_files=len(samples))
    progress.log(f"{words}, see {folder / PRECISION}.")


def _pending(table: pd.DataFrame, cached: dict[str, str], source: InputReader, progress: NullProgress) -> pd.DataFrame:
    """Rows of the manifest that are to be heard: those without a row, and those whose sound or words have changed."""
    known = table["utterance_id"].isin(list(cached))
    changed = []
    progress.begin("check what is cached", int(known.sum()), "utterances")
    try:
        for row in records(table[known]):
            try:
                same = source.content(row) == cached[row["utterance_id"]]
            except FileNotFoundError:
                same = True  # what was heard needs no sound any more
            if not same:
                changed.append(row["utterance_id"])
            progress.advance()
    finally:
        progress.end()
    if changed:
        progress.log(f"{len(changed)} utterances have changed since they were cached, {changed[0]} first: heard again.")
    return table[~known | table["utterance_id"].isin(changed)]
