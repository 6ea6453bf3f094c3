"""Tensors and plain values on disk, whole or not at all; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from layerprobe.probe.exceptions import InputError

TENSORS, VALUES = "tensors.safetensors", "state.json"
LEARNT = "model."  # before the names of parameters


def write_state(folder: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Replace ``folder`` by one with these tensors and values; a kill leaves the old one or the new one."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    fresh.mkdir(parents=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, fresh / TENSORS)
    (fresh / VALUES).write_text(json.dumps(values, indent=1), encoding="utf-8")
    for path in (fresh / TENSORS, fresh / VALUES):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    if old.exists():
        shutil.rmtree(old)


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_state` wrote, also where it was killed between two renamings; None where there is nothing.

    Raises:
        InputError: if a file of it can't be read
    """
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        old.rename(folder)
    if not folder.exists():
        return None
    try:
        values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
        return load_file(folder / TENSORS), values
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} can't be read ({error}). Delete it, and the training begins anew.") from error


def write_training(
    folder: Path,
    parameters: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    values: dict[str, Any],
    *,
    device: torch.device | str,
) -> None:
    """Write the state of a training: parameters, the optimiser's moments, random numbers, and plain values."""
    learnt = {f"{LEARNT}{name}": tensor for name, tensor in parameters.items()}
    write_state(folder, learnt | optimiser_tensors(optimiser) | rng_tensors(device), values)


def read_training(
    folder: Path,
    parameters: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    device: torch.device | str,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any] | None:
    """Take back what `write_training` wrote and return its values; None where there is nothing.

    Args:
        folder: of the state
        parameters: filled in place
        optimiser: filled in place
        device: whose random numbers are put back
        check: takes the values before anything is filled, and raises where they do not fit

    Raises:
        InputError: if a file of it can't be read
    """
    state = read_state(folder)
    if state is None:
        return None
    tensors, values = state
    if check is not None:
        check(values)
    fill_parameters(parameters, tensors)
    restore_optimiser(optimiser, tensors)
    restore_rng(tensors, device)
    return values


def fill_parameters(parameters: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Copy the parameters that a state holds into those of the same names."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"{LEARNT}{name}"])


def rng_tensors(device: torch.device | str) -> dict[str, Tensor]:
    """The states of torch's random numbers, on the CPU and on that device."""
    states = {"chance": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        states["chance_cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(tensors: dict[str, Tensor], device: torch.device | str) -> None:
    """Put back what `rng_tensors` gave."""
    torch.set_rng_state(tensors["chance"])
    if "chance_cuda" in tensors:
        torch.cuda.set_rng_state(tensors["chance_cuda"], device)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of every parameter by its place in the groups."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    return {
        f"optimiser.{k}.{name}": value
        for k, parameter in enumerate(parameters)
        for name, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            place, _, key = rest.partition(".")
            parameter = parameters[int(place)]
            # the count of steps stays on the CPU, as AdamW keeps it
            moved = value if key == "step" else value.to(parameter.device)
            optimiser.state[parameter][key] = moved
