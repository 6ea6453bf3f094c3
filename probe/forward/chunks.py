"""Chunks of an utterance: what goes into a forward pass, and the frames of each layer that come out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class InputChunk:
    """The input of one forward pass, and which of its frames count."""

    inputs: dict[str, Tensor]
    counted: slice = field(default_factory=lambda: slice(None))  # frames of the audio that no other chunk counts
    first: int = 0  # index of the first of them in the utterance
    total: int | None = None  # frames of the utterance; None where these are all


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive frames of one utterance in every layer: all of them, or those of one chunk of long audio."""

    layers: Iterable[Tensor]  # each (n_frames, dim)
    first: int = 0  # index of the first of these frames in the utterance
    total: int | None = None  # frames of the utterance; None where these are all


def convolution_rows(chunk: InputChunk, config: Any) -> list[int]:
    """Return the numbers of rows that the strided convolutions make of a chunk's samples, one after another."""
    rows = [int(chunk.inputs["input_values"].shape[-1])]
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        rows.append((rows[-1] - kernel) // stride + 1)
    return rows[1:]
