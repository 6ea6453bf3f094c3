"""Estimate, before an extraction, of its utterances, hours of audio, disk space, memory and time."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.store import BLOCK
from layerprobe.probe.data.audio import InvalidAudioError, audio_header, read_audio_file
from layerprobe.probe.data.audio_hashes import span_of
from layerprobe.probe.data.inputs import InputReader
from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.data.spans import SpanSource
from layerprobe.probe.data.stored.locations import costs_a_request
from layerprobe.probe.encoders.base import AnyEncoder, AudioEncoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.embedding import embed
from layerprobe.probe.extraction.encoding.pack_cost import measure_pack
from layerprobe.probe.extraction.encoding.packs import PackingEncoder, frame_budget, frames_ahead, packing
from layerprobe.probe.extraction.encoding.workers import utterances_at_once
from layerprobe.probe.extraction.row_writer import WAITING_ROWS
from layerprobe.probe.extraction.settings import ExtractionSettings
from layerprobe.probe.filesystem import is_remote, size_of
from layerprobe.probe.forward.packed.pooling import GATHERED
from layerprobe.probe.forward.packed.span_pooling import HELD
from layerprobe.probe.progress import clock_text
from layerprobe.probe.system import peak_memory, resident_memory, torch_threads

N_HEADERS = 500  # audio files whose duration is read; beyond that the hours are estimated
N_REMOTE = 20  # … of objects in a store, each of which is read whole for it
N_SAMPLES = 4  # utterances that are encoded beforehand
SAMPLE_SECONDS = 3.0  # of each
WHOLE_SECONDS = 60.0  # at most, of the one that speed is measured on
FLOAT32 = 4  # bytes of a value
# in addition to embeddings, ids and paths: hash and span of a row, size, time and hash of a file, the arrays' metadata
# of a span its id, times, label and hash in addition
BYTES_PER_SPAN = 110
BYTES_PER_ROW, BYTES_PER_FILE, BYTES_FIXED = 40, 50, 8_000


@dataclass(frozen=True)
class ResourceEstimate:
    """What the remaining part of an extraction needs."""

    n_utterances: int  # to extract
    audio_seconds: float  # of these; 0 of text
    n_bytes: int  # disk space in addition to what the cache takes already
    memory: int  # bytes, maximum of the whole process
    seconds: float  # infinite where it can't be estimated
    n_bytes_written: int = 0  # of the rows, where an existing cache has space for some of them; else 0
    n_unknown_length: int = 0  # of the utterances whose headers were read, those whose file states no length
    device_memory: int = 0  # bytes on a GPU, weights included, of a packed pass; else 0
    n_spans: int = 0  # rows of these utterances; 0 where each is one row

    def summary(self, *, n_cached: int = 0) -> str:
        """Return the estimate as one line, with ``n_cached``, the utterances that need no extraction."""
        cached = f" ({n_cached} cached already)" if n_cached else ""
        if self.n_spans:
            cached += f", about {self.n_spans:,} spans"
        audio = f"{self.audio_seconds / 3600:.2f} h of audio, " if self.audio_seconds else ""
        if self.n_unknown_length:
            audio += f"{self.n_unknown_length} of them of unknown length by their headers, "
        disk = f"{size_text(self.n_bytes)} on disk"
        if self.n_bytes_written:
            disk = f"{size_text(self.n_bytes_written)} to write ({size_text(self.n_bytes)} more on disk)"
        duration = "" if self.seconds == float("inf") else f"; about {clock_text(self.seconds)}"
        memory = f"{size_text(self.memory)} of memory"
        if self.device_memory:
            memory += f" and {size_text(self.device_memory)} on the GPU"
        return f"{self.n_utterances} utterances to extract{cached}, {audio}{disk}, {memory}{duration}"


def size_text(n_bytes: float) -> str:
    """Return a number of bytes in the largest decimal unit that it reaches, to a tenth.

    >>> size_text(812), size_text(8_240), size_text(512_000), size_text(51_300_000), size_text(1.26e9)
    ('812 B', '8.2 kB', '512.0 kB', '51.3 MB', '1.3 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if round(n_bytes / size, 1) >= 1:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def estimate_resources(
    pending: pd.DataFrame,
    encoder: AnyEncoder,
    reader: InputReader,
    settings: ExtractionSettings,
    *,
    n_rows: int = 0,
    n_replaced: int = 0,
    spans: SpanSource | None = None,
) -> ResourceEstimate:
    """Estimate what an extraction needs, from the headers of audio files and by encoding one utterance, or a few texts.

    Memory is what the process holds now, and for each utterance encoded in parallel what the longest may add, in
    proportion to the one that was encoded. Where that one can't be used, the time is infinite. Of a packed pass, a
    pack of a few utterances is encoded, and memory is in proportion to its frames; the time is that of encoding.

    Args:
        pending: rows of the manifest to extract
        encoder: of audio or text
        reader: returns the input of each row
        settings: what is read of a recording, poolings, storage and parallelism
        n_rows: rows of the cache already, removed ones included
        n_replaced: of the utterances, those that are computed again, so that their rows are replaced
        spans: of the utterances, each of which becomes a row; None for a row of each utterance
    """
    durations = sampled_durations(pending) if encoder.reads == "audio" else SampledDurations([], 0)
    n_spans = 0 if spans is None else round(spans.mean_count(pending, durations.known) * len(pending))
    estimate = _estimate_rows(pending, encoder, reader, settings, n_rows, n_replaced, durations, n_spans)
    return replace(estimate, n_spans=n_spans)


