"""Frames or tokens of a padded batch become one vector each, padding left out, so that training can reach the frames.

The poolings of a cache (`probe.encoders.pooling`) summarise frozen states; these are parts of a network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-6  # under which a standard deviation has no usable slope
ATTENTION = 128  # hidden units of the attention


class MeanPooling(nn.Module):
    """The mean over the frames that count."""

    n_parts = 1

    def __init__(self, dim: int) -> None:
        """Nothing is learnt of ``dim``."""
        super().__init__()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """``(n, n_frames, dim)`` and bool ``(n, n_frames)`` -> ``(n, dim)``."""
        return _weighted(states, _shares(mask))[0]


class MeanStdPooling(nn.Module):
    """Mean and standard deviation over the frames that count, side by side."""

    n_parts = 2

    def __init__(self, dim: int) -> None:
        """Nothing is learnt of ``dim``."""
        super().__init__()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """``(n, n_frames, dim)`` and bool ``(n, n_frames)`` -> ``(n, 2 dim)``."""
        return torch.cat(_weighted(states, _shares(mask)), dim=1)


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation under learnt weights of the frames (Okabe, Koshinaka and Shinoda, 2018)."""

    n_parts = 2

    def __init__(self, dim: int) -> None:
        """A network with one hidden layer says how much a frame of ``dim`` features counts."""
        super().__init__()
        # a constant on all scores would change no weight
        self.attention = nn.Sequential(nn.Linear(dim, ATTENTION), nn.Tanh(), nn.Linear(ATTENTION, 1, bias=False))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """``(n, n_frames, dim)`` and bool ``(n, n_frames)`` -> ``(n, 2 dim)``."""
        scores = self.attention(states)[:, :, 0].float().masked_fill(~mask, float("-inf"))
        return torch.cat(_weighted(states, scores.softmax(dim=1)), dim=1)


FRAME_POOLINGS: dict[str, type[MeanPooling] | type[MeanStdPooling] | type[AttentiveStatistics]] = {
    "mean": MeanPooling,
    "mean_std": MeanStdPooling,
    "attentive": AttentiveStatistics,
}


def _shares(mask: Tensor) -> Tensor:
    return mask / mask.sum(dim=1, keepdim=True)


def _weighted(states: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(n, dim)`` in float32; the deviation in two passes."""
    states, shares = states.float(), shares[:, None]
    mean = shares @ states
    variance = shares @ (states - mean).square()
    return mean[:, 0], variance[:, 0].clamp_min(LEAST_VARIANCE).sqrt()
