"""Packs of utterances for a packed forward pass: which run together, and how many frames of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar, cast

import numpy as np
from torch import Tensor

from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed.pack import PackedForward
from layerprobe.probe.system import free_device_memory, resident_memory, usable_memory

# Frames that run together at most, 50 of which are a second. On a GPU: 338 s, which are 132 tiles of 128 rows in each
# matrix product; products of more rows are hardly faster. On a CPU: enough rows for each reading of the weights.
MOST_FRAMES, MOST_FRAMES_ON_CPU, FEWEST_FRAMES = 16_896, 2_048, 256
SORTED_PACKS = 8  # read before they are sorted by length, where similar lengths run together
# Memory of a frame. Its 64 outputs of the first convolution, of 512 channels in most encoders, are there four times in
# float32 while they are normalised; then a block's inputs, projections and four times wider middle, and every layer.
CONVOLUTION_BYTES = 64 * 512 * 4 * 4
BLOCK_WIDTHS = 24
FRACTION_OF_FREE = 0.5  # of the free memory that a pack may take by this estimate


class PackingEncoder(Protocol):
    """What an encoder of packs has in addition to `probe.encoders.base.Encoder`."""

    packed: PackedForward
    device: str

    def input_chunks(self, data: object) -> list[InputChunk]:
        """Return the inputs of the forward passes of one utterance, on the host."""

    def embed_pack(
        self,
        utterances: Sequence[Sequence[InputChunk]],
        *,
        poolings: tuple[str, ...],
        spans: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> Tensor:
        """Return ``(n_utterances, n_layers, n_poolings, dim)`` on the device, without waiting for it.

        With the frames of spans, ``(first, number)`` of each utterance, there is a row for each of these.
        """


class Sized(Protocol):
    """An utterance that was read, with the number of frames of each of its chunks; none if it can't be used."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each chunk."""


S = TypeVar("S", bound=Sized)


def packing(encoder: AnyEncoder) -> PackingEncoder | None:
    """Return an encoder that was loaded to encode utterances together; None if it encodes them singly."""
    # acoustic features and a user's own encoder need not have the field
    return cast("PackingEncoder", encoder) if getattr(encoder, "packed", None) is not None else None


def frame_budget(encoder: AnyEncoder) -> int:
    """Return the number of frames that run together, by the free memory of the encoder's device and its size."""
    if encoder.device.startswith("cuda"):
        most, free = MOST_FRAMES, free_device_memory(encoder.device)
    else:
        most, free = MOST_FRAMES_ON_CPU, usable_memory() - resident_memory()
    return frames_in(free, dim=encoder.dim, n_layers=len(encoder.layers), most=most)


def frames_in(free: float, *, dim: int, n_layers: int, most: int) -> int:
    """Return the number of frames that half of the free memory holds by the estimate above, within its limits.

    >>> frames_in(100e9, dim=1024, n_layers=25, most=16_896), frames_in(4e9, dim=1024, n_layers=25, most=16_896)
    (16896, 2758)
    """
    bytes_per_frame = CONVOLUTION_BYTES + 4 * dim * (BLOCK_WIDTHS + n_layers)
    return max(FEWEST_FRAMES, int(min(most, FRACTION_OF_FREE * free / bytes_per_frame)))


def frames_ahead(forward: PackedForward, budget: int) -> int:
    """Return how many frames of utterances are put into packs together: one pack's, or several to be sorted."""
    return budget if forward.together == "any" else SORTED_PACKS * budget


def windows(utterances: Iterable[S], n_frames: int) -> Iterator[list[S]]:
    """Yield consecutive utterances, together at most so many frames unless one alone has more."""
    window: list[S] = []
    held = 0
    for utterance in utterances:
        length = sum(utterance.lengths)
        if window and held + length > n_frames:
            yield window
            window, held = [], 0
        window.append(utterance)
        held += length
    if window:
        yield window


def packs(window: Sequence[S], forward: PackedForward, budget: int) -> list[list[S]]:
    """Divide utterances into packs of at most so many frames, in their order where any run together, else by length.

    A pack of one may have more frames. Where sequences are padded to the longest of a pack, padding counts.
    """
    sorted_ones = list(window) if forward.together == "any" else sorted(window, key=lambda one: max(one.lengths))
    divided: list[list[S]] = []
    lengths: list[int] = []  # of the last pack
    for utterance in sorted_ones:
        together = [*lengths, *utterance.lengths]
        size = max(together) * len(together) if forward.together == "similar" else sum(together)
        if divided and size <= budget:
            divided[-1].append(utterance)
            lengths = together
        else:
            divided.append([utterance])
            lengths = list(utterance.lengths)
    return divided
