"""Transformers' forward pass of several sequences: batches of equal lengths, or padded ones with an attention mask."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from layerprobe.probe.forward.chunks import InputChunk, convolution_rows
from layerprobe.probe.forward.packed.own_statistics import OwnStatistics
from layerprobe.probe.forward.packed.pack import Pack
from layerprobe.probe.forward.stream.index_arrays import uploaded

Run = Callable[[dict[str, Tensor]], list[Tensor]]  # inputs of a batch to each layer's (n_inputs, n_frames, dim)
MASK = "attention_mask"
LONGER = 1.25  # a padded batch holds sequences of up to so many times the frames of its shortest


class EqualLengths:
    """Batches of sequences that differ in the samples beyond their last frame alone; nothing is masked.

    Strided convolutions are not padded, so that a frame reads its own samples only: the samples that are missing at the
    end of a sequence are zeros that none of its frames reads. A group norm counts each sequence's own rows.
    """

    name = "equal lengths"
    together: Literal["any", "equal", "similar"] = "equal"

    def __init__(self, run: Run, n_frames: Callable[[InputChunk], int], config: Any = None) -> None:
        """Take transformers' pass of a batch, the frames of a chunk, and the configuration of strided convolutions.

        Without a configuration only inputs of the same shape run together.
        """
        self._run, self.n_frames, self._config = run, n_frames, config

    def states(self, pack: Pack) -> Iterator[Tensor]:
        """Yield the stream of each layer; see `PackedForward`."""
        batches: dict[Hashable, list[int]] = {}
        for k, chunk in enumerate(pack.chunks):
            batches.setdefault(self._alike(chunk), []).append(k)
        return _streams(self._run, pack, list(batches.values()), self._config, masked=False)

    def _alike(self, chunk: InputChunk) -> Hashable:
        """Return what is equal for all chunks of a batch."""
        if rows := _rows(chunk, self._config):
            return rows[-1]  # SEW joins two rows into a frame, and a last row without a partner is not lost
        return tuple(tuple(x.shape) for x in chunk.inputs.values())


class Masked:
    """Padded batches with an attention mask, each of sequences of similar lengths."""

    name = "masked"
    together: Literal["any", "equal", "similar"] = "similar"

    def __init__(
        self, run: Run, n_frames: Callable[[InputChunk], int], config: Any = None, *, longer: float = LONGER
    ) -> None:
        """Take what `EqualLengths` does, and how many times as long as its shortest a batch's longest sequence is."""
        self._run, self.n_frames, self._config, self._longer = run, n_frames, config, longer

    def states(self, pack: Pack) -> Iterator[Tensor]:
        """Yield the stream of each layer; see `PackedForward`."""
        batches: list[list[int]] = []
        for k, length in enumerate(pack.lengths):
            if batches and length <= self._longer * pack.lengths[batches[-1][0]]:
                batches[-1].append(k)
            else:
                batches.append([k])
        return _streams(self._run, pack, batches, self._config, masked=True)


def _streams(run: Run, pack: Pack, batches: list[list[int]], config: Any, *, masked: bool) -> Iterator[Tensor]:
    """Run batches, the indices of their sequences in the pack, and yield the stream of each layer."""
    layers_of, frames, n_before = [], [torch.empty(0, dtype=torch.long)] * len(pack.chunks), 0
    for batch in batches:
        chunks = [pack.chunks[k] for k in batch]
        with _own_statistics(chunks, config):
            layers = run(padded_inputs(chunks, masked=masked))
        n_frames = layers[0].shape[1]
        longest = max(pack.lengths[k] for k in batch)
        if n_frames != longest:
            raise RuntimeError(f"a batch of transformers gave {n_frames} frames where {longest} were expected")
        for row, k in enumerate(batch):
            begin = n_before + row * n_frames
            frames[k] = torch.arange(begin, begin + pack.lengths[k])
        n_before += len(batch) * n_frames
        layers_of.append(layers)
    order = torch.cat(frames)
    in_order = len(order) == n_before and torch.equal(order, torch.arange(n_before))
    order = uploaded(order.numpy(), device=str(layers_of[0][0].device))
    for layer in zip(*layers_of, strict=True):
        joined = torch.cat([states.flatten(0, 1) for states in layer])
        yield joined if in_order else joined[order]


def padded_inputs(chunks: Sequence[InputChunk], *, masked: bool) -> dict[str, Tensor]:
    """Join the inputs of chunks to those of one batch, with zeros behind the shorter ones.

    Args:
        chunks: with inputs of the same names; an input may differ in one axis, which is time
        masked: whether an attention mask is added where the inputs have none and differ in length

    Returns:
        each input with ``len(chunks)`` rows
    """
    joined, lengths = {}, None
    for name in chunks[0].inputs:
        inputs = [chunk.inputs[name] for chunk in chunks]
        shapes = [x.shape for x in inputs]
        differing = [axis for axis in range(1, inputs[0].ndim) if len({shape[axis] for shape in shapes}) > 1]
        if differing:
            (axis,) = differing
            lengths = [shape[axis] for shape in shapes]
            behind = [0, 0] * (inputs[0].ndim - 1 - axis)
            inputs = [functional.pad(x, (*behind, 0, max(lengths) - x.shape[axis])) for x in inputs]
        joined[name] = torch.cat(inputs)
    if masked and lengths is not None and MASK not in joined:
        joined[MASK] = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return joined


def _rows(chunk: InputChunk, config: Any) -> list[int]:
    """Return the rows after each strided convolution, none for an encoder that does not read samples by these."""
    reads_samples = "input_values" in chunk.inputs and hasattr(config, "conv_kernel") and hasattr(config, "conv_stride")
    return convolution_rows(chunk, config) if reads_samples else []


def _own_statistics(chunks: Sequence[InputChunk], config: Any) -> OwnStatistics | nullcontext[None]:
    """Return what makes a group norm after the first convolution count each sequence's own rows, where they differ."""
    rows = [of_chunk[0] for chunk in chunks if (of_chunk := _rows(chunk, config))]
    return OwnStatistics(rows) if len(set(rows)) > 1 else nullcontext()
