"""Which spans of each utterance are pooled: those of a file or a folder of files, or windows at regular times."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from layerprobe.probe.data.audio_hashes import Row, records, span_of
from layerprobe.probe.data.manifest.table import TABLE_ENDINGS
from layerprobe.probe.data.remarks import CLIPPED_SPANS, NEAREST_FRAMES, Remark
from layerprobe.probe.data.span_files.read import read_span_files
from layerprobe.probe.data.span_files.span_table import LABEL, SPAN_ID, UTTERANCE, read_span_table
from layerprobe.probe.data.span_times import RESAMPLED, windows, within_audio
from layerprobe.probe.exceptions import InputError, InvalidAudioError
from layerprobe.probe.identities import normalise_name
from layerprobe.probe.span_ids import span_ids

GIVEN = "given intervals"  # what plans begin with whose spans are those of a file
FRAMES = "frames with their centre inside"  # of a span, as plans state it


class TimedSpan(NamedTuple):
    """A span of an utterance."""

    span_id: str
    start: float  # seconds from the beginning of the utterance
    end: float
    label: str


@dataclass(frozen=True)
class UtteranceSpans:
    """The spans of one utterance."""

    given: tuple[TimedSpan, ...]  # as the user gave them
    spans: tuple[TimedSpan, ...]  # as they are pooled, the same with no time beyond the end of the utterance
    duration: float  # of the utterance, seconds
    remarks: tuple[Remark, ...] = ()

    @property
    def starts(self) -> np.ndarray:
        """Begin of each span, ``(n_spans,)`` float64 seconds."""
        return np.array([span.start for span in self.spans])

    @property
    def ends(self) -> np.ndarray:
        """End of each span, ``(n_spans,)`` float64 seconds."""
        return np.array([span.end for span in self.spans])


def with_nearest(spans: UtteranceSpans, n_nearest: int) -> UtteranceSpans:
    """Return spans with the remark that so many of them hold the nearest frame, if any do."""
    return replace(spans, remarks=(*spans.remarks, Remark(NEAREST_FRAMES, n_nearest))) if n_nearest else spans


class SpanSource(Protocol):
    """Where the spans of utterances come from."""

    @property
    def name(self) -> str:
        """What they come from, for messages."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Entries that are of no utterance of the manifest."""

    def given(self, row: Row) -> tuple[TimedSpan, ...] | None:
        """Return the spans of a manifest's row; None where they depend on the duration of its audio."""

    def of(self, row: Row, duration: float) -> UtteranceSpans:
        """Return the spans of an utterance of a duration in seconds.

        Raises:
            InvalidAudioError: if one is outside of the utterance
        """

    def mean_count(self, table: pd.DataFrame, durations: Sequence[float]) -> float:
        """Return the mean number of spans of rows, given the durations of some of them in seconds."""


@dataclass(frozen=True)
class SpanOptions:
    """Spans as a user requests them: a path, or windows of ``window`` seconds every ``every`` seconds.

    The path is that of a table with ``utterance_id``, ``start``, ``end`` and ``label``, of a TextGrid, a folder of
    these, or a CTM file. An entry is of the utterance that has its id, or whose audio file has its name without the
    ending.
    """

    path: Path | str | None = None
    tier: str = ""  # of TextGrids
    every: float | None = None
    window: float | None = None

    def __post_init__(self) -> None:
        """Check that these options fit together.

        Raises:
            InputError: if they do not
        """
        if (self.path is None) == (self.every is None and self.window is None):
            raise InputError(
                "LP260", "spans are either those of a file or windows. Give --spans PATH, or --every with --window."
            )
        if self.path is None:
            times = (self.every, self.window)
            if self.tier or not all(t is not None and math.isfinite(t) and t > 0 for t in times):
                raise InputError(
                    "LP260",
                    "windows need --every and --window, both seconds above 0, and no --tier. An example is --every 0.5 "
                    "--window 1.",
                )

    @property
    def in_plan(self) -> str:
        """Return which spans are pooled, as a plan states it; the content of a file is no part of it."""
        if self.path is None:
            return f"windows of {float(self.window or 0)!r} s every {float(self.every or 0)!r} s; {FRAMES}"
        return f"{GIVEN}{f' of tier {self.tier}' if self.tier else ''}; {FRAMES}"

    @classmethod
    def from_plan(cls, text: str) -> SpanOptions:
        """Return the windows that a plan states.

        Raises:
            InputError: if it states given intervals, whose file a plan does not name
        """
        found = re.fullmatch(rf"windows of (\S+) s every (\S+) s; {FRAMES}", text)
        if found is None:
            raise InputError(
                "LP267", f"the cache has spans of a file ({text}), which its plan does not name. Name it with --spans."
            )
        return cls(every=float(found[2]), window=float(found[1]))

    def read(self, table: pd.DataFrame) -> SpanSource:
        """Return the spans of the rows of a manifest.

        Args:
            table: of the whole manifest: what an entry is of, and whether it is of two files, no part of it shows

        Raises:
            InputError: if a file can't be read, or has no span of any of these utterances
        """
        if self.path is None:
            return Windows(float(self.every or 0), float(self.window or 0))
        return SpanTable.read(Path(self.path), self.tier, table)