def _estimate_rows(
    pending: pd.DataFrame,
    encoder: AnyEncoder,
    reader: InputReader,
    settings: ExtractionSettings,
    n_rows: int,
    n_replaced: int,
    durations: SampledDurations,
    n_spans: int,
) -> ResourceEstimate:
    poolings, jobs = settings.poolings or encoder.default_poolings, settings.jobs or utterances_at_once(encoder)
    n_values = len(encoder.layers) * len(poolings) * encoder.dim
    itemsize = np.dtype(settings.storage_dtype).itemsize
    files = pending["path"].astype(str).drop_duplicates() if encoder.reads == "audio" else pd.Series(dtype=str)
    index = int(pending["utterance_id"].str.len().sum()) + BYTES_PER_ROW * len(pending) + BYTES_FIXED
    index += int(files.str.len().sum()) + BYTES_PER_FILE * len(files)
    n_new = n_spans or len(pending)
    if n_spans:
        names = float(pending["utterance_id"].str.len().mean())
        index += round(n_new * (BYTES_PER_SPAN + 2 * names))
        n_replaced = round(n_replaced * n_new / len(pending))
    # an incomplete last block takes the disk space of a complete one
    n_blocks = -(-(n_rows + n_new - n_replaced) // BLOCK) - -(-n_rows // BLOCK)
    n_bytes = n_blocks * BLOCK * n_values * itemsize + index
    n_bytes_written = n_new * n_values * itemsize + index if n_rows else 0
    before, blocks = resident_memory(), 2 * BLOCK * n_values * itemsize
    blocks += jobs * _memory_of_spans(n_new / len(pending), n_values, encoder.dim) if n_spans else 0
    packs = packing(encoder)
    if packs is not None:
        blocks += WAITING_ROWS * n_values * FLOAT32
        disk = ResourceEstimate(len(pending), 0.0, n_bytes, before + blocks, float("inf"), n_bytes_written)
        return _estimate_packed(disk, pending, encoder, packs, reader, settings, durations)
    if encoder.reads == "text":
        rows = pending.iloc[_evenly(len(pending), N_SAMPLES)].to_dict("records")
        each = float(np.mean([_seconds_for(encoder, reader.read(row).data, poolings) for row in rows]))
        seconds, memory = each * len(pending) / jobs, resident_memory() + blocks
        return ResourceEstimate(len(pending), 0.0, n_bytes, memory, seconds, n_bytes_written)
    known, audio_seconds = durations.known, durations.total(len(pending))
    highest, peak = before, peak_memory(anew=True)
    waveforms = sample_waveforms(pending[:1], encoder, seconds=WHOLE_SECONDS, reading=settings.reading)
    seconds = float("inf")
    try:
        for waveform in waveforms:
            rate = len(waveform) / encoder.sampling_rate / _seconds_for(encoder, waveform, poolings)  # of one thread
            seconds = audio_seconds / (jobs * rate) if known else float("inf")
            added = max(0, peak_memory() - max(before, peak))  # 0 where more was held before
            longest = max(known, default=0.0) * encoder.sampling_rate
            highest = before + int(jobs * added * max(1.0, longest / len(waveform)))
    except InvalidAudioError:  # the extraction will name it
        seconds = float("inf")
    memory = highest + blocks
    return ResourceEstimate(
        len(pending), audio_seconds, n_bytes, memory, seconds, n_bytes_written, durations.n_unknown_length
    )


def _memory_of_spans(n_spans: float, n_values: int, dim: int) -> int:
    """Return the bytes that pooling the spans of one utterance takes: their frames, deviations of these, and rows."""
    return int(2 * FLOAT32 * GATHERED * dim + min(HELD, n_spans * n_values * FLOAT32))


def _estimate_packed(
    estimate: ResourceEstimate,
    pending: pd.DataFrame,
    encoder: AnyEncoder,
    packs: PackingEncoder,
    reader: InputReader,
    settings: ExtractionSettings,
    durations: SampledDurations,
) -> ResourceEstimate:
    """Complete an estimate of disk space and of waiting rows by the time and memory of a pack of some utterances."""
    budget = settings.batch_frames or frame_budget(encoder)
    poolings, jobs = settings.poolings or encoder.default_poolings, settings.jobs or utterances_at_once(encoder)
    if encoder.reads == "text":
        texts = [reader.read(row).data for row in pending.iloc[_evenly(len(pending), N_SAMPLES)].to_dict("records")]
        cost = measure_pack(packs, texts, poolings=poolings, jobs=jobs, budget=budget)
        return replace(
            estimate,
            memory=estimate.memory + cost.memory,
            seconds=cost.seconds / cost.n_utterances * len(pending),
            device_memory=cost.device_memory,
        )
    known, audio_seconds = durations.known, durations.total(len(pending))
    estimate = replace(estimate, audio_seconds=audio_seconds, n_unknown_length=durations.n_unknown_length)
    waveforms = sample_waveforms(pending, encoder, reading=settings.reading)
    if not waveforms:
        return estimate
    cost = measure_pack(packs, waveforms, poolings=poolings, jobs=jobs, budget=budget)
    # by frames, for encoders of windows have as many of a short utterance as of a long one
    mean = float(np.mean(known or [len(waveform) / encoder.sampling_rate for waveform in waveforms]))
    frames = frames_of(packs, max(encoder.minimum_samples, round(mean * encoder.sampling_rate)))
    frames_per_second = frames / max(mean, 1 / encoder.sampling_rate)
    read_ahead = min(audio_seconds, (frames_ahead(packs.packed, budget) + 2 * budget) / frames_per_second)
    samples = 2 * FLOAT32 * encoder.sampling_rate * read_ahead  # as they were read, and as the encoder's input
    grows = max(1.0, max(budget, max(known, default=0.0) * frames_per_second) / cost.n_frames)
    return replace(
        estimate,
        memory=estimate.memory + int(samples + grows * cost.memory),
        seconds=cost.seconds / cost.n_frames * frames * len(pending) if known else float("inf"),
        device_memory=cost.device_memory,
    )


def frames_of(packs: PackingEncoder, n_samples: int) -> int:
    """Return the number of frames of a waveform of ``n_samples``, those of all its chunks."""
    silence = np.zeros(n_samples, dtype=np.float32)
    return sum(packs.packed.n_frames(chunk) for chunk in packs.input_chunks(silence))


def check_disk_space(out: Path, estimate: ResourceEstimate, *, n_shards: int = 1) -> None:
    """Check that the disk of ``out`` can hold an extraction, before anything is encoded.

    Args:
        out: the cache
        estimate: of it
        n_shards: shards of its size, which the disk must hold together with one more while they are merged, less what
            is there of them already

    Raises:
        InputError: if the disk has less space
    """
    if is_remote(out):
        return
    free = shutil.disk_usage(next(p for p in (out, *out.absolute().parents) if p.exists())).free
    needed, target = estimate.n_bytes, str(out)
    if n_shards > 1:
        needed = needed * (n_shards + 1) - size_of(out.parent)
        target = f"{out.parent}, with {n_shards} shards to be merged,"
    if free < needed:
        raise InputError(
            "LP432",
            f"{target} needs {size_text(needed)}, and its disk has {size_text(free)} free. Name an --out "
            "on another disk, or use fewer --pooling or --storage-dtype float16.",
        )


@dataclass(frozen=True)
class SampledDurations:
    """Durations of some utterances of a manifest, known without decoding."""

    known: list[float]  # seconds; without those that only decoding shows
    n_unknown_length: int  # those whose file states no length

    def total(self, n: int) -> float:
        """Return the seconds of ``n`` utterances of their mean duration; 0 where none is known."""
        return float(np.mean(self.known) * n) if self.known else 0.0


def sampled_durations(table: pd.DataFrame) -> SampledDurations:
    """Return durations of utterances from spans and headers, of at most `N_HEADERS` evenly spaced rows.

    Where audio lies in a store, these are `N_REMOTE`.
    """
    known: list[float] = []
    n_unknown_length = 0
    is_costly = len(table) > 0 and costs_a_request(str(table["path"].iloc[0]))
    for row in table.iloc[_evenly(len(table), N_REMOTE if is_costly else N_HEADERS)].to_dict("records"):
        span = span_of(row)
        end: float | None = span.get("end")
        if end is None:
            header = audio_header(row["path"])
            end = 0.0 if header is None else header.duration
            n_unknown_length += header is not None and not header.stated
        if end is not None:
            known.append(max(0.0, end - span.get("start", 0.0)))
    return SampledDurations(known, n_unknown_length)


def sample_waveforms(
    table: pd.DataFrame,
    encoder: AudioEncoder,
    *,
    seconds: float = SAMPLE_SECONDS,
    reading: ReadingOptions = DEFAULT_READING,
) -> list[np.ndarray]:
    """Read the beginnings of a few evenly spaced utterances; those that can't be used are left out.

    Args:
        table: rows of a manifest
        encoder: gives the sampling rate
        seconds: longest duration of a beginning
        reading: what is read of a recording

    Returns:
        waveforms ``(n_samples,)`` at the encoder's sampling rate, at most `N_SAMPLES`
    """
    waveforms = []
    for row in table.iloc[_evenly(len(table), N_SAMPLES)].to_dict("records"):
        span = span_of(row)
        begin = span.get("start", 0.0)
        header = audio_header(row["path"])
        known = header.duration if header is not None and header.duration is not None else float("inf")
        end = min(begin + seconds, span.get("end", float("inf")), known)
        try:
            waveforms.append(
                read_audio_file(row["path"], sampling_rate=encoder.sampling_rate, start=begin, end=end, reading=reading)
            )
        except InvalidAudioError:
            continue
    return [waveform for waveform in waveforms if len(waveform) >= encoder.minimum_samples]


def _seconds_for(encoder: AnyEncoder, data: np.ndarray | str, poolings: tuple[str, ...]) -> float:
    """Measure the seconds that one thread takes to embed an utterance."""
    with torch_threads(1):
        embed(encoder, data, poolings=poolings)  # the first time is slower
        began = time.perf_counter()
        embed(encoder, data, poolings=poolings)
        return time.perf_counter() - began


def _evenly(n: int, at_most: int) -> list[int]:
    """Return evenly spaced indices below ``n``, at most so many, from 0 on.

    >>> _evenly(10, 4), _evenly(2, 4)
    ([0, 2, 5, 7], [0, 1])
    """
    return [k * n // min(n, at_most) for k in range(min(n, at_most))]
