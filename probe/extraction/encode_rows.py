"""Encoding of the utterances of an extraction into the rows of its cache."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pandas as pd

from layerprobe.probe.cache.writer import CacheWriter
from layerprobe.probe.data.inputs import InputReader
from layerprobe.probe.data.spans import SpanSource
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.extraction.encoding.packs import packing
from layerprobe.probe.extraction.encoding.read_ahead import loaders_for
from layerprobe.probe.extraction.encoding.stages import StageUtilisation
from layerprobe.probe.extraction.encoding.workers import embed_in_order, utterances_at_once
from layerprobe.probe.extraction.remarks import AudioRemarks
from layerprobe.probe.extraction.row_writer import RowWriter
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.progress import NullProgress


@dataclass(frozen=True)
class Encoded:
    """What the utterances became."""

    refused: list[tuple[str, str, str]]  # utterance_id, path, reason
    audio_seconds: float
    stages: StageUtilisation | None  # None where nothing was encoded
    n_spans: int = 0  # rows that were written of spans


def encode_rows(
    pending: pd.DataFrame,
    encoder: AnyEncoder,
    reader: InputReader,
    writer: CacheWriter,
    remarks: AudioRemarks,
    settings: ExtractionSettings,
    progress: NullProgress,
    spans: SpanSource | None = None,
) -> Encoded:
    """Encode utterances and write their rows, or quarantine them.

    Args:
        pending: rows of the manifest
        encoder: of audio or text
        reader: returns the input of each row
        writer: of the cache
        remarks: receives those on audio that was read
        settings: parallelism
        progress: receives the progress
        spans: of the utterances, each of which becomes a row; None for a row of each utterance

    Raises:
        OSError, InputError: if a row can't be written; rows of complete blocks are kept
    """
    if pending.empty:
        return Encoded([], 0.0, None)
    jobs = settings.jobs or utterances_at_once(encoder)
    loaders = settings.loaders or loaders_for(encoder.device)
    audio_seconds = encoding = reading = 0.0
    began = time.monotonic()
    progress.begin("extract", len(pending), "utterances")
    try:
        # Twice: a Ctrl-C on entry to an exit would leave the thread writing while the cache is closed.
        with RowWriter(writer, remarks) as rows, rows:
            for embedded in embed_in_order(
                pending,
                encoder,
                reader,
                poolings=writer.plan.poolings,
                jobs=jobs,
                loaders=loaders,
                batch_frames=settings.batch_frames,
                spans=spans,
                log=progress.log,
            ):
                rows.put(embedded)
                audio_seconds += embedded.audio_seconds
                encoding += embedded.seconds_encoding
                reading += embedded.seconds_reading
                rate = audio_seconds / max(time.monotonic() - began, 1e-9)
                speed = f"{rate:.1f} s of audio per s, " if encoder.reads == "audio" else ""
                progress.advance(1, f"{speed}{len(rows.refused)} quarantined")
    finally:
        progress.end()
    if len(rows.refused) == len(pending):
        return Encoded(rows.refused, 0.0, None)
    elapsed = max(time.monotonic() - began, 1e-9)
    n_encoding = jobs if packing(encoder) is None else 1  # packs run one after another, each on all threads
    stages = StageUtilisation(
        decode=min(1.0, reading / (loaders * elapsed)),
        encode=min(1.0, encoding / (n_encoding * elapsed)),
        write=min(1.0, rows.seconds / elapsed),
        n_loaders=loaders,
    )
    return Encoded(rows.refused, rows.audio_seconds, stages, rows.n_spans)
