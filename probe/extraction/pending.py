"""Which utterances of a manifest an extraction still has to encode."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from layerprobe.probe.cache.spans import spans_content, without_spans
from layerprobe.probe.data.audio_hashes import Row, records
from layerprobe.probe.data.inputs import InputReader
from layerprobe.probe.data.spans import SpanSource
from layerprobe.probe.problem import Problem, StoredAudioError
from layerprobe.probe.progress import NullProgress


@dataclass(frozen=True)
class Pending:
    """What remains to be done of a manifest."""

    table: pd.DataFrame  # rows to encode
    without_spans: list[tuple[str, str, str]]  # utterance_id, path, reason of those that have none


def find_pending(
    table: pd.DataFrame,
    cached: dict[str, str],
    reader: InputReader,
    progress: NullProgress,
    spans: SpanSource | None = None,
) -> Pending:
    """Return the rows of a manifest that are not cached, or whose audio, transcript or spans changed since.

    Args:
        table: of the manifest
        cached: hash of the input of each cached utterance
        reader: returns the input of each row
        progress: receives the progress
        spans: of the utterances; None where they are pooled as a whole
    """
    lacking: list[tuple[str, str, str]] = []
    if spans is not None:
        has_spans = pd.Series([spans.given(row) != () for row in records(table)], index=table.index, dtype=bool)
        problem = Problem("LP264", f"{spans.name} has no span of it")
        rows = zip(table.loc[~has_spans, "utterance_id"], table.loc[~has_spans, "path"], strict=True)
        lacking = [(str(name), str(path), str(problem)) for name, path in rows]
        table = table[has_spans]
    known = table["utterance_id"].isin(list(cached))
    changed = []
    progress.begin("check what is cached", int(known.sum()), "utterances")
    try:
        for row in records(table[known]):
            try:
                same = _is_same(row, reader.content(row), cached[row["utterance_id"]], spans)
            except (FileNotFoundError, StoredAudioError):
                same = True  # a cached utterance no longer needs its audio
            if not same:
                changed.append(row["utterance_id"])
            progress.advance()
    finally:
        progress.end()
    if changed:
        progress.log(
            f"{len(changed)} utterances changed since they were cached (first: {changed[0]}); re-encoding them."
        )
    return Pending(table[~known | table["utterance_id"].isin(changed)], lacking)


def _is_same(row: Row, content: str, cached: str, spans: SpanSource | None) -> bool:
    """Return whether a cached utterance was made from this input and these spans."""
    if spans is None:
        return content == cached
    given = spans.given(row)
    return without_spans(cached) == content if given is None else cached == spans_content(content, given)
