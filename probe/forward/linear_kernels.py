"""Matrix products in 16 bits: weights packed once for the processor's matrix units, with GELU fused.

The operators are those that torch's own compiler emits; with them the products of one utterance take a quarter to a
half less time than with weights that are packed again for each. Where a build of torch lacks them, where the processor
can't run them (AVX2 only), or on a GPU, plain products are used: the same products of 16-bit numbers, more slowly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

TYPICAL_ROWS = 256  # of a product, for which a layout is chosen; any number of rows may follow
# A product of a new shape is compiled first, which costs a third of a short utterance's time. So rows come in multiples
# of this; the added rows are zeros, and no row of a product depends on another.
ROWS = 16
# Modules before the blocks, whose convolutions stay in float32: SEW has some of one frame, and in 16 bits they move its
# layers four times as much as all products of its blocks.
FRONT_END = "feature_extractor."


def processor_multiplies_bfloat16() -> bool:
    """Return whether this processor has the instructions for bfloat16 products, as oneDNN reports.

    On x86-64 these are AVX-512 (BW, VL and DQ) or AVX-NE-CONVERT, on Arm the BF16 extension. A limit that
    ``ONEDNN_MAX_CPU_ISA`` sets counts, too.
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def packs() -> bool:
    """Return whether bfloat16 weights can be packed: torch has the operators, and the processor runs them."""
    operators = ("_reorder_linear_weight", "_linear_pointwise")
    return all(hasattr(torch.ops.mkldnn, name) for name in operators) and processor_multiplies_bfloat16()


def products_used() -> str:
    """Return one sentence on how bfloat16 products are computed on this processor."""
    if packs():
        return "bfloat16 products: weights are packed once for this processor."
    return (
        "bfloat16 products: this processor can't multiply packed weights (that takes AVX-512, AVX-NE-CONVERT or Arm's "
        "BF16), so plain products are used: the same precision, slower. --precision float32 may be as fast."
    )


@dataclass(frozen=True)
class Linear:
    """A linear map ``x @ weight.T + bias`` in one precision."""

    weight: Tensor | None  # (n_out, n_in); None where it is packed
    bias: Tensor | None
    packed: Tensor | None  # the weight in the layout of the matrix units

    @classmethod
    def from_weights(cls, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Linear:
        """Convert a weight ``(n_out, n_in)`` of any precision to ``dtype``, and pack it where `packs` allows."""
        weight = weight.detach().to(dtype).contiguous()
        bias = None if bias is None else bias.detach().to(dtype)
        if dtype != torch.bfloat16 or weight.device.type != "cpu" or not packs():
            return cls(weight, bias, None)
        return cls(None, bias, torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS))

    def __call__(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        """Return the product ``(…, n_out)`` of ``x`` ``(…, n_in)`` in that precision, followed by GELU if wanted."""
        if self.weight is None:
            rows = x.reshape(-1, x.shape[-1])
            lacking = -len(rows) % ROWS
            rows = functional.pad(rows, (0, 0, 0, lacking)) if lacking else rows
            after = "gelu" if gelu else "none"
            product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, after, [], "none")
            return product[: len(product) - lacking].view(*x.shape[:-1], -1)
        y = functional.linear(x, self.weight, self.bias)
        return functional.gelu(y) if gelu else y


class MixedPrecisionLinears:
    """The linear maps of a float32 model, with products in 16 bits inside `enabled`, for each thread separately.

    These are its `torch.nn.Linear` modules, its blocks' convolutions of one frame, and WavLM's attention, which passes
    the weights of its projections to torch by itself. Everything between them (norms, residual stream, attention's
    softmax and its two products, other convolutions) stays in float32.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Replace the forward pass of every linear map in ``model`` that has no other one already."""
        self._enabled = threading.local()
        self._dtype = dtype
        module: Any
        for name, module in model.named_modules():  # an attribute of the instance comes before the method of its class
            if "forward" in vars(module):
                continue
            if type(module) is nn.Linear:
                self._replace(module, "forward", self._linear(module.weight, module.bias))
            elif _is_linear(module) and not name.startswith(FRONT_END):
                self._replace(module, "forward", _over_channels(self._linear(module.weight[..., 0], module.bias)))
            elif type(module).__name__ == "WavLMAttention":
                self._replace(module, "torch_multi_head_self_attention", biased_attention(module))

    @contextmanager
    def enabled(self) -> Iterator[None]:
        """Compute products in 16 bits in what this thread runs inside."""
        self._enabled.now = True
        try:
            yield
        finally:
            self._enabled.now = False

    def _linear(self, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
        product, dtype = Linear.from_weights(weight, bias, self._dtype), self._dtype
        return lambda x: product(x.to(dtype)).to(x.dtype)

    def _replace(self, module: nn.Module, name: str, mixed_precision: Callable[..., Any]) -> None:
        exact = getattr(module, name)

        def either(*args: Any, **kwargs: Any) -> Any:
            return (mixed_precision if getattr(self._enabled, "now", False) else exact)(*args, **kwargs)

        setattr(module, name, either)


def _is_linear(module: nn.Module) -> bool:
    """Return whether a module is a convolution that maps each frame by itself, as w2v-BERT's blocks have two."""
    return (
        type(module) is nn.Conv1d
        and (module.kernel_size, module.stride, module.padding, module.groups) == ((1,), (1,), (0,), 1)
        and not is_parametrized(module)
    )


def _over_channels(linear: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a map of ``(n_inputs, n_channels, n_frames)`` that applies ``linear`` to each frame's channels."""
    return lambda x: linear(x.transpose(1, 2)).transpose(1, 2)


def biased_attention(attention: Any) -> Callable[..., tuple[Tensor, None]]:
    """Return WavLM's attention with its projections as modules, whose products can be in 16 bits, and without weights.

    Args:
        attention: ``WavLMAttention`` of transformers
    """

    def attend(x: Tensor, mask: Tensor | None, bias: Tensor, *_: Any) -> tuple[Tensor, None]:
        """Attend to ``x`` ``(n_inputs, n_frames, dim)`` with ``bias`` ``(n_inputs * n_heads, n_frames, n_frames)``."""
        n_inputs, n_frames, dim = x.shape

        def heads(project: nn.Module) -> Tensor:
            split: Tensor = project(x).view(n_inputs, n_frames, attention.num_heads, -1)
            return split.transpose(1, 2)

        scores = bias.view(n_inputs, attention.num_heads, n_frames, n_frames)
        if mask is not None:
            scores = scores.masked_fill(mask.ne(1)[:, None, None], float("-inf"))
        q, k, v = map(heads, (attention.q_proj, attention.k_proj, attention.v_proj))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=scores)
        projected: Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(n_inputs, n_frames, dim))
        return projected, None

    return attend
