"""The spans of a cache as those of another extraction, so that its controls are pooled over the same intervals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from layerprobe.probe.cache.spans import Spans
from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.spans import SpanOptions, SpanTable, TimedSpan
from layerprobe.probe.identities import normalise_name


@dataclass(frozen=True)
class CachedSpans(SpanOptions):
    """The spans of a cache at ``path``, windows as well as those of a file; no file of them is needed.

    Utterances that the cache lacks have no spans.
    """

    plan: str = ""  # of the cache, on its spans
    by_utterance: tuple[tuple[str, tuple[TimedSpan, ...]], ...] = ()

    @property
    def in_plan(self) -> str:
        """Return what the cache's own plan states, so that a control can be resumed as one of the same spans."""
        return self.plan

    def read(self, table: pd.DataFrame) -> SpanTable:
        """Return the spans of the rows of a manifest, by id of utterance."""
        spans = dict(self.by_utterance)
        names = [str(name) for name in table["utterance_id"]]
        found = {name: spans[normalise_name(name)] for name in names if normalise_name(name) in spans}
        return SpanTable(Path(str(self.path)), found)


def spans_of(cache: Cache) -> CachedSpans | None:
    """Return the spans of a cache, or None if it is of whole utterances."""
    if cache.spans is None:
        return None
    return CachedSpans(cache.path, plan=cache.plan.spans, by_utterance=_by_utterance(cache, cache.spans))


def _by_utterance(cache: Cache, spans: Spans) -> tuple[tuple[str, tuple[TimedSpan, ...]], ...]:
    found: dict[str, list[TimedSpan]] = {}
    for name, parent, start, end, label in zip(
        cache.utterance_ids, spans.parent, spans.start, spans.end, spans.label, strict=True
    ):
        found.setdefault(str(parent), []).append(TimedSpan(str(name), float(start), float(end), str(label)))
    return tuple(
        (parent, tuple(sorted(of, key=lambda span: (span.start, span.end, span.span_id))))
        for parent, of in found.items()
    )
