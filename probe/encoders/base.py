"""What extraction asks of an upstream, be it an encoder of sound or of text, or features without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from torch import Tensor


class Layered(Protocol):
    """Whatever has layers of frames; names are those of `probe.cache.plan.ExtractionPlan`."""

    default_poolings: tuple[str, ...]
    upstream: str
    revision: str
    architecture: str
    random_init: int | None
    adapter: str
    precision: str
    layers: tuple[str, ...]
    dim: int
    device: str

    @property
    def forward(self) -> str:
        """Whose forward pass is run."""

    @property
    def preprocessing(self) -> str:
        """What is done to a waveform or a text beforehand, as sorted JSON."""

    def weights_hash(self) -> str:
        """Sixteen hex digits that change with whatever would change a number."""


class AudioUpstream(Layered, Protocol):
    """Turns a waveform into layers of frames."""

    reads: Literal["audio"]
    sampling_rate: int  # Hz

    @property
    def chunking(self) -> str:
        """How a long sound is heard, in words for the plan."""

    @property
    def minimum_samples(self) -> int:
        """Samples that one frame needs."""

    def frame_chunks(self, waveform: np.ndarray) -> Iterator[FrameChunk]:
        """Every layer's frames of one waveform ``(n_samples,)``, heard alone."""


class TextUpstream(Layered, Protocol):
    """Turns words into layers of tokens."""

    reads: Literal["text"]

    @property
    def windows(self) -> str:
        """How a long text is read, in words for the plan."""

    def frame_chunks(self, text: str) -> Iterator[FrameChunk]:
        """Every layer's tokens of one text, read alone."""


Upstream = AudioUpstream | TextUpstream  # told apart by ``reads``


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive frames of one utterance, layer by layer: all of them, or those of one piece of a long sound."""

    layers: Iterable[Tensor]  # each (n_frames, dim)
    first: int = 0  # place of the first of these frames in the utterance
    total: int | None = None  # frames of the utterance; None where these are all
