"""Identifiers of marks in figures: which encoder, control, target and layer a cell, a point or a bar shows.

In matplotlib a mark's gid is ``KIND-N:ENCODER:CONTROL:TARGET:LAYER``, as of `mark_id`. In an SVG file it is an element
with ``id="KIND-N"`` and the attributes ``data-encoder``, ``data-control``, ``data-target`` and ``data-layer``, by which
a page finds all marks of one layer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, unquote

_GID = re.compile(r'id="([a-z]+-\d+)((?::[^":]*){4})"')
PARTS = ("encoder", "control", "target", "layer")


@dataclass(frozen=True)
class Mark:
    """What one mark of a figure shows."""

    encoder: str
    control: str  # "none" for the real ratings of a trained encoder
    target: str
    layer: str


def mark_id(kind: str, number: int, mark: Mark) -> str:
    """Return the gid of a mark; characters of names other than letters, digits and ``-._~`` are percent-encoded.

    >>> mark_id("cell", 3, Mark("facebook/hubert", "none", "arousal", "6"))
    'cell-3:facebook%2Fhubert:none:arousal:6'
    """
    return ":".join([f"{kind}-{number}", *(quote(str(getattr(mark, part)), safe="") for part in PARTS)])


def parse_mark_id(gid: str) -> Mark | None:
    """Return what a mark with this gid shows, or None where the gid is not one of `mark_id`.

    >>> parse_mark_id("cell-3:facebook%2Fhubert:none:arousal:6")
    Mark(encoder='facebook/hubert', control='none', target='arousal', layer='6')
    """
    parts = gid.split(":")
    return Mark(*map(unquote, parts[1:])) if len(parts) == 1 + len(PARTS) else None


def with_data_attributes(svg: str) -> str:
    """Return an SVG in which each mark has ``id="KIND-N"`` and its encoder, control, target and layer as ``data-``."""

    def attributes(found: re.Match[str]) -> str:
        values = found[2].removeprefix(":").split(":")
        data = (f'data-{part}="{escape(unquote(v))}"' for part, v in zip(PARTS, values, strict=True))
        return " ".join([f'id="{found[1]}"', *data])

    return _GID.sub(attributes, svg)
