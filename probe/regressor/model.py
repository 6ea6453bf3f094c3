"""The audio-textual regressor: an audio and a text encoder, pooled and fused, with one head for all targets.

A regressor of one branch is the same class, so that audio-only and text-only differ in nothing else. The head is that
of the MSP-Podcast challenge's baseline (Goncalves et al., 2024): linear, layer norm, ReLU, dropout, linear. It predicts
ratings standardised on the training speakers; `AudioTextRegressor.scale` converts them to the ratings' unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.branches import AudioBranch, Branch, Prepared, TextBranch

HEADS = 4  # attention heads of the cross attention


@dataclass(frozen=True)
class Utterance:
    """The inputs of one utterance, None for a branch that the regressor lacks."""

    audio: Prepared | None
    text: Prepared | None

    @property
    def n_frames(self) -> int:
        """Number of frames and tokens, the cost of encoding it."""
        return sum(part.n_frames for part in (self.audio, self.text) if part is not None)


class Concatenation(nn.Module):
    """Fusion by concatenation of the pooled vectors and a linear layer."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        """Create a layer from pooled vectors of these ``widths`` to ``hidden`` features."""
        super().__init__()
        self.join = nn.Linear(sum(widths), hidden)

    def forward(self, pooled: list[Tensor], _states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Fuse the branches' pooled vectors, each ``(n, width)``, into ``(n, hidden)``."""
        return self.join(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]


class Gate(nn.Module):
    """Fusion by a gate that weighs audio against text for each feature (Arevalo et al., 2017)."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        """Create projections and the gate; see `Concatenation`."""
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.gate = nn.Linear(sum(widths), hidden)

    def forward(self, pooled: list[Tensor], _states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Fuse pooled vectors; see `Concatenation.forward`."""
        if len(pooled) == 1:
            return self.project[0](pooled[0])  # type: ignore[no-any-return]
        first, second = (project(p) for project, p in zip(self.project, pooled, strict=True))
        audio_weight = torch.sigmoid(self.gate(torch.cat(pooled, dim=1)))
        return audio_weight * first + (1 - audio_weight) * second  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Fusion by attention of each token to the audio frames (Tsai et al., 2019), added to the pooled vectors."""

    def __init__(self, widths: Sequence[int], hidden: int, dims: Sequence[int]) -> None:
        """Create the attention between frames and tokens of widths ``dims``; see `Concatenation`."""
        super().__init__()
        self.join = nn.Linear(sum(widths) + (hidden if len(widths) > 1 else 0), hidden)
        self.frames, self.tokens = nn.Linear(dims[0], hidden), nn.Linear(dims[-1], hidden)
        self.attention = nn.MultiheadAttention(hidden, HEADS, batch_first=True)

    def forward(self, pooled: list[Tensor], states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Fuse pooled vectors and states ``(n, n_frames, dim)`` with their masks; see `Concatenation.forward`."""
        if len(pooled) == 1:
            return self.join(pooled[0])  # type: ignore[no-any-return]
        (frames, frame_mask), (tokens, token_mask) = states
        keys = self.frames(frames)
        found, _ = self.attention(self.tokens(tokens), keys, keys, key_padding_mask=~frame_mask, need_weights=False)
        weights = token_mask / token_mask.sum(dim=1, keepdim=True)
        return self.join(torch.cat([*pooled, (weights[:, None] @ found.float())[:, 0]], dim=1))  # type: ignore[no-any-return]


FUSIONS = ("concatenation", "gate", "cross_attention")


