"""Pickles of tensors, read only where the user trusts them, without the packages of other objects in them."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import trusted

_ALLOWED = ("torch", "collections", "argparse", "numpy", "_codecs")  # packages that a checkpoint's tensors need


def check_trusted(label: str) -> None:
    """Check that pickles may be read.

    Args:
        label: kind and name of the model, with which the message begins

    Raises:
        InputError: if they may not
    """
    if not trusted("pickle"):
        raise pickle_error(label)


def pickle_error(label: str, *, can_be_trusted: bool = True) -> InputError:
    """Return the error of a model whose weights are a pickle, and whether an option has it read nevertheless."""
    option = ", or add --trust-pickle if you know where it comes from" if can_be_trusted else ""
    return InputError(
        "LP310",
        f"{label}: its weights are a pickle, which can run code when it is read. Save them as safetensors "
        f"(save_pretrained does){option}.",
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a trusted pickle that holds nothing else."""
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def read_checkpoint(path: Path) -> Any:
    """Return the content of a trusted pickle; objects of packages that it does not need become placeholders."""
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_CheckpointPickle)


class _Placeholder(argparse.Namespace):
    """Stands for an object of a class that is not needed, such as fairseq's dictionary of labels."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Keep nothing of its state."""

    def __setitem__(self, _: Any, __: Any) -> None:
        """Keep no entry."""

    def append(self, _: Any) -> None:
        """Keep no element."""

    def extend(self, _: Any) -> None:
        """Keep no elements."""


class _CheckpointUnpickler(pickle.Unpickler):
    """Read tensors and settings; of packages that need not be installed (fairseq) a placeholder is made."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in _ALLOWED:
            return super().find_class(module, name)
        return _Placeholder


class _CheckpointPickle:
    """The part of the module `pickle` that torch asks for."""

    Unpickler = _CheckpointUnpickler
    load = staticmethod(pickle.load)
