"""Choice of the packed forward pass that fits an encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from layerprobe.probe.encoders.architectures import InputChunk
from layerprobe.probe.encoders.packed.grouped import EqualLengths
from layerprobe.probe.encoders.packed.pack import PackedForward
from layerprobe.probe.encoders.packed.wav2vec2 import PackedWav2Vec2, has_packed_forward


def packed_forward(
    encoder: Any,
    *,
    dtype: torch.dtype,
    run: Callable[[dict[str, Tensor]], list[Tensor]],
    n_frames: Callable[[InputChunk], int],
) -> PackedForward:
    """Return the fastest pass of many utterances at once by transformers that is exact for an encoder.

    Args:
        encoder: of transformers, in float32, on its device
        dtype: of matrix products
        run: transformers' own pass of a batch in that precision, which returns each layer's frames
            ``(n_inputs, n_frames, dim)``
        n_frames: numbers of frames of a chunk
    """
    del encoder, dtype
    return EqualLengths(run, n_frames)


def own_forward(encoder: Any, *, dtype: torch.dtype, n_frames: Callable[[InputChunk], int]) -> PackedForward | None:
    """Return this package's own packed pass of an encoder; None where there is none that computes the same."""
    return PackedWav2Vec2(encoder, n_frames, dtype=dtype) if has_packed_forward(encoder) else None