@dataclass(frozen=True)
class Windows:
    """Windows of equal length at regular times."""

    every: float  # seconds from the start of one to that of the next
    window: float  # seconds
    name: str = "the windows"
    unused: tuple[str, ...] = ()

    def given(self, row: Row) -> tuple[TimedSpan, ...] | None:  # noqa: ARG002 - as every source's
        """Return None: windows depend on the duration."""
        return None

    def of(self, row: Row, duration: float) -> UtteranceSpans:
        """Return the windows of an utterance; see `layerprobe.probe.data.span_times.windows`."""
        parent = normalise_name(str(row[UTTERANCE]))
        starts, ends = windows(duration, self.every, self.window)
        names = span_ids([parent] * len(starts), starts.tolist(), ends.tolist())
        spans = tuple(
            TimedSpan(name, start, end, "")
            for name, start, end in zip(names, starts.tolist(), ends.tolist(), strict=True)
        )
        return UtteranceSpans(spans, spans, duration)

    def mean_count(self, table: pd.DataFrame, durations: Sequence[float]) -> float:  # noqa: ARG002 - as every source's
        """Return the mean number of windows; 1 where no duration is known."""
        counts = [len(windows(duration, self.every, self.window)[0]) for duration in durations if duration > 0]
        return float(np.mean(counts)) if counts else 1.0


def needs_file(in_plan: str) -> bool:
    """Return whether the spans that a plan states are those of a file, which it does not name."""
    return in_plan.startswith(GIVEN)


@dataclass(frozen=True)
class SpanTable:
    """The spans of a file, or of a folder of files, by utterance."""

    path: Path
    spans: dict[str, tuple[TimedSpan, ...]]
    unused: tuple[str, ...] = ()  # entries that are of no row

    @classmethod
    def read(cls, path: Path, tier: str, table: pd.DataFrame) -> SpanTable:
        """Read a file or a folder, and find the spans of each row of a manifest.

        An entry is of an utterance if it has its id, and else if it has the name of its audio file without ending; the
        times of the latter count from the beginning of the file, of which the row may be a part.

        Raises:
            InputError: if it can't be read, has no span of any row, may be of several files, or two spans have one id
        """
        entries = _entries(path, tier)
        found: dict[str, tuple[TimedSpan, ...]] = {}
        names = {str(name) for name in table[UTTERANCE]}
        by_file = _files_of_entries(path, table, set(entries) - names)
        for row in records(table):
            name = str(row[UTTERANCE])
            spans = entries.get(name)
            if spans is None:
                spans = _within(entries.get(by_file.get(str(row["path"]), ""), []), span_of(row))
            if spans:
                ids = span_ids([name] * len(spans), [s.start for s in spans], [s.end for s in spans])
                named = [span._replace(span_id=span.span_id or own) for span, own in zip(spans, ids, strict=True)]
                found[name] = tuple(sorted(named, key=lambda span: (span.start, span.end, span.span_id)))
        if not found:
            raise InputError(
                "LP261",
                f"{path} has no span of any of the {len(table)} utterances (its first entry: "
                f"{next(iter(entries), 'none')!r}). Name its entries by utterance_id, or by the audio file.",
            )
        _check_ids(path, found)
        return cls(path, found, tuple(name for name in entries if name not in names | set(by_file.values())))

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def given(self, row: Row) -> tuple[TimedSpan, ...] | None:
        """Return the spans of a row; none where the file has none."""
        return self.spans.get(str(row[UTTERANCE]), ())

    def of(self, row: Row, duration: float) -> UtteranceSpans:
        """Return the spans of an utterance, of which those that end after it are cut."""
        given = self.spans[str(row[UTTERANCE])]
        spans = []
        for span in given:
            times = within_audio(span.start, span.end, duration)
            if times is None:
                raise InvalidAudioError(
                    "LP262",
                    f"{self.path} has a span outside of the audio: {span.span_id} ({span.label!r}) from "
                    f"{span.start:g} to {span.end:g} s, and the audio has {duration:.3f} s",
                )
            spans.append(span._replace(start=times[0], end=times[1]))
        n_cut = sum(span.end > duration + RESAMPLED for span in given)
        return UtteranceSpans(given, tuple(spans), duration, (Remark(CLIPPED_SPANS, n_cut),) if n_cut else ())

    def mean_count(self, table: pd.DataFrame, durations: Sequence[float]) -> float:  # noqa: ARG002 - as every source's
        """Return the mean number of spans of rows."""
        counts = [len(self.spans.get(str(name), ())) for name in table[UTTERANCE]]
        return float(np.mean(counts)) if counts else 0.0


