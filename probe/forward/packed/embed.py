"""Embedding of a pack: its forward pass, and the pooling of each layer by utterance as soon as that layer is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from layerprobe.probe.forward.chunks import InputChunk
from layerprobe.probe.forward.packed.pack import Pack, PackedForward
from layerprobe.probe.forward.packed.pooling import SegmentPooling


@torch.inference_mode()
def embed_pack(
    forward: PackedForward,
    utterances: Sequence[Sequence[InputChunk]],
    *,
    poolings: tuple[str, ...],
    device: str,
    spans: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> Tensor:
    """Encode utterances together and pool every layer; the host does not wait for the device.

    Args:
        forward: the pass
        utterances: the chunks of each, all chunks of an utterance together
        poolings: keys of `probe.forward.pooling.POOLINGS`, in the order of the result
        device: of the encoder
        spans: as of `SegmentPooling`

    Returns:
        embeddings ``(n_utterances, n_layers, n_poolings, dim)`` float32 on that device; with spans a row for each of
        these, one utterance's after the other's
    """
    pack = Pack.of(utterances, forward.n_frames)
    pool = SegmentPooling(pack, poolings, device=device, spans=spans)
    return torch.stack([pool(frames) for frames in forward.states(pack)], dim=1)
