"""Synthetic audio on which encoders are tried."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SHORT_SECONDS = 1.0


def example_waveform(seconds: float, *, sampling_rate: int) -> np.ndarray:
    """Return a voice-like buzz with noise, ``(n_samples,)`` float32, the same each time."""
    times = np.arange(round(seconds * sampling_rate)) / sampling_rate
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * times)
    phase = 2 * np.pi * np.cumsum(pitch) / sampling_rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = np.random.default_rng(0).normal(size=len(times))
    return np.asarray(0.1 * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * times)) * buzz + 0.01 * noise, dtype=np.float32)


def example_lengths(n_frames: Callable[[int], int], *, shortest: int, sampling_rate: int) -> list[int]:
    """Return numbers of samples that try whether utterances can be encoded together: equal and different in frames.

    Args:
        n_frames: the frames of a number of samples
        shortest: samples that one frame needs
        sampling_rate: in Hz

    Returns:
        one second, and about half a second with one frame more and one less, each twice if there are samples beyond
        the last frame that a model could read
    """
    step = sampling_rate // 50
    start = max(sampling_rate // 2 - step // 2, shortest)
    lengths = [start + sampling_rate // 2]
    for n in (start, start + step):
        longer = [n + extra for extra in (step // 2, step // 4, step // 8) if n_frames(n + extra) == n_frames(n)]
        lengths += [n, *longer[:1]]
    return lengths
