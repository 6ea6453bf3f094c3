"""Checkpoints of a training: tensors and plain values, written as a whole or not at all, without pickle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import write_csv
from layerprobe.probe.foreign_files import damage_of, first_line

TENSORS, VALUES = "tensors.safetensors", "state.json"
MODEL_PREFIX = "model."  # before the names of parameters
FORMAT_VERSION = 1


def write_state(folder: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Replace ``folder`` by a checkpoint of these tensors and values; a kill leaves the old or the new one."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    fresh.mkdir(parents=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, fresh / TENSORS)
    content = {"format_version": FORMAT_VERSION, **values}
    (fresh / VALUES).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for path in (fresh / TENSORS, fresh / VALUES):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    if old.exists():
        shutil.rmtree(old)


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and values that `write_state` wrote, or None where there is no checkpoint.

    A kill between its two renamings is repaired.

    Raises:
        InputError: if a file of it can't be read, or has another format version
    """
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        old.rename(folder)
    if not folder.exists():
        return None
    advice = f"Delete {folder} to start the training again."
    values = read_json(folder / VALUES, advice=advice)
    check_format_version(values, folder / VALUES)
    return read_tensors(folder / TENSORS, advice=advice), values


def read_json(path: Path, *, advice: str) -> dict[str, Any]:
    """Read a JSON file of a training that holds a table.

    Raises:
        InputError: ending in ``advice``, if it is missing, damaged, or something else
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("LP700", f"{path} {damage_of(path, error)}. {advice}") from error
    if not isinstance(content, dict):
        raise InputError("LP700", f"{path} holds no table of names and values. {advice}")
    return content


def read_tensors(path: Path, *, advice: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        InputError: ending in ``advice``, if it is missing, damaged, or something else
    """
    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError("LP700", f"{path} {damage_of(path, error)}. {advice}") from error


def check_format_version(content: dict[str, Any], path: Path) -> None:
    """Raise an error unless a JSON file of a training has the format version that this program reads.

    Raises:
        InputError: if it has another one, or none
    """
    found = content.get("format_version")
    if found != FORMAT_VERSION:
        raise InputError(
            "LP704",
            f"{path} has format version {found}; this program reads version {FORMAT_VERSION}. Train again, "
            "into another folder.",
        )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of a training's folder as CSV, with the column ``format_version`` added as the last."""
    write_csv(path, table.assign(format_version=FORMAT_VERSION))


def write_training(
    folder: Path,
    parameters: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    values: dict[str, Any],
    *,
    device: torch.device | str,
) -> None:
    """Write a checkpoint: parameters, the optimiser's moments, random states, and plain values."""
    model = {f"{MODEL_PREFIX}{name}": tensor for name, tensor in parameters.items()}
    write_state(folder, model | optimiser_tensors(optimiser) | rng_tensors(device), values)


def read_training(
    folder: Path,
    parameters: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    device: torch.device | str,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any] | None:
    """Restore a checkpoint that `write_training` wrote and return its values, or None where there is none.

    Args:
        folder: the checkpoint
        parameters: filled in place
        optimiser: filled in place
        device: whose random state is restored
        check: receives the values before anything is restored, and raises an error where they do not fit

    Raises:
        InputError: if a file of it can't be read, or it is of another training
    """
    state = read_state(folder)
    if state is None:
        return None
    tensors, values = state
    try:
        if check is not None:
            check(values)
        fill_parameters(parameters, tensors)
        restore_optimiser(optimiser, tensors)
        restore_rng(tensors, device)
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "LP701",
            f"{folder} is no checkpoint of this training ({first_line(error)}). Delete it to start the training again.",
        ) from error
    return values


def fill_parameters(parameters: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Copy the tensors of a checkpoint into the parameters of the same names."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"{MODEL_PREFIX}{name}"])


def forked_rng(device: str) -> contextlib.AbstractContextManager[None]:
    """Return a context that restores the states of torch's random number generators, of the CPU and of a GPU."""
    context: contextlib.AbstractContextManager[None] = torch.random.fork_rng(
        devices=[device] if torch.device(device).type == "cuda" else []
    )
    return context


def rng_tensors(device: torch.device | str) -> dict[str, Tensor]:
    """Return the states of torch's random number generators, of the CPU and of a GPU."""
    states = {"rng": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        states["rng_cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(tensors: dict[str, Tensor], device: torch.device | str) -> None:
    """Restore the random states that `rng_tensors` returned."""
    torch.set_rng_state(tensors["rng"])
    if "rng_cuda" in tensors and torch.device(device).type == "cuda":  # not on the CPU, where it may be resumed
        torch.cuda.set_rng_state(tensors["rng_cuda"], device)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state of every parameter, named by the parameter's position in the groups."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    return {
        f"optimiser.{k}.{name}": value
        for k, parameter in enumerate(parameters)
        for name, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the state that `optimiser_tensors` returned."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            position, _, key = rest.partition(".")
            parameter = parameters[int(position)]
            # AdamW keeps the count of steps on the CPU
            moved = value if key == "step" else value.to(parameter.device)
            optimiser.state[parameter][key] = moved
