"""The head of the audio-textual regressor as it is by default, for counts of its parameters."""

from __future__ import annotations

import torch
from torch import nn

from layerprobe.probe.cost.parameter_count import ModelSpec
from layerprobe.probe.regressor.model import AttentiveStatistics, Concatenation

HIDDEN = 256  # hidden features


def make_head(audio: ModelSpec | None, text: ModelSpec | None, *, n_targets: int = 3) -> nn.Module:
    """Return poolings, fusion and head as `probe.regressor.model` builds them by default."""
    dims = [int(m.config.hidden_size) for m in (audio, text) if m is not None]
    with torch.device("meta"):
        poolings = [AttentiveStatistics(dim) for dim in dims]
        head = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, n_targets))
        return nn.ModuleList([*poolings, Concatenation([2 * dim for dim in dims], HIDDEN), head])
