"""Before a long extraction: how many utterances, hours, bytes and minutes, and what the precision will cost."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.cache.store import BLOCK
from layerprobe.probe.data.audio import InvalidAudioError, audio_duration, read_audio_file
from layerprobe.probe.data.audio_hashes import Row, span_of
from layerprobe.probe.data.inputs import InputReader
from layerprobe.probe.encoders.base import AudioUpstream, Upstream
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.workers import embed
from layerprobe.probe.filesystem import is_remote, size_of
from layerprobe.probe.progress import clock_text
from layerprobe.probe.system import peak_memory, resident_memory, torch_threads

N_HEADERS = 500  # sounds whose length is read; beyond that hours are an estimate
N_SAMPLES = 4  # sounds that are heard beforehand
SAMPLE_SECONDS = 3.0  # of each
WHOLE_SECONDS = 60.0  # of the one by which the speed is told
# beyond embeddings, ids and paths: hash and span of a row, size, time and hash of a file, the arrays' descriptions
BYTES_A_ROW, BYTES_A_FILE, BYTES_FIXED = 40, 50, 8_000


@dataclass(frozen=True)
class ResourceEstimate:
    """What an extraction will take."""

    n_utterances: int
    audio_seconds: float
    n_bytes: int  # on disk
    memory: int  # bytes, of the whole process at its most
    seconds: float  # infinite where it can't be told

    def words(self) -> str:
        """All of it in one line."""
        sound = f"{self.audio_seconds / 3600:.2f} h of sound, " if self.audio_seconds else ""
        time_left = "" if self.seconds == float("inf") else f"; about {clock_text(self.seconds)}"
        room = f"{self.n_bytes / 1e6:.1f} MB on disk, {self.memory / 1e9:.1f} GB of memory"
        return f"{self.n_utterances} utterances to extract, {sound}{room}{time_left}"


def estimate_resources(
    pending: pd.DataFrame, encoder: Upstream, source: InputReader, *, poolings: tuple[str, ...], storage_dtype: str, jobs: int,
    n_rows: int = 0, n_replaced: int = 0,
) -> ResourceEstimate:  # fmt: skip
    """Estimate from the sounds' headers and from hearing one of them; if that can't be used, no time is foreseen.

    Of words from reading a few. Memory is what the process has now, and for each utterance that is heard at once what
    hearing the longest may add, in proportion to the one that was heard. ``n_rows`` are in the cache
    already, of which ``n_replaced`` are made anew in their place.
    """
    n_values = len(encoder.layers) * len(poolings) * encoder.dim
    files = pending["path"].astype(str).drop_duplicates() if encoder.reads == "audio" else pd.Series(dtype=str)
    covariate = pending["utterance_id"].str.len().sum() + BYTES_A_ROW * len(pending) + BYTES_FIXED
    covariate += files.str.len().sum() + BYTES_A_FILE * len(files)
    n_blocks = -(-(n_rows + len(pending) - n_replaced) // BLOCK) - -(
        -n_rows // BLOCK
    )  # the last takes the room of a whole one
    n_bytes = int(n_blocks * BLOCK * n_values * np.dtype(storage_dtype).itemsize + covariate)
    before, blocks = resident_memory(), 2 * BLOCK * n_values * np.dtype(storage_dtype).itemsize
    if encoder.reads == "text":
        rows = pending.iloc[_evenly(len(pending), N_SAMPLES)].to_dict("records")
        each = np.mean([_seconds_for(encoder, source.read(row).data, poolings) for row in rows])
        return ResourceEstimate(
            len(pending), 0.0, n_bytes, resident_memory() + blocks, float(each) * len(pending) / jobs
        )
    lengths = sampled_lengths(pending)
    sound = float(np.mean(lengths) * len(pending)) if lengths else 0.0
    most, peak = before, peak_memory(anew=True)
    one = sample_sounds(pending[:1], encoder, seconds=WHOLE_SECONDS)
    try:
        seconds = float("inf")
        if one:
            rate = len(one[0]) / encoder.sampling_rate / _seconds_for(encoder, one[0], poolings)  # of one thread
            seconds = sound / (jobs * rate)
            added = max(0, peak_memory() - max(before, peak))  # 0 where more was held before
            most = before + int(jobs * added * max(1.0, max(lengths) * encoder.sampling_rate / len(one[0])))
    except InvalidAudioError:  # the extraction will name it
        seconds = float("inf")
    return ResourceEstimate(len(pending), sound, n_bytes, most + blocks, seconds)


def check_disk_space(out: Path, estimate: ResourceEstimate, *, shares: int = 1) -> None:
    """Stop before anything is heard that could not be written; of ``shares`` all, less what is there of them already.

    Raises:
        InputError: if the disk of ``out`` has less room than is needed
    """
    if is_remote(out):
        return
    free = shutil.disk_usage(next(p for p in (out, *out.absolute().parents) if p.exists())).free
    needed, whose = estimate.n_bytes, str(out)
    if shares > 1:
        needed, whose = needed * (shares + 1) - size_of(out.parent), f"{out.parent}, with {shares} shares to be merged,"
    if free < needed:
        raise InputError(
            f"{whose} needs {needed / 1e6:.1f} MB, and its disk has {free / 1e6:.1f} MB free. Name an --out "
            "on another disk, or take fewer --pooling or --storage-dtype float16."
        )


def sampled_lengths(table: pd.DataFrame) -> list[float]:
    """Seconds of utterances, from spans and headers; of many, of `N_HEADERS` evenly chosen ones."""
    return [_seconds(row) for row in table.iloc[_evenly(len(table), N_HEADERS)].to_dict("records")]


def sample_sounds(table: pd.DataFrame, encoder: AudioUpstream, *, seconds: float = SAMPLE_SECONDS) -> list[np.ndarray]:
    """How a few utterances begin, evenly chosen; those that can't be used are left for the extraction to name."""
    sounds = []
    for row in table.iloc[_evenly(len(table), N_SAMPLES)].to_dict("records"):
        span = span_of(row)
        begin = span.get("start", 0.0)
        end = min(begin + seconds, span.get("end", float("inf")), audio_duration(row["path"]))
        try:
            sounds.append(read_audio_file(row["path"], sampling_rate=encoder.sampling_rate, start=begin, end=end))
        except InvalidAudioError:
            continue
    return [sound for sound in sounds if len(sound) >= encoder.minimum_samples]


def _seconds_for(encoder: Upstream, material: np.ndarray | str, poolings: tuple[str, ...]) -> float:
    """That one thread takes to embed it."""
    with torch_threads(1):
        embed(encoder, material, poolings=poolings)  # the first time is slower
        began = time.perf_counter()
        embed(encoder, material, poolings=poolings)
        return time.perf_counter() - began


def _seconds(row: Row) -> float:
    span = span_of(row)
    end = span["end"] if "end" in span else audio_duration(row["path"])
    return max(0.0, end - span.get("start", 0.0))


def _evenly(n: int, at_most: int) -> list[int]:
    """Indices of at most so many of n, from the first on.

    >>> _evenly(10, 4), _evenly(2, 4)
    ([0, 2, 5, 7], [0, 1])
    """
    return [k * n // min(n, at_most) for k in range(min(n, at_most))]
