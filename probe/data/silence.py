"""Digital silence at the ends of a waveform: a constant, or no more than the dither of 16-bit samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerprobe.probe.data.levels import is_silent

STEP = 4_096  # samples that are looked at together
# A recording may stay on one level for a few samples, so that less than this is no silence: the period of 100 Hz.
SHORTEST_SECONDS = 0.01
# Above either, silence at the ends is worth a remark: it moves the mean over frames in proportion to its length.
LONG_SECONDS = 1.0
LONG_FRACTION = 0.2


@dataclass(frozen=True)
class SilentEnds:
    """Samples of digital silence before the first other sample and after the last."""

    before: int
    after: int
    n_samples: int  # of the whole waveform

    def is_long(self, rate: int) -> bool:
        """Whether an end is longer than `LONG_SECONDS`, or both together than `LONG_FRACTION` of the waveform."""
        fraction = (self.before + self.after) / self.n_samples
        return max(self.before, self.after) > LONG_SECONDS * rate or fraction > LONG_FRACTION


def silent_ends(waveform: np.ndarray, rate: int) -> SilentEnds:
    """Measure the silence at both ends of a waveform ``(n_samples,)`` at ``rate`` Hz that is not silent as a whole.

    An end is silent as far as its samples span no more than two steps of 16 bits, see `is_silent`: zeros, another
    constant, or dither around one. What is shorter than `SHORTEST_SECONDS` counts as none.

    >>> silent_ends(np.array([0.0, 0.0, 0.5, 0.0, -0.5, 0.25], dtype=np.float32), 200)
    SilentEnds(before=2, after=0, n_samples=6)
    """
    shortest = max(2, round(SHORTEST_SECONDS * rate))
    before, after = (n if n >= shortest else 0 for n in map(_silent_samples, (waveform, waveform[::-1])))
    return SilentEnds(before, after, len(waveform))


def _silent_samples(waveform: np.ndarray) -> int:
    """Return the number of samples from the first on that are silent together."""
    lowest = highest = waveform[:1]
    for begin in range(0, len(waveform), STEP):
        block = waveform[begin : begin + STEP]
        lows = np.minimum(np.minimum.accumulate(block), lowest)
        highs = np.maximum(np.maximum.accumulate(block), highest)
        audible = ~is_silent(lows, highs)
        if audible.any():
            return begin + int(audible.argmax())
        lowest, highest = lows[-1:], highs[-1:]
    return len(waveform)
