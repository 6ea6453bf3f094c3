"""Adapters of languages next to a wav2vec 2.0 checkpoint (MMS): which of them is part of its weights."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.model_files import language_adapters
from layerprobe.probe.model_tensors import first_of
from layerprobe.probe.pretrained import Pretrained


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
        "LP315",
        f"{found.label} comes with adapters of languages ({first_of([path.name for path in paths])}), and its main "
        "weights include none of them. Load it in transformers with target_lang, save it to a new folder "
        "(save_pretrained), and name that; or remove these files to use the main weights.",
    )


def _holds(tensors: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor]) -> bool:
    """Return whether tensors of an encoder equal all those of an adapter's file except its output layer."""
    inner = {name[name.index("encoder.layers.") :]: t for name, t in adapter.items() if "encoder.layers." in name}
    return bool(inner) and all(
        name in tensors and tensors[name].shape == t.shape and torch.equal(tensors[name].cpu().float(), t.float())
        for name, t in inner.items()
    )
