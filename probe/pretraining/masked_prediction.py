"""Masked prediction: spans of frames are masked, and a HuBERT predicts their units (Hsu et al., 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerprobe.probe.pretraining.units import HOP, WINDOW

IGNORE_INDEX = -100  # label that torch's cross entropy ignores


class MaskedPrediction(nn.Module):
    """A HuBERT of transformers with a linear classifier of units on its last layer."""

    def __init__(self, config: Any, *, n_units: int) -> None:
        """Initialise all weights from torch's random state; SpecAugment and layerdrop are switched off."""
        from transformers import HubertModel

        super().__init__()
        config.apply_spec_augment, config.layerdrop = False, 0.0
        self.encoder: Any = HubertModel(config)
        self.head = nn.Linear(config.hidden_size, n_units)

    def logits(self, waveforms: Tensor, mask: Tensor) -> Tensor:
        """Return the logits of each frame's unit.

        Args:
            waveforms: ``(n, n_samples)``, all of one length
            mask: bool ``(n, n_frames)``, True for masked frames

        Returns:
            ``(n, n_frames, n_units)`` float32
        """
        features = self.encoder.feature_extractor(waveforms).transpose(1, 2)
        states = self.encoder.feature_projection(features)
        states = torch.where(mask[:, :, None], self.encoder.masked_spec_embed.to(states.dtype), states)
        states = self.encoder.encoder(states).last_hidden_state
        logits: Tensor = self.head(states)
        return logits.float()

    def forward(self, waveforms: Tensor, units: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross entropy of the masked frames' units and the accuracy, both scalars."""
        logits = self.logits(waveforms, mask)
        # the loss ignores unmasked frames: indexing by a mask would synchronise with the GPU
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), units.masked_fill(~mask, IGNORE_INDEX).flatten())
        accuracy = ((logits.argmax(dim=-1) == units) & mask).sum() / mask.sum()
        return loss, accuracy.detach()


def crop(
    waveforms: list[np.ndarray], units: list[np.ndarray], *, n_frames: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return random crops of one length: whole frames of 20 ms with all samples in their receptive field.

    Args:
        waveforms: each ``(n_samples,)``
        units: units of their frames, each ``(n_frames,)``
        n_frames: frames of a crop, reduced to those of the shortest recording
        rng: chooses the positions

    Returns:
        waveforms ``(n, n_samples)`` in their dtype and units ``(n, n_frames)`` int64
    """
    n_frames = min([n_frames, *map(len, units)])
    n_samples = (n_frames - 1) * HOP + WINDOW
    crops = np.empty((len(waveforms), n_samples), dtype=waveforms[0].dtype)
    chosen = np.empty((len(waveforms), n_frames), dtype=np.int64)
    for k, (waveform, labels) in enumerate(zip(waveforms, units, strict=True)):
        begin = int(rng.integers(len(labels) - n_frames + 1))
        crops[k] = waveform[begin * HOP : begin * HOP + n_samples]
        chosen[k] = labels[begin : begin + n_frames]
    return crops, chosen
