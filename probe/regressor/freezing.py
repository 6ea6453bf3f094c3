"""Trainable parts of a regressor: frozen parameters, and learning rates that decay from block to block."""

from __future__ import annotations

from typing import Any

from torch import nn

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.regressor.model import AudioTextRegressor
from layerprobe.probe.regressor.plan import TrainPlan
from layerprobe.probe.training.branches import EMBEDDINGS, FRONT_END, REST, Branch, named_parts


def freeze(regressor: AudioTextRegressor, frozen: tuple[str, ...]) -> None:
    """Freeze whole encoders (``audio``) or parts of them (``audio.front_end``, ``text.0``).

    Raises:
        InputError: if there is no such part
    """
    parts = {name: {part for part, _ in named_parts(branch)} for name, branch in regressor.branches.items()}
    for requested in frozen:
        name, _, part = requested.partition(".")
        if name not in parts or (part and part not in parts[name]):
            known = [f"{n}{'.' + p if p else ''}" for n, names in parts.items() for p in ["", *sorted(names)]]
            raise InputError(
                "LP733", f"part {requested!r} can't be frozen: it is unknown. Choose from {', '.join(known)}."
            )
    for name, branch in regressor.branches.items():
        for part, parameter in named_parts(branch):
            parameter.requires_grad_(name not in frozen and f"{name}.{part}" not in frozen)


def is_frozen(branch: Branch) -> bool:
    """Return whether an encoder is frozen and one layer of it is used, so that its states never change."""
    return branch.mix is None and not any(p.requires_grad for p in branch.encoder.parameters())


def set_training(regressor: AudioTextRegressor, training: bool) -> None:
    """Switch training mode (dropout) on or off; frozen encoders stay in eval mode."""
    regressor.train(training)
    for branch in regressor.branches.values():
        if not any(p.requires_grad for p in branch.encoder.parameters()):
            branch.encoder.eval()


def parameter_groups(regressor: AudioTextRegressor, plan: TrainPlan) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups by learning rate and weight decay; the schedule scales a group's ``rate``.

    The top block has the plan's learning rate, each block below it ``layer_decay`` times that of the one above (Howard
    and Ruder, 2018), and the parameters before the blocks that of one more block. Biases and norms do not decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}

    def add(parameter: nn.Parameter, rate: float) -> None:
        if parameter.requires_grad:
            decay = plan.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)

    for branch in regressor.branches.values():
        for part, parameter in named_parts(branch):
            below = {FRONT_END: branch.n_blocks, EMBEDDINGS: branch.n_blocks, REST: branch.n_blocks}
            steps = below[part] if part in below else branch.n_blocks - 1 - int(part)
            add(parameter, plan.learning_rate * plan.layer_decay**steps)
    for parameter in regressor.head_parameters():
        add(parameter, plan.head_learning_rate)
    return [{"params": own, "lr": rate, "rate": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]
