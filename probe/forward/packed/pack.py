"""A pack: utterances that run together, as sequences of frames one after another in one stream."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from layerprobe.probe.forward.chunks import InputChunk


@dataclass(frozen=True)
class Pack:
    """Sequences that run together, the shortest first: the chunks of some utterances.

    The stream of a layer has the frames of all sequences one after another and nothing else, ``(n_frames, dim)``.
    """

    chunks: tuple[InputChunk, ...]
    lengths: tuple[int, ...]  # frames of each chunk
    utterances: tuple[int, ...]  # index of each chunk's utterance
    n_utterances: int

    @classmethod
    def of(cls, utterances: Sequence[Sequence[InputChunk]], n_frames: Callable[[InputChunk], int]) -> Pack:
        """Order the chunks of utterances by their numbers of frames, so that equal ones lie next to each other."""
        named = [(n_frames(chunk), k, chunk) for k, chunks in enumerate(utterances) for chunk in chunks]
        named.sort(key=lambda one: one[0])
        return cls(
            tuple(chunk for _, _, chunk in named),
            tuple(n for n, _, _ in named),
            tuple(k for _, k, _ in named),
            len(utterances),
        )

    @property
    def n_frames(self) -> int:
        """Frames of all sequences."""
        return sum(self.lengths)

    def spans(self) -> list[tuple[int, int]]:
        """Return the first frame of each sequence in the stream, and the one behind its last."""
        return list(itertools.pairwise(itertools.accumulate(self.lengths, initial=0)))


class PackedForward(Protocol):
    """A forward pass of the sequences of a pack, each as if it ran alone."""

    name: str  # as a plan records it: "packed", "equal lengths", or "masked"
    # which sequences run together: any, those of equal numbers of frames, or all, fastest if these numbers are similar
    together: Literal["any", "equal", "similar"]

    def n_frames(self, chunk: InputChunk) -> int:
        """Return the number of frames of a chunk, before it is encoded and before some of them count."""

    def states(self, pack: Pack) -> Iterator[Tensor]:
        """Yield the stream of each layer, ``(pack.n_frames, dim)`` float32 on the encoder's device."""
