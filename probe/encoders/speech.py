"""Speech encoders: a waveform becomes the hidden states of every layer.

The layer convention: layer 0 enters the first transformer block, layer k leaves block k before any final norm, so
twelve blocks give thirteen layers, counted from 0 and never from the end. Encoders that normalise before each
block have one state more, ``final``, after their final norm. The states are taken by hooks on the blocks, because
transformers 5 changed what its own last hidden state of the wav2vec 2.0 kind is (before the norm; in 4, after it).
Scales differ by layer in such encoders: standardise each layer on the training speakers before comparing.

Only this file, `probe.encoders.architectures`, `probe.encoders.hooks`, `probe.encoders.native_forward`
and `probe.encoders.loading` know transformers for audio; `probe.encoders.text` does for text.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.architectures import Architecture, InputChunk, waveform_chunks
from layerprobe.probe.encoders.base import FrameChunk, describe_encoder
from layerprobe.probe.encoders.hooks import HookedEncoder
from layerprobe.probe.encoders.identity import code_hash, model_hash
from layerprobe.probe.encoders.linear_kernels import MixedPrecisionLinears
from layerprobe.probe.encoders.native_forward import NativeForward, has_native_forward
from layerprobe.probe.encoders.pooling import DEFAULT_POOLINGS
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.system import torch_threads

LAYER_CONVENTION = "0 enters the first block, k leaves block k, final after the final norm"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
# Replaces masked frames in pre-training; no forward pass that probes ever reads it.
NEVER_READ = frozenset({"masked_spec_embed"})


def precision_for(precision: str, *, device: str, known: bool) -> str:
    """Return the precision of matrix products, with ``auto`` resolved.

    ``auto`` is 16 bits where the hardware multiplies them, in known architectures, and float32 elsewhere.

    Raises:
        InputError: if it is unknown, or not available on that device
    """
    if precision not in (AUTO, *PRECISIONS):
        raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join((AUTO, *PRECISIONS))}.")
    on_gpu = device.startswith("cuda")
    if precision == "float16" and not on_gpu:
        raise InputError("float16 is for GPUs. On the CPU use bfloat16 or float32.")
    if precision != AUTO:
        return precision
    if not known:
        return "float32"
    if on_gpu:
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.cpu.get_capabilities().get("amx_bf16", False) else "float32"


@dataclass(frozen=True)
class LoadedModel:
    """A model that transformers loaded, with its feature extractor, its `Architecture` and its origin."""

    model: Any
    family: Architecture
    extractor: Any
    upstream: str  # the hub's name, or the folder's
    revision: str  # the hub's commit; "" for a folder
    adapter: str  # hash of the adapter; "" without one
    has_default_extractor: bool = False  # because the checkpoint lacks the file with its own
    folder: str = ""  # absolute path of a local one; "" for the hub's and for those that the package carries
    language_adapter: str = ""  # whose adapter is part of the weights, where a folder has several (MMS)

    @property
    def preprocessing_note(self) -> str:
        """One sentence on a default feature extractor or a language's adapter in use; empty otherwise."""
        if not self.has_default_extractor:
            used = f"{self.upstream}: the adapter of the language {self.language_adapter!r} is part of its weights."
            return used if self.language_adapter else ""
        extractor = self.extractor
        normalised = getattr(extractor, "do_normalize", False)
        scaling = "each waveform scaled to zero mean and unit variance" if normalised else "waveforms not normalised"
        reads_waveforms = self.family.input_chunks is waveform_chunks
        shape = scaling if reads_waveforms else f"{extractor.feature_size} log-mel bands"
        return (
            f"{self.upstream} has no preprocessor_config.json: the default feature extractor of its architecture is "
            f"used ({type(extractor).__name__}, {extractor.sampling_rate} Hz, {shape})."
        )


