"""Checks of a model that transformers loaded: every tensor has its place, and none would be ignored."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from layerprobe.probe.exceptions import InputError

# Tensors that earlier versions of transformers saved and that follow from the configuration.
FOLLOWING = ("position_ids", "inv_freq", "num_batches_tracked")
UNTRAINED = "Take a complete checkpoint, or choose untrained weights with --random-init SEED."


def check_tensors(
    label: str,
    model: Any,
    report: dict[str, Any],
    *,
    needed: str = "",
    ignored: Collection[str] = (),
    advice: str = UNTRAINED,
) -> None:
    """Check that the checkpoint has every tensor of a model, all of them finite, and none that its layers ignore.

    Args:
        label: kind and name of the model, with which the message begins
        model: as transformers loaded it
        report: transformers' report on missing and unexpected tensors
        needed: prefix of the tensors that matter
        ignored: prefixes of tensors that no layer depends on
        advice: what to do where a tensor is missing, a sentence

    Raises:
        InputError: naming the first tensor that is missing, would be ignored, or holds NaN or infinite values
    """
    missing = sorted(k for k in report["missing_keys"] if k.startswith(needed) and not k.startswith(tuple(ignored)))
    if missing:
        raise InputError(
            "LP320",
            f"{label}: the checkpoint lacks {first_of(missing)}, which would be initialised at random. {advice}",
        )
    for name, parameter in model.named_parameters():
        if name.startswith(needed) and not name.startswith(tuple(ignored)) and not torch.isfinite(parameter).all():
            raise InputError(
                "LP321",
                f"{label}: {name} holds NaN or infinite values, as after a training that diverged. Take another "
                "checkpoint.",
            )
    unread = sorted(k for k in report["unexpected_keys"] if _is_inside(k, model, needed))
    if unread:
        raise InputError(
            "LP322",
            f"{label}: the checkpoint has {first_of(unread)} inside its layers, which {type(model).__name__} does not "
            "read: its config.json is of another checkpoint, or an adapter or a quantisation left it. Take both from "
            "the same checkpoint; or merge it into the weights (merge_and_unload() of PEFT, dequantize() of "
            "transformers), save a copy and name that.",
        )


def first_of(names: list[str]) -> str:
    """Return the first of some names, with the number of the others."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _is_inside(key: str, model: Any, needed: str) -> bool:
    """Return whether an unexpected tensor belongs to a list of layers, or to a module that has tensors itself."""
    if key.endswith(FOLLOWING):
        return False
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and path.startswith(needed):
            in_layer = re.search(rf"(?:^|\.){re.escape(path)}\.(\d+)\.", key)
            if in_layer:
                return int(in_layer[1]) < len(module)  # a configuration with fewer layers cuts the model on purpose
    leaves = {name for name, module in model.named_modules() if name and next(module.children(), None) is None}
    parts = key.split(".")
    prefixes = [parts[begin:end] for begin in range(min(3, len(parts))) for end in range(begin + 1, len(parts))]
    return any(".".join(prefix) in leaves for prefix in prefixes)
