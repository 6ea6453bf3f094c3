"""Encoders as trainable parts of a network: a batch of audio or text becomes hidden states with gradients.

No utterance of a batch changes the states of another. The convolutional front end normalises over time in some
encoders, so each recording passes it by itself, without padding; later modules take a padded batch with a mask.
Architectures whose blocks can't be masked encode one recording at a time.
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
from layerprobe.probe.encoders.text import TextArchitecture
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.hooks import HookedEncoder

# data2vec-audio is not: its stacked positional convolutions carry padding into the audio
MASKABLE = ("hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
LAST, MIX = "last", "mix"
FRONT_END, EMBEDDINGS, REST = "front_end", "embeddings", "rest"  # parts other than the blocks


@dataclass(frozen=True)
class Prepared:
    """The input of a branch for one utterance."""

    inputs: dict[str, Tensor]
    counted: slice  # frames that are no padding
    n_frames: int  # frames or tokens, the cost of encoding it
    states: Tensor | None = None  # (n_frames, dim), where a frozen encoder has encoded it before


class Branch(nn.Module):
    """Base class of audio and text branches: an encoder, the layer that is pooled, and parts that can be frozen."""

    def __init__(self, encoder: Any, blocks: nn.ModuleList, final_norm: nn.Module | None, *, layer: str) -> None:
        """Wrap an encoder and choose its layer: a number, ``final``, ``last``, or ``mix`` (a learnt weighted sum).

        Raises:
            InputError: if there is no such layer
        """
        super().__init__()
        config = encoder.config
        for probability in ("layerdrop", "encoder_layerdrop"):  # no block is ever skipped
            if hasattr(config, probability):
                setattr(config, probability, 0.0)
        if layer.isdecimal() and 0 < int(layer) < len(blocks):
            del blocks[int(layer) :]  # blocks above the layer are dropped
            config.num_hidden_layers = len(blocks)
        self.encoder, self.layer = encoder, layer
        self._hooked = HookedEncoder(encoder, blocks, final_norm)
        self.layers, self.dim = self._hooked.layers, int(config.hidden_size)
        if layer not in (LAST, MIX, *self.layers):
            raise InputError(
                "LP734", f"there is no layer {layer!r}; choose {LAST}, {MIX} or one of {', '.join(self.layers)}."
            )
        self.mix = nn.Parameter(torch.zeros(len(self.layers))) if layer == MIX else None

    @property
    def layer_weights(self) -> Tensor | None:
        """Weights of the learnt weighted sum, ``(n_layers,)``; None where one layer is used."""
        return None if self.mix is None else self.mix.softmax(dim=0).detach()

    @property
    def n_blocks(self) -> int:
        """Number of blocks that the branch uses."""
        return len(self._hooked.blocks)

    def recompute_activations(self) -> None:
        """Recompute activations within blocks in the backward pass: less memory, more time."""
        if hasattr(self.encoder, "activation_checkpointing_enable"):  # transformers 5
            self.encoder.activation_checkpointing_enable({"use_reentrant": False})
        else:
            self.encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def part_name(self, name: str) -> str:
        """Return the part a parameter belongs to: a block's number, `FRONT_END`, `EMBEDDINGS` or `REST`."""
        parameter = dict(self.encoder.named_parameters())[name]
        for k, block in enumerate(self._hooked.blocks):
            if any(parameter is other for other in block.parameters()):
                return str(k)
        top = name.split(".")[0]
        if top in ("feature_extractor", "conv1", "conv2"):
            return FRONT_END
        return EMBEDDINGS if top == "embeddings" else REST

    def select_layer(self, states: list[Tensor]) -> Tensor:
        """Return the chosen layer or the weighted sum, ``(n, n_frames, dim)``, of the states of all layers."""
        if self.mix is None:
            return states[-1] if self.layer == LAST else states[self.layers.index(self.layer)]
        weights = self.mix.softmax(dim=0)
        # each state normalised without weights, so that a weight does not measure its layer's scale
        normed = (nn.functional.layer_norm(s, s.shape[-1:]) for s in states)
        return torch.stack([w * s for w, s in zip(weights, normed, strict=True)]).sum(dim=0)

    def forward(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """Return states ``(n, n_frames, dim)`` and their mask, bool ``(n, n_frames)``, False on padding."""
        known = [one.states for one in batch if one.states is not None]
        if len(known) == len(batch):
            device = next(self.encoder.parameters()).device
            return _padded([states.to(device) for states in known])
        if self.encoder.training:
            return self.encode_batch(batch)
        # some versions of transformers sample a layerdrop even then, which would shift the random state
        with torch.random.fork_rng(devices=[]):
            return self.encode_batch(batch)

    def encode_batch(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """Run the encoder on a batch; returns what `forward` does."""
        raise NotImplementedError

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Run the encoder on one call's inputs and return the chosen layer, ``(n, n_frames, dim)``."""
        return self.select_layer(self._hooked.states(inputs))


class AudioBranch(Branch):
    """A speech encoder as a branch of a regressor or a student."""

    def __init__(self, encoder: Any, family: Architecture, extractor: Any, *, layer: str = LAST) -> None:
        """Arguments as `probe.encoders.loading` loads them; see `Branch`."""
        super().__init__(encoder, family.blocks(encoder), family.final_norm(encoder), layer=layer)
        if hasattr(encoder.config, "apply_spec_augment"):
            encoder.config.apply_spec_augment = False  # its masks come from numpy's global random state
        if getattr(encoder, "masked_spec_embed", None) is not None:
            encoder.register_parameter("masked_spec_embed", None)  # no forward pass here reads it
        self._family, self._extractor = family, extractor
        self._maskable = encoder.config.model_type in MASKABLE
        self.sampling_rate = int(extractor.sampling_rate)

    def prepare(self, waveform: np.ndarray) -> Prepared:
        """Return the input for one waveform ``(n_samples,)`` at `sampling_rate`.

        Raises:
            InvalidAudioError: if it is too short, or too long to be encoded at once
        """
        needed = self._family.minimum_samples(self._extractor, self.encoder.config)
        if len(waveform) < needed:
            raise InvalidAudioError("LP720", f"too short: {len(waveform)} samples, one frame needs {needed}")
        input_chunks = list(self._family.input_chunks(waveform, self._extractor, self.encoder.config))
        if len(input_chunks) > 1:
            raise InvalidAudioError(
                "LP722", f"{len(waveform) / self.sampling_rate:.0f} s are too long to be trained on at once"
            )
        (input_chunk,) = input_chunks
        n = input_chunk.total or int(len(waveform) / self.sampling_rate * 50)
        return Prepared(input_chunk.inputs, input_chunk.counted, n)

    def encode_batch(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """See `Branch.encode_batch`."""
        if not self._maskable:
            return _padded([self.encode(one.inputs)[0, one.counted] for one in batch])
        device = next(self.encoder.parameters()).device
        features = [self.encoder.feature_extractor(one.inputs["input_values"].to(device))[0].T for one in batch]
        padded, mask = _padded(features)
        projected = self.encoder.feature_projection(padded)
        projected = projected[0] if isinstance(projected, tuple) else projected
        unpadded = bool(mask.all())
        with warnings.catch_warnings():  # WavLM mixes two kinds of mask, which torch is about to forbid
            warnings.filterwarnings("ignore", message="Support for mismatched", category=UserWarning)
            states = self._hooked.run_with_hooks(
                lambda: self.encoder.encoder(projected, attention_mask=None if unpadded else mask)
            )
        return self.select_layer(states), mask


class TextBranch(Branch):
    """A text encoder as a branch of a regressor."""

    def __init__(self, model: Any, family: TextArchitecture, tokenizer: Any, *, layer: str = LAST) -> None:
        """Arguments as `probe.encoders.text` loads them; see `Branch`."""
        super().__init__(model, family.blocks(model), None, layer=layer)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # it comes after the last hidden state
        self._tokenizer = tokenizer
        self.max_tokens = min(model.config.max_position_embeddings - family.first_position, tokenizer.model_max_length)

    def prepare(self, text: str) -> Prepared:
        """Return the input for one transcript.

        Raises:
            InvalidAudioError: if it has more tokens than the encoder's maximum
        """
        ids = self._tokenizer(text).input_ids
        if len(ids) > self.max_tokens:
            raise InvalidAudioError("LP723", f"its transcript has {len(ids)} tokens; the maximum is {self.max_tokens}")
        return Prepared({"input_ids": torch.tensor(ids)}, slice(None), len(ids))

    def encode_batch(self, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
        """See `Branch.encode_batch`."""
        ids = [one.inputs["input_ids"] for one in batch]
        padding = self._tokenizer.pad_token_id or 0
        padded = pad_sequence(ids, batch_first=True, padding_value=padding)
        mask = torch.arange(padded.shape[1])[None] < torch.tensor([len(i) for i in ids])[:, None]
        states = self.encode({"input_ids": padded, "attention_mask": mask.long()})
        return states, mask.to(states.device)


def named_parts(branch: Branch) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter of a branch's encoder with the part it belongs to."""
    for name, parameter in branch.encoder.named_parameters():
        yield branch.part_name(name), parameter


def _padded(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(map(len, sequences)))[None] < torch.tensor([len(s) for s in sequences])[:, None]
    return pad_sequence(sequences, batch_first=True), mask.to(sequences[0].device)
