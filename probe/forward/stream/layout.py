"""Where the samples and frames of a pack's sequences lie; all numbers go to the device in one copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.forward.stream.attention import Spans
from layerprobe.probe.forward.stream.index_arrays import starts, uploaded, within

BLOCK_FRAMES = 8  # that one row of the positional product gives


@dataclass(frozen=True)
class Convolutions:
    """Kernels and strides of the convolutions that make frames of samples; none pads."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def stride(self) -> int:
        """Samples from one frame to the next, 320 in most encoders."""
        return math.prod(self.strides)

    @property
    def reach(self) -> int:
        """Samples that one frame reads, 400 in most encoders."""
        reach = 1
        for kernel, stride in zip(self.kernels[::-1], self.strides[::-1], strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    @property
    def seam(self) -> int:
        """Frames of a slot behind the sequence's own, so that it holds every sample of the sequence, 2 in most."""
        return -(-(self.reach - 1) // self.stride)

    @property
    def rows(self) -> int:
        """Rows of the first convolution from one frame to the next, 64 in most encoders."""
        return self.stride // self.strides[0]


@dataclass(frozen=True)
class Layout:
    """Slots of samples and their frames, of which those at the seams mean nothing; tensors are int32 on the device.

    The slot of a sequence of n frames has ``(n + seam) * stride`` samples, zeros behind the sequence's own. A row of
    any convolution that its n frames need reads samples of that slot only.
    """

    slots: tuple[int, ...]  # first sample of each
    n_slot_frames: int  # of all slots
    spans: Spans
    kept: Tensor  # (n_frames,): those of the slots' frames that are the sequences' own
    slot_frames: Tensor  # (n_sequences + 1,): first of each slot's frames, and the number of all
    sequence: Tensor  # (n_slot_frames + seam,): of each frame of the slots, the last repeated behind them
    n_rows: Tensor  # (n_slot_frames,): rows of the first convolution from there on that are the sequence's own
    block_first: Tensor  # (n_blocks,): first frame of each block of the positional product, within its sequence
    block_start: Tensor  # (n_blocks,): first frame of its sequence in the stream
    block_length: Tensor  # (n_blocks,): frames of its sequence
    in_blocks: Tensor  # (n_frames,): place of each frame among those that the blocks give

    @classmethod
    def of(cls, lengths: Sequence[int], n_samples: Sequence[int], convolutions: Convolutions, *, device: str) -> Layout:
        """Lay out sequences of so many frames and samples."""
        n, seam, rows = np.asarray(lengths), convolutions.seam, convolutions.rows
        first_frames, slot_frames, n_blocks = starts(n), n + seam, -(-n // BLOCK_FRAMES)
        slot_starts, block_starts = starts(slot_frames), starts(n_blocks)
        own_rows = (np.asarray(n_samples) - convolutions.kernels[0]) // convolutions.strides[0] + 1
        numbers = {
            "cumulative": np.append(first_frames, n.sum()),
            "kept": np.repeat(slot_starts, n) + within(n),
            "slot_frames": np.append(slot_starts, slot_frames.sum()),
            "sequence": np.append(np.repeat(np.arange(len(n)), slot_frames), np.full(seam, len(n) - 1)),
            "n_rows": (np.repeat(own_rows, slot_frames) - within(slot_frames) * rows).clip(0, rows),
            "block_first": within(n_blocks) * BLOCK_FRAMES,
            "block_start": np.repeat(first_frames, n_blocks),
            "block_length": np.repeat(n, n_blocks),
            "in_blocks": np.repeat(block_starts * BLOCK_FRAMES, n) + within(n),
        }
        joined = uploaded(np.concatenate([*numbers.values()]).astype(np.int32), device=device)
        parts = torch.split(joined, [len(part) for part in numbers.values()])
        on_device = dict(zip(numbers, parts, strict=True))
        spans = Spans.of(lengths, cumulative=on_device.pop("cumulative"))
        slots = tuple((slot_starts * convolutions.stride).tolist())
        return cls(slots, int(slot_frames.sum()), spans, **on_device)

    def window_rows(self, kernel: int) -> Tensor:
        """Return the frames that each block of the positional product reads, ``(n_blocks, BLOCK_FRAMES + kernel - 1)``.

        A place before a sequence or behind it has the index behind the stream's last frame, where zeros are put.
        """
        offsets = torch.arange(BLOCK_FRAMES + kernel - 1, device=self.kept.device, dtype=torch.int32) - kernel // 2
        place = self.block_first[:, None] + offsets
        inside = (place >= 0) & (place < self.block_length[:, None])
        return torch.where(inside, self.block_start[:, None] + place, len(self.kept))
