"""Rating of segments in order: one is read while others are rated, each alone in a thread."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from layerprobe.probe.exceptions import InvalidAudioError
from layerprobe.probe.extraction.encoding.embedding import is_out_of_memory, not_finite, too_large
from layerprobe.probe.prediction.raters import Rater
from layerprobe.probe.prediction.saved_ratings import RatedSegment, SavedRatings
from layerprobe.probe.prediction.segments import Segment
from layerprobe.probe.system import cores

AHEAD = 2  # segments that are read and wait


@dataclass(frozen=True)
class Outcome:
    """A segment with its ratings, or the reason why it has none."""

    segment: Segment
    rated: RatedSegment | None
    reason: str  # "" where it is rated


def rate_in_order(
    segments: Iterator[Segment], rater: Rater, saved: SavedRatings, *, jobs: int | None = None
) -> Iterator[Outcome]:
    """Rate segments, in their order; what is saved is not rated again, and what is rated is saved.

    Each is rated alone by one thread, without a batch, so that no rating depends on the others or their number.

    Args:
        segments: read by the caller's thread, a few ahead of those that are rated
        rater: the model
        saved: ratings of an interrupted prediction; receives those of this one
        jobs: threads that rate; None for one per core, or one on a GPU
    """
    jobs = jobs or (cores() if rater.device == "cpu" else 1)
    threads_before = torch.get_num_threads()
    pool = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[tuple[Segment, Future[Outcome]]] = deque()

    def finish() -> Outcome:
        segment, future = waiting.popleft()
        outcome = future.result()
        if outcome.rated is not None:
            saved.add(segment.key, outcome.rated)
        return outcome

    try:
        for segment in segments:
            waiting.append((segment, pool.submit(_rate, segment, rater, saved.get(segment.key))))
            if len(waiting) >= jobs + AHEAD:
                yield finish()
        while waiting:
            yield finish()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads_before)


def _rate(segment: Segment, rater: Rater, known: RatedSegment | None) -> Outcome:
    if segment.reason or known is not None:
        return Outcome(segment, None if segment.reason else known, segment.reason)
    seconds = segment.end - segment.start
    try:
        ratings = tuple(rater.rate(segment.waveform, segment.text))
        if not all(math.isfinite(rating.value) for rating in ratings):
            raise not_finite()
    except InvalidAudioError as error:
        return Outcome(segment, None, str(error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Outcome(segment, None, str(too_large(seconds)))
    return Outcome(segment, RatedSegment(seconds, ratings), "")
