"""Multiply-adds and parameters of an encoder up to each layer, from its configuration alone.

Layer k needs what comes before the first block and the first k blocks; ``final`` needs all blocks and the final norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from layerprobe.probe.cost.parameter_count import ModelSpec, count_tokens
from layerprobe.probe.cost.settings import SECONDS, TOKENS_PER_SECOND
from layerprobe.probe.cost.stamps import at_each_layer
from layerprobe.probe.encoders.text import NEVER_READ
from layerprobe.probe.layer_names import FINAL, layer_names

# Parts of speech encoders that no layer needs; the second is SEW's, which doubles its frames again
AFTER_THE_BLOCKS = ("adapter.", "encoder.upsample.", "intermediate_ffn.")


@dataclass(frozen=True)
class LayerCounts:
    """What an encoder needs up to each of its layers."""

    layers: tuple[str, ...]
    multiply_adds: np.ndarray  # (n_layers,) per second of audio; of convolutions and matrix products
    parameters: np.ndarray  # (n_layers,) integers


def count_layers(
    model: ModelSpec, *, seconds: int = SECONDS, tokens_per_second: float = TOKENS_PER_SECOND
) -> LayerCounts:
    """Count the multiply-adds and parameters of each layer in one pass on torch's meta device.

    Args:
        model: of `probe.cost.parameter_count.load_model_spec`
        seconds: of audio, 1 to 30; attention grows with the square, and Whisper encodes 30 s whatever it is
        tokens_per_second: tokens of the transcript of a second of audio, for text encoders
    """
    amount = count_tokens(seconds, tokens_per_second) if model.is_text else seconds
    with torch.device("meta"):
        built = model.build()
        blocks, final_norm = model.blocks(built), model.final_norm(built)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, at_each_layer(blocks, final_norm, counter.get_total_flops) as operations:
            built(**model.inputs(amount))
    passes = 1
    if model.config.model_type == "whisper":
        passes = math.ceil(seconds / (model.config.max_source_positions * 2 / 100))  # log-mel frames of 10 ms
    counted = {
        name: p.numel()
        for name, p in built.named_parameters()
        if not name.startswith(NEVER_READ if model.is_text else AFTER_THE_BLOCKS)
    }
    of_blocks = np.array([sum(p.numel() for p in block.parameters()) for block in blocks])
    of_norm = 0 if final_norm is None else sum(p.numel() for p in final_norm.parameters())
    before = sum(counted.values()) - int(of_blocks.sum()) - of_norm
    parameters = before + np.concatenate([[0], np.cumsum(of_blocks)])
    if final_norm is not None:
        parameters = np.append(parameters, parameters[-1] + of_norm)
    names = layer_names(len(blocks), final_norm=final_norm is not None)
    return LayerCounts(names, passes * np.array(operations) / 2 / seconds, parameters)


def last_layer(layer: str, layers: tuple[str, ...]) -> str:
    """Return the last layer that a mix (``all``) or a regressor's ``last`` or ``mix`` needs, or the layer itself.

    >>> last_layer("all", ("0", "1", "final")), last_layer("last", ("0", "1", "final")), last_layer("1", ("0", "1"))
    ('1', 'final', '1')
    """
    if layer == "all":
        return [name for name in layers if name != FINAL][-1]
    return layers[-1] if layer in ("last", "mix") else layer
