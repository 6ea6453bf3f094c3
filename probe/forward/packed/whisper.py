"""Packed forward pass of Whisper's encoder, whose windows of 30 s all have the same number of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.plain_modules import attends_plainly, is_plain
from layerprobe.probe.forward.stream.attention import Spans
from layerprobe.probe.forward.stream.blocks import Block, Product, Stack
from layerprobe.probe.forward.stream.index_arrays import uploaded
from layerprobe.probe.forward.stream.operators import Norm

WINDOWS = 8  # that pass the convolutions together, which hold 0.4 GB of them in float32, 1280 wide


def has_packed_whisper(encoder: Any) -> bool:
    """Return whether `PackedWhisper` computes what this encoder does: by its configuration and its modules."""
    if type(encoder).__name__ != "WhisperEncoder":
        return False
    config = encoder.config
    return (
        config.activation_function == "gelu"
        and is_plain(encoder)
        and all(_is_convolution(conv, stride) for conv, stride in ((encoder.conv1, 1), (encoder.conv2, 2)))
        and all(attends_plainly(layer.self_attn, config) for layer in encoder.layers)
    )


def _is_convolution(module: Any, stride: int) -> bool:
    settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups, module.padding_mode)
    return bool(settings == ((3,), (stride,), (1,), (1,), 1, "zeros"))


class PackedWhisper:
    """An encoder for which `has_packed_whisper` holds, on its device."""

    name = "packed"
    together: Literal["any", "equal", "similar"] = "any"

    def __init__(self, encoder: Any, n_frames: Callable[[InputChunk], int], *, dtype: torch.dtype) -> None:
        """Take the weights; matrix products are done in ``dtype``, float32, bfloat16 or float16."""
        self.n_frames = n_frames
        self._device = str(next(encoder.parameters()).device)
        self._convolutions = [_Convolution.from_module(conv, dtype) for conv in (encoder.conv1, encoder.conv2)]
        self._positions = encoder.embed_positions.weight.detach()
        blocks = [_block(layer, dtype) for layer in encoder.layers]
        self._stack = Stack(blocks, encoder.config.encoder_attention_heads, dtype)
        self._final_norm = Norm.from_module(encoder.layer_norm)

    @torch.inference_mode()
    def states(self, pack: Pack) -> Iterator[Tensor]:
        """Yield the stream of each layer; see `PackedForward`."""
        bands = torch.cat([chunk.inputs["input_features"] for chunk in pack.chunks])
        on_device = uploaded(bands.numpy(), device=self._device)
        x = torch.cat([self._embed(part) for part in torch.split(on_device, WINDOWS)])
        spans = Spans.upload(pack.lengths, device=self._device)
        yield from self._stack.pre_norm_states(x, self._final_norm, spans)

    def _embed(self, bands: Tensor) -> Tensor:
        """Return what enters the first block, ``(n_frames, dim)`` float32, of bands ``(n, n_bands, n_rows)``."""
        x = bands.transpose(1, 2)
        for convolution in self._convolutions:
            x = convolution(x)
        frames: Tensor = x.float() + self._positions
        return frames.flatten(0, 1)


@dataclass(frozen=True)
class _Convolution:
    """A convolution over three rows, with a row of zeros at either end, and GELU."""

    product: Product
    stride: int

    @classmethod
    def from_module(cls, module: Any, dtype: torch.dtype) -> _Convolution:
        return cls(Product.from_convolution(module, dtype), int(module.stride[0]))

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve ``(n_windows, n_rows, channels)``."""
        padded = functional.pad(x.to(self.product.weight.dtype), (0, 0, 1, 1)).contiguous()
        n_windows, n_rows, channels = padded.shape
        shape = (n_windows, (n_rows - 3) // self.stride + 1, 3 * channels)
        windows = padded.as_strided(shape, (n_rows * channels, self.stride * channels, 1))
        return functional.gelu(self.product(windows.reshape(-1, 3 * channels))).view(n_windows, shape[1], -1)


def _block(layer: Any, dtype: torch.dtype) -> Block:
    attention = layer.self_attn
    return Block(
        qkv=Product.from_modules([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
        out=Product.from_module(attention.out_proj, dtype),
        up=Product.from_module(layer.fc1, dtype),
        down=Product.from_module(layer.fc2, dtype),
        attention_norm=Norm.from_module(layer.self_attn_layer_norm),
        output_norm=Norm.from_module(layer.final_layer_norm),
    )
