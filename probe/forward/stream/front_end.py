"""Convolutions that make frames of samples, for all sequences of a pack as one stream of slots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.stream.blocks import Product
from layerprobe.probe.forward.stream.layout import Convolutions, Layout
from layerprobe.probe.forward.stream.operators import Norm, norm_gelu_windows, windows

# Frames of the slots in one pass through the convolutions. The first gives 128 KB float32 of each frame at 512
# channels, three times that with its norm and GELU: under 1 GB on a GPU, and little more than a core's cache on a CPU.
PART_FRAMES = {"cuda": 2048, "cpu": 128}


class FrontEnd:
    """The convolutions of wav2vec 2.0's kind, as matrix products over windows of the whole stream."""

    def __init__(self, layers: Any, convolutions: Convolutions, dtype: torch.dtype) -> None:
        """Take the weights of the layers; all products but the first, of 10 samples, are done in ``dtype``."""
        self._convolutions, self._dtype = convolutions, dtype
        first, *others = layers
        self._first = Product.from_convolution(first.conv, torch.float32)
        self._others = [Product.from_convolution(one.conv, dtype) for one in others]
        norms = [getattr(layer, "layer_norm", None) for layer in layers]
        self._group_norm = norms[0] if isinstance(norms[0], torch.nn.GroupNorm) else None
        self._norms = [Norm.from_module(one) if isinstance(one, torch.nn.LayerNorm) else None for one in norms]

    def __call__(self, samples: Tensor, layout: Layout) -> Tensor:
        """Return the frames of the sequences, ``(n_frames, channels)`` float32, of samples from `placed`."""
        norm = self._group_norm
        folded = None if norm is None else self._folded_norm(norm, samples, layout)
        step = PART_FRAMES["cuda" if samples.is_cuda else "cpu"]
        parts = [
            self._part(samples, layout, begin, min(begin + step, layout.n_slot_frames), folded)
            for begin in range(0, layout.n_slot_frames, step)
        ]
        return torch.cat(parts).index_select(0, layout.kept)

    def _part(
        self, samples: Tensor, layout: Layout, begin: int, end: int, folded: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Return frames ``begin`` to ``end`` of the slots, those at seams too, ``(end - begin, channels)`` float32."""
        shape = self._convolutions
        x = samples[begin * shape.stride :]
        if folded is None:
            n_samples = (end - begin - 1) * shape.stride + shape.reach
            y = self._first(windows(x[:n_samples, None], shape.kernels[0], shape.strides[0]))
        else:
            y = self._first_scaled(x, layout.sequence[begin : end + shape.seam], folded)
        following = [*zip(shape.kernels[1:], shape.strides[1:], strict=True)]
        for product, norm, (kernel, stride) in zip(self._others, self._norms[:-1], following, strict=True):
            y = product(norm_gelu_windows(y, norm, kernel, stride, dtype=self._dtype))
        return norm_gelu_windows(y, self._norms[-1], 1, 1, dtype=torch.float32)

    def _first_scaled(self, samples: Tensor, sequence: Tensor, folded: tuple[Tensor, Tensor]) -> Tensor:
        """Return the first convolution of so many frames under its group norm, the rows that these frames need."""
        shape, scale, shift = self._convolutions, *folded
        n_frames = len(sequence)
        n_rows = n_frames * shape.rows
        n_samples = (n_rows - 1) * shape.strides[0] + shape.kernels[0]
        y = windows(samples[:n_samples, None], shape.kernels[0], shape.strides[0]) @ self._first.weight
        by_frame = y.view(n_frames, shape.rows, -1)
        y = torch.addcmul(shift.index_select(0, sequence)[:, None], by_frame, scale.index_select(0, sequence)[:, None])
        needed = ((n_frames - shape.seam - 1) * shape.stride + shape.reach - shape.kernels[0]) // shape.strides[0] + 1
        return y.flatten(0, 1)[:needed]

    def _folded_norm(self, norm: torch.nn.GroupNorm, samples: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Return the group norm as a scale and a shift of each sequence and channel, ``(n_sequences, channels)``.

        Mean and variance of a channel over time follow from those of the windows of samples, in float64: they are of
        all windows of the sequence, also of those behind its last frame.
        """
        shape, n_frames = self._convolutions, layout.n_slot_frames
        kernel = shape.kernels[0]
        n_samples = (n_frames * shape.rows - 1) * shape.strides[0] + kernel
        x = windows(samples[:n_samples, None], kernel, shape.strides[0]).double().view(n_frames, shape.rows, kernel)
        own = torch.arange(shape.rows, device=samples.device) < layout.n_rows[:, None]
        x = functional.pad(x, (0, 1), value=1.0).masked_fill_(~own[..., None], 0.0)  # the last column counts
        moments = torch.bmm(x.transpose(1, 2), x)
        # unsafe: on a GPU the check of the offsets would wait for the device
        sums = torch.segment_reduce(moments.flatten(1), "sum", offsets=layout.slot_frames, unsafe=True)
        sums = sums.view(-1, kernel + 1, kernel + 1)
        sums = sums / sums[:, -1:, -1:]
        mean = sums[:, -1, :kernel]
        covariance = sums[:, :kernel, :kernel] - mean[:, :, None] * mean[:, None]
        weight = self._first.weight.double()  # the convolution's bias cancels
        variance = ((weight.T @ covariance) * weight.T).sum(dim=-1)
        scale = norm.weight.double() / torch.sqrt(variance.clamp_min(0.0) + norm.eps)
        shift = norm.bias.double() - mean @ weight * scale
        return scale.float(), shift.float()


def placed(waveforms: Sequence[Tensor], layout: Layout, convolutions: Convolutions, *, device: str) -> Tensor:
    """Put each waveform ``(1, n_samples)`` float32 on the host into its slot; return all slots on the device.

    Zeros follow, as many as the last frames of a part read.
    """
    n_samples = (layout.n_slot_frames + convolutions.seam) * convolutions.stride + convolutions.reach
    ends = [*layout.slots[1:], n_samples]
    gaps = [end - slot - waveform.shape[1] for slot, end, waveform in zip(layout.slots, ends, waveforms, strict=True)]
    zeros = torch.split(torch.zeros(1, sum(gaps)), gaps, dim=1)
    host = torch.empty(1, n_samples, pin_memory=device.startswith("cuda"))
    torch.cat([*itertools.chain.from_iterable(zip(waveforms, zeros, strict=True))], dim=1, out=host)
    return host[0].to(device, non_blocking=True)
