"""Long recordings read in blocks: the waveform of the whole file, in the memory of a few seconds.

A file is decoded twice: first it is measured and checked as a whole, then its waveform is yielded. Resampling is that
of the whole file, since soxr keeps its state between blocks; cut into windows first, each would begin and end with
the filter's response to an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from layerprobe.probe.data.audio import decoding_errors, open_audio, span_extent
from layerprobe.probe.data.channels import EnergyMeter
from layerprobe.probe.data.levels import level_range
from layerprobe.probe.data.reading import ReadingOptions, check_levels, chosen_channel

BLOCK_SECONDS = 10  # that are decoded at once


@dataclass(frozen=True)
class LongRecording:
    """A recording that was measured, and whose waveform is read in blocks; `measure_recording` makes it."""

    path: str
    start: float | None  # seconds from the beginning of the file; None for the beginning
    end: float | None
    rate: int  # of the file, Hz
    n_samples: int  # at that rate
    channel: int | None  # that is read; None for the mean of all

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.n_samples / self.rate

    def blocks(self, sampling_rate: int) -> Iterator[np.ndarray]:
        """Yield the waveform at a sampling rate in Hz in blocks ``(n_samples,)`` float32.

        Joined they are what `probe.data.audio.read_recording` returns where silence at the ends is kept, to the bit.

        Raises:
            InvalidAudioError: if the file changed since it was measured, so that it can't be read
        """
        mono = (np.ascontiguousarray(self._mono(block), dtype=np.float32) for block in self._decoded())
        if sampling_rate == self.rate:
            yield from mono
            return
        resampler = soxr.ResampleStream(self.rate, sampling_rate, 1, dtype="float32", quality="HQ")
        for block in mono:
            yield resampler.resample_chunk(block)
        yield resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)

    def _mono(self, channels: np.ndarray) -> np.ndarray:
        return np.asarray(channels.mean(axis=1) if self.channel is None else channels[:, self.channel])

    def _decoded(self) -> Iterator[np.ndarray]:
        return (block for block, _ in _decoded_blocks(self.path, self.start, self.end))


def measure_recording(
    path: str, *, start: float | None = None, end: float | None = None, reading: ReadingOptions
) -> LongRecording:
    """Decode a recording once to check it as a whole and to choose its channel.

    Args:
        path: as of `probe.data.audio.read_recording`
        start: seconds from the beginning of the file; None for the beginning
        end: seconds from the beginning of the file; None for the end
        reading: the channel; silence at the ends is kept

    Raises:
        InvalidAudioError: for the reasons of `probe.data.audio.read_recording`
    """
    n, rate, meter = 0, 0, EnergyMeter(0, 1)
    lowest = highest = np.empty(0)
    for block, block_rate in _decoded_blocks(path, start, end):
        channels = block[:, :1] if reading.channel == "first" else block
        low, high = level_range(channels)
        if not n:
            rate, meter, lowest, highest = block_rate, EnergyMeter(channels.shape[1], block_rate), low, high
        lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
        if channels.shape[1] > 1:
            meter.add(channels)
        n += len(channels)
    check_levels(lowest, highest)
    channel: int | None = 0 if reading.channel == "first" else None
    if len(lowest) > 1:
        channel = chosen_channel(meter.energy(), reading)
    return LongRecording(path, start, end, rate, n, channel)


def cut_windows(
    blocks: Iterator[np.ndarray], *, length: int, first: Callable[[int], int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a waveform that comes in blocks into windows, and hold no more of it than a window and a block.

    The last window ends with the waveform: it is the first one that reaches its end, and may be shorter. A waveform
    shorter than a window is one window.

    Args:
        blocks: ``(n_samples,)`` each
        length: samples of a window
        first: the first sample of window 0, 1, …; rising, and 0 for window 0

    Yields:
        the index of each window's first sample, and its samples

    >>> blocks = iter([np.arange(4.0), np.arange(4.0, 10.0)])
    >>> [(n, len(window)) for n, window in cut_windows(blocks, length=4, first=lambda k: 3 * k)]
    [(0, 4), (3, 4), (6, 4)]
    """
    held, begin, k = np.empty(0, dtype=np.float32), 0, 0
    for block in blocks:
        held = np.concatenate([held, block])
        while first(k) + length <= begin + len(held):
            yield first(k), held[first(k) - begin :][:length]
            k += 1
        n_done = min(max(0, first(k) - begin), len(held))
        held, begin = held[n_done:], begin + n_done
    end = begin + len(held)
    if end and (k == 0 or (first(k - 1) + length < end and first(k) < end)):
        yield first(k), held[first(k) - begin :]


def _decoded_blocks(path: str, start: float | None, end: float | None) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the samples ``(n_samples, n_channels)`` of a file or a span in blocks of whole seconds, and its rate."""
    with open_audio(path, start=start, end=end) as opened:
        decoder = opened.decoder
        extent = span_extent(decoder, opened.fault, start, end, float("inf"))
        n, size = 0, BLOCK_SECONDS * decoder.rate
        while extent.at_most is None or n < extent.at_most:
            with decoding_errors():
                block = decoder.read(
                    extent.first + n, size if extent.at_most is None else min(size, extent.at_most - n)
                )
            if not len(block):
                break
            n += len(block)
            yield block, decoder.rate
        extent.check(n)
