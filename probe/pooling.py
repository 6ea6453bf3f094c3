"""Frames become fixed vectors, padding left out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probe.errors import InputError

Pooling = Callable[[Tensor], Tensor]
DEFAULT_POOLINGS = ("mean", "std")


def mean_pool(hidden_states: Tensor) -> Tensor:
    """Average over frames.

    Args:
        hidden_states: the valid frames of one layer of one utterance, ``(n_frames, dim)``, ``n_frames >= 1``

    Returns:
        the utterance's embedding, ``(dim,)``
    """
    return hidden_states.mean(dim=0)


def std_pool(hidden_states: Tensor) -> Tensor:
    """Standard deviation over frames, divided by ``n_frames``: 0 for a single frame. Shapes as in `mean_pool`."""
    return hidden_states.std(dim=0, correction=0)


def max_pool(hidden_states: Tensor) -> Tensor:
    """Each feature's greatest value over frames. Shapes as in `mean_pool`."""
    return hidden_states.amax(dim=0)


def min_pool(hidden_states: Tensor) -> Tensor:
    """Each feature's least value over frames. Shapes as in `mean_pool`."""
    return hidden_states.amin(dim=0)


def first_third_pool(hidden_states: Tensor) -> Tensor:
    """Average over the first third of the frames, rounded up. Shapes as in `mean_pool`."""
    return hidden_states[: _third(hidden_states)].mean(dim=0)


def last_third_pool(hidden_states: Tensor) -> Tensor:
    """Average over the last third of the frames, rounded up. Shapes as in `mean_pool`."""
    return hidden_states[-_third(hidden_states) :].mean(dim=0)


def normed_mean_pool(hidden_states: Tensor) -> Tensor:
    """Average over frames that were each layer-normalised without weights, as in s3prl's normalised weighted sum.

    A mix of these over layers is exactly the average of the mix over frames, so that sum can be replayed from a
    cache. Shapes as in `mean_pool`.
    """
    return torch.nn.functional.layer_norm(hidden_states, hidden_states.shape[-1:]).mean(dim=0)


def _third(hidden_states: Tensor) -> int:
    return -(-len(hidden_states) // 3)


POOLINGS: dict[str, Pooling] = {
    "mean": mean_pool,
    "std": std_pool,
    "max": max_pool,
    "min": min_pool,
    "first_third": first_third_pool,
    "last_third": last_third_pool,
    "normed_mean": normed_mean_pool,
}


def pooling_named(name: str) -> Pooling:
    """The pooling of that name.

    Raises:
        InputError: naming the choices, if there is none
    """
    if name not in POOLINGS:
        raise InputError(f"pooling {name!r} is unknown; choose one of {', '.join(sorted(POOLINGS))}.")
    return POOLINGS[name]


def pool_layers(layers: list[Tensor], *, poolings: tuple[str, ...]) -> Tensor:
    """Pool every layer of one utterance.

    Args:
        layers: the valid frames of each layer, ``n_layers`` tensors ``(n_frames, dim)``
        poolings: keys of `POOLINGS`, in the order of the result

    Returns:
        the utterance's embeddings, ``(n_layers, n_poolings, dim)``
    """
    functions = [pooling_named(name) for name in poolings]
    return torch.stack([torch.stack([pool(states) for pool in functions]) for states in layers])
