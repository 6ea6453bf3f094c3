"""Ratings of spans: the mean of the traces within each, later by the time that raters need to react."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio_hashes import Row, span_of
from layerprobe.probe.data.importers.base import counted
from layerprobe.probe.data.manifest.schema import Target
from layerprobe.probe.data.span_files.span_table import SPAN_COLUMNS
from layerprobe.probe.data.spans import SpanSource, TimedSpan
from layerprobe.probe.data.traces.agreement import Agreement, AgreementSums
from layerprobe.probe.data.traces.source import RaterTrace, TargetTraces, TraceSource, within_scale
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import NullProgress

COUNTS = ("_n_samples", "_n_raters")  # endings of the columns that count what a rating is the mean of
DECIMALS = 9  # of seconds, to which times are rounded before they are compared


@dataclass(frozen=True, eq=False)
class RatedSpans:
    """Spans with their ratings, and what is known of these."""

    table: pd.DataFrame  # `SPAN_COLUMNS`, then of each target its rating and the counts of samples and raters
    scales: dict[str, Target]  # of each target
    agreement: dict[str, Agreement]  # of each target
    dropped: Counter[str] = field(default_factory=Counter)  # utterances by reason
    remarks: tuple[str, ...] = ()  # each a clause

    @property
    def n_unrated(self) -> dict[str, int]:
        """Return the number of spans without a rating of each target."""
        return {name: int(self.table[name].isna().sum()) for name in self.scales}


def rate_spans(
    utterances: pd.DataFrame,
    spans: SpanSource,
    source: TraceSource,
    *,
    lag: float = 0.0,
    lengths: Mapping[str, float],
    progress: NullProgress,
) -> RatedSpans:
    """Return every span of every utterance that has traces, with its ratings.

    Args:
        utterances: the table of a manifest
        spans: of these
        source: of the traces
        lag: seconds by which ratings come after what they are of
        lengths: of audio files in seconds, by path, NaN where unknown; only windows need them
        progress: of recordings

    Raises:
        InputError: if no utterance has traces, some may be of several, or no span has a rating
    """
    dropped = Counter[str]()
    chosen: list[tuple[str, float, int, tuple[TimedSpan, ...]]] = []
    for k, (row, place) in enumerate(zip(utterances.to_dict("records"), source.places(utterances), strict=True)):
        if place is None:
            dropped["without traces"] += 1
            continue
        of_row = _spans_of(row, spans, lengths)
        if not of_row:
            dropped["without spans" if of_row is not None else "of audio whose length can't be read"] += 1
            continue
        chosen.append((*place, k, of_row))
    if not chosen:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in dropped.items())
        names = (utterances["utterance_id"].iloc[0], next(iter([*source.utterances, *source.recordings])))
        raise InputError(
            "LP183",
            f"no utterance can be rated: {reasons} (first utterance: {names[0]}; first of the traces: {names[1]}). "
            "Name traces by utterance_id, or by the audio file.",
        )
    rated = _rate(chosen, source, lag, progress)
    table = _table(utterances, chosen, rated)
    unrated = [name for name in rated.targets if table[name].isna().all()]
    if len(unrated) == len(rated.targets):
        raise InputError(
            "LP185",
            f"none of the {len(table)} spans has a rating within it, {lag:g} s later. Check that times of traces are "
            "seconds from the beginning of the utterance, or of its audio file.",
        )
    table = table.drop(columns=[f"{name}{ending}" for name in unrated for ending in ("", *COUNTS)])
    targets = [name for name in rated.targets if name not in unrated]
    scales = {name: source.scales.get(name, Target(*rated.range[name], "range of the ratings")) for name in targets}
    agreement = {name: rated.agreement[name].result() for name in targets}
    remarks = [f"{counted(n, noun)} {what}" for (noun, what), n in rated.left_out.items() if n]
    remarks += [f"no span has a rating of {name}, so there is no such column" for name in unrated]
    return RatedSpans(table, scales, agreement, +dropped, (*source.remarks, *remarks))


def _spans_of(row: Row, spans: SpanSource, lengths: Mapping[str, float]) -> tuple[TimedSpan, ...] | None:
    """Return the spans of a row; None where they are windows and the length of its audio is unknown."""
    if (given := spans.given(row)) is not None:
        return given
    span = span_of(row)
    end = min(span.get("end", np.inf), lengths.get(str(row["path"]), np.nan))
    duration = end - span.get("start", 0.0)
    return spans.of(row, duration).spans if np.isfinite(duration) and duration > 0 else None


class _Rated:
    """What is collected from recording to recording."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.agreement: dict[str, AgreementSums] = {}
        self.columns: dict[str, dict[int, np.ndarray]] = defaultdict(dict)  # by target and utterance: (n_spans, 3)
        self.range: dict[str, tuple[float, float]] = {}
        self.left_out = Counter[tuple[str, str]]()  # by a noun, and what was left out of it

    def add(self, target: str, traces: TargetTraces, scale: Target | None) -> TargetTraces:
        """Add the traces of a recording, and return those that are within the scale."""
        if target not in self.agreement:
            self.targets.append(target)
            self.agreement[target] = AgreementSums()
            self.range[target] = (np.inf, -np.inf)
        kept, n_outside = within_scale(traces, scale)
        self.left_out["sample", f"of {target} outside of its scale left out"] += n_outside
        self.left_out["line", f"among the ratings of {target} without numbers left out"] += traces.n_unread
        self.agreement[target].add(kept.raters)
        values = np.concatenate([np.empty(0), *(t.ratings[np.isfinite(t.ratings)] for t in kept.rated_by)])
        if len(values):
            low, high = self.range[target]
            self.range[target] = min(low, float(values.min())), max(high, float(values.max()))
        return kept


