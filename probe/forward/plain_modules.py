"""Whether an encoder computes what its configuration promises, so that a forward pass of our own may stand in for it.

A module of another type (a wrapper of an adapter, a quantised product), one whose weights are computed from others,
with a hook or with a forward pass of its own may compute something else than its name promises.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized, type_before_parametrizations

ATTENTION = ("eager", "sdpa", None)  # implementations that compute the same
PLAIN = (nn.Conv1d, nn.Dropout, nn.Embedding, nn.GroupNorm, nn.LayerNorm, nn.Linear, nn.ModuleList)
RECORDERS = ("transformers.utils.", "layerprobe.probe.forward.hooks")  # whose hooks change nothing


def is_plain_wav2vec2(encoder: Any) -> bool:
    """Return whether a relative of wav2vec 2.0 is unchanged: in float32, with GELU and without adapters."""
    config = encoder.config
    return (
        config.feat_extract_activation == "gelu"
        and config.hidden_act == "gelu"
        and not getattr(config, "conv_pos_batch_norm", False)
        and getattr(config, "adapter_attn_dim", None) is None
        and is_plain(encoder, weight_normed=getattr(encoder.encoder.pos_conv_embed, "conv", None))
        and all(attends_plainly(layer.attention, config) for layer in encoder.encoder.layers)
    )


def is_plain(encoder: Any, *, weight_normed: nn.Module | None = None, unread: nn.Module | None = None) -> bool:
    """Return whether an encoder of transformers is in float32, and each of its modules unchanged.

    Args:
        encoder: the encoder
        weight_normed: the only module whose weights may be computed from others, by weight norm
        unread: a module behind the last layer, which may be of any kind
    """
    read = set(encoder.modules()) - set([] if unread is None else unread.modules())
    return (
        type(encoder).__module__.startswith("transformers.models.")
        and getattr(encoder.config, "_attn_implementation", None) in ATTENTION
        and all(_is_plain_module(module, encoder, weight_normed) for module in read)
        and all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    )


def _is_plain_module(module: nn.Module, encoder: Any, weight_normed: nn.Module | None) -> bool:
    """Return whether a module is exactly of a known type, is unchanged, and is in evaluation mode."""
    from transformers.activations import GELUActivation

    if module.training or "forward" in vars(module) or not all(map(_only_records, _hooks(module))):
        return False
    if type(module) in (ParametrizationList, _WeightNorm, nn.ModuleDict):
        return True  # parts of a parametrised module, which is checked itself
    if type(module) is GELUActivation:
        return module.act is functional.gelu
    if is_parametrized(module):
        return module is weight_normed and _is_weight_norm(module)
    return type(module) in PLAIN or type(module).__module__ == type(encoder).__module__


def _hooks(module: nn.Module) -> list[Any]:
    return [hook for name in ("_forward_hooks", "_forward_pre_hooks") for hook in getattr(module, name).values()]


def _only_records(hook: Any) -> bool:
    """Return whether a hook is one with which transformers or this package records hidden states."""
    return str(getattr(hook, "__module__", "")).startswith(RECORDERS)


def _is_weight_norm(convolution: Any) -> bool:
    parametrised = convolution.parametrizations
    return (
        type_before_parametrizations(convolution) is nn.Conv1d
        and list(parametrised) == ["weight"]
        and [type(one) for one in parametrised["weight"]] == [_WeightNorm]
    )


def attends_plainly(attention: Any, config: Any) -> bool:
    """Return whether attention has the configuration's number of heads, scaled by the root of their width."""
    dim = config.hidden_size // config.num_attention_heads
    return bool(attention.num_heads == config.num_attention_heads and getattr(attention, "scaling", 0) == dim**-0.5)
