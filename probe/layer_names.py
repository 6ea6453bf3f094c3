"""Names of layers: ``0``, ``1``, … and ``final``, and the relative depth of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FINAL = "final"


def layer_names(n_blocks: int, *, final_norm: bool) -> tuple[str, ...]:
    """Return ``0``, ``1``, … up to the number of blocks, followed by ``final`` if the encoder has a final norm."""
    blocks = tuple(str(k) for k in range(n_blocks + 1))
    return (*blocks, FINAL) if final_norm else blocks


def is_stack(layers: Sequence[str]) -> bool:
    """Return whether these are the consecutive layers of an encoder, as opposed to parallel acoustic features.

    >>> is_stack(["0", "1", "final"]), is_stack(["log_mel", "f0"])
    (True, False)
    """
    return all(name == FINAL or name.isdecimal() for name in layers)


def n_blocks(layers: Sequence[str]) -> int:
    """Return the number of transformer blocks behind these layers: all layers except layer 0 and ``final``."""
    return sum(name != FINAL for name in layers) - 1


def relative_depth(layers: Sequence[str]) -> np.ndarray:
    """Return each layer's depth: 0 enters the first block, 1 leaves the last; ``final`` is one block deeper.

    Acoustic features, which have no depth, are spaced evenly over [0, 1].

    >>> relative_depth(["0", "1", "2", "final"])
    array([0. , 0.5, 1. , 1.5])
    """
    blocks = max(1, n_blocks(layers))
    if not is_stack(layers):
        return np.arange(len(layers)) / blocks
    return np.array([blocks + 1 if name == FINAL else int(name) for name in layers]) / blocks


def describe_layers(layers: Sequence[str]) -> str:
    """Return the range of layers in a few characters.

    >>> describe_layers(["0", "1", "2", "final"]), describe_layers(["log_mel", "f0"])
    ("0 to 2 and 'final'", 'log_mel, f0')
    """
    numbers = [name for name in layers if name != FINAL]
    if len(numbers) < 2 or numbers != [str(k) for k in range(len(numbers))]:
        return ", ".join(layers)
    return f"0 to {numbers[-1]}" + (f" and {FINAL!r}" if FINAL in layers else "")


def resolve_layer(layer: str | int | np.integer, layers: Sequence[str]) -> str:
    """Return the name of a layer that is given by its name or number.

    Args:
        layer: a name such as ``"5"`` or ``"final"``, or a number counted from 0
        layers: names of the layers that there are

    Raises:
        ValueError: if there is no such layer; the message completes "… has"

    >>> resolve_layer(1, ["0", "1", "final"])
    '1'
    """
    if isinstance(layer, str) and layer in layers:
        return layer
    if isinstance(layer, int | np.integer) and not isinstance(layer, bool):
        layer = int(layer)
        if str(layer) in layers:
            return str(layer)
    if is_stack(layers):
        raise ValueError(f"no layer {layer!r}; layers are counted from 0: {describe_layers(layers)}")
    raise ValueError(f"no layer {layer!r}; its layers are the features {', '.join(layers)}")
