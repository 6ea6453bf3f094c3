"""Checks of a model that transformers loaded: every tensor has its place, and none would be ignored."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.model_files import language_adapters
from layerprobe.probe.pretrained import Pretrained

# Tensors that earlier versions of transformers saved and that follow from the configuration.
FOLLOWING = ("position_ids", "inv_freq", "num_batches_tracked")


def check_tensors(
    label: str, model: Any, blocks: nn.ModuleList, report: dict[str, Any], *, needed: str, ignored: Collection[str]
) -> None:
    """Check that the checkpoint has every tensor of an encoder, and none in its layers that the encoder ignores.

    Args:
        label: kind and name of the model, with which the message begins
        model: as transformers loaded it
        blocks: its transformer blocks
        report: transformers' report on missing and unexpected tensors
        needed: prefix of the encoder's tensors in the model
        ignored: prefixes of tensors that no layer depends on

    Raises:
        InputError: naming the first tensor that is missing or would be ignored
    """
    missing = sorted(k for k in report["missing_keys"] if k.startswith(needed) and not k.startswith(tuple(ignored)))
    if missing:
        raise InputError(
            f"{label}: the checkpoint lacks {_first(missing)}, which would be initialised at random. "
            "Take a complete checkpoint, or choose untrained weights with --random-init SEED."
        )
    unread = sorted(k for k in report["unexpected_keys"] if _is_inside(k, model, blocks))
    if unread:
        raise InputError(
            f"{label}: the checkpoint has {_first(unread)} inside its layers, which {type(model).__name__} does not "
            "read, as an adapter or a quantisation leaves it. Merge it into the weights (merge_and_unload() of PEFT, "
            "dequantize() of transformers), save a copy and name that."
        )


def _first(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _is_inside(key: str, model: Any, blocks: nn.ModuleList) -> bool:
    """Return whether an unexpected tensor belongs to one of the blocks, or to a module that has tensors itself."""
    if key.endswith(FOLLOWING):
        return False
    path = next((name for name, module in model.named_modules() if module is blocks), "")
    in_block = re.search(rf"(?:^|\.){re.escape(path)}\.(\d+)\.", key)
    if in_block:
        return int(in_block[1]) < len(blocks)  # a configuration with fewer blocks cuts the model on purpose
    leaves = {name for name, module in model.named_modules() if name and next(module.children(), None) is None}
    parts = key.split(".")
    prefixes = [parts[begin:end] for begin in range(min(3, len(parts))) for end in range(begin + 1, len(parts))]
    return any(".".join(prefix) in leaves for prefix in prefixes)


def check_language_adapters(found: Pretrained, encoder: Any) -> str:
    """Return the language whose adapter is part of the weights, where a wav2vec 2.0 folder (MMS) has some as files.

    Args:
        found: the model
        encoder: with the weights of the main file

    Returns:
        the language, such as ``deu``; empty where there are no such files

    Raises:
        InputError: if none of these files is part of the weights, so that which is meant is not known
    """
    paths = language_adapters(found.folder)
    if not paths:
        return ""
    tensors = encoder.state_dict()
    for path in paths:
        if path.suffix == ".safetensors" and _holds(tensors, load_file(path)):
            return path.name.split(".")[1]
    raise InputError(
        f"{found.label} comes with adapters of languages ({_first([path.name for path in paths])}), and its main "
        "weights include none of them. Load it in transformers with target_lang, save it to a new folder "
        "(save_pretrained), and name that; or remove these files to use the main weights."
    )


def _holds(tensors: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor]) -> bool:
    """Return whether tensors of an encoder equal all those of an adapter's file except its output layer."""
    inner = {name[name.index("encoder.layers.") :]: t for name, t in adapter.items() if "encoder.layers." in name}
    return bool(inner) and all(
        name in tensors and tensors[name].shape == t.shape and torch.equal(tensors[name].cpu().float(), t.float())
        for name, t in inner.items()
    )
