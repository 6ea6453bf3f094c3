"""What extraction asks of an upstream, be it an encoder or features without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from probe.pooling import Stretch


class Upstream(Protocol):
    """Whatever turns a waveform into layers of frames; the names are those of `probe.plan.ExtractionPlan`."""

    upstream: str
    revision: str
    architecture: str
    random_init: int | None
    adapter: str
    precision: str
    layers: tuple[str, ...]
    dim: int
    sampling_rate: int
    device: str

    @property
    def forward(self) -> str: ...  # noqa: D102
    @property
    def preprocessing(self) -> str: ...  # noqa: D102
    @property
    def long_sound(self) -> str: ...  # noqa: D102
    @property
    def minimum_samples(self) -> int: ...  # noqa: D102

    def weights_hash(self) -> str:
        """Sixteen hex digits that change with whatever would change a number."""

    def stretches(self, waveform: np.ndarray) -> Iterator[Stretch]:
        """Every layer's frames of one utterance ``(n_samples,)``, heard alone."""
