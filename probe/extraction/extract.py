"""Stage: encode the utterances of a manifest and cache the pooled embeddings of every layer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from layerprobe.probe.cache.journal import FILES, JOURNAL
from layerprobe.probe.cache.store import Cache, CacheMismatchError, open_cache
from layerprobe.probe.cache.unfinished_repair import finish_repair
from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.audio_hashes import AudioHashes
from layerprobe.probe.data.inputs import MAX_DURATION, NO_TEXT, InputReader
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Manifest
from layerprobe.probe.data.reading import ReadingOptions
from layerprobe.probe.data.spans import SpanOptions, SpanSource, unused_sentence
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.speech import SpeechEncoder
from layerprobe.probe.extraction.encode_rows import encode_rows
from layerprobe.probe.extraction.encoding.stages import StageUtilisation
from layerprobe.probe.extraction.estimate import (
    ResourceEstimate,
    check_disk_space,
    estimate_resources,
)
from layerprobe.probe.extraction.first_utterance import check_first_utterance
from layerprobe.probe.extraction.inputs import make_input_reader
from layerprobe.probe.extraction.numerics import PRECISION, log_numerics, measure_errors
from layerprobe.probe.extraction.pending import Pending, find_pending
from layerprobe.probe.extraction.remarks import AudioRemarks
from layerprobe.probe.extraction.settings import (
    DEFAULT_SETTINGS,
    STORAGE_DTYPES,
    ExtractionSettings,
    check_parallelism,
    extraction_plan,
)
from layerprobe.probe.filesystem import QUARANTINE_COLUMNS, connect
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.system import torch_threads


@dataclass(frozen=True)
class Extraction:
    """What a run of `run_extraction` did."""

    path: Path
    n_cached_before: int
    n_extracted: int
    quarantine: pd.DataFrame  # utterance_id, path, reason
    n_without_text: int  # cached utterances whose transcript is empty, of a text encoder
    audio_seconds: float  # of extracted audio; 0 of text
    seconds: float  # duration of the run
    n_spans: int  # rows that were written of these utterances; 0 in a cache of whole utterances
    stages: StageUtilisation | None  # how much of the time each stage was busy; None where nothing was extracted
    remarks: list[str]  # sentences on the audio of cached utterances


def extract(  # noqa: PLR0913 - each is a choice that a user can make
    manifest: Manifest,
    encoder: AnyEncoder,
    out: Path | str,
    *,
    poolings: tuple[str, ...] | None = None,
    text_column: str = TRANSCRIPT,
    storage_dtype: str = STORAGE_DTYPES[0],
    prune: bool = False,
    max_duration: float = MAX_DURATION,
    jobs: int | None = None,
    loaders: int | None = None,
    batch_frames: int | None = None,
    channel: str | None = None,
    trim_silence: bool = False,
    spans: SpanOptions | None = None,
    progress: NullProgress | None = None,
) -> Cache:
    """Encode every utterance of a manifest, cache the pooled embeddings of all layers, and open the cache.

    An existing cache is resumed. On the CPU each utterance is encoded without a batch, so that the number of threads
    changes no bit; a packed pass encodes many together, each as if it were alone. Audio that can't be used is
    quarantined with a reason and the rest is extracted; a later run tries it again, and encodes utterances again whose
    audio or transcript changed.

    Args:
        manifest: the utterances
        encoder: as `probe.encoders.loading.load_encoder` returns it
        out: path of the cache, ``NAME.zarr`` or ``s3://…``, new or to be resumed
        poolings: keys of `probe.forward.pooling.POOLINGS`; by default mean and std of audio, mean and first_token of
            text
        text_column: the manifest's column that a text encoder reads
        storage_dtype: float32, or float16 for half of the disk space
        prune: whether to remove rows of utterances that the manifest no longer has
        max_duration: longer recordings are quarantined, seconds
        jobs: utterances encoded in parallel, or threads of a packed pass on the CPU; None for one per core, or one on a
            GPU
        loaders: threads that decode audio; None for two on the CPU, or one per core but one, at most 8, on a GPU
        batch_frames: frames that a packed pass takes together, 50 a second; None chooses by the free memory
        channel: of recordings with several: ``"first"``, ``"loudest"``, or ``"mean"`` even where they cancel in it; by
            default the mean, and recordings whose channels cancel are quarantined
        trim_silence: whether digital silence at the ends of recordings is left out
        spans: which intervals of each utterance are pooled after it was encoded as a whole, a row for each; by default
            each utterance is pooled as a whole
        progress: receives the progress, and at the end remarks on audio that may not be what was meant

    Returns:
        the cache, opened for reading; its ``quarantine`` lists utterances that could not be used

    Raises:
        CacheMismatchError: if ``out`` was extracted under another plan
        InputError: if an option is unknown or has no effect, the disk can't hold the cache, there is no text to read,
            the forward pass differs from transformers' on the first utterance, or utterances that are encoded together
            change each other
        OSError: if the disk is full or can't be written; finished rows are kept
    """
    reading = ReadingOptions(channel, trim_silence)
    settings = ExtractionSettings(
        poolings, text_column, storage_dtype, max_duration, jobs, loaders, reading, batch_frames, spans
    )
    done = run_extraction(manifest, encoder, out, settings, prune=prune, progress=progress)
    for sentence in done.remarks:
        (progress or NullProgress()).log(sentence)
    return open_cache(done.path)


@torch_threads(1)  # of each utterance, since those are what runs in parallel
def run_extraction(  # noqa: PLR0913 - each is a choice of a caller
    manifest: Manifest,
    encoder: AnyEncoder,
    out: Path | str,
    settings: ExtractionSettings = DEFAULT_SETTINGS,
    *,
    prune: bool = False,
    elsewhere: dict[str, str] | None = None,
    n_shards: int = 1,
    spans: SpanSource | None = None,
    progress: NullProgress | None = None,
) -> Extraction:
    """Extract as `extract` does, and return counts instead of the cache.

    Args:
        manifest: the utterances
        encoder: of audio or text
        out: path of the cache, new or to be resumed
        settings: poolings, storage and parallelism
        prune: whether to remove rows of utterances that the manifest no longer has
        elsewhere: content hashes of utterances that another cache holds, by id; these need no row here
        n_shards: number of shards, of which this is one, that the disk must hold together with one more while they are
            merged
        spans: those of ``settings``, read for the whole manifest of which this is a part; None reads them for this one
        progress: receives the progress

    Raises:
        CacheMismatchError, InputError, OSError: as `extract` does
    """
    progress = progress or NullProgress()
    began = time.monotonic()
    check_parallelism(encoder, settings)
    plan = extraction_plan(encoder, settings)
    is_new = not (connect(out) / JOURNAL).exists()
    errors = None
    if spans is None and settings.spans is not None:
        spans = settings.spans.read(manifest.table)
    if is_new:  # before anything is written
        check_first_utterance(encoder, manifest.table, text_column=settings.text_column)
        errors = measure_errors(encoder, manifest.table, settings)
    with CacheWriter(out, plan, dim=encoder.dim, encoder_folder=getattr(encoder, "folder", "")) as writer:
        cached = writer.cached
        hashes = AudioHashes(writer.path / FILES if encoder.reads == "audio" else None)
        remarks = AudioRemarks(writer.path)
        try:
            reader = make_input_reader(encoder, manifest.table, hashes, settings)
            if prune:
                removed = writer.utterances - set(manifest.table["utterance_id"])
                writer.drop(removed)
                what = "rows" if spans is None else "utterances"
                progress.log(f"{len(removed)} {what} removed that the manifest no longer has.")
            found = find_pending(manifest.table, (elsewhere or {}) | cached, reader, progress, spans)
            pending = found.table
            writer.replaceable = set(pending["utterance_id"])
            for row in found.without_spans:
                writer.refuse(*row)
            if pending.empty:
                progress.log(_complete(manifest, found))
            else:
                rows = _CachedRows(cached, writer.n_rows, _n_current(manifest, found))
                estimate = _estimate(writer.path, pending, rows, encoder, reader, settings, n_shards, spans)
                progress.log(estimate.summary(n_cached=rows.n_current) + ".")
                if not is_new:
                    check_first_utterance(encoder, pending, text_column=settings.text_column)
                    if not (writer.path / PRECISION).exists():
                        errors = measure_errors(encoder, pending, settings)
                log_numerics(encoder, progress)
                if errors is not None:
                    errors.keep(writer.path, progress)
            encoded = encode_rows(pending, encoder, reader, writer, remarks, settings, progress, spans)
            finish_repair(writer.path, None if prune else set(manifest.table["utterance_id"]))
            n_without_text = sum(content == NO_TEXT for content in writer.cached.values())
        finally:
            hashes.save()
            remarks.keep(writer.cached)
            remarks.save()
    return Extraction(
        path=writer.path,
        n_cached_before=len(cached),
        n_extracted=len(pending) - len(encoded.refused),
        quarantine=pd.DataFrame([*found.without_spans, *encoded.refused], columns=list(QUARANTINE_COLUMNS)),
        n_without_text=n_without_text,
        audio_seconds=encoded.audio_seconds,
        seconds=time.monotonic() - began,
        n_spans=encoded.n_spans,
        stages=encoded.stages,
        remarks=remarks.sentences() + _on_unused(spans),
    )


@torch_threads(1)
def plan_extraction(
    manifest: Manifest,
    encoder: AnyEncoder,
    out: Path | str,
    settings: ExtractionSettings = DEFAULT_SETTINGS,
    *,
    progress: NullProgress | None = None,
) -> list[str]:
    """Return, without writing anything, what `run_extraction` would do: its plan and its estimate, as lines of text.

    Arguments and errors are those of `run_extraction`.
    """
    progress, out = progress or NullProgress(), connect(out)
    check_parallelism(encoder, settings)
    plan = extraction_plan(encoder, settings)
    cached: dict[str, str] = {}
    n_rows = 0
    if (out / JOURNAL).exists():
        cache = open_cache(out)
        if cache.plan != plan:
            raise CacheMismatchError(out, cache.plan, plan)
        cached, n_rows = cache.contents, cache.n_rows
    reader = make_input_reader(encoder, manifest.table, AudioHashes(), settings)
    spans = None if settings.spans is None else settings.spans.read(manifest.table)
    found = find_pending(manifest.table, cached, reader, progress, spans)
    pending = found.table
    lines = plan.lines()
    if isinstance(encoder, SpeechEncoder) and encoder.preprocessing_note:
        lines.append(encoder.preprocessing_note)
    if spans is not None and found.without_spans:
        lines.append(f"{len(found.without_spans)} utterances have no span in {spans.name}.")
    lines += _on_unused(spans)
    if pending.empty:
        return [*lines, _complete(manifest, found)]
    rows = _CachedRows(cached, n_rows, _n_current(manifest, found))
    estimate = _estimate(out, pending, rows, encoder, reader, settings, spans=spans)
    return [*lines, estimate.summary(n_cached=rows.n_current) + "."]


def _on_unused(spans: SpanSource | None) -> list[str]:
    """Return a sentence on entries of no utterance, if there are any."""
    sentence = "" if spans is None else unused_sentence(spans)
    return [sentence] if sentence else []


def _n_current(manifest: Manifest, found: Pending) -> int:
    """Return how many utterances of a manifest need no extraction because they are cached."""
    return len(manifest.table) - len(found.table) - len(found.without_spans)


def _complete(manifest: Manifest, found: Pending) -> str:
    which = " that have spans" if found.without_spans else ""
    return (
        f"All {_n_current(manifest, found)} utterances of the manifest{which} are cached already; nothing to extract."
    )


@dataclass(frozen=True)
class _CachedRows:
    """The rows that a cache has before an extraction."""

    contents: dict[str, str]  # content hashes by utterance
    n_rows: int  # removed ones included
    n_current: int  # utterances of the manifest that need no extraction


def _estimate(
    out: Path,
    pending: pd.DataFrame,
    rows: _CachedRows,
    encoder: AnyEncoder,
    reader: InputReader,
    settings: ExtractionSettings,
    n_shards: int = 1,
    spans: SpanSource | None = None,
) -> ResourceEstimate:
    """Estimate what is needed, and check that the disk can hold it."""
    n_replaced = int(pending["utterance_id"].isin(list(rows.contents)).sum())
    estimate = estimate_resources(
        pending, encoder, reader, settings, n_rows=rows.n_rows, n_replaced=n_replaced, spans=spans
    )
    check_disk_space(out, estimate, n_shards=n_shards)
    return estimate
