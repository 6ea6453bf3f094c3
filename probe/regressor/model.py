"""The audio-textual regressor: encoders of sound and of words, pooled, fused, and a head for all targets at once.

One branch alone is the same class, so that audio-only, text-only and both differ in nothing else. The head is that of
the MSP-Podcast challenge's baseline (Goncalves et al., 2024): linear, layer norm, ReLU, dropout, linear. It predicts
ratings in standard deviations of the training part; `AudioTextRegressor.scale` brings them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.training.branches import AudioBranch, Branch, Prepared, TextBranch

HEADS = 4  # of the cross attention


@dataclass(frozen=True)
class Utterance:
    """One utterance as the regressor takes it."""

    sound: Prepared | None
    words: Prepared | None

    @property
    def n_frames(self) -> int:
        """What it costs: frames and tokens."""
        return sum(part.n_frames for part in (self.sound, self.words) if part is not None)


class Concatenation(nn.Module):
    """Pooled vectors side by side."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        """``widths`` of the pooled vectors, which become ``hidden`` features."""
        super().__init__()
        self.join = nn.Linear(sum(widths), hidden)

    def forward(self, pooled: list[Tensor], _states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Pooled vectors ``(n, width)`` of each branch -> ``(n, hidden)``."""
        return self.join(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]


class Gate(nn.Module):
    """A gate for each feature says how much of it is of the sound, how much of the words (Arevalo et al., 2017)."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        """See `Concatenation`."""
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.gate = nn.Linear(sum(widths), hidden)

    def forward(self, pooled: list[Tensor], _states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """See `Concatenation`."""
        if len(pooled) == 1:
            return self.project[0](pooled[0])  # type: ignore[no-any-return]
        first, second = (project(p) for project, p in zip(self.project, pooled, strict=True))
        share = torch.sigmoid(self.gate(torch.cat(pooled, dim=1)))
        return share * first + (1 - share) * second  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Each word attends to the frames of the sound (Tsai et al., 2019); what it finds joins the pooled vectors."""

    def __init__(self, widths: Sequence[int], hidden: int, dims: Sequence[int]) -> None:
        """See `Concatenation`; ``dims`` are the widths of a frame and of a token."""
        super().__init__()
        self.join = nn.Linear(sum(widths) + (hidden if len(widths) > 1 else 0), hidden)
        self.frames, self.tokens = nn.Linear(dims[0], hidden), nn.Linear(dims[-1], hidden)
        self.attention = nn.MultiheadAttention(hidden, HEADS, batch_first=True)

    def forward(self, pooled: list[Tensor], states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """See `Concatenation`; states ``(n, n_frames, dim)`` with their masks."""
        if len(pooled) == 1:
            return self.join(pooled[0])  # type: ignore[no-any-return]
        (frames, heard), (tokens, read) = states
        keys = self.frames(frames)
        found, _ = self.attention(self.tokens(tokens), keys, keys, key_padding_mask=~heard, need_weights=False)
        shares = read / read.sum(dim=1, keepdim=True)
        return self.join(torch.cat([*pooled, (shares[:, None] @ found.float())[:, 0]], dim=1))  # type: ignore[no-any-return]


FUSIONS = ("concatenation", "gate", "cross_attention")


class AudioTextRegressor(nn.Module):
    """One or two branches with a pooling each, a fusion and a head."""

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
        """Join the branches that there are.

        Args:
            audio: hears
            text: reads
            n_targets: ratings that are predicted at once
            pooling: a key of `FRAME_POOLINGS`
            fusion: one of `FUSIONS`
            hidden: features of the head
            dropout: of them, 0 to 1

        Raises:
            InputError: if there is no branch, or a choice is unknown
        """
        super().__init__()
        branches: list[Branch] = [b for b in (audio, text) if b is not None]
        if not branches:
            raise InputError("A regressor needs an encoder: give --audio-encoder, --text-encoder or both.")
        for kind, name, known in (("pooling", pooling, tuple(FRAME_POOLINGS)), ("fusion", fusion, FUSIONS)):
            if name not in known:
                raise InputError(f"{kind} {name!r} is unknown; choose one of {', '.join(known)}.")
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
        self.register_buffer("spread", torch.ones(n_targets))

    @property
    def branches(self) -> dict[str, Branch]:
        """``audio`` and ``text``, those that there are."""
        return {name: b for name, b in (("audio", self.audio), ("text", self.text)) if b is not None}

    def states(self, batch: Sequence[Utterance]) -> list[tuple[Tensor, Tensor]]:
        """Of each branch the states and which of them count."""
        taken = []
        for name, branch in self.branches.items():
            parts = [u.sound if name == "audio" else u.words for u in batch]
            taken.append(branch([part for part in parts if part is not None]))
        return taken

    def from_states(self, states: list[tuple[Tensor, Tensor]]) -> Tensor:
        """What pooling, fusion and head make of the branches' states."""
        pooled = [pooling(*state) for pooling, state in zip(self.poolings, states, strict=True)]
        return self.head(self.fusion(pooled, states)).float()  # type: ignore[no-any-return]

    def forward(self, batch: Sequence[Utterance]) -> Tensor:
        """Predictions ``(n, n_targets)`` in standard deviations of the training ratings."""
        return self.from_states(self.states(batch))

    def scale(self, standardised: Tensor) -> Tensor:
        """Predictions in the ratings' unit."""
        mean, spread = self.get_buffer("mean"), self.get_buffer("spread")
        return standardised * spread + mean

    def head_parameters(self) -> list[nn.Parameter]:
        """Whatever is no encoder's: poolings, fusion, head, and mixes of layers."""
        encoders = {id(p) for branch in self.branches.values() for p in branch.encoder.parameters()}
        return [p for p in self.parameters() if id(p) not in encoders]


LEAST_VARIANCE = 1e-6  # under which a standard deviation has no usable slope


ATTENTION = 128  # hidden units of the attention


class MeanPooling(nn.Module):
    """The mean over the frames that count."""

    n_parts = 1

    def __init__(self, _dim: int) -> None:
        """Take the width of a frame as poolings that learn do; nothing is learnt here."""
        super().__init__()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """``(n, n_frames, dim)`` and bool ``(n, n_frames)`` -> ``(n, dim)``."""
        return _weighted(states, _shares(mask))[0]


class MeanStdPooling(nn.Module):
    """Mean and standard deviation over the frames that count, side by side."""

    n_parts = 2

    def __init__(self, _dim: int) -> None:
        """Take the width of a frame as poolings that learn do; nothing is learnt here."""
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
