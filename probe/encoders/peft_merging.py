"""PEFT adapters are merged into the weights of their base model, by PEFT itself, before a layer is read."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.identity import model_hash
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.model_tensors import first_of
from layerprobe.probe.peft_folders import PeftAdapter
from layerprobe.probe.pickles import read_tensors

PEFT_PREFIX = "base_model.model."  # of every tensor that PEFT saves
_OF_ADAPTER = re.compile(r"\.(?:lora_|ia3_)")  # what follows the name of the module that it changes
_WRAPPED = re.compile(r"\.(?:lora_|ia3_|base_layer\.)")  # the last is saved with settings of bias
# Settings that name things or matter in training only.
_NAMES = frozenset({
    "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "peft_version", "revision",
    "task_type",
})  # fmt: skip


@dataclass(frozen=True)
class Merged:
    """What a merged adapter leaves for the plan and the reader."""

    weights: str  # hash of the base and hash of the adapter, joined by "+"
    left_out: tuple[str, ...]  # the adapter's tensors of a head, which reach no layer


def merge_adapter(adapter: PeftAdapter, model: Any, *, never_read: Collection[str] = ()) -> Merged:
    """Merge an adapter into an encoder, in place and in float32.

    Args:
        adapter: of PEFT
        model: the encoder of the base model, without a decoder or a head
        never_read: tensors that no layer depends on

    Raises:
        InputError: if PEFT is missing, or a tensor of the adapter has no place in the model or the reverse
    """
    peft = _import_peft(adapter.label)
    base_hash = model_hash(model, never_read=never_read)
    tensors = _tensors(adapter.weights())
    prefix = _prefix(adapter.label, tensors, model)
    inside, left_out = _without_head(adapter.label, tensors, model, prefix)
    training = model.training
    # PEFT samples an adapter's first weights: the state of the process's generator is restored
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as on settings of the head's modules, which are not there
        tuned = peft.PeftModel(_nested(model, prefix), _settings(peft, adapter.settings, inside))
        report = peft.set_peft_model_state_dict(tuned, inside)
        lost = [*report.unexpected_keys, *(key for key in report.missing_keys if _OF_ADAPTER.search(key))]
        if lost:
            raise _misfit(adapter.label, lost, model)
        tuned.merge_and_unload(safe_merge=True)
    model.requires_grad_(True).train(training)
    return Merged(f"{base_hash}+{_adapter_hash(adapter.settings, inside)}", tuple(left_out))


def _import_peft(label: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise InputError(
            "LP392",
            f"{label} is a PEFT adapter, and merging it needs peft, which can't be imported ({error}). Install it: pip "
            "install 'layerprobe[peft]'.",
        ) from error
    return peft


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    return read_tensors(path)


def _module_of(key: str) -> str:
    """Return the path of the module that a tensor of an adapter belongs to, as it was called in training."""
    name = key.removeprefix(PEFT_PREFIX)
    return _WRAPPED.split(name)[0] if _WRAPPED.search(name) else name.rpartition(".")[0]


def _prefix(label: str, tensors: dict[str, Tensor], model: Any) -> str:
    """Return under which name the model stood in the one that was trained, such as ``wav2vec2.``; empty for none."""
    modules = {name for name, _ in model.named_modules() if name}
    found: Counter[str] = Counter()
    for key in filter(_OF_ADAPTER.search, tensors):
        parts = _module_of(key).split(".")
        for depth in range(len(parts)):
            if ".".join(parts[depth:]) in modules:
                found["".join(f"{part}." for part in parts[:depth])] += 1
                break
    if not found:
        raise _misfit(label, sorted(tensors), model)
    return found.most_common(1)[0][0]


def _without_head(
    label: str, tensors: dict[str, Tensor], model: Any, prefix: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of the model itself, and the names of those of a head around it."""
    modules, children = dict(model.named_modules()), dict(model.named_children())
    inside, left_out, lost = {}, [], []
    for key, tensor in sorted(tensors.items()):
        path = _module_of(key)
        module = path.removeprefix(prefix)
        if path.startswith(prefix) and module in modules:
            inside[key] = tensor
        elif (prefix and path.startswith(prefix)) or module.split(".")[0] in children:
            lost.append(key)
        else:
            left_out.append(key.removeprefix(PEFT_PREFIX))
    if lost:
        raise _misfit(label, lost, model)
    return inside, left_out


def _misfit(label: str, names: list[str], model: Any) -> InputError:
    return InputError(
        "LP393",
        f"{label}: {first_of(names)} of its adapter has no place in its base model, a {type(model).__name__}, or its "
        "file lacks that tensor. Take the adapter and the base that it was trained on (base_model_name_or_path in "
        "adapter_config.json).",
    )


def _settings(peft: Any, stored: dict[str, Any], inside: dict[str, Tensor]) -> Any:
    """Return the adapter's settings for a model without a head."""
    settings = peft.PeftConfig.from_peft_type(**stored)
    settings.task_type, settings.inference_mode = None, True  # a task would add a head
    modules = {_module_of(key) for key in inside}
    if settings.target_modules == "all-linear":  # of a model of transformers, which the wrapper is not
        settings.target_modules = sorted({_module_of(key) for key in inside if _OF_ADAPTER.search(key)})
    whole = getattr(settings, "modules_to_save", None) or ()
    settings.modules_to_save = [name for name in whole if any(m.endswith(name) for m in modules)] or None
    return settings


def _nested(model: Any, prefix: str) -> Any:
    """Return the model under the name that it had in training, so that the adapter's patterns match as they did."""
    for name in reversed([part for part in prefix.split(".") if part]):
        holder = nn.Module()
        holder.add_module(name, model)
        model = holder
    return model


def _adapter_hash(settings: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Return sixteen hex digits over the tensors of an adapter that reach a layer and the settings that scale them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.float().contiguous().numpy().tobytes())
    kept = {key: value for key, value in settings.items() if key not in _NAMES}
    digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]