class SpeechEncoder:
    """A frozen speech encoder that returns the hidden states of all layers; `load_audio_encoder` makes it."""

    reads: Literal["audio"] = "audio"
    default_poolings = DEFAULT_POOLINGS

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        random_init: int | None = None,
        device: str = "cpu",
        precision: str = AUTO,
    ) -> None:
        """Take the encoder out of a model (float32) and move it to ``device``, in evaluation mode."""
        family, extractor, adapter = loaded.family, loaded.extractor, loaded.adapter
        encoder: Any = family.encoder(loaded.model)
        self._encoder: Any = encoder.float().eval().requires_grad_(False).to(device)
        self.device = device
        self._extractor, self._family = extractor, family
        self._has_default_extractor = loaded.has_default_extractor
        self.preprocessing_note = loaded.preprocessing_note
        self._config: Any = encoder.config
        self.upstream, self.revision, self.adapter = loaded.upstream, loaded.revision, adapter
        self.folder = loaded.folder
        self.random_init = random_init
        self.precision = precision_for(precision, device=device, known=not adapter)
        dtype = PRECISIONS[self.precision]
        native = device == "cpu" and not adapter and has_native_forward(encoder)
        with torch_threads(1):  # so that what is precomputed from the weights is the same on any number of cores
            self._native = NativeForward(encoder, dtype=dtype) if native else None
        self._mixed_precision = (
            None if native or dtype == torch.float32 else MixedPrecisionLinears(self._encoder, dtype)
        )
        self._hooked = HookedEncoder(self._encoder, family.blocks(encoder), family.final_norm(encoder))
        self.architecture = type(self._encoder).__name__
        self.sampling_rate: int = extractor.sampling_rate
        self.layers = self._hooked.layers
        self.dim = int(encoder.config.hidden_size)

    def __repr__(self) -> str:
        return describe_encoder(self)

    @property
    def blocks(self) -> nn.ModuleList:
        """Transformer blocks, whose inputs and outputs are the layers."""
        return self._hooked.blocks

    @property
    def forward(self) -> str:
        """Which forward pass runs: ``native``, this package's own, or that of ``transformers``."""
        return "native" if self._native else "transformers"

    @property
    def is_reference(self) -> bool:
        """Whether `hidden_states` is `reference_states`: transformers' forward pass in float32."""
        return self._native is None and self._mixed_precision is None

    @property
    def reads_waveforms(self) -> bool:
        """Whether its input are samples, so that recordings of different lengths could be padded into a batch."""
        return self._family.input_chunks is waveform_chunks

    def modules(self) -> Iterator[nn.Module]:
        """Yield every module of the encoder."""
        yield from self._encoder.modules()

    @property
    def minimum_samples(self) -> int:
        """Number of samples that one frame needs, 400 (25 ms) in most encoders."""
        return self._family.minimum_samples(self._extractor, self._config)

    @property
    def chunking(self) -> str:
        """How long audio is cut into chunks, as the plan records it."""
        return self._family.chunking(self._extractor)

    @property
    def preprocessing(self) -> str:
        """Settings of the feature extractor, as sorted JSON; ``architecture_default`` marks an assumed one."""
        settings = self._extractor.to_dict() | ({"architecture_default": True} if self._has_default_extractor else {})
        if code := code_hash(self._extractor):
            settings["code"] = code
        naming = ("feature_extractor_type", "processor_class", "_processor_class", "image_processor_type")
        return json.dumps({k: v for k, v in settings.items() if k not in naming}, sort_keys=True, default=str)

    def weights_hash(self) -> str:
        """Return sixteen hex digits over the encoder's tensors, its configuration and its own code."""
        return model_hash(self._encoder, never_read=NEVER_READ)

    def frame_chunks(self, waveform: np.ndarray) -> Iterator[FrameChunk]:
        """Encode one utterance without a batch, so that no padding and no other utterance can change it.

        Args:
            waveform: ``(n_samples,)`` float32 at `sampling_rate`, at least `minimum_samples` long

        Yields:
            the frames of each of `layers` for each chunk of the audio, a single chunk if it is not long: a frame every
            20 ms in most encoders, those of the audio itself, each counted once

        Raises:
            ValueError: if the waveform is not one-dimensional or is too short
        """
        if self._native is not None:
            return self._frame_chunks(waveform, self._native_states)
        return self._frame_chunks(
            waveform, self._reference_states if self._mixed_precision is None else self._mixed_precision_states
        )

    def hidden_states(self, waveform: np.ndarray) -> list[Tensor]:
        """Return all frames of each layer, one tensor ``(n_frames, dim)`` each; arguments as of `frame_chunks`."""
        return _joined(self.frame_chunks(waveform))

    def reference_states(self, waveform: np.ndarray) -> list[Tensor]:
        """Return what `hidden_states` does, from transformers' own forward pass in float32."""
        return _joined(self._frame_chunks(waveform, self._reference_states))

    @torch.inference_mode()
    def _frame_chunks(
        self, waveform: np.ndarray, run: Callable[[InputChunk], Iterator[Tensor]]
    ) -> Iterator[FrameChunk]:
        self._check_waveform(waveform)
        for input_chunk in self._family.input_chunks(waveform, self._extractor, self._config):
            layers = (states[input_chunk.counted] for states in run(input_chunk))
            yield FrameChunk(layers, input_chunk.first, input_chunk.total)

    @torch.inference_mode()
    def _native_states(self, input_chunk: InputChunk) -> Iterator[Tensor]:
        if self._native is None:
            raise RuntimeError("the encoder has no native forward pass")
        yield from self._native.hidden_states(input_chunk.inputs["input_values"][0])

    @torch.inference_mode()
    def _mixed_precision_states(self, input_chunk: InputChunk) -> Iterator[Tensor]:
        if self._mixed_precision is None:
            raise RuntimeError("the encoder runs in float32")
        with self._mixed_precision.enabled():
            layers = self._hooked.states(input_chunk.inputs)
        yield from (states[0] for states in layers)

    @torch.inference_mode()
    def _reference_states(self, input_chunk: InputChunk) -> Iterator[Tensor]:
        yield from (states[0] for states in self._hooked.states(input_chunk.inputs))

    def _check_waveform(self, waveform: np.ndarray) -> None:
        if waveform.ndim != 1 or len(waveform) < self.minimum_samples:
            raise ValueError(f"waveform {waveform.shape} is not (n_samples,) with at least {self.minimum_samples}")

    @torch.inference_mode()
    def padded_hidden_states(self, waveforms: list[np.ndarray], *, masked: bool) -> list[Tensor]:
        """Encode a padded batch as other toolkits do, to measure the error of that; extraction never does.

        Args:
            waveforms: ``(n_samples,)`` each, at `sampling_rate`
            masked: whether the attention mask marks where each ends

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
            return self._hooked.states(dict(inputs))


def _joined(frame_chunks: Iterator[FrameChunk]) -> list[Tensor]:
    chunks = [list(frame_chunk.layers) for frame_chunk in frame_chunks]
    return [torch.cat(layer) for layer in zip(*chunks, strict=True)]
