"""Bins of time: their names in order, their edges, and what they are called in sentences and on axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = {  # of bins, as ``layerprobe sweep --by`` takes them: the axis of a figure
    "position": "position in the utterance (%)",
    "onset": "time from the beginning (s)",
    "label": "label of the span",
}


@dataclass(frozen=True)
class TimeBins:
    """The bins of a run in order; those of a label have no edges."""

    kind: str  # a key of `KINDS`
    names: tuple[str, ...]
    edges: tuple[tuple[float, float], ...] = ()  # of each bin: a fraction of the utterance, or seconds

    @classmethod
    def from_plan(cls, table: Mapping[str, Any]) -> TimeBins | None:
        """Return the bins of the table ``[time]`` of a plan.toml; None of a run without bins."""
        rows = table.get("bins", ())
        if not rows:
            return None
        edges = tuple((float(row["low"]), float(row["high"])) for row in rows if "low" in row)
        return cls(str(table["kind"]), tuple(str(row["name"]) for row in rows), edges)

    @property
    def has_edges(self) -> bool:
        """Whether the bins are intervals of time, and not labels."""
        return bool(self.edges)

    def kept(self, names: Sequence[str]) -> TimeBins:
        """Return these bins alone, in their order."""
        chosen = [k for k, name in enumerate(self.names) if name in set(names)]
        edges = tuple(self.edges[k] for k in chosen) if self.edges else ()
        return TimeBins(self.kind, tuple(self.names[k] for k in chosen), edges)

    def text(self, names: Sequence[str]) -> str:
        """Return bins as a sentence names them, adjacent intervals joined.

        >>> bins = TimeBins("position", ("a", "b", "c"), ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6)))
        >>> bins.text(["b"]), bins.text(["a", "b"]), bins.text(["a", "c"])
        ('20 to 40 % of the utterance', '0 to 40 % of the utterance', '0 to 20 and 40 to 60 % of the utterance')
        >>> TimeBins("label", ("noun", "verb")).text(["noun", "verb"])
        'labelled noun and verb'
        """
        chosen = [k for k, name in enumerate(self.names) if name in set(names)]
        if not self.edges:
            return f"labelled {joined_text([self.names[k] for k in chosen])}"
        factor, unit = (100.0, "% of the utterance") if self.kind == "position" else (1.0, "s from the beginning")
        spans: list[list[float]] = []
        for k in chosen:
            low, high = self.edges[k]
            if spans and abs(spans[-1][1] - low) < 1e-9:
                spans[-1][1] = high
            else:
                spans.append([low, high])
        return f"{joined_text([f'{factor * a:.6g} to {factor * b:.6g}' for a, b in spans])} {unit}"


def joined_text(texts: Sequence[str]) -> str:
    """Return texts with commas, the last after "and".

    >>> joined_text(["a"]), joined_text(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
