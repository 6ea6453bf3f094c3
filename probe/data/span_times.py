"""Times of spans against the length of the audio: windows at regular times, and what of a given span is within it."""

from __future__ import annotations

import math

import numpy as np

SLACK = 1e-6  # seconds by which a time may be beyond the end because it was rounded
# Seconds by which two lengths of one recording may differ: that of its file, and that at an encoder's sampling rate,
# which resampling rounds to whole samples. These are 2 samples at 16 kHz.
RESAMPLED = 2 / 16_000
# Seconds of a window's least length: the receptive field of the convolutions of wav2vec 2.0 and its successors, which
# is 400 samples at 16 kHz (Baevski et al., 2020). A shorter one has no frame of its own.
SHORTEST = 0.025


def windows(duration: float, every: float, window: float) -> tuple[np.ndarray, np.ndarray]:
    """Return begin and end of windows in seconds, both ``(n_windows,)``.

    The first begins with the utterance. The last one that is whole ends at or before the end of the utterance, and
    where audio remains behind it one more, which is shorter, ends with it. Where that one would be shorter than 25 ms
    (or half a window), there is none, and the last one that is whole has the rest, unless there is a gap between them.
    An utterance not longer than a window is one.

    >>> windows(2.2, 0.5, 1.0)
    (array([0. , 0.5, 1. , 1.5]), array([1. , 1.5, 2. , 2.2]))
    >>> windows(0.7, 0.5, 1.0)
    (array([0.]), array([0.7]))
    >>> windows(2.01, 1.0, 1.0)
    (array([0., 1.]), array([1.  , 2.01]))
    """
    n_whole = max(0, math.floor((duration - window) / every + SLACK) + 1)
    n, rest = n_whole, duration - n_whole * every  # seconds from the begin of one more window to the end
    is_covered = n_whole > 0 and (n_whole - 1) * every + window >= duration - SLACK
    is_short = n_whole > 0 and rest < min(SHORTEST, window / 2)
    if not is_covered and not is_short:
        n += 1
    starts = np.round(np.arange(n) * every, 9)
    ends = np.minimum(np.round(starts + window, 9), duration)
    if not is_covered and is_short and every <= window:
        ends[-1] = duration
    return starts, ends


def within_audio(start: float, end: float, duration: float) -> tuple[float, float] | None:
    """Return begin and end of what of a span is within the audio, or None where nothing of it is.

    A span that begins at the end of the audio, and ends there but for the rounding of resampling, is no fault of who
    gave it: it begins two samples before the end, and so has the last frame.

    Args:
        start: of the span, seconds
        end: of the span, seconds
        duration: of the audio, seconds

    >>> within_audio(1.5, 2.4, 2.0), within_audio(2.0, 2.5, 2.0), within_audio(2.0, 2.00002, 2.0)
    ((1.5, 2.0), None, (1.999875, 2.0))
    """
    if not 0 <= start < end:
        return None
    if start >= duration - SLACK:
        if end > duration + RESAMPLED:
            return None
        start = max(0.0, duration - RESAMPLED)
    return start, min(end, duration)
