"""Speech upstreams: a waveform becomes the hidden states of every layer.

The layer convention: layer 0 enters the first transformer block, layer k leaves block k before any final norm, so
twelve blocks give thirteen layers, counted from 0 and never from the end. Encoders that normalise before each
block have one state more, ``final``, after their final norm. The states are taken by hooks on the blocks, because
transformers 5 changed what its own last hidden state of these encoders is (before the norm; in 4, after it). Scales
differ by layer in such encoders: standardise each layer on the training speakers before comparing.

Only this file, `probe.families`, `probe.lean_encoder` and `probe.checkpoint` know transformers for sound.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.errors import InputError
from probe.families import Family, whole_waveform
from probe.lean_encoder import LeanEncoder, is_lean

LAYER_CONVENTION = "0 enters the first block, k leaves block k, final after the final norm"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # of the matrix products
# Replaces masked frames in pre-training; no forward pass that probes ever reads it.
NEVER_READ = frozenset({"masked_spec_embed"})


class SpeechEncoder:
    """A frozen speech encoder in float32 whose layers are read; made by `probe.checkpoint.load_encoder`."""

    def __init__(
        self,
        model: Any,
        family: Family,
        extractor: Any,
        *,
        upstream: str,
        revision: str = "",
        random_init: int | None = None,
        device: str = "cpu",
        adapter: str = "",
        precision: str = "float32",
    ) -> None:
        """Take the encoder out of ``model`` (float32), put it on ``device``, in eval mode for good."""
        encoder: Any = family.encoder(model)
        self._encoder: Any = encoder.float().eval().requires_grad_(False).to(device)
        self.blocks = family.blocks(self._encoder)
        self._final_norm = family.final_norm(self._encoder)
        self._extractor = extractor
        self._device = device
        self._family = family
        self._config: Any = encoder.config
        self.upstream = upstream
        self.adapter = adapter
        self.precision = precision
        lean = device == "cpu" and not adapter and is_lean(encoder)
        if precision != "float32" and not lean:
            raise InputError(
                f"{precision} is for HuBERT, wav2vec 2.0 and UniSpeech on the CPU, not for {type(encoder).__name__} "
                f"on {device}. Leave --precision out to hear it in float32."
            )
        self._lean = LeanEncoder(encoder, dtype=PRECISIONS[precision]) if lean else None
        self.revision = revision
        self.random_init = random_init
        self.architecture = type(self._encoder).__name__
        self.sampling_rate: int = extractor.sampling_rate
        blocks = tuple(str(k) for k in range(len(self.blocks) + 1))
        self.layers = blocks if self._final_norm is None else (*blocks, "final")
        self.dim = int(encoder.config.hidden_size)

    @property
    def forward(self) -> str:
        """Whose forward pass is run: our own, written out, or that of transformers."""
        return "written out" if self._lean else "transformers"

    @property
    def hears_waveforms(self) -> bool:
        """Whether it is called with samples, so that sounds of different lengths could be padded into a batch."""
        return self._family.pieces is whole_waveform

    def modules(self) -> Iterator[nn.Module]:
        """Every module of the encoder."""
        yield from self._encoder.modules()

    @property
    def minimum_samples(self) -> int:
        """Samples that one frame needs, 400 (25 ms) in most encoders."""
        return self._family.minimum_samples(self._extractor, self._config)

    @property
    def long_sound(self) -> str:
        """How long sound is heard."""
        return self._family.long_sound(self._extractor)

    @property
    def preprocessing(self) -> str:
        """What the feature extractor does to a waveform, as sorted JSON."""
        settings = self._extractor.to_dict()
        naming = ("feature_extractor_type", "processor_class", "image_processor_type")
        return json.dumps({k: v for k, v in settings.items() if k not in naming}, sort_keys=True, default=str)

    def weights_hash(self) -> str:
        """Sixteen hex digits over name, shape and bytes of every tensor of the encoder."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._encoder.state_dict().items()):
            if name not in NEVER_READ:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def hidden_states(self, waveform: np.ndarray) -> list[Tensor]:
        """Every layer's frames of one utterance, heard alone: no padding can reach it.

        Args:
            waveform: ``(n_samples,)`` float32 at `sampling_rate`, at least `minimum_samples` long

        Returns:
            for each name of `layers` the frames of the sound itself, ``(n_frames, dim)``, one every 20 ms in most

        Raises:
            ValueError: if the waveform is not one-dimensional or is too short
        """
        if self._lean is None:
            return self.reference_states(waveform)
        self._refuse_unfit(waveform)
        (piece,) = self._family.pieces(waveform, self._extractor, self._config)
        return self._lean.hidden_states(piece.inputs["input_values"][0])

    @torch.inference_mode()
    def reference_states(self, waveform: np.ndarray) -> list[Tensor]:
        """The same by transformers' own forward pass in float32, read by hooks; arguments as in `hidden_states`."""
        self._refuse_unfit(waveform)
        heard = []
        for piece in self._family.pieces(waveform, self._extractor, self._config):
            heard.append([states[0, : piece.n_valid_frames] for states in self._run(piece.inputs)])
        return [torch.cat(layer) for layer in zip(*heard, strict=True)]

    def _refuse_unfit(self, waveform: np.ndarray) -> None:
        if waveform.ndim != 1 or len(waveform) < self.minimum_samples:
            raise ValueError(f"waveform {waveform.shape} is not (n_samples,) with at least {self.minimum_samples}")

    @torch.inference_mode()
    def padded_hidden_states(self, waveforms: list[np.ndarray], *, masked: bool) -> list[Tensor]:
        """As usual toolkits hear a batch, to measure what that costs; extraction never does.

        Args:
            waveforms: ``(n_samples,)`` each, at `sampling_rate`
            masked: whether the attention mask says where each ends

        Returns:
            for each layer all frames, padding included, ``(n_waveforms, n_frames, dim)``
        """
        inputs = self._extractor(
            waveforms,
            sampling_rate=self.sampling_rate,
            return_tensors="pt",
            padding=True,
            return_attention_mask=masked,
        )
        with warnings.catch_warnings():  # WavLM mixes two kinds of mask, which torch is about to forbid
            warnings.filterwarnings("ignore", message="Support for mismatched", category=UserWarning)
            return self._run(dict(inputs))

    def _run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """All frames of each layer, ``n_layers`` tensors ``(n_inputs, n_frames, dim)``."""
        states: list[Tensor] = []

        def enters(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states.append(args[0] if args else kwargs["hidden_states"])

        def leaves(_: nn.Module, __: Any, output: Any) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)

        handles = [self.blocks[0].register_forward_pre_hook(enters, with_kwargs=True)]
        read = [*self.blocks] if self._final_norm is None else [*self.blocks, self._final_norm]
        handles += [module.register_forward_hook(leaves) for module in read]
        try:
            self._encoder(**{name: tensor.to(self._device) for name, tensor in inputs.items()})
        finally:
            for handle in handles:
                handle.remove()
        if len(states) != len(self.layers):
            raise RuntimeError(f"{self.architecture} gave {len(states)} states for {len(self.layers)} layers")
        return [state.float() for state in states]
