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


def bins_text(kind: str, names: Sequence[str]) -> str:
    """Return bins as a sentence names them.

    >>> bins_text("position", ["0.40–0.50"]), bins_text("onset", ["0.0–0.5", "0.5–1.0"])
    ('at 0.40–0.50 of the utterance', 'at 0.0–0.5 and 0.5–1.0 s from the beginning')
    >>> bins_text("label", ["noun", "particle"])
    'labelled noun and particle'
    """
    if kind == "label":
        return f"labelled {joined_text(names)}"
    return f"at {joined_text(names)} {'of the utterance' if kind == 'position' else 's from the beginning'}"


def scored_rows(plan: Mapping[str, Any]) -> str:
    """Return what a run scores: utterances, or spans where targets are of spans."""
    return "spans" if plan.get("time", {}).get("kind") == "targets" else "utterances"


def joined_text(texts: Sequence[str]) -> str:
    """Return texts with commas, the last after "and".

    >>> joined_text(["a"]), joined_text(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
