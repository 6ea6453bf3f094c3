"""Transformers' forward pass of several sequences of equal length: a batch without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from layerprobe.probe.encoders.architectures import InputChunk
from layerprobe.probe.encoders.packed.pack import Pack


class EqualLengths:
    """Batches of sequences with equal numbers of frames, by transformers' own forward pass."""

    name = "equal lengths"
    together: Literal["any", "equal", "similar"] = "equal"

    def __init__(self, run: Callable[[dict[str, Tensor]], list[Tensor]], n_frames: Callable[[InputChunk], int]) -> None:
        """Take a function of a batch's inputs that returns each layer's frames, ``(n_inputs, n_frames, dim)``."""
        self._run, self.n_frames = run, n_frames

    def states(self, pack: Pack) -> Iterator[Tensor]:
        """Yield the stream of each layer; see `PackedForward`."""
        batches = []
        for _, chunks in groupby(pack.chunks, key=_shapes):
            inputs = [chunk.inputs for chunk in chunks]
            batch = {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
            batches.append([states.flatten(0, 1) for states in self._run(batch)])
        for layers in zip(*batches, strict=True):
            yield torch.cat(layers)


def _shapes(chunk: InputChunk) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in chunk.inputs.values()]