def _rate(
    chosen: Sequence[tuple[str, float, int, tuple[TimedSpan, ...]]],
    source: TraceSource,
    lag: float,
    progress: NullProgress,
) -> _Rated:
    found = _Rated()
    ordered = sorted(chosen, key=lambda one: one[0])  # each recording is read once
    progress.begin("rate spans", len({one[0] for one in chosen}), "recordings")
    try:
        for recording, rows in groupby(ordered, key=lambda one: one[0]):
            of_rows = list(rows)
            for target, traces in source.load(recording).items():
                kept = found.add(target, traces, source.scales.get(target))
                for _, begin, k, spans in of_rows:
                    starts = np.array([span.start for span in spans]) + begin + lag
                    ends = np.array([span.end for span in spans]) + begin + lag
                    found.columns[target][k] = span_means(kept, starts, ends)
            progress.advance()
    finally:
        progress.end()
    return found


def span_means(traces: TargetTraces, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return rating, number of samples and number of raters of each span, ``(n_spans, 3)``.

    Each rater's samples at ``start <= time < end`` are averaged, and then the raters who have any, each alike. Of a
    consensus there is one trace, and raters are counted who have samples there.

    Args:
        traces: of one target
        starts: ``(n_spans,)``, in the seconds of the traces
        ends: ``(n_spans,)``
    """
    means, counts = _means(traces.rated_by, starts, ends)
    rated = counts > 0
    n = rated.sum(axis=0)
    total = np.where(rated, means, 0.0).sum(axis=0)
    rating = np.divide(total, n, out=np.full(len(starts), np.nan), where=n > 0)
    n_raters = n
    if traces.consensus is not None and traces.raters:
        n_raters = (_means(traces.raters, starts, ends)[1] > 0).sum(axis=0)
    return np.stack([rating, counts.sum(axis=0), n_raters], axis=1)


def _means(raters: Sequence[RaterTrace], starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and counts of samples, both ``(n_raters, n_spans)``."""
    means, counts = np.zeros((len(raters), len(starts))), np.zeros((len(raters), len(starts)))
    bounds = np.round(np.stack([starts, ends]), DECIMALS)
    for k, trace in enumerate(raters):
        rated = np.isfinite(trace.ratings)
        sums = np.concatenate([[0.0], np.cumsum(trace.ratings[rated])])
        first, last = np.searchsorted(np.round(trace.times[rated], DECIMALS), bounds, side="left")
        counts[k] = last - first
        np.divide(sums[last] - sums[first], counts[k], out=means[k], where=counts[k] > 0)
    return means, counts


def _table(
    utterances: pd.DataFrame, chosen: Sequence[tuple[str, float, int, tuple[TimedSpan, ...]]], rated: _Rated
) -> pd.DataFrame:
    ids = utterances["utterance_id"].tolist()
    rows = [
        (span.span_id, ids[k], round(span.start, DECIMALS), round(span.end, DECIMALS), span.label)
        for _, _, k, spans in chosen
        for span in spans
    ]
    table = pd.DataFrame(rows, columns=list(SPAN_COLUMNS))
    for target in rated.targets:
        none = (np.nan, 0, 0)
        values = np.concatenate(
            [rated.columns[target].get(k, np.tile(none, (len(spans), 1))) for _, _, k, spans in chosen]
        )
        table[target] = np.round(values[:, 0], 6)
        for ending, column in zip(COUNTS, values.T[1:], strict=True):
            table[f"{target}{ending}"] = column.astype(int)
    return table
