"""Packed forward pass of text encoders: BERT, RoBERTa and what is built alike, DistilBERT and MPNet.

Texts run together as one stream of tokens without padding or a mask. Positions are counted within each text, attention
knows where each ends, and everything else works token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.plain_modules import is_plain
from layerprobe.probe.forward.stream.attention import RelativeBias, Spans, distances
from layerprobe.probe.forward.stream.blocks import Block, Product, Stack
from layerprobe.probe.forward.stream.index_arrays import uploaded
from layerprobe.probe.forward.stream.operators import Norm


@dataclass(frozen=True)
class _Names:
    """Where an architecture keeps the parts of a block, as paths of attributes."""

    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    output_norm: str
    activation: str = "intermediate.intermediate_act_fn"

    def weights(self) -> tuple[str, ...]:
        """Return the paths of what has weights."""
        return self.query, self.key, self.value, self.out, self.attention_norm, self.up, self.down, self.output_norm


_BERT = _Names(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    output_norm="output.LayerNorm",
)
_DISTILBERT = _Names(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    output_norm="output_layer_norm",
    activation="ffn.activation",
)
_MPNET = _Names(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    attention_norm="attention.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    output_norm="output.LayerNorm",
)
PACKED_TEXT = {
    "BertModel": _BERT,  # MiniLM too
    "CamembertModel": _BERT,
    "DistilBertModel": _DISTILBERT,
    "MPNetModel": _MPNET,
    "RobertaModel": _BERT,  # DistilRoBERTa too
    "XLMRobertaModel": _BERT,
}


def has_packed_text(model: Any) -> bool:
    """Return whether `PackedText` computes what this model does: by its configuration and by each of its modules."""
    from transformers.activations import GELUActivation

    config, names = model.config, PACKED_TEXT.get(type(model).__name__)
    if names is None or not is_plain(model, unread=getattr(model, "pooler", None)):
        return False
    absolute = getattr(config, "position_embedding_type", None) in (None, "absolute")
    blocks = _blocks(model)
    return (
        absolute
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
        and config.hidden_size % config.num_attention_heads == 0
        and all(type(block.get_submodule(names.activation)) is GELUActivation for block in blocks)
        and all(_linear(block, names.query).out_features == config.hidden_size for block in blocks)
        and all(hasattr(block.get_submodule(path), "weight") for block in blocks for path in names.weights())
    )


def _linear(block: nn.Module, path: str) -> Any:
    return block.get_submodule(path)


def _blocks(model: Any) -> nn.ModuleList:
    stack: nn.ModuleList = (model.transformer if hasattr(model, "transformer") else model.encoder).layer
    return stack


class PackedText:
    """A model for which `has_packed_text` holds, in float32 on its device."""

    name = "packed"
    together: Literal["any", "equal", "similar"] = "any"

    def __init__(self, encoder: Any, n_frames: Callable[[InputChunk], int], *, dtype: torch.dtype) -> None:
        """Take the weights; matrix products are done in ``dtype``."""
        self.n_frames = n_frames
        self._device = str(next(encoder.parameters()).device)
        embeddings, names = encoder.embeddings, PACKED_TEXT[type(encoder).__name__]
        # Of RoBERTa's kind, which counts positions from behind this token's and does not count such tokens
        self._padding: int | None = getattr(embeddings, "padding_idx", None)
        self._tokens: Tensor = embeddings.word_embeddings.weight.detach()
        self._positions: Tensor = embeddings.position_embeddings.weight.detach()
        types = getattr(embeddings, "token_type_embeddings", None)
        self._type: Tensor | None = None if types is None else types.weight.detach()[0]
        self._norm = Norm.from_module(embeddings.LayerNorm)
        blocks = [_block(layer, names, dtype) for layer in _blocks(encoder)]
        self._stack = Stack(blocks, encoder.config.num_attention_heads, dtype)
        self._bias = _SharedBias(encoder.encoder) if names is _MPNET else None

    @torch.inference_mode()
    def states(self, pack: Pack) -> Iterator[Tensor]:
        """Yield the stream of each layer; see `PackedForward`."""
        ids = [chunk.inputs["input_ids"][0].numpy() for chunk in pack.chunks]
        spans = Spans.upload(pack.lengths, device=self._device)
        x = self._embed(ids)
        bias = None if self._bias is None else self._bias(spans)
        yield from self._stack.post_norm_states(x, spans, bias=bias)

    def _embed(self, texts: Sequence[np.ndarray]) -> Tensor:
        """Return what enters the first block, ``(n_tokens, dim)`` float32, of the ids of each text."""
        numbers = np.stack([np.concatenate(texts), np.concatenate([_positions(ids, self._padding) for ids in texts])])
        ids, positions = uploaded(numbers, device=self._device).unbind()
        x = functional.embedding(ids, self._tokens)
        if self._type is not None:
            x = x + self._type
        return self._norm(x + functional.embedding(positions, self._positions))


def _positions(ids: np.ndarray, padding: int | None) -> np.ndarray:
    """Return the position of each token of a text, ``(n_tokens,)``.

    Args:
        ids: of its tokens
        padding: id of the padding token where positions begin behind it; None where they begin at 0
    """
    if padding is None:
        return np.arange(len(ids))
    is_token = ids != padding
    positions: np.ndarray = is_token.cumsum() * is_token + padding
    return positions


class _SharedBias:
    """MPNet's bias of attention, of the distance of query and key, the same in all blocks."""

    def __init__(self, encoder: Any) -> None:
        self._encoder, self._weight = encoder, encoder.relative_attention_bias.weight.detach()

    def __call__(self, spans: Spans) -> RelativeBias:
        buckets = self._encoder.relative_position_bucket(distances(spans, device=self._weight.device))
        return RelativeBias(functional.embedding(buckets, self._weight).T, spans)


def _block(layer: nn.Module, names: _Names, dtype: torch.dtype) -> Block:
    part = layer.get_submodule
    return Block(
        qkv=Product.from_modules([part(names.query), part(names.key), part(names.value)], dtype),
        out=Product.from_module(part(names.out), dtype),
        up=Product.from_module(part(names.up), dtype),
        down=Product.from_module(part(names.down), dtype),
        attention_norm=Norm.from_module(part(names.attention_norm)),
        output_norm=Norm.from_module(part(names.output_norm)),
    )
