"""Errors of loading a model, one sentence each: what transformers reported, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import first_line


def loading_error(label: str, error: Exception, *, needed: str, on_hub: bool) -> InputError:
    """Return the error that states in one sentence why a model can't be loaded and what to do.

    Args:
        label: kind and name of the model
        error: of transformers or of what it calls
        needed: files that a folder holds
        on_hub: whether the model was looked for on the hub
    """
    if on_hub:
        return InputError(
            "LP301",
            f"{label} is no local folder, and the hub did not return it: {first_line(error)}. "
            "Check the spelling, or the connection (HF_HUB_OFFLINE=1 allows only what is already downloaded).",
        )
    return InputError("LP302", f"{label} can't be loaded: {first_line(error)}. A transformers folder holds {needed}.")


def own_code_error(label: str, code: str) -> InputError:
    """Return the error of a model with code of its own, which the user has not trusted."""
    return InputError(
        "LP312",
        f"{label} brings code of its own ({code}). Read it, and add --trust-remote-code if you trust it (an "
        "architecture that transformers has not needs an --adapter, too); or remove what asks for it from a copy to do "
        "without.",
    )


@contextmanager
def first_pass(label: str, example: str, *, files: str) -> Iterator[None]:
    """Turn every error of a model's first forward pass into one sentence.

    Args:
        label: kind and name of the model, with which the message begins
        example: the input
        files: that must fit config.json

    Raises:
        InputError: with the error as its cause
    """
    try:
        yield
    except InputError:
        raise
    except torch.OutOfMemoryError as error:
        raise InputError(
            "LP350",
            f"{label} does not fit the memory of the GPU: {first_line(error)}. Use --device cpu, or a smaller model.",
        ) from error
    except Exception as error:
        raise InputError(
            "LP351",
            f"{label}: its first forward pass, of {example}, failed: {first_line(error)}. "
            f"Take config.json and {files} from the same checkpoint; --debug shows where it failed.",
        ) from error