def _entries(path: Path, tier: str) -> dict[str, list[TimedSpan]]:
    """Return all spans of a path by the name of their entry; their ids are "" where the file has none."""
    if path.suffix.lower() in TABLE_ENDINGS and not tier:
        table = read_span_table(path)
        entries: dict[str, list[TimedSpan]] = {}
        for name, parent, start, end, label in zip(
            *(table[column] for column in (SPAN_ID, UTTERANCE, "start", "end", LABEL)), strict=True
        ):
            entries.setdefault(parent, []).append(
                TimedSpan(normalise_name(str(name)), float(start), float(end), str(label))
            )
        return entries
    return {
        normalise_name(name): [TimedSpan("", span.start, span.end, span.label) for span in spans]
        for name, spans in read_span_files(path, tier).items()
    }


def _files_of_entries(path: Path, table: pd.DataFrame, entries: set[str]) -> dict[str, str]:
    """Return the entry that has the name of each audio file of a manifest, where there is one.

    Raises:
        InputError: if an entry has the name of several files
    """
    by_file: dict[str, str] = {}
    file_of: dict[str, str] = {}
    for file in dict.fromkeys(map(str, table["path"])):
        name = normalise_name(Path(file).stem)
        if name not in entries:
            continue
        if (other := file_of.setdefault(name, file)) != file:
            raise InputError(
                "LP268",
                f"{path}: its entry {name!r} has the name of two audio files, {other} and {file}. Name its entries by "
                "utterance_id.",
            )
        by_file[file] = name
    return by_file


def _within(spans: list[TimedSpan], segment: dict[str, float]) -> list[TimedSpan]:
    """Return the spans of a file whose middle is in a segment of it, in seconds from the beginning of that."""
    begin, end = segment.get("start", 0.0), segment.get("end", math.inf)
    inside = [span for span in spans if begin <= (span.start + span.end) / 2 < end]
    # of decimal places of the file, not what their difference is in binary
    return [
        s._replace(start=round(max(0.0, s.start - begin), 9), end=round(min(s.end, end) - begin, 9)) for s in inside
    ]


def unused_sentence(source: SpanSource) -> str:
    """Return a sentence on entries that are of no utterance of the manifest, or "" where there are none."""
    n = len(source.unused)
    are = "entry of {} is" if n == 1 else "entries of {} are"
    return f"{n} {are.format(source.name)} of no utterance of the manifest (first: {source.unused[0]})." if n else ""


def _check_ids(path: Path, found: dict[str, tuple[TimedSpan, ...]]) -> None:
    utterance_of: dict[str, str] = {}
    for utterance, spans in found.items():
        for span in spans:
            other = utterance_of.get(span.span_id)
            utterance_of[span.span_id] = utterance
            if other is not None:
                raise InputError(
                    "LP263",
                    f"{path}: two spans have the id {span.span_id!r}, of the utterances {other} and {utterance}. Give "
                    "each span an id of its own, or leave the column span_id out.",
                )
