"""HuBERT that learns: hidden spans of a sound, and for each hidden frame which unit it was (Hsu et al., 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerprobe.probe.pretraining.units import HOP, WINDOW

LEFT_OUT = -100  # what torch's cross entropy does not count


class MaskedPrediction(nn.Module):
    """A HuBERT of transformers, and a linear layer that tells units from its last states."""

    def __init__(self, config: Any, *, n_units: int) -> None:
        """Draw everything by torch's chance; the encoder's own masks and layer drop are off."""
        from transformers import HubertModel

        super().__init__()
        config.apply_spec_augment, config.layerdrop = False, 0.0
        self.encoder: Any = HubertModel(config)
        self.head = nn.Linear(config.hidden_size, n_units)

    def logits(self, sounds: Tensor, mask: Tensor) -> Tensor:
        """What each frame is taken for.

        Args:
            sounds: ``(n, n_samples)``, all of one length
            mask: bool ``(n, n_frames)``, frames that are hidden

        Returns:
            ``(n, n_frames, n_units)``
        """
        features = self.encoder.feature_extractor(sounds).transpose(1, 2)
        states = self.encoder.feature_projection(features)
        states = torch.where(mask[:, :, None], self.encoder.masked_spec_embed.to(states.dtype), states)
        states = self.encoder.encoder(states).last_hidden_state
        told: Tensor = self.head(states)
        return told.float()

    def forward(self, sounds: Tensor, units: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The cross entropy of the hidden frames' units, and the share of them that is told right."""
        logits = self.logits(sounds, mask)
        # no frame is picked out by its mask, for which a GPU would be waited for
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), units.masked_fill(~mask, LEFT_OUT).flatten())
        right = ((logits.argmax(dim=-1) == units) & mask).sum() / mask.sum()
        return loss, right.detach()


def cropped(
    waveforms: list[np.ndarray], units: list[np.ndarray], *, n_frames: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of one length at random places, whole frames of 20 ms with what reaches into them.

    Args:
        waveforms: each ``(n_samples,)``
        units: of their frames
        n_frames: of a piece, at most those of the shortest
        rng: chooses the places

    Returns:
        sounds ``(n, n_samples)`` as they are and units ``(n, n_frames)`` int64
    """
    n_frames = min([n_frames, *map(len, units)])
    n_samples = (n_frames - 1) * HOP + WINDOW
    sounds = np.empty((len(waveforms), n_samples), dtype=waveforms[0].dtype)
    chosen = np.empty((len(waveforms), n_frames), dtype=np.int64)
    for k, (waveform, own) in enumerate(zip(waveforms, units, strict=True)):
        begin = int(rng.integers(len(own) - n_frames + 1))
        sounds[k] = waveform[begin * HOP : begin * HOP + n_samples]
        chosen[k] = own[begin : begin + n_frames]
    return sounds, chosen
