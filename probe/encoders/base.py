"""Interfaces of the encoders that extraction runs: of audio, of text, or acoustic features without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

from layerprobe.probe.forward.chunks import FrameChunk


class Encoder(Protocol):
    """What every encoder has in common; the names are those of `probe.cache.plan.ExtractionPlan`."""

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
        """Which implementation of the forward pass runs."""

    @property
    def preprocessing(self) -> str:
        """Steps before the encoder, such as normalisation or tokenisation, as sorted JSON."""

    def weights_hash(self) -> str:
        """Return sixteen hex digits that change with every weight that can change an embedding."""


class AudioEncoder(Encoder, Protocol):
    """An encoder that turns a waveform into the frames of its layers."""

    reads: Literal["audio"]
    sampling_rate: int  # Hz

    @property
    def chunking(self) -> str:
        """How long audio is cut into chunks, as the plan records it."""

    @property
    def minimum_samples(self) -> int:
        """Number of samples that one frame needs."""

    def frame_chunks(self, waveform: np.ndarray) -> Iterator[FrameChunk]:
        """Yield the frames of every layer for one waveform ``(n_samples,)``, encoded without a batch."""


class TextEncoder(Encoder, Protocol):
    """An encoder that turns a text into the tokens of its layers."""

    reads: Literal["text"]

    @property
    def windows(self) -> str:
        """How a long text is cut into windows, as the plan records it."""

    def frame_chunks(self, text: str) -> Iterator[FrameChunk]:
        """Yield the tokens of every layer for one text, encoded without a batch."""


AnyEncoder = AudioEncoder | TextEncoder  # ``reads`` distinguishes them


def describe_encoder(encoder: Encoder) -> str:
    """Return the text of an encoder's ``repr``: name, revision, layers, width, precision and device.

    The class is named first, as in ``SpeechEncoder('embedded', 9 layers of 256 (0 … 8), float32 on cpu)``.
    """
    facts = [repr(encoder.upstream)]
    if encoder.revision:
        facts.append(f"revision {encoder.revision[:12]}")
    if encoder.random_init is not None:
        facts.append(f"random weights of seed {encoder.random_init}")
    names = encoder.layers if len(encoder.layers) <= 5 else (encoder.layers[0], "…", encoder.layers[-1])
    facts.append(f"{len(encoder.layers)} layers of {encoder.dim} ({' '.join(names)})")
    facts.append(f"{encoder.precision} on {encoder.device}")
    return f"{type(encoder).__name__}({', '.join(facts)})"
