"""Names of layers: ``0``, ``1``, … and ``final``, and where each lies between the first and the last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FINAL = "final"


def layer_names(n_blocks: int, *, final_norm: bool) -> tuple[str, ...]:
    """``0``, ``1``, … to the number of blocks, and ``final`` where there is a final norm."""
    blocks = tuple(str(k) for k in range(n_blocks + 1))
    return (*blocks, FINAL) if final_norm else blocks


def is_stack(layers: Sequence[str]) -> bool:
    """Whether these are the layers of an encoder, one above the other, and not features side by side.

    >>> is_stack(["0", "1", "final"]), is_stack(["log_mel", "f0"])
    (True, False)
    """
    return all(name == FINAL or name.isdecimal() for name in layers)


def n_blocks(layers: Sequence[str]) -> int:
    """Transformer blocks behind these layers: all but layer 0 and ``final``."""
    return sum(name != FINAL for name in layers) - 1


def relative_depth(layers: Sequence[str]) -> np.ndarray:
    """Where each layer stands: 0 enters the first block, 1 leaves the last; ``final`` stands one block after it.

    Features without a network are put side by side in the same room.

    >>> relative_depth(["0", "1", "2", "final"])
    array([0. , 0.5, 1. , 1.5])
    """
    blocks = max(1, n_blocks(layers))
    if not is_stack(layers):
        return np.arange(len(layers)) / blocks
    return np.array([blocks + 1 if name == FINAL else int(name) for name in layers]) / blocks
