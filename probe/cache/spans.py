"""Spans of utterances as rows of a cache: whose they are, when they are, and whether all of an utterance's are there.

A span is an interval of an utterance, such as a word or a window, whose frames were pooled after the whole utterance
had been encoded. The rows of a span cache are spans, its ids are theirs, and five more arrays describe them. Each row's
hash of the input ends with the number of the utterance's spans and a hash of all of them: an utterance of which a
killed process has written a part only, or of which the spans have changed since, is recognised by its rows alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from layerprobe.probe.exceptions import InputError

NUMBERS = ("start", "end", "duration")
SPAN_ARRAYS = ("parent", "start", "end", "label", "duration")  # those that only span caches have
_MARK = " spans "


@dataclass(frozen=True)
class Span:
    """A row of a span cache without its embeddings."""

    parent: str  # id of the utterance; "" in removed rows
    start: float  # seconds from the beginning of the utterance
    end: float
    label: str = ""
    duration: float = float("nan")  # of the utterance, seconds


REMOVED_SPAN = Span("", float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Spans:
    """The spans of a cache, aligned with its rows; each array is ``(n_spans,)``."""

    parent: np.ndarray  # str, ids of utterances
    start: np.ndarray  # float64, seconds from the beginning of the utterance
    end: np.ndarray  # float64
    label: np.ndarray  # str; "" where there is none
    duration: np.ndarray  # float64, of the utterance, seconds

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Spans:
        """Return the arrays of some spans."""
        columns = {name: [getattr(span, name) for span in spans] for name in SPAN_ARRAYS}
        return cls(**{name: np.array(v, dtype=float if name in NUMBERS else object) for name, v in columns.items()})

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self.parent)

    def __getitem__(self, row: int) -> Span:
        """Return the span of one row."""
        return Span(
            str(self.parent[row]), float(self.start[row]), float(self.end[row]), str(self.label[row]),
            float(self.duration[row]),
        )  # fmt: skip

    def take(self, rows: np.ndarray) -> Spans:
        """Return the spans of some rows, chosen by number or by a mask."""
        return Spans(*(getattr(self, name)[rows] for name in SPAN_ARRAYS))

    @property
    def n_parents(self) -> int:
        """Number of utterances that the spans are of."""
        return len(set(self.parent))

    def frame(self) -> pd.DataFrame:
        """Return the spans as a table with a column for each array."""
        return pd.DataFrame({name: getattr(self, name) for name in SPAN_ARRAYS})


def id_taken(path: Path, span_id: str, holder: str, parent: str) -> InputError:
    """Return the error of a span whose id the span of another utterance has in a cache."""
    return InputError(
        "LP463",
        f"{path}: the span id {span_id!r} is of utterance {holder}, and one of {parent} has it, too. Give each span an "
        "id of its own, or leave the column span_id out.",
    )


def spans_content(content: str, spans: Iterable[tuple[str, float, float, str]]) -> str:
    """Return what identifies the input of an utterance's rows: its own content and the number and hash of its spans.

    Args:
        content: hash of the utterance's audio
        spans: id, start, end and label of each of its spans
    """
    listed = sorted((name, float(start), float(end), label) for name, start, end, label in spans)
    digest = hashlib.sha256(json.dumps(listed, ensure_ascii=False).encode()).hexdigest()[:12]
    return f"{content}{_MARK}{len(listed)} {digest}"


def n_spans_in(content: str) -> int:
    """Return the number of the utterance's spans that a row's content states; 0 where it states none.

    >>> n_spans_in(spans_content("00ff", [("a#0000", 0.0, 1.0, "")])), n_spans_in("00ff")
    (1, 0)
    """
    _, mark, rest = content.rpartition(_MARK)
    number = rest.partition(" ")[0]
    return int(number) if mark and number.isdecimal() else 0


def without_spans(content: str) -> str:
    """Return the content of the utterance in a row's content, without the number and the hash of its spans."""
    return content.rpartition(_MARK)[0] if n_spans_in(content) else content


def spans_part(content: str) -> str:
    """Return the number and the hash of an utterance's spans in a row's content; "" where it states none."""
    return content.rpartition(_MARK)[2] if n_spans_in(content) else ""


def in_whole_utterances(parents: np.ndarray, contents: np.ndarray) -> np.ndarray:
    """Return which rows are of utterances whose spans are all there and were made from one input, ``(n_rows,)`` bool.

    Args:
        parents: ``(n_rows,)`` str, ids of utterances; "" in removed rows
        contents: ``(n_rows,)`` str, hash of each row's input as `spans_content` makes it
    """
    if not len(parents):
        return np.zeros(0, dtype=bool)
    utterances, names = pd.factorize(np.asarray(parents, dtype=object))
    inputs, texts = pd.factorize(np.asarray(contents, dtype=object))
    stated = np.array([n_spans_in(str(text)) for text in texts])[inputs]
    n_rows = np.bincount(utterances, minlength=len(names))
    first = np.full(len(names), -1)
    first[utterances[::-1]] = inputs[::-1]
    alike = np.bincount(utterances, weights=inputs == first[utterances], minlength=len(names))
    named = np.array([name != "" for name in names])
    whole: np.ndarray = ((alike == n_rows) & named)[utterances] & (n_rows[utterances] == stated)
    return whole