class AudioTextRegressor(nn.Module):
    """Audio and text branches, each with a pooling, a fusion and a regression head."""

    def __init__(
        self,
        audio: AudioBranch | None,
        text: TextBranch | None,
        *,
        n_targets: int,
        pooling: str,
        fusion: str,
        hidden: int,
        dropout: float,
    ) -> None:
        """Create poolings, fusion and head for one or two branches.

        Args:
            audio: the speech encoder, None for a text-only regressor
            text: the text encoder, None for an audio-only regressor
            n_targets: number of ratings predicted
            pooling: a key of `FRAME_POOLINGS`
            fusion: one of `FUSIONS`
            hidden: number of hidden features of the head
            dropout: dropout rate of these features, 0 to 1

        Raises:
            InputError: if there is no branch, or a choice is unknown
        """
        super().__init__()
        branches: list[Branch] = [b for b in (audio, text) if b is not None]
        if not branches:
            raise InputError("LP730", "A regressor needs an encoder: give --audio-encoder, --text-encoder or both.")
        for kind, name, known in (("pooling", pooling, tuple(FRAME_POOLINGS)), ("fusion", fusion, FUSIONS)):
            if name not in known:
                raise InputError("LP731", f"{kind} {name!r} is unknown; choose one of {', '.join(known)}.")
        self.audio, self.text = audio, text
        self.poolings = nn.ModuleList(FRAME_POOLINGS[pooling](b.dim) for b in branches)
        widths = [b.dim * FRAME_POOLINGS[pooling].n_parts for b in branches]
        self.fusion: nn.Module
        if fusion == "cross_attention":
            self.fusion = CrossAttention(widths, hidden, [b.dim for b in branches])
        else:
            self.fusion = Gate(widths, hidden) if fusion == "gate" else Concatenation(widths, hidden)
        self.head = nn.Sequential(nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, n_targets))
        self.register_buffer("mean", torch.zeros(n_targets))
        self.register_buffer("std", torch.ones(n_targets))

    @property
    def branches(self) -> dict[str, Branch]:
        """The branches that exist, by the names ``audio`` and ``text``."""
        return {name: b for name, b in (("audio", self.audio), ("text", self.text)) if b is not None}

    def states(self, batch: Sequence[Utterance]) -> list[tuple[Tensor, Tensor]]:
        """Return the states of each branch with their mask, see `Branch.forward`."""
        states = []
        for name, branch in self.branches.items():
            parts = [u.audio if name == "audio" else u.text for u in batch]
            states.append(branch([part for part in parts if part is not None]))
        return states

    def from_states(self, states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return standardised predictions ``(n, n_targets)`` from the branches' states."""
        pooled = [pooling(*state) for pooling, state in zip(self.poolings, states, strict=True)]
        return self.head(self.fusion(pooled, states)).float()  # type: ignore[no-any-return]

    def forward(self, batch: Sequence[Utterance]) -> Tensor:
        """Return predictions ``(n, n_targets)``, standardised as the training ratings."""
        states = self.states(batch)
        with torch.autocast(states[0][0].device.type, enabled=False):  # sums over frames need float32
            return self.from_states(states)

    def scale(self, standardised: Tensor) -> Tensor:
        """Convert standardised predictions to the ratings' unit."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return standardised * std + mean

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters outside the encoders: poolings, fusion, head and layer weights."""
        encoders = {id(p) for branch in self.branches.values() for p in branch.encoder.parameters()}
        return [p for p in self.parameters() if id(p) not in encoders]


LEAST_VARIANCE = 1e-6  # below it a standard deviation has no usable gradient
ATTENTION = 128  # hidden units of the attention


class MeanPooling(nn.Module):
    """Pooling by the mean over frames, without padding."""

    n_parts = 1

    def __init__(self, _dim: int) -> None:
        """Accept the width of a frame as other poolings do; nothing is learnt."""
        super().__init__()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool states ``(n, n_frames, dim)`` under a mask ``(n, n_frames)`` into ``(n, dim)``."""
        return _weighted_statistics(states, _uniform_weights(mask))[0]


class MeanStdPooling(nn.Module):
    """Pooling by mean and standard deviation over frames, concatenated, without padding."""

    n_parts = 2

    def __init__(self, _dim: int) -> None:
        """Accept the width of a frame as other poolings do; nothing is learnt."""
        super().__init__()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool states ``(n, n_frames, dim)`` under a mask ``(n, n_frames)`` into ``(n, 2 dim)``."""
        return torch.cat(_weighted_statistics(states, _uniform_weights(mask)), dim=1)


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling: weighted mean and standard deviation (Okabe, Koshinaka and Shinoda, 2018)."""

    n_parts = 2

    def __init__(self, dim: int) -> None:
        """Create the attention network, one hidden layer from ``dim`` features to a frame's score."""
        super().__init__()
        # a constant on all scores would change no weight
        self.attention = nn.Sequential(nn.Linear(dim, ATTENTION), nn.Tanh(), nn.Linear(ATTENTION, 1, bias=False))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool states ``(n, n_frames, dim)`` under a mask ``(n, n_frames)`` into ``(n, 2 dim)``."""
        scores = self.attention(states)[:, :, 0].float().masked_fill(~mask, float("-inf"))
        return torch.cat(_weighted_statistics(states, scores.softmax(dim=1)), dim=1)


FRAME_POOLINGS: dict[str, type[MeanPooling] | type[MeanStdPooling] | type[AttentiveStatistics]] = {
    "mean": MeanPooling,
    "mean_std": MeanStdPooling,
    "attentive": AttentiveStatistics,
}


def _uniform_weights(mask: Tensor) -> Tensor:
    return mask / mask.sum(dim=1, keepdim=True)


def _weighted_statistics(states: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted mean and standard deviation ``(n, dim)`` in float32, the latter in two passes."""
    states, weights = states.float(), weights[:, None]
    mean = weights @ states
    variance = weights @ (states - mean).square()
    return mean[:, 0], variance[:, 0].clamp_min(LEAST_VARIANCE).sqrt()
