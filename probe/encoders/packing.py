"""Encoding of utterances together, which speech and text encoders have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.forward.chunks import FrameChunk, InputChunk
from layerprobe.probe.forward.hooks import HookedEncoder
from layerprobe.probe.forward.packed.embed import embed_pack
from layerprobe.probe.forward.packed.pack import Pack, PackedForward
from layerprobe.probe.forward.precision import multiplying_in


class PackableEncoder:
    """An encoder of transformers that may have a packed forward pass."""

    precision: str
    device: str
    packed: PackedForward | None  # None where utterances are encoded singly
    _hooked: HookedEncoder

    @property
    def hooked(self) -> HookedEncoder:
        """The encoder with its blocks and its final norm."""
        return self._hooked

    def embed_pack(
        self,
        utterances: Sequence[Sequence[InputChunk]],
        *,
        poolings: tuple[str, ...],
        spans: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> Tensor:
        """Encode utterances together, each as if it were alone, and pool them; the host does not wait for the device.

        Args:
            utterances: of each the result of ``input_chunks``
            poolings: keys of `probe.forward.pooling.POOLINGS`
            spans: of each utterance the first frame of each of its spans, and how many frames they have; None for whole
                utterances

        Returns:
            embeddings ``(n_utterances, n_layers, n_poolings, dim)`` float32 on the encoder's device; with spans a row
            for each of these, one utterance's after the other's

        Raises:
            RuntimeError: if the encoder was loaded to encode utterances singly
        """
        with multiplying_in(self.precision):
            forward = self._packed_forward()
            return embed_pack(forward, utterances, poolings=poolings, device=self.device, spans=spans)

    @torch.inference_mode()
    def _packed_states(self, input_chunk: InputChunk) -> Iterator[Tensor]:
        forward = self._packed_forward()
        yield from forward.states(Pack.of([[input_chunk]], forward.n_frames))

    def _packed_forward(self) -> PackedForward:
        if self.packed is None:
            raise RuntimeError("the encoder encodes utterances singly")
        return self.packed


def join_frame_chunks(frame_chunks: Iterable[FrameChunk]) -> list[Tensor]:
    """Return all frames of each layer, ``(n_frames, dim)``, of the chunks of one utterance in order."""
    chunks = [list(frame_chunk.layers) for frame_chunk in frame_chunks]
    return [torch.cat(layer) for layer in zip(*chunks, strict=True)]
