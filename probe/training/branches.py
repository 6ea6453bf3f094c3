"""Encoders as parts of a network: sounds or words of a batch become states that a gradient can reach.

Nothing of a batch reaches another utterance in it. The convolutional front end normalises over time in some encoders,
so each sound passes it alone, without padding; what follows is padded and masked. Architectures whose blocks can't be
masked hear each sound alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.encoders.architectures import Architecture
from layerprobe.probe.encoders.hooks import HookedEncoder
from layerprobe.probe.encoders.text import TextArchitecture
from layerprobe.probe.exceptions import InputError

# data2vec-audio is not: its positional convolutions, one upon another, carry padding into the sound
MASKABLE = ("hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
LAST, MIX = "last", "mix"
FRONT_END, EMBEDDINGS, REST = "front_end", "embeddings", "rest"  # parts beside blocks


@dataclass(frozen=True)
class Prepared:
    """One utterance as a branch takes it."""

    inputs: dict[str, Tensor]
    counted: slice  # of its frames
    n_frames: int  # frames or tokens that it costs
    states: Tensor | None = None  # (n_frames, dim), where a frozen encoder has heard it before


class Branch(nn.Module):
    """What sound and text have in common: blocks, the state that is taken of them, parts that can be frozen."""

    def __init__(self, encoder: Any, blocks: nn.ModuleList, final_norm: nn.Module | None, *, layer: str) -> None:
        """Take ``layer`` of the states: a number or ``final``, ``last`` of all, or a learnt ``mix``.

        Raises:
            InputError: if there is no such layer
        """
        super().__init__()
        config = encoder.config
        for chance in ("layerdrop", "encoder_layerdrop"):  # every block is heard, always
            if hasattr(config, chance):
                setattr(config, chance, 0.0)
        if layer.isdecimal() and 0 < int(layer) < len(blocks):
            del blocks[int(layer) :]  # what is never heard is not carried along
            config.num_hidden_layers = len(blocks)
        self.encoder, self.layer = encoder, layer
        self._hooked = HookedEncoder(encoder, blocks, final_norm)
        self.layers, self.dim = self._hooked.layers, int(config.hidden_size)
        if layer not in (LAST, MIX, *self.layers):
            raise InputError(f"there is no layer {layer!r}; choose {LAST}, {MIX} or one of {', '.join(self.layers)}.")
        self.mix = nn.Parameter(torch.zeros(len(self.layers))) if layer == MIX else None

    @property
    def layer_weights(self) -> Tensor | None:
        """Of the learnt mix, ``(n_layers,)``; None where one layer is taken."""
        return None if self.mix is None else self.mix.softmax(dim=0).detach()

    @property
    def n_blocks(self) -> int:
        """Blocks of the encoder that are passed."""
        return len(self._hooked.blocks)

    def make_activations_again(self) -> None:
        """Keep those between blocks alone, and make the others again on the way back: less memory, more time."""
        if hasattr(self.encoder, "activation_checkpointing_enable"):  # of newer transformers
            self.encoder.activation_checkpointing_enable({"use_reentrant": False})
        else:
            self.encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def part_of(self, name: str) -> str:
        """Which part a parameter of the encoder belongs to: a block's number, `FRONT_END`, `EMBEDDINGS`, `REST`."""
        parameter = dict(self.encoder.named_parameters())[name]
        for k, block in enumerate(self._hooked.blocks):
            if any(parameter is own for own in block.parameters()):
                return str(k)
        top = name.split(".")[0]
        if top in ("feature_extractor", "conv1", "conv2"):
            return FRONT_END
        return EMBEDDINGS if top == "embeddings" else REST

    def taken(self, states: list[Tensor]) -> Tensor:
        """The state that was asked for, ``(n, n_frames, dim)``."""
        if self.mix is None:
            return states[-1] if self.layer == LAST else states[self.layers.index(self.layer)]
        weights = self.mix.softmax(dim=0)
        # each state normalised without weights, so that a weight does not measure its layer's scale
        normed = (nn.functional.layer_norm(s, s.shape[-1:]) for s in states)
        return torch.stack([w * s for w, s in zip(weights, normed, strict=True)]).sum(dim=0)

    def forward(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """States ``(n, n_frames, dim)`` and bool ``(n, n_frames)``, which of them are the utterances'."""
        known = [one.states for one in batch if one.states is not None]
        if len(known) == len(batch):
            device = next(self.encoder.parameters()).device
            return _padded([states.to(device) for states in known])
        if self.encoder.training:
            return self.heard(batch)
        # some versions of transformers draw a layerdrop even then, which would move the chance of what does learn
        with torch.random.fork_rng(devices=[]):
            return self.heard(batch)

    def heard(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """The same by the encoder itself."""
        raise NotImplementedError

    def told(self, inputs: dict[str, Tensor]) -> Tensor:
        """The state of a whole call of the encoder."""
        return self.taken(self._hooked.states(inputs))


class AudioBranch(Branch):
    """A speech encoder."""

    def __init__(self, encoder: Any, family: Architecture, extractor: Any, *, layer: str = LAST) -> None:
        """Arguments as `probe.encoders.loading` loads them; see `Branch`."""
        super().__init__(encoder, family.blocks(encoder), family.final_norm(encoder), layer=layer)
        if hasattr(encoder.config, "apply_spec_augment"):
            encoder.config.apply_spec_augment = False  # its masks come from numpy's own chance
        if getattr(encoder, "masked_spec_embed", None) is not None:
            encoder.register_parameter("masked_spec_embed", None)  # no forward pass here reads it
        self._family, self._extractor = family, extractor
        self._maskable = encoder.config.model_type in MASKABLE
        self.sampling_rate = int(extractor.sampling_rate)

    def prepare(self, waveform: np.ndarray) -> Prepared:
        """One sound ``(n_samples,)`` at `sampling_rate`.

        Raises:
            InvalidAudioError: if it is too short, or too long to be heard at once
        """
        needed = self._family.minimum_samples(self._extractor, self.encoder.config)
        if len(waveform) < needed:
            raise InvalidAudioError(f"too short: {len(waveform)} samples, one frame needs {needed}")
        input_chunks = list(self._family.input_chunks(waveform, self._extractor, self.encoder.config))
        if len(input_chunks) > 1:
            raise InvalidAudioError(f"{len(waveform) / self.sampling_rate:.0f} s are too long to be trained on at once")
        (input_chunk,) = input_chunks
        n = input_chunk.total or int(len(waveform) / self.sampling_rate * 50)
        return Prepared(input_chunk.inputs, input_chunk.counted, n)

    def heard(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """See `Branch`."""
        if not self._maskable:
            alone = [self.told(one.inputs)[0, one.counted] for one in batch]
            return _padded(alone)
        device = next(self.encoder.parameters()).device
        alone = [self.encoder.feature_extractor(one.inputs["input_values"].to(device))[0].T for one in batch]
        padded, mask = _padded(alone)
        projected = self.encoder.feature_projection(padded)
        projected = projected[0] if isinstance(projected, tuple) else projected
        everywhere = bool(mask.all())
        with warnings.catch_warnings():  # WavLM mixes two kinds of mask, which torch is about to forbid
            warnings.filterwarnings("ignore", message="Support for mismatched", category=UserWarning)
            states = self._hooked.run_with_hooks(
                lambda: self.encoder.encoder(projected, attention_mask=None if everywhere else mask)
            )
        return self.taken(states), mask


class TextBranch(Branch):
    """A text encoder."""

    def __init__(self, model: Any, family: TextArchitecture, tokenizer: Any, *, layer: str = LAST) -> None:
        """Arguments as `probe.encoders.text` loads them; see `Branch`."""
        super().__init__(model, family.blocks(model), None, layer=layer)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # it stands above the states
        self._tokenizer = tokenizer
        self.longest = min(model.config.max_position_embeddings - family.first_position, tokenizer.model_max_length)

    def prepare(self, words: str) -> Prepared:
        """One transcript.

        Raises:
            InvalidAudioError: if it has more tokens than the encoder reads at once
        """
        ids = self._tokenizer(words).input_ids
        if len(ids) > self.longest:
            raise InvalidAudioError(f"its transcript has {len(ids)} tokens; {self.longest} are read at once")
        return Prepared({"input_ids": torch.tensor(ids)}, slice(None), len(ids))

    def heard(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """See `Branch`."""
        ids = [one.inputs["input_ids"] for one in batch]
        padding = self._tokenizer.pad_token_id or 0
        padded = pad_sequence(ids, batch_first=True, padding_value=padding)
        mask = torch.arange(padded.shape[1])[None] < torch.tensor([len(i) for i in ids])[:, None]
        states = self.told({"input_ids": padded, "attention_mask": mask.long()})
        return states, mask.to(states.device)


def named_parts(branch: Branch) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of a branch's encoder with its part."""
    for name, parameter in branch.encoder.named_parameters():
        yield branch.part_of(name), parameter


def _padded(alone: list[Tensor]) -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(map(len, alone)))[None] < torch.tensor([len(a) for a in alone])[:, None]
    return pad_sequence(alone, batch_first=True), mask.to(alone[0].device)
