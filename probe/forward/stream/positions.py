"""Positional convolutions of each sequence of a stream, as one product of windows with a band of shifted weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.stream.layout import BLOCK_FRAMES, Layout
from layerprobe.probe.forward.stream.operators import Norm

PART_BLOCKS = 256  # of frames in one product; their windows have 70 MB at 16 bits, 1024 wide and a kernel of 128


class PositionalConvolution:
    """A convolution in groups over a sequence with zeros at its ends, a norm where there is one, and GELU.

    Blocks of frames are computed together: a row has the window of a block, and the weight is repeated for each of its
    frames, shifted by one. A kernel of even length reads one frame more before than behind, as in transformers, which
    drops the last frame.
    """

    def __init__(self, convolution: Any, norm: Norm | None, dtype: torch.dtype) -> None:
        """Take the weights; products are done in ``dtype``."""
        self._norm, self._dtype = norm, dtype
        self.kernel: int = convolution.kernel_size[0]
        self._groups: int = convolution.groups
        self._weight = _banded(convolution.weight.detach(), self._groups).to(dtype)
        self._bias = convolution.bias.detach().float()

    def __call__(self, x: Tensor, layout: Layout, rows: Tensor) -> Tensor:
        """Return what is to be added to the frames ``(n_frames, dim)`` float32, the same shape.

        Args:
            x: the frames
            layout: of the pack
            rows: its `window_rows` for this kernel
        """
        dim, groups = x.shape[1], self._groups
        # (groups, n_frames + 1, in): with zeros behind the last frame, and each group's columns together
        padded = functional.pad(x.to(self._dtype), (0, 0, 0, 1)).view(len(x) + 1, groups, -1)
        padded = padded.transpose(0, 1).contiguous()
        products = []
        for part in torch.split(rows, PART_BLOCKS):
            read = padded.index_select(1, part.flatten()).view(groups, len(part), -1)
            products.append(torch.bmm(read, self._weight))
        y = torch.cat(products, dim=1).view(groups, -1, dim // groups).transpose(0, 1)
        y = y.index_select(0, layout.in_blocks).view(len(x), dim).float() + self._bias
        return functional.gelu(y if self._norm is None else self._norm(y))


def _banded(weight: Tensor, groups: int) -> Tensor:
    """Repeat weights ``(dim, in, kernel)`` for each frame of a block, ``(groups, window * in, BLOCK_FRAMES * out)``."""
    dim, n_in, kernel = weight.shape
    n_out = dim // groups
    by_group = weight.view(groups, n_out, n_in, kernel).permute(0, 3, 2, 1)
    banded = weight.new_zeros(groups, BLOCK_FRAMES + kernel - 1, n_in, BLOCK_FRAMES, n_out)
    for frame in range(BLOCK_FRAMES):
        banded[:, frame : frame + kernel, :, frame] = by_group
    return banded.view(groups, -1, BLOCK_FRAMES * n_out)
