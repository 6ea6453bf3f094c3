"""Ratings in time of whole recordings by several raters, and which utterances of a manifest they are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from layerprobe.probe.data.audio_hashes import Row, span_of
from layerprobe.probe.data.importers.base import ROUNDING
from layerprobe.probe.data.manifest.schema import Target


@dataclass(frozen=True, eq=False)
class RaterTrace:
    """What one rater gave in time."""

    rater: str  # name; "" where none is stated
    times: np.ndarray  # (n_samples,) ascending, seconds from the beginning of the recording
    ratings: np.ndarray  # (n_samples,) float64, NaN where the rater gave none

    @classmethod
    def in_order(cls, rater: str, times: np.ndarray, ratings: np.ndarray) -> RaterTrace:
        """Return a trace whose samples may be given in any order."""
        order = np.argsort(times, kind="stable")
        return cls(rater, np.asarray(times, dtype=float)[order], np.asarray(ratings, dtype=float)[order])


@dataclass(frozen=True, eq=False)
class TargetTraces:
    """Traces of one target in one recording."""

    raters: tuple[RaterTrace, ...]
    consensus: RaterTrace | None = None  # such as a gold standard: it, not the mean of the raters, is then the rating
    n_unread: int = 0  # lines of files among the ratings that hold no numbers

    @property
    def rated_by(self) -> tuple[RaterTrace, ...]:
        """The traces that ratings are means of."""
        return self.raters if self.consensus is None else (self.consensus,)


Recording = dict[str, TargetTraces]  # by target


@dataclass(frozen=True, eq=False)
class TraceSource:
    """Recordings with traces, each read when it is needed."""

    corpus: str
    load: Callable[[str], Recording]  # by the name of a recording
    recordings: dict[str, str]  # the name of a recording, by that of its audio file without ending, in lower case
    utterances: dict[str, tuple[str, float]] = field(default_factory=dict)  # by utterance_id: the recording, and the
    # time in it at which the utterance begins, in seconds
    scales: dict[str, Target] = field(default_factory=dict)  # of targets whose scale is known
    remarks: tuple[str, ...] = ()

    def place(self, row: Row) -> tuple[str, float] | None:
        """Return the recording of a manifest's row, and the time in it at which the utterance begins.

        An utterance is found by its id, or else by its audio file, of which it may be a part. None if there is none.
        """
        if (found := self.utterances.get(str(row["utterance_id"]))) is not None:
            return found
        name = self.recordings.get(Path(str(row["path"])).stem.lower())
        return None if name is None else (name, span_of(row).get("start", 0.0))


def within_scale(traces: TargetTraces, scale: Target | None) -> tuple[TargetTraces, int]:
    """Return traces with ratings outside their scale left out, and the number of these."""
    if scale is None:
        return traces, 0
    slack = ROUNDING * (scale.maximum - scale.minimum)
    n_outside = 0

    def limited(trace: RaterTrace) -> RaterTrace:
        nonlocal n_outside
        outside = (trace.ratings < scale.minimum - slack) | (trace.ratings > scale.maximum + slack)
        n_outside += int(outside.sum())
        return replace(trace, ratings=np.where(outside, np.nan, trace.ratings)) if outside.any() else trace

    raters = tuple(map(limited, traces.raters))
    consensus = None if traces.consensus is None else limited(traces.consensus)
    return replace(traces, raters=raters, consensus=consensus), n_outside
