"""What extraction asks of an upstream, be it an encoder of sound or of text, or features without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class Upstream(Protocol):
    """Whatever turns a waveform, or words, into layers of frames.

    Names are those of `probe.cache.plan.ExtractionPlan`.
    """

    reads: str  # "sound" or "words"
    default_poolings: tuple[str, ...]
    upstream: str
    revision: str
    architecture: str
    random_init: int | None
    adapter: str
    precision: str
    layers: tuple[str, ...]
    dim: int
    sampling_rate: int  # Hz; 0 if it reads words
    device: str

    @property
    def forward(self) -> str: ...  # noqa: D102
    @property
    def preprocessing(self) -> str: ...  # noqa: D102
    @property
    def long_sound(self) -> str: ...  # noqa: D102
    @property
    def minimum_samples(self) -> int: ...  # noqa: D102 - 0 if it reads words

    def weights_hash(self) -> str:
        """Sixteen hex digits that change with whatever would change a number."""

    def stretches(self, material: Any) -> Iterator[Stretch]:
        """Every layer's frames of one utterance, a waveform ``(n_samples,)`` or words, heard or read alone."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of one utterance, layer by layer: all of them, or those of one piece of a long sound."""

    layers: Iterable[Tensor]  # each (n_frames, dim)
    first: int = 0  # place of the first of these frames in the utterance
    total: int | None = None  # frames of the utterance; None where these are all
