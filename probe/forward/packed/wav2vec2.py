"""Packed forward pass of wav2vec 2.0's kind: HuBERT, wav2vec 2.0, UniSpeech(-SAT), WavLM and data2vec-audio.

Utterances of any length run together as one stream of frames, without padding or a mask: what an utterance's frames
need of the convolutions reads its own samples only, the positional convolution and attention know where each ends, and
everything else works frame by frame. So a row does not depend on what runs next to it, but for the rounding of products
of other shapes. The residual stream, norms and their statistics stay in float32 whatever the precision of the products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.plain_modules import is_plain_wav2vec2
from layerprobe.probe.forward.stream.attention import RelativeBias, Spans, distances
from layerprobe.probe.forward.stream.blocks import Block, Gate, Product, Stack
from layerprobe.probe.forward.stream.front_end import FrontEnd, placed
from layerprobe.probe.forward.stream.layout import Convolutions, Layout
from layerprobe.probe.forward.stream.operators import Norm
from layerprobe.probe.forward.stream.positions import PositionalConvolution

PACKED_ARCHITECTURES = frozenset(
    {"Data2VecAudioModel", "HubertModel", "UniSpeechModel", "UniSpeechSatModel", "Wav2Vec2Model", "WavLMModel"}
)


def has_packed_forward(encoder: Any) -> bool:
    """Return whether `PackedWav2Vec2` computes what this encoder does: by its configuration and each of its modules."""
    return (
        type(encoder).__name__ in PACKED_ARCHITECTURES
        and getattr(encoder.config, "feat_extract_norm", "layer") in ("group", "layer")
        and is_plain_wav2vec2(encoder)
        and _convolves_plainly(encoder)
    )


def _convolves_plainly(encoder: Any) -> bool:
    """Return whether convolutions before the blocks don't pad, and those of positions return as many frames as come."""
    config = encoder.config
    convolutions = [layer.conv for layer in encoder.feature_extractor.conv_layers]
    positional = [one.conv for one in _positional_layers(encoder.encoder)]
    return (
        [one.kernel_size for one in convolutions] == [(kernel,) for kernel in config.conv_kernel]
        and [one.stride for one in convolutions] == [(stride,) for stride in config.conv_stride]
        and all(one.padding == (0,) and one.groups == 1 for one in convolutions)
        and all(one.padding == (one.kernel_size[0] // 2,) and one.stride == (1,) for one in positional)
        and len({one.kernel_size for one in positional}) == 1
        and all(one.dilation == (1,) and one.padding_mode == "zeros" for one in [*convolutions, *positional])
    )


class PackedWav2Vec2:
    """An encoder for which `has_packed_forward` holds, on its device."""

    name = "packed"
    together: Literal["any", "equal", "similar"] = "any"

    def __init__(self, encoder: Any, n_frames: Callable[[InputChunk], int], *, dtype: torch.dtype) -> None:
        """Take the weights; matrix products are done in ``dtype``, float32, bfloat16 or float16."""
        config, inner = encoder.config, encoder.encoder
        self.n_frames = n_frames
        self._device = str(next(encoder.parameters()).device)
        self._convolutions = Convolutions(tuple(config.conv_kernel), tuple(config.conv_stride))
        self._front_end = FrontEnd(encoder.feature_extractor.conv_layers, self._convolutions, dtype)
        projection = encoder.feature_projection
        self._project_norm = Norm.from_module(projection.layer_norm) if hasattr(projection, "layer_norm") else None
        self._project = Product.from_module(projection.projection, dtype)
        self._positions = [_positional(one, dtype) for one in _positional_layers(inner)]
        self._norm = Norm.from_module(inner.layer_norm)
        self._pre_norm = bool(getattr(config, "do_stable_layer_norm", False))
        self._stack = Stack([_block(layer, dtype) for layer in inner.layers], config.num_attention_heads, dtype)
        attention = inner.layers[0].attention
        self._bias = _DistanceBias(attention) if hasattr(attention, "rel_attn_embed") else None

    @torch.inference_mode()
    def states(self, pack: Pack) -> Iterator[Tensor]:
        """Yield the stream of each layer; see `PackedForward`."""
        waveforms = [chunk.inputs["input_values"] for chunk in pack.chunks]
        layout = Layout.of(
            pack.lengths, [waveform.shape[1] for waveform in waveforms], self._convolutions, device=self._device
        )
        x = self._embed(placed(waveforms, layout, self._convolutions, device=self._device), layout)
        bias = None if self._bias is None else self._bias(layout.spans)
        if self._pre_norm:
            yield from self._stack.pre_norm_states(x, self._norm, layout.spans, bias=bias)
        else:
            yield from self._stack.post_norm_states(self._norm(x), layout.spans, bias=bias)

    def _embed(self, samples: Tensor, layout: Layout) -> Tensor:
        """Return the frames before the blocks and the norm that may precede them, ``(n_frames, dim)`` float32."""
        x = self._front_end(samples, layout)
        if self._project_norm is not None:
            x = self._project_norm(x)
        x = self._project(x.to(self._stack.dtype)).float()
        positions, rows = x, layout.window_rows(self._positions[0].kernel)
        for convolution in self._positions:
            positions = convolution(positions, layout, rows)
        return x + positions


class _DistanceBias:
    """WavLM's bias of attention, of the distance of query and key, the same in all blocks but for their gates."""

    def __init__(self, attention: Any) -> None:
        """Compute the bias of each distance up to the largest that differs from longer ones."""
        self._largest = int(attention.max_distance)
        all_distances = torch.arange(-self._largest, self._largest + 1, device=attention.rel_attn_embed.weight.device)
        buckets = attention._relative_positions_bucket(all_distances)
        self._values = attention.rel_attn_embed.weight.detach()[buckets].T.contiguous()  # (heads, distances)

    def __call__(self, spans: Spans) -> RelativeBias:
        distance = distances(spans, device=self._values.device).clamp_(-self._largest, self._largest)
        return RelativeBias(self._values[:, distance + self._largest], spans)


def _positional_layers(inner: Any) -> Sequence[Any]:
    """Return the layers of the positional convolution, of which only data2vec has several."""
    return getattr(inner.pos_conv_embed, "layers", None) or [inner.pos_conv_embed]


def _positional(module: Any, dtype: torch.dtype) -> PositionalConvolution:
    norm = Norm.from_module(module.layer_norm) if hasattr(module, "layer_norm") else None
    return PositionalConvolution(module.conv, norm, dtype)


def _block(layer: Any, dtype: torch.dtype) -> Block:
    attention, feed_forward = layer.attention, layer.feed_forward
    return Block(
        qkv=Product.from_modules([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
        out=Product.from_module(attention.out_proj, dtype),
        up=Product.from_module(feed_forward.intermediate_dense, dtype),
        down=Product.from_module(feed_forward.output_dense, dtype),
        attention_norm=Norm.from_module(layer.layer_norm),
        output_norm=Norm.from_module(layer.final_layer_norm),
        gate=_gate(attention, dtype) if hasattr(attention, "gru_rel_pos_linear") else None,
    )


def _gate(attention: Any, dtype: torch.dtype) -> Gate:
    linear = attention.gru_rel_pos_linear  # eight numbers a head, of which transformers adds up four and four
    weight, bias = linear.weight.detach().view(2, 4, -1).sum(dim=1), linear.bias.detach().view(2, 4).sum(dim=1)
    return Gate(Product.from_weights(weight, bias, dtype), attention.gru_rel_pos_const.detach().flatten().float())
