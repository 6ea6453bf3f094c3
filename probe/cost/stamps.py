"""What a reading, such as a clock or a counter, shows where each layer of one forward pass is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def at_each_layer(
    blocks: nn.ModuleList, final_norm: nn.Module | None, read: Callable[[], float]
) -> Iterator[list[float]]:
    """Yield a list that gets one reading per layer in each forward pass within the context, in order.

    Layer 0 is complete where the first block begins, layer k where block k ends, and ``final`` after the final norm.

    Args:
        blocks: transformer blocks in order
        final_norm: the norm after the last one, where there is one
        read: returns the reading
    """
    readings: list[float] = []

    def record(*_: object) -> None:
        readings.append(read())

    handles = [blocks[0].register_forward_pre_hook(record)]
    handles += [m.register_forward_hook(record) for m in (*blocks, *([] if final_norm is None else [final_norm]))]
    try:
        yield readings
    finally:
        for handle in handles:
            handle.remove()
