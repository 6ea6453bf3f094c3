"""The two steps between matrix products that read and write most: sum with norm, and norm with GELU and windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.stream import kernels


@dataclass(frozen=True)
class Norm:
    """A layer norm over the last axis, in float32; without weights it only standardises."""

    weight: Tensor | None  # (dim,) float32
    bias: Tensor | None  # (dim,) float32
    eps: float

    @classmethod
    def from_module(cls, module: Any) -> Norm:
        """Take the weights of a layer norm of torch."""
        if module.weight is None:
            return cls(None, None, float(module.eps))
        return cls(module.weight.detach().float(), module.bias.detach().float(), float(module.eps))

    def arguments(self) -> tuple[Tensor | None, Tensor | None, float]:
        """Return weight, bias and epsilon, as a kernel takes them."""
        return self.weight, self.bias, self.eps

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise over the last axis of ``(n_rows, dim)``, in the precision of ``x``."""
        return functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


def add_norm(x: Tensor, delta: Tensor | None, norm: Norm, *, post: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Add what a part of a block returned to the residual stream, and normalise the sum in float32.

    Args:
        x: the stream, ``(n_frames, dim)`` float32; it is left as it is, because its layer may still be read
        delta: what to add, ``(n_frames, dim)`` in ``dtype``; None for nothing
        norm: of the sum
        post: whether the normed sum is the new stream (a post-norm block), else the sum itself is
        dtype: of the normed sum for the next product

    Returns:
        the new stream ``(n_frames, dim)`` float32, and the normed sum in ``dtype``
    """
    if kernels.available(x.device):
        return kernels.add_norm(x, delta, norm.arguments(), post=post, dtype=dtype)
    total = x if delta is None else x + delta
    normed = norm(total)
    return normed if post else total, normed.to(dtype)


def norm_gelu_windows(y: Tensor, norm: Norm | None, kernel: int, stride: int, *, dtype: torch.dtype) -> Tensor:
    """Normalise what a convolution returned, apply GELU, and lay out the windows of the next convolution.

    Args:
        y: ``(n_rows, channels)``, computed with in float32
        norm: over the channels; None for none
        kernel: of the next convolution, in rows; 1 after the last
        stride: of the next convolution, in rows; 1 after the last
        dtype: of the result

    Returns:
        windows ``((n_rows - kernel) // stride + 1, kernel * channels)``, row by row, all channels of each
    """
    if kernels.available(y.device):
        arguments = None if norm is None else norm.arguments()
        return kernels.norm_gelu_windows(y, arguments, kernel, stride, dtype=dtype)
    x = y.float()
    x = functional.gelu(x if norm is None else norm(x)).to(dtype)
    if kernel == stride == 1:
        return x
    return windows(x, kernel, stride).contiguous()


def windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Return a view of the windows of a contiguous ``(n_rows, channels)``, see `norm_gelu_windows`."""
    n, channels = x.shape
    shape = ((n - kernel) // stride + 1, kernel * channels)
    return x.as_strided(shape, (stride * channels, 1))
