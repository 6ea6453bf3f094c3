"""Models that a configuration describes: their number of parameters is checked before one is built."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from typing import Any

import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import trusted
from layerprobe.probe.system import machine_memory

LAYER_COUNTS = ("num_hidden_layers", "encoder_layers", "decoder_layers", "n_layers", "num_layers", "num_adapter_layers")
ENCODER_LAYERS = ("num_hidden_layers", "encoder_layers", "n_layers")
MAX_LAYERS = 1_000  # of each kind; published encoders have 64 at most
MAX_PARAMETERS = 1e12  # of a model that is only described; published encoders have a few 1e9
WIDTHS = ("hidden_size", "d_model", "dim")  # of a layer; transformers builds a few such vectors in memory
MAX_WIDTH = 10_000_000
BYTES = 4  # of a parameter, in float32


def check_model_size(label: str, config: Any, *, in_memory: bool = True, memory: float | None = None) -> None:
    """Check that a configuration describes a model that this machine can hold.

    Args:
        label: kind and name of the model, with which the message begins
        config: of transformers
        in_memory: whether the model will be built, and not only described
        memory: bytes that its weights may take; those of this machine if None

    Raises:
        InputError: if it has no layer, more than `MAX_LAYERS` or `MAX_PARAMETERS`, or does not fit the memory
    """
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING and (parts := nested_configs(config)):  # such as an encoder and a decoder
        for part in parts:
            check_model_size(label, part, in_memory=in_memory, memory=memory)
        return
    for part in nested_configs(config):
        for key, n in layer_counts(part).items():
            if n > MAX_LAYERS:
                raise InputError(
                    "LP325", f"{label}: {key} is {n} in its config.json, more than {MAX_LAYERS}. Correct it."
                )
    for key in WIDTHS:
        if isinstance(n := vars(config).get(key), int) and n > MAX_WIDTH:
            raise InputError("LP325", f"{label}: {key} is {n} in its config.json, more than {MAX_WIDTH:,}. Correct it.")
    for key, n in {**list_lengths(config), **layer_counts(config)}.items():
        if n > MAX_LAYERS or n < (1 if key in ENCODER_LAYERS else 0):
            raise InputError(
                "LP325",
                f"{label}: {key} is {n} in its config.json, outside the range of 1 to {MAX_LAYERS}. Correct it.",
            )
    n = n_parameters(config)
    memory = machine_memory() if memory is None else memory
    if n > MAX_PARAMETERS or (in_memory and BYTES * n > memory):
        held = "" if n > MAX_PARAMETERS else f", and this machine has {memory / 1e9:,.0f} GB of memory"
        raise InputError(
            "LP326",
            f"{label}: its config.json describes {n:.1e} parameters, {BYTES * n / 1e9:,.0f} GB in float32{held}. "
            "Correct config.json, or take a smaller model.",
        )


def nested_configs(config: Any) -> list[Any]:
    """Return the configurations of parts that a configuration holds."""
    from transformers import PreTrainedConfig

    return [value for value in vars(config).values() if isinstance(value, PreTrainedConfig)]


def layer_counts(config: Any) -> dict[str, int]:
    """Return the settings of a configuration that are numbers of layers."""
    return {key: vars(config)[key] for key in LAYER_COUNTS if isinstance(vars(config).get(key), int)}


def list_lengths(config: Any) -> dict[str, int]:
    """Return the length of each list in a configuration, such as one of convolutions, which are layers as well."""
    return {
        f"the length of {key}": len(value) for key, value in vars(config).items() if isinstance(value, list | tuple)
    }


def n_parameters(config: Any) -> int:
    """Return the number of parameters of the model that a configuration describes, without memory for them.

    A model with one layer of each kind is built, and one with two: the others are as large as the second.
    """
    kind: Any = type(config)
    return _counted(kind, json.dumps(config.to_dict(), sort_keys=True, default=str))


@lru_cache(maxsize=64)
def _counted(kind: Any, content: str) -> int:
    config = kind.from_dict(json.loads(content))
    counts = layer_counts(config)
    total = one_each = _built(config, dict.fromkeys(counts, 1))
    for key, n in counts.items():
        if n > 1:
            total += (n - 1) * (_built(config, dict.fromkeys(counts, 1) | {key: 2}) - one_each)
    return total


def _built(config: Any, counts: dict[str, int]) -> int:
    fewer = copy.deepcopy(config)
    for key, n in counts.items():
        setattr(fewer, key, n)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model_from_config(fewer).parameters())


def model_from_config(config: Any, **options: Any) -> Any:
    """Return a model without a head with random weights, on torch's current device and from its random state.

    Args:
        config: of transformers
        options: of transformers' ``from_config``
    """
    from transformers import AutoModel

    return AutoModel.from_config(config, trust_remote_code=trusted("remote_code"), **options)
