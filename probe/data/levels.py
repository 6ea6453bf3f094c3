"""Levels of samples: which are silence, and which lie beyond full scale."""

from __future__ import annotations

import numpy as np

from layerprobe.probe.problem import Problem

# dB of full scale. One step of 16-bit samples, which dither and rounding leave where nothing is, is at -90.3 dB; the
# noise of a microphone is far above it.
SILENCE_DB = -90.0
SILENCE = 10 ** (SILENCE_DB / 20)
# Decoders of lossy formats and mixes in floating point exceed full scale, 1, by a few dB, and mean it. Twice full scale
# is 6 dB, what two full channels reach when they are added; samples beyond are on another scale.
HIGHEST_LEVEL = 2.0
INTEGER_BITS = (16, 24, 32)
LARGEST_8_BIT = 128


def level_range(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest sample of each channel of ``(n_samples, n_channels)``; NaN where one is NaN."""
    each = channels.T  # one pass over each is several times as fast as a pass over pairs
    return np.array([channel.min() for channel in each]), np.array([channel.max() for channel in each])


def is_silent(lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Return whether samples from ``lowest`` to ``highest`` are silence, whatever constant was added to them."""
    return np.asarray(highest - lowest <= 2 * SILENCE)


def over_scale(peak: float) -> Problem | None:
    """Return why samples whose largest absolute value is ``peak`` can't be used; None where they can.

    >>> over_scale(1.2)
    >>> print(over_scale(20_000))
    values reach 20,000 times full scale (1.0); divide the samples by 32768, the scale of 16-bit integers [LP231]
    >>> print(over_scale(4.0))
    values reach 4 times full scale (1.0); lower their level by at least 12.1 dB [LP231]
    """
    if peak <= HIGHEST_LEVEL:
        return None
    found = f"values reach {_factor(peak)} times full scale (1.0)"
    for bits in INTEGER_BITS if peak > LARGEST_8_BIT else ():
        if peak <= 2 ** (bits - 1):
            advice = f"divide the samples by {2 ** (bits - 1)}, the scale of {bits}-bit integers"
            return Problem("LP231", f"{found}; {advice}")
    decibels = np.ceil(200 * np.log10(peak)) / 10
    return Problem("LP231", f"{found}; lower their level by at least {decibels:.1f} dB")


def _factor(peak: float) -> str:
    return f"{peak:.2g}" if peak < 10 else f"{peak:,.0f}"
