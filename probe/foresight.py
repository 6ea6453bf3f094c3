"""Before a long extraction: how many utterances, hours, bytes and minutes, and what the precision will cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from probe.audio import UnusableSound, read_sound, sound_seconds
from probe.hearing import embed
from probe.progress import clock_text
from probe.sound_hashes import Row, span_of
from probe.sources import Source
from probe.upstream import Upstream

N_HEADERS = 500  # sounds whose length is read; beyond that hours are an estimate
N_SAMPLES = 4  # sounds that are heard beforehand
SAMPLE_SECONDS = 3.0  # of each
WHOLE_SECONDS = 60.0  # of the one by which the speed is told


@dataclass(frozen=True)
class Foresight:
    """What an extraction will take."""

    n_utterances: int
    seconds_of_sound: float
    n_bytes: int
    seconds: float  # infinite where it can't be told

    def words(self) -> str:
        """All of it in one line."""
        sound = f"{self.seconds_of_sound / 3600:.2f} h of sound, " if self.seconds_of_sound else ""
        time_left = "" if self.seconds == float("inf") else f"; about {clock_text(self.seconds)}"
        return f"{self.n_utterances} utterances to extract, {sound}{self.n_bytes / 1e6:.1f} MB{time_left}"


def foresee(
    pending: pd.DataFrame, encoder: Upstream, source: Source, *, poolings: tuple[str, ...], jobs: int
) -> Foresight:
    """Estimate from the sounds' headers and from hearing one of them; if that can't be used, no time is foreseen.

    Of words from reading a few.
    """
    size = len(encoder.layers) * len(poolings) * encoder.dim * np.dtype(np.float32).itemsize
    if encoder.reads == "words":
        rows = pending.iloc[_evenly(len(pending), N_SAMPLES)].to_dict("records")
        each = np.mean([_seconds_for(encoder, source.read(row).what, poolings) for row in rows])
        return Foresight(len(pending), 0.0, len(pending) * size, float(each) * len(pending) / jobs)
    sound = seconds_of_sound(pending)
    one = sample_sounds(pending[:1], encoder, seconds=WHOLE_SECONDS)
    try:
        seconds = float("inf")
        if one:
            rate = len(one[0]) / encoder.sampling_rate / _seconds_for(encoder, one[0], poolings)  # of one thread
            seconds = sound / (jobs * rate)
    except UnusableSound:  # the extraction will name it
        seconds = float("inf")
    return Foresight(len(pending), sound, len(pending) * size, seconds)


def seconds_of_sound(table: pd.DataFrame) -> float:
    """Length of all utterances together, from spans and headers; of many, from `N_HEADERS` evenly chosen ones."""
    chosen = table.iloc[_evenly(len(table), N_HEADERS)].to_dict("records")
    lengths = [_seconds(row) for row in chosen]
    return float(np.mean(lengths) * len(table)) if lengths else 0.0


def sample_sounds(table: pd.DataFrame, encoder: Upstream, *, seconds: float = SAMPLE_SECONDS) -> list[np.ndarray]:
    """How a few utterances begin, evenly chosen; those that can't be used are left for the extraction to name."""
    sounds = []
    for row in table.iloc[_evenly(len(table), N_SAMPLES)].to_dict("records"):
        span = span_of(row)
        begin = span.get("start", 0.0)
        end = min(begin + seconds, span.get("end", float("inf")), sound_seconds(row["path"]))
        try:
            sounds.append(read_sound(row["path"], sampling_rate=encoder.sampling_rate, start=begin, end=end))
        except UnusableSound:
            continue
    return [sound for sound in sounds if len(sound) >= encoder.minimum_samples]


def _seconds_for(encoder: Upstream, material: np.ndarray | str, poolings: tuple[str, ...]) -> float:
    """That one thread takes to embed it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        embed(encoder, material, poolings=poolings)  # the first time is slower
        began = time.perf_counter()
        embed(encoder, material, poolings=poolings)
        return time.perf_counter() - began
    finally:
        torch.set_num_threads(threads)


def _seconds(row: Row) -> float:
    span = span_of(row)
    end = span["end"] if "end" in span else sound_seconds(row["path"])
    return max(0.0, end - span.get("start", 0.0))


def _evenly(n: int, at_most: int) -> list[int]:
    """Indices of at most so many of n, from the first on.

    >>> _evenly(10, 4), _evenly(2, 4)
    ([0, 2, 5, 7], [0, 1])
    """
    return [k * n // min(n, at_most) for k in range(min(n, at_most))]
