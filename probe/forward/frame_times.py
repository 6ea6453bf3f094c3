"""When the frames of an encoder are, and which of them belong to a span of the utterance.

A frame belongs to a span if its centre, the middle of the samples that its convolutions or its window read, lies in
``[start, end)``. Where the centres of no frame lie in a span, it has the one frame with its centre nearest to the
middle of the span. A span from the beginning to the end of the utterance has all frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DECIMALS = 6  # of a sample, to which times are rounded: a span that begins at a centre has that frame


@dataclass(frozen=True)
class FrameTimes:
    """The centres of equidistant frames, in samples from the beginning of the utterance."""

    first: float  # centre of the first frame
    step: float  # from one frame to the next

    @classmethod
    def even(cls, n_samples: int, n_frames: int) -> FrameTimes:
        """Return frames that divide the samples evenly, for an encoder whose strides are not known."""
        return cls(n_samples / n_frames / 2, n_samples / n_frames)


@dataclass(frozen=True, eq=False)
class SpanTimes:
    """Spans of one utterance in samples; each array is ``(n_spans,)`` float64."""

    starts: np.ndarray  # from 0
    ends: np.ndarray  # after the starts, at most n_samples
    n_samples: int  # of the utterance

    @classmethod
    def of_seconds(cls, starts: np.ndarray, ends: np.ndarray, *, sampling_rate: int, n_samples: int) -> SpanTimes:
        """Return spans given in seconds; an end within a sample of the utterance's is the utterance's."""
        begin, end = (np.asarray(times, dtype=np.float64) * sampling_rate for times in (starts, ends))
        end = np.where(end > n_samples - 1, n_samples, end)
        return cls(np.round(begin, DECIMALS), np.round(end, DECIMALS), n_samples)

    @property
    def whole(self) -> np.ndarray:
        """Which spans are the whole utterance, ``(n_spans,)`` bool."""
        is_whole: np.ndarray = (self.starts <= 0) & (self.ends >= self.n_samples)
        return is_whole


@dataclass(frozen=True, eq=False)
class FrameRanges:
    """The frames of each span: consecutive ones; each array is ``(n_spans,)``."""

    begins: np.ndarray  # first frame, int64
    counts: np.ndarray  # frames, at least 1, int64
    whole: np.ndarray  # bool, whether these are all frames because the span is the utterance
    nearest: np.ndarray  # bool, whether no centre lies in the span, so that it has the nearest frame

    @property
    def ends(self) -> np.ndarray:
        """Number of the frame behind the last one of each span."""
        behind: np.ndarray = self.begins + self.counts
        return behind


def frame_ranges(spans: SpanTimes, times: FrameTimes | None, n_frames: int) -> FrameRanges:
    """Return which frames belong to each span.

    Args:
        spans: of the utterance
        times: of its frames; None divides the utterance evenly
        n_frames: of the utterance, at least 1

    >>> spans = SpanTimes(np.array([0.0, 320.0, 330.0]), np.array([640.0, 520.0, 340.0]), 1000)
    >>> found = frame_ranges(spans, FrameTimes(200, 320), 2)
    >>> found.begins.tolist(), found.counts.tolist(), found.nearest.tolist()
    ([0, 1, 0], [2, 1, 1], [False, True, True])
    """
    times = times or FrameTimes.even(spans.n_samples, n_frames)
    centres = np.round(times.first + times.step * np.arange(n_frames), DECIMALS)
    begins = np.where(spans.starts <= 0, 0, np.searchsorted(centres, spans.starts))
    ends = np.where(spans.ends >= spans.n_samples, n_frames, np.searchsorted(centres, spans.ends))
    nearest = ends <= begins
    middles = (spans.starts + spans.ends) / 2
    closest = np.clip(np.round((middles - times.first) / times.step), 0, n_frames - 1)
    begins = np.where(nearest, closest, begins).astype(np.int64)
    counts = np.where(nearest, 1, ends - begins).astype(np.int64)
    return FrameRanges(begins, counts, spans.whole, nearest)
