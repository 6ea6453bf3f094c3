"""Transformer blocks over a stream: products of all frames in one precision, residual stream and norms in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.stream.attention import RelativeBias, Spans, attend
from layerprobe.probe.forward.stream.operators import Norm, add_norm


@dataclass(frozen=True)
class Product:
    """A linear layer in the precision of the products."""

    weight: Tensor  # (in, out)
    bias: Tensor | None  # (out,)

    @classmethod
    def from_weights(cls, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Product:
        """Take weights ``(out, in)`` and biases as torch has them."""
        return cls(weight.detach().to(dtype).T, None if bias is None else bias.detach().to(dtype))

    @classmethod
    def from_module(cls, module: Any, dtype: torch.dtype) -> Product:
        """Take the weights of a linear layer of torch."""
        return cls.from_weights(module.weight, module.bias, dtype)

    @classmethod
    def from_convolution(cls, module: Any, dtype: torch.dtype) -> Product:
        """Take the weights of a convolution of torch, in the order of `operators.windows`."""
        return cls.from_weights(module.weight.permute(0, 2, 1).flatten(1), module.bias, dtype)

    @classmethod
    def from_modules(cls, modules: Sequence[Any], dtype: torch.dtype) -> Product:
        """Lay linear layers of the same input side by side, one product; those without a bias get one of zeros."""
        biases = [one.weight.new_zeros(len(one.weight)) if one.bias is None else one.bias for one in modules]
        return cls.from_weights(torch.cat([one.weight for one in modules]), torch.cat(biases), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply ``(n_rows, in)`` to ``(n_rows, out)``."""
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)


@dataclass(frozen=True)
class Gate:
    """WavLM's gate of the relative position bias, of each frame and head."""

    product: Product  # of a head's width to 2
    constant: Tensor  # (heads,) float32

    def __call__(self, x: Tensor) -> Tensor:
        """Return the gates ``(n_frames, heads)`` float32 of the input of attention, ``(n_frames, dim)``."""
        by_head = x.view(len(x) * len(self.constant), -1)
        a, b = self.product(by_head).float().sigmoid().view(len(x), -1, 2).unbind(-1)
        return a * (b * self.constant - 1.0) + 2.0


@dataclass(frozen=True)
class Block:
    """A transformer block; whether its norms stand before or behind its parts is the caller's."""

    qkv: Product  # queries, keys and values side by side
    out: Product
    up: Product
    down: Product
    attention_norm: Norm
    output_norm: Norm
    gate: Gate | None = None


@dataclass(frozen=True)
class Stack:
    """Blocks that run one after another, each with exact GELU between its two outer products."""

    blocks: Sequence[Block]
    heads: int
    dtype: torch.dtype  # of the products

    def pre_norm_states(
        self, x: Tensor, final_norm: Norm, spans: Spans, *, bias: RelativeBias | None = None
    ) -> Iterator[Tensor]:
        """Yield the stream that enters the first block, that which leaves each block, and the last after its norm.

        Args:
            x: what enters the first block, ``(n_frames, dim)`` float32
            final_norm: after the last block
            spans: of the sequences
            bias: of attention

        Yields:
            ``(n_frames, dim)`` float32 each; none is written again
        """
        yield x
        norms = [*(block.attention_norm for block in self.blocks[1:]), final_norm]
        _, h = add_norm(x, None, self.blocks[0].attention_norm, post=False, dtype=self.dtype)
        for k, block in enumerate(self.blocks):
            x, h = add_norm(x, self._attend(block, h, spans, bias), block.output_norm, post=False, dtype=self.dtype)
            last = k + 1 == len(self.blocks)
            x, h = add_norm(
                x, _feed_forward(block, h), norms[k], post=False, dtype=torch.float32 if last else self.dtype
            )
            yield x
        yield h

    def post_norm_states(self, x: Tensor, spans: Spans, *, bias: RelativeBias | None = None) -> Iterator[Tensor]:
        """Yield the stream that enters the first block, which is normed already, and that which leaves each block.

        Arguments and yields as of `pre_norm_states`.
        """
        yield x
        h = x.to(self.dtype)
        for block in self.blocks:
            x, h = add_norm(x, self._attend(block, h, spans, bias), block.attention_norm, post=True, dtype=self.dtype)
            x, h = add_norm(x, _feed_forward(block, h), block.output_norm, post=True, dtype=self.dtype)
            yield x

    def _attend(self, block: Block, h: Tensor, spans: Spans, bias: RelativeBias | None) -> Tensor:
        gate = None if block.gate is None else block.gate(h)
        return block.out(attend(block.qkv(h), spans, self.heads, bias=bias, gate=gate))


def _feed_forward(block: Block, h: Tensor) -> Tensor:
    return block.down(functional.gelu(block.up(h)))
