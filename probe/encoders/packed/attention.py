"""Attention of each frame of a stream to the frames of its own sequence, without padding."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

MASK_CELLS = 2**22  # of one head in one product with a mask; 64 MB float32 for 4 heads, 256 MB for 16


@dataclass(frozen=True)
class Spans:
    """Where the sequences of a stream lie, sorted by length, so that equal ones are neighbours."""

    lengths: tuple[int, ...]  # frames of each sequence
    runs: tuple[tuple[int, int], ...]  # n_sequences of equal length, and that length, for each run in order
    cumulative: Tensor  # (n_sequences + 1,) int32 on the device: first frame of each, and the number of all

    @classmethod
    def of(cls, lengths: Sequence[int], *, cumulative: Tensor) -> Spans:
        """Find the runs of equal lengths; a run too large for its masks is split."""
        runs = []
        for length, equal in groupby(lengths):
            left, largest = len(list(equal)), max(1, MASK_CELLS // length**2)
            while left:
                runs.append((min(left, largest), length))
                left -= runs[-1][0]
        return cls(tuple(lengths), tuple(runs), cumulative)

    @classmethod
    def upload(cls, lengths: Sequence[int], *, device: str) -> Spans:
        """Find the runs, and bring the cumulative lengths to the device, for which the host does not wait."""
        return cls.of(lengths, cumulative=uploaded(np.cumsum([0, *lengths], dtype=np.int32), device=device))

    @property
    def longest(self) -> int:
        """Frames of the longest sequence."""
        return max(self.lengths)

    def by_run(self, x: Tensor) -> list[Tensor]:
        """Return views of ``(1, heads, n_frames, width)``, one of each run: ``(n_sequences, heads, length, width)``."""
        pieces = x.split([count * length for count, length in self.runs], dim=2)
        return [
            piece if count == 1 else piece.unflatten(2, (count, length)).transpose(0, 2).squeeze(2)
            for piece, (count, length) in zip(pieces, self.runs, strict=True)
        ]


def uploaded(values: np.ndarray, *, device: str) -> Tensor:
    """Copy an array to a device; the host does not wait for a GPU."""
    host = torch.from_numpy(values)
    return host.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else host.to(device)


class RelativeBias:
    """What attention adds to its scores by the distance of query and key, in every block."""

    def __init__(self, values: Tensor, spans: Spans) -> None:
        """Take the bias of the longest sequence, ``(heads, longest, longest)`` float32 of query and key."""
        self._spans = spans
        self._by_run = [values[:, :length, :length] for _, length in spans.runs]

    def masks(self, gate: Tensor | None, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield the mask of each run, ``(n_sequences or 1, heads, length, length)``, one at a time.

        Args:
            gate: factor of each query and head, ``(n_frames, heads)`` float32 (WavLM); None for none (MPNet)
            dtype: of the products
        """
        if gate is None:
            yield from (values[None].to(dtype) for values in self._by_run)
            return
        gates = self._spans.by_run(gate.T[None, :, :, None])
        yield from ((gates[k] * values).to(dtype) for k, values in enumerate(self._by_run))


def attend(qkv: Tensor, spans: Spans, heads: int, *, masks: Iterable[Tensor] | None = None) -> Tensor:
    """Let each frame attend to all frames of its sequence, with scores scaled by the root of a head's width.

    Args:
        qkv: queries, keys and values side by side, ``(n_frames, 3 * dim)``
        spans: of the sequences
        heads: their number
        masks: added to the scores of each run, see `RelativeBias`; None for none

    Returns:
        ``(n_frames, dim)`` in the precision of ``qkv``
    """
    n_frames, width = qkv.shape
    if masks is None and _multiplies_by_length(qkv, width // 3 // heads):
        q, k, v = qkv.view(n_frames, 3, heads, -1).unbind(1)
        longest = spans.longest
        mixed = varlen_attn(q, k, v, spans.cumulative, spans.cumulative, longest, longest)
        return mixed.reshape(n_frames, -1)  # type: ignore[union-attr]  # a tuple only where a second output is asked for
    q, k, v = (spans.by_run(x) for x in qkv.view(1, n_frames, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind())
    of_runs: Iterable[Tensor | None] = [None] * len(q) if masks is None else masks
    mixed = [
        functional.scaled_dot_product_attention(*one, attn_mask=mask)
        for *one, mask in zip(q, k, v, of_runs, strict=True)
    ]
    joined = [x if len(x) == 1 else x.transpose(0, 1).flatten(1, 2)[None] for x in mixed]
    return torch.cat(joined, dim=2)[0].transpose(0, 1).reshape(n_frames, -1)


def _multiplies_by_length(x: Tensor, width: int) -> bool:
    """Return whether the device has attention by cumulative lengths for this precision and width of a head."""
    return (
        x.is_cuda
        and x.dtype in (torch.bfloat16, torch.float16)
        and width % 8 == 0
        and width <= 256
        and _has_flash_attention(x.device.index)
    )


@functools.cache
def _has_flash_attention(index: int) -> bool:
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(index) >= (8, 0)
