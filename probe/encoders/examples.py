"""Synthetic audio on which encoders are tried."""

from __future__ import annotations

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
