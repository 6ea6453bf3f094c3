"""Pooled layers of utterances that are encoded together, and how far they are from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def pooled_together(encoder: Any, utterances: Sequence[Any], poolings: tuple[str, ...]) -> Tensor:
    """Return what one pack of waveforms or texts gives, ``(n_utterances, n_layers, n_poolings, dim)``."""
    return encoder.embed_pack([encoder.input_chunks(one) for one in utterances], poolings=poolings)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the relative difference of the poolings of one utterance, maximum over layers.

    Args:
        ours: ``(n_layers, n_poolings, dim)``
        theirs: the same shape, to whose norm the difference is relative
    """
    ours, theirs = ours.flatten(1), theirs.flatten(1)
    return float(((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max())
