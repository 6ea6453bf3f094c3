"""Ratings in time of whole recordings by several raters, and which utterances of a manifest they are of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio_hashes import span_of
from layerprobe.probe.data.importers.base import ROUNDING
from layerprobe.probe.data.manifest.schema import Target
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.identities import normalise_name


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
    recordings: tuple[str, ...]  # their names, which are those of audio files without ending, in any case
    utterances: dict[str, tuple[str, float]] = field(default_factory=dict)  # by utterance_id: the recording, and the
    # time in it at which the utterance begins, in seconds
    scales: dict[str, Target] = field(default_factory=dict)  # of targets whose scale is known
    remarks: tuple[str, ...] = ()

    def places(self, utterances: pd.DataFrame) -> list[tuple[str, float] | None]:
        """Return the recording of each row of a manifest, and the time in it at which the utterance begins.

        An utterance is found by its id, or else by its audio file, of which it may be a part. None if there is none.

        Raises:
            InputError: if traces have the name of two audio files, or an audio file that of two traces
        """
        exact: dict[str, set[str]] = defaultdict(set)
        in_any_case: dict[str, set[str]] = defaultdict(set)
        for name in self.recordings:
            exact[normalise_name(name)].add(name)
            in_any_case[normalise_name(name).lower()].add(name)
        file_of: dict[str, str] = {}
        found: list[tuple[str, float] | None] = []
        for row in utterances.to_dict("records"):
            if (place := self.utterances.get(normalise_name(str(row["utterance_id"])))) is not None:
                found.append(place)
                continue
            file = str(row["path"])
            stem = normalise_name(Path(file).stem)
            of_file = exact.get(stem) or in_any_case.get(stem.lower())
            if not of_file:
                found.append(None)
                continue
            name, *others = sorted(of_file)
            if others:
                raise _ambiguous(f"the traces {name!r} and {others[0]!r} are both named like the audio file {file}")
            if (other := file_of.setdefault(name, file)) != file:
                raise _ambiguous(f"the traces {name!r} are named like two audio files, {other} and {file}")
            found.append((name, span_of(row).get("start", 0.0)))
        return found


def _ambiguous(fault: str) -> InputError:
    return InputError("LP183", f"{fault}. Name traces by utterance_id.")


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
