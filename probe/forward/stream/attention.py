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

from layerprobe.probe.forward.stream import kernels
from layerprobe.probe.forward.stream.index_arrays import starts, uploaded, within

MASK_CELLS = 2**22  # of one head in one product with a mask; 64 MB float32 for 4 heads, 256 MB for 16


@dataclass(frozen=True)
class Spans:
    """Where the sequences of a stream lie, sorted by length, so that equal ones are adjacent."""

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

    @functools.cached_property
    def query_blocks(self) -> Tensor:
        """Blocks of queries as `kernels.attend_with_bias` takes them, ``(3, n_blocks)`` int32 on the device."""
        lengths = np.array(self.lengths)
        n_blocks = -(-lengths // kernels.QUERIES)
        begins, n_frames = np.repeat([starts(lengths), lengths], n_blocks, axis=1)
        blocks = np.stack([begins, within(n_blocks) * kernels.QUERIES, n_frames]).astype(np.int32)
        return uploaded(blocks, device=str(self.cumulative.device))

    def by_run(self, x: Tensor) -> list[Tensor]:
        """Return views of ``(1, heads, n_frames, width)``, one of each run: ``(n_sequences, heads, length, width)``."""
        parts = torch.split(x, [count * length for count, length in self.runs], dim=2)
        return [
            part if count == 1 else _sequences(part, count, length)
            for part, (count, length) in zip(parts, self.runs, strict=True)
        ]


def _sequences(run: Tensor, count: int, length: int) -> Tensor:
    """Return a view of ``(1, heads, count * length, width)``, ``(count, heads, length, width)``."""
    _, of_head, of_frame, of_column = run.stride()
    shape = (count, run.shape[1], length, run.shape[3])
    return run.as_strided(shape, (length * of_frame, of_head, of_frame, of_column))


class RelativeBias:
    """What attention adds to its scores by the distance of query and key, in every block."""

    def __init__(self, by_distance: Tensor, spans: Spans) -> None:
        """Take the bias of each distance.

        Args:
            by_distance: ``(heads, 2 * longest - 1)`` float32, from a key that is ``longest - 1`` frames before its
                query to one as many after it
            spans: of the sequences, the longest of ``longest`` frames
        """
        self.by_distance, self._spans = by_distance, spans

    @functools.cached_property
    def _values(self) -> Tensor:
        """The bias of query and key of the longest sequence, ``(heads, longest, longest)``; no kernel needs it."""
        from_key = self.by_distance.unfold(1, self._spans.longest, 1)  # of the last query first
        return from_key.flip(1)

    def masks(self, gate: Tensor | None, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield the mask of each run, ``(n_sequences or 1, heads, length, length)``, one at a time.

        Args:
            gate: factor of each query and head, ``(n_frames, heads)`` float32 (WavLM); None for none (MPNet)
            dtype: of the products
        """
        by_run = [self._values[:, :length, :length] for _, length in self._spans.runs]
        if gate is None:
            yield from (values[None].to(dtype) for values in by_run)
            return
        gates = self._spans.by_run(gate.T[None, :, :, None])
        yield from ((gates[k] * values).to(dtype) for k, values in enumerate(by_run))


def distances(spans: Spans, *, device: torch.device) -> Tensor:
    """Return the distances of `RelativeBias`, from query to key, ``(2 * longest - 1,)``."""
    return torch.arange(1 - spans.longest, spans.longest, device=device)


def attend(
    qkv: Tensor, spans: Spans, heads: int, *, bias: RelativeBias | None = None, gate: Tensor | None = None
) -> Tensor:
    """Let each frame attend to all frames of its sequence, with scores scaled by the root of a head's width.

    On a GPU in 16 bits all sequences are in one product: by torch's attention by cumulative lengths, or with a bias by
    a kernel. Elsewhere, and so in float32 on a GPU, too, each run of equal lengths has a product of its own.

    Args:
        qkv: queries, keys and values side by side, ``(n_frames, 3 * dim)``
        spans: of the sequences
        heads: their number
        bias: added to the scores; None for none
        gate: factor of the bias for each query and head, ``(n_frames, heads)`` float32 (WavLM); None for 1

    Returns:
        ``(n_frames, dim)`` in the precision of ``qkv``
    """
    n_frames, width = qkv.shape
    if bias is not None and kernels.attends(qkv, width // 3 // heads):
        return kernels.attend_with_bias(qkv, spans.query_blocks, heads, bias.by_distance, gate)
    if bias is None and _multiplies_by_length(qkv, width // 3 // heads):
        q, k, v = qkv.view(n_frames, 3, heads, -1).unbind(1)
        mixed = varlen_attn(q, k, v, spans.cumulative, spans.cumulative, spans.longest, spans.longest)
        return mixed.reshape(n_frames, -1)  # type: ignore[union-attr]  # a tuple only with a second output
    queries, keys, values = map(spans.by_run, qkv.view(1, n_frames, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind())
    masks: Iterable[Tensor | None] = [None] * len(queries) if bias is None else bias.masks(gate, qkv.dtype)
    of_runs = [
        functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        for q, k, v, mask in zip(queries, keys, values, masks, strict=True)
    ]
    joined = [x if len(x) == 1 else x.transpose(0, 1).reshape(1, heads, -1, x.shape[3]) for x in of_runs]
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
