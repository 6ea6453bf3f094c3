"""Pooling of a pack's frames by utterance, on the device that they are on."""

from __future__ import annotations

import torch
from torch import Tensor

from layerprobe.probe.encoders.base import FrameChunk
from layerprobe.probe.encoders.packed.pack import Pack
from layerprobe.probe.encoders.pooling import pool_frame_chunks


class SegmentPooling:
    """The poolings of `probe.encoders.pooling` for all utterances of a pack."""

    def __init__(self, pack: Pack, poolings: tuple[str, ...], *, device: str) -> None:
        """Find the frames that each pooling counts of each utterance."""
        self._pack, self._poolings = pack, poolings
        self._device = device

    def __call__(self, frames: Tensor) -> Tensor:
        """Pool one layer's stream ``(n_frames, dim)`` to ``(n_utterances, n_poolings, dim)`` float32."""
        of: list[list[FrameChunk]] = [[] for _ in range(self._pack.n_utterances)]
        for chunk, k, (begin, end) in zip(self._pack.chunks, self._pack.utterances, self._pack.spans(), strict=True):
            of[k].append(FrameChunk([frames[begin:end][chunk.counted]], chunk.first, chunk.total))
        return torch.cat(
            [pool_frame_chunks(sorted(chunks, key=lambda one: one.first), poolings=self._poolings) for chunks in of]
        )
